"""What is tried: a customer's words, turn by turn, what is expected of the last reply, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.domain.session import Session
from core.domain.stages import Stage

Phrase = tuple[str, ...]
"""Any one of these; as a rule there is but one."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """Of the last reply. None, or nothing: it does not matter. `handoff`: people have the conversation then.
    `booking`: staff were asked for an appointment, a change or a cancellation. `judge`: what a
    model is asked to look for."""

    contains: tuple[Phrase, ...] = ()
    not_contains: tuple[str, ...] = ()
    handoff: bool | None = None
    booking: bool | None = None
    stage: Stage | None = None
    max_chars: int | None = None
    judge: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """Each of `say` is a turn. `before`: the conversation so far. `old_reply`: what was once answered to the
    last of `say`."""

    name: str
    say: tuple[str, ...]
    expect: Expectations = field(default_factory=Expectations)
    group: str = ""
    before: Session = field(default_factory=Session)
    old_reply: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """`failure`: why the reply is not the model's own."""

    said: str
    reply: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """`failures`: what was not as it must be; `notes`: what is worth knowing all the same."""

    org_id: str
    case: Case
    exchanges: tuple[Exchange, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()
    cost_micro_baht: int = 0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True)
class Outcome:
    """`not_run`: what the budget had no room for."""

    results: tuple[CaseResult, ...]
    not_run: tuple[str, ...]
    budget_micro_baht: int
    spent_micro_baht: int

    @property
    def failed(self) -> Sequence[CaseResult]:
        return [result for result in self.results if not result.passed]

    @property
    def passed(self) -> bool:
        return not self.failed and not self.not_run
