"""The pipeline: where a conversation stands, and where it can go from there."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    GREETING = "greeting"
    DISCOVERING = "discovering"  # finding out what the customer wants
    ADVISING = "advising"  # services, prices, hours
    BOOKING = "booking"  # agreeing on a time
    DONE = "done"


# Nobody is greeted twice, nothing is done before anything was said, and a customer who comes back after
# everything was done starts something new.
TRANSITIONS: dict[Stage, frozenset[Stage]] = {
    Stage.GREETING: frozenset({Stage.GREETING, Stage.DISCOVERING, Stage.ADVISING, Stage.BOOKING}),
    Stage.DISCOVERING: frozenset({Stage.DISCOVERING, Stage.ADVISING, Stage.BOOKING, Stage.DONE}),
    Stage.ADVISING: frozenset({Stage.DISCOVERING, Stage.ADVISING, Stage.BOOKING, Stage.DONE}),
    Stage.BOOKING: frozenset({Stage.DISCOVERING, Stage.ADVISING, Stage.BOOKING, Stage.DONE}),
    Stage.DONE: frozenset({Stage.DONE, Stage.DISCOVERING, Stage.ADVISING, Stage.BOOKING}),
}


def next_stage(current: Stage, proposed: str | None) -> tuple[Stage, bool]:
    """The stage after a turn, and whether the model's proposal had to be corrected.

    No proposal keeps the stage; so does one that is impossible from here, or unknown.
    """
    if proposed is None:
        return current, False
    if proposed in TRANSITIONS[current]:
        return Stage(proposed), False
    return current, True
