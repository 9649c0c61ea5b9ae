"""What came of clinics' conversations over some days: counted, and set against their cost. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from core.domain import turn
from core.domain.errors import InvalidInputError
from core.domain.outcome import BY_NAME, COLLECTION, COUNTERS, WAITS_S, Counts
from core.domain.questions import Question
from core.ports.clock import Clock
from core.ports.documents import Document, DocumentStore, Where
from core.usecases.journal.stats import stats_key
from core.usecases.operate.questions import Questions
from core.usecases.operate.spend_report import days_between, spend_rows
from core.usecases.operate.stored_clinics import find_clinic

TOP = 10
MAX_TURNS = 20_000
"""How many of a clinic's newest turns are looked at for what was asked about."""


@dataclass(frozen=True, slots=True)
class Insights:
    """`org_id` None: of all clinics together. `counts`: sums by counter (core.domain.outcome), `days` by day
    (YYYYMMDD). `asked`: services by the turns that were about them, of those that are still kept.
    `questions`: open ones that the clinic's words do not answer, as of now."""

    org_id: str | None
    name: str
    first_day: str
    last_day: str
    days: Mapping[str, Counts]
    spent_micro_baht: int
    questions: Sequence[Question] = ()
    asked: Sequence[tuple[str, int]] = ()
    counts: Counts = field(default_factory=dict)

    def count(self, name: str) -> int:
        return self.counts.get(name, 0)

    def by_name(self, name: str) -> dict[str, int]:
        """Of a map's counters, by what comes after the dot."""
        prefix = f"{name}."
        found = {key.removeprefix(prefix): n for key, n in self.counts.items() if key.startswith(prefix)}
        return dict(sorted(found.items(), key=lambda item: item[0].rjust(6, "0")))

    @property
    def funnel(self) -> dict[str, int]:
        """From a conversation to an appointment that holds. `advised`, `to_book`: how often one came to that
        stage."""
        return {
            "conversations": self.count("conversations"),
            "advised": self.count("reached.advising"),
            "to_book": self.count("reached.booking"),
            "bookings": self.count("bookings"),
            "confirmed": self.count("confirmed"),
        }

    @property
    def micro_baht_per_booking(self) -> int | None:
        """What the model cost, by bookings; rounded up. None without one."""
        bookings = self.count("bookings")
        return -(-self.spent_micro_baht // bookings) if bookings else None

    def waited_s(self, share: float) -> int | None:
        """Within how many seconds that share of the answers was there; None without an answer."""
        waits = self.by_name("waits")
        wanted, seen = share * sum(waits.values()), 0
        for bound in WAITS_S:
            seen += waits.get(str(bound), 0)
            if seen and seen >= wanted:
                return bound
        return None

    def as_json(self) -> dict[str, Any]:
        """The form that scripts rely on (`fairlane insights --json`)."""
        return {
            "org_id": self.org_id,
            "from": self.first_day,
            "to": self.last_day,
            **{name: self.count(name) for name in COUNTERS},
            **{name: self.by_name(name) for name in BY_NAME},
            "funnel": self.funnel,
            "spent_micro_baht": self.spent_micro_baht,
            "micro_baht_per_booking": self.micro_baht_per_booking,
            "wait_s": {"p50": self.waited_s(0.5), "p95": self.waited_s(0.95)},
            "asked": [{"service": service, "turns": turns} for service, turns in self.asked],
            "unanswered": [_question_json(question) for question in self.questions],
        }


class ReadInsights:
    def __init__(self, documents: DocumentStore, clock: Clock, timezone: str) -> None:
        """`timezone`: where a day begins."""
        self._documents = documents
        self._questions = Questions(documents, clock)
        self._timezone = timezone

    async def of_clinic(self, org_id: str, first_day: str, last_day: str) -> Insights:
        """Days: YYYYMMDD, both included. Raises InvalidInputError, NoSuchClinicError."""
        days = days_between(first_day, last_day)
        clinic = await find_clinic(self._documents, org_id)
        found = await self._documents.get_many([stats_key(org_id, day) for day in days])
        spent = await spend_rows(self._documents, first_day, last_day, org_id=org_id)
        return insights_of(
            [document for document in found if document],
            sum(row.books.spent for row in spent),
            (first_day, last_day),
            org_id=org_id,
            name=clinic.name,
            questions=_top(await self._questions.of_clinic(org_id)),
            asked=await self._asked(org_id, first_day, last_day),
        )

    async def of_all(self, first_day: str, last_day: str) -> tuple[Insights, list[Insights]]:
        """Of all together, and of each clinic of which anything was counted or charged."""
        days_between(first_day, last_day)
        in_range = [Where("day", ">=", first_day), Where("day", "<=", last_day)]
        found = await self._documents.query(COLLECTION, in_range, order_by="day")
        spent = Counter[str]()
        for row in await spend_rows(self._documents, first_day, last_day):
            spent[row.org_id] += row.books.spent
        questions = await self._questions.of_all()
        by_org: dict[str, list[Document]] = {org_id: [] for org_id in spent}
        for document in found:
            by_org.setdefault(str(document.data["org_id"]), []).append(document)
        bounds = first_day, last_day
        clinics = [
            insights_of(
                documents,
                spent[org_id],
                bounds,
                org_id=org_id,
                name=org_id,
                questions=_top([q for q in questions if q.org_id == org_id]),
            )
            for org_id, documents in sorted(by_org.items())
        ]
        return insights_of(found, spent.total(), bounds, questions=_top(questions)), clinics

    async def _asked(self, org_id: str, first_day: str, last_day: str) -> Sequence[tuple[str, int]]:
        """From the turns that are still kept: what they were about is the customer's, and goes with them."""
        begins, ends = _midnight(first_day, self._timezone), _midnight(last_day, self._timezone)
        where = [
            Where("org_id", "==", org_id),
            Where("created_at", ">=", begins),
            Where("created_at", "<", ends + timedelta(days=1)),
        ]
        found = await self._documents.query(
            turn.COLLECTION, where, order_by="created_at", descending=True, limit=MAX_TURNS
        )
        services = (str((document.data.get("updates") or {}).get("service") or "") for document in found)
        named = Counter(" ".join(service.split()) for service in services)
        return [(service, turns) for service, turns in named.most_common() if service][:TOP]


def insights_of(
    documents: Sequence[Document],
    spent_micro_baht: int,
    bounds: tuple[str, str],
    *,
    org_id: str | None = None,
    name: str = "",
    questions: Sequence[Question] = (),
    asked: Sequence[tuple[str, int]] = (),
) -> Insights:
    """From days as they are stored, of one clinic or of several."""
    days: dict[str, Counter[str]] = {}
    for document in documents:
        days.setdefault(str(document.data["day"]), Counter()).update(_flat(document.data))
    total = sum(days.values(), Counter[str]())
    first, last = bounds
    return Insights(org_id, name, first, last, days, spent_micro_baht, questions, asked, total)


def _flat(data: Mapping[str, Any]) -> Counts:
    plain = {name: data.get(name, 0) for name in COUNTERS}
    return plain | {f"{name}.{key}": n for name in BY_NAME for key, n in (data.get(name) or {}).items()}


def _top(questions: Sequence[Question]) -> Sequence[Question]:
    return [question for question in questions if question.is_open and question.latest][:TOP]


def _question_json(question: Question) -> dict[str, Any]:
    latest = question.latest
    return {
        "org_id": question.org_id,
        "id": question.id,
        "topic": latest.topic if latest else "",
        "question": latest.question if latest else "",
        "count": question.count,
    }


def _midnight(day: str, timezone: str) -> datetime:
    moment = datetime.strptime(day, "%Y%m%d")  # noqa: DTZ007  a day; its zone follows
    if moment.year in {1, 9999}:
        raise InvalidInputError(f"day {day}: out of range")
    return moment.replace(tzinfo=ZoneInfo(timezone))
