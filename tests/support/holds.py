"""A turn's hold over books that keep nothing: what is written is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from core.domain.budget import DayBooks
from core.domain.clinic import Clinic
from core.domain.model_reply import SCHEMA, SCHEMA_NAME
from core.domain.prices import load_prices
from core.domain.prompt import Message, Prompt
from core.domain.turn import TurnRecord, TurnState
from core.ports.documents import Key
from core.usecases.journal.books import Books
from core.usecases.journal.entries import Loaded, Stored
from core.usecases.journal.journal import Journal
from core.usecases.turn.hold import Hold
from core.usecases.turn.quote import Quote
from tests.support.turn_samples import BEGUN_MS, sample

CLINIC = Clinic("bkk-smile", "Bangkok Smile", "U-bot", "1650000001")
PROMPT = Prompt((Message("user", "ราคาเท่าไหร่คะ"),), SCHEMA_NAME, SCHEMA, "key")
QUOTE = Quote.of(CLINIC, PROMPT, load_prices(), Decimal(36), BEGUN_MS)
NOTHING_LOADED = Loaded({}, {}, Books(Key("org_ai_spend", "bkk-smile:20261124"), DayBooks()), ())


class NotedJournal(Journal):
    """Grants what is asked of it; `room` False: the budget has none for a second worst case."""

    def __init__(self, steps: list[str], *, room: bool = True) -> None:
        self.steps = steps
        self.room = room

    async def on_day(self, loaded: Loaded, org_id: str, day: str) -> Loaded:
        return loaded

    async def reserve(
        self, draft: TurnRecord, unclaimed: Sequence[str], loaded: Loaded, choose: Callable[..., Any]
    ) -> Stored:
        self.steps.append("reserve")
        decision, _ = choose(loaded.books.day)
        return Stored(draft.with_money(model=decision.model), 1)

    async def grow(
        self, stored: Stored, may_grow: Callable[..., bool], more: int | None = None
    ) -> Stored | None:
        self.steps.append("grow")
        return stored if self.room else None

    async def answer(self, draft: TurnRecord, *_: Any, **__: Any) -> Stored:
        self.steps.append("answer")
        return Stored(draft, 1)

    async def stop(self, draft: TurnRecord, *_: Any, **__: Any) -> Stored:
        self.steps.append("stop")
        return Stored(draft, 1)

    async def settle(self, stored: Stored, settled: TurnRecord, *_: Any, insist: bool = True) -> Stored:
        self.steps.append("settle" if insist else "leave")
        return Stored(settled, 2)


def a_hold(steps: list[str] | None = None, *, room: bool = True) -> Hold:
    journal = NotedJournal([] if steps is None else steps, room=room)
    draft = sample("turn", state=TurnState.DRAFT, failure=None)
    return Hold(journal, QUOTE, draft, (), NOTHING_LOADED, lambda: "20261124")
