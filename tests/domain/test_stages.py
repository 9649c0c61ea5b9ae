from __future__ import annotations

import pytest

from core.domain.stages import TRANSITIONS, Stage, next_stage


def test_every_stage_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(Stage)


@pytest.mark.parametrize("current", Stage)
def test_staying_is_always_possible(current: Stage) -> None:
    assert next_stage(current, current.value) == (current, False)


@pytest.mark.parametrize("current", Stage)
def test_no_proposal_keeps_the_stage(current: Stage) -> None:
    assert next_stage(current, None) == (current, False)


@pytest.mark.parametrize("current", Stage)
def test_an_unknown_stage_is_corrected(current: Stage) -> None:
    assert next_stage(current, "flying") == (current, True)


@pytest.mark.parametrize("current", [stage for stage in Stage if stage is not Stage.GREETING])
def test_nobody_is_greeted_twice(current: Stage) -> None:
    assert next_stage(current, "greeting") == (current, True)


def test_nothing_is_done_before_anything_was_said() -> None:
    assert next_stage(Stage.GREETING, "done") == (Stage.GREETING, True)


def test_a_first_message_may_be_a_booking() -> None:
    assert next_stage(Stage.GREETING, "booking") == (Stage.BOOKING, False)


def test_a_customer_who_comes_back_starts_something_new() -> None:
    assert next_stage(Stage.DONE, "discovering") == (Stage.DISCOVERING, False)
