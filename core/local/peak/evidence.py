"""What a run leaves behind: facts of the far sides and of the machine, without any of fairlane's counters.

Times are Unix milliseconds of the real clock; `Evidence.seconds` turns them into seconds of the simulated
hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.local.peak.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Message:
    """One bubble as LINE knows it. `acked_ms`: its first 200."""

    event_id: str
    clinic: str
    chat_id: str
    text: str
    timestamp_ms: int
    sent_ms: int
    reply_token: str | None
    acked_ms: int | None
    campaign: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What LINE accepted. `quoted`: the customer's texts it answers (empty for a fixed text)."""

    clinic: str
    chat_id: str
    quoted: tuple[str, ...]
    by_reply: bool
    reply_token: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call as the provider saw it. `cost_micro_baht`: by the usage that it billed."""

    clinic: str
    started_ms: int
    ended_ms: int
    outcome: str
    quoted: tuple[str, ...]
    cost_micro_baht: int = 0
    is_backup: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment. `turn_memory`: bytes by instance that was never killed. `cpu_s`: of turn
    processes since the start. `lag_s`: by how much the stand-ins' own loop was late. `limit`: calls at once
    that the first provider is given; None where Redis did not say."""

    at_ms: int
    answered: int
    turn_cpu_s: float
    turn_memory: Mapping[str, int]
    redis_calls: int
    lag_s: float
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class BooksSeen:
    """One clinic's day as the observer read it."""

    at_ms: int
    clinic: str
    spent_micro_baht: int
    held_micro_baht: int


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault of the kind that takes capacity away, until `until_ms`."""

    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of the turn processes while so many clinics wrote, and the turns that were answered."""

    clinics: int
    turns: int
    cpu_s: float

    @property
    def turn_ms(self) -> float:
        return self.cpu_s / max(1, self.turns) * 1000


@dataclass(slots=True)
class Evidence:
    """`stopped`: events that the journal says a budget stopped. `dead`: tasks that the queue dropped.
    `dispatches` by event, as the queue counts them. `budgets`: micro-baht a day, by clinic."""

    scenario: Scenario
    speed: float
    instances: int
    start_ms: int
    end_ms: int = 0
    messages: list[Message] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    calls: list[ModelCall] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    books: list[BooksSeen] = field(default_factory=list)
    budgets: dict[str, int] = field(default_factory=dict)
    disturbances: list[Disturbance] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    broken_rules: list[str] = field(default_factory=list)
    stopped: frozenset[str] = frozenset()
    most_running: int = 0
    most_by_clinic: dict[str, int] = field(default_factory=dict)
    dead: int = 0
    dispatches: dict[str, int] = field(default_factory=dict)
    costs: list[tuple[Cost, Cost]] = field(default_factory=list)

    def seconds(self, at_ms: float) -> float:
        return (at_ms - self.start_ms) / 1000 * self.speed

    def ms(self, at_s: float) -> float:
        return self.start_ms + at_s / self.speed * 1000

    def disturbed(self, at_ms: float) -> bool:
        return any(d.from_ms <= at_ms < d.until_ms for d in self.disturbances)
