"""The backlog: a clinic's turns that wait for the slots' room. When does each come, so that the queue
dispatches it when a slot is likely free for it?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.domain.task import TurnTask
from core.ports.tasks import Scheduled


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a clinic before its pace was seen: how many of its turns run at once, and how long one
    of them holds its slot."""

    at_once: int
    hold_ms: float


@dataclass(frozen=True, slots=True)
class Next:
    """Names of tasks that may run before their time, and how many others wait for theirs."""

    names: Sequence[str] = ()
    planned: int = 0


class Backlog(Protocol):
    """Methods raise RedisUnavailableError when Redis does not answer."""

    async def open(self, org_id: str, pace: Pace) -> None:
        """A turn of the clinic waits for a slot: from now on its new ones are planned (ports.shaper)."""
        ...

    async def next(self, org_id: str, waited_ms: int | None = None, *, forward: bool = True) -> Next:
        """Those that come forward since too few wait in the room, if `forward`: they leave the plan.
        `waited_ms`: of a turn that was just granted a slot after it had waited for so long; the clinic's pace
        is learnt from it."""
        ...

    async def clinics(self) -> Sequence[str]:
        """Those of which turns wait, or did a while ago. Looks at all of Redis: for an operator's command."""
        ...

    async def restore(self, read: Callable[[], Awaitable[Sequence[Scheduled]]]) -> Sequence[str]:
        """Redis has lost the clinics' lines: write them anew by what waits on the queue, unless somebody else
        does. Returns the clinics of which turns wait."""
        ...

    async def again(self, task: TurnTask, *, shut_ms: int, patience_until_ms: int) -> int:
        """In how many ms `task` comes back, whose turn was refused a slot: when its place is due, but not
        before `shut_ms`, and not after its patience, past which it is told so."""
        ...
