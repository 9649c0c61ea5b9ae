"""Which pictures and voice messages are fetched, in which order, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.audio_prices import AudioPrice, AudioPriceError, audio_rows
from core.domain.event import EventKind, InboundEvent
from core.domain.media import (
    MAX_PICTURES,
    MAX_VOICES,
    MediaSettings,
    MediaState,
    chosen,
    in_order_sent,
    note_in_prompt,
    text_key,
    with_media,
)
from core.domain.prices import load_prices
from core.domain.prompt import PICTURE_SIDE, Message, Picture
from core.domain.recording import recorded_ms
from core.domain.role_manager import build_prompt
from core.domain.texts import TEXT_KEYS
from core.domain.turn import TurnEvent
from core.local.openai_audio import recording

BOTH = frozenset({EventKind.IMAGE, EventKind.AUDIO})
IMAGE = TurnEvent("i", EventKind.IMAGE, "", 1, 1, "m", note="image")
AUDIO = TurnEvent("a", EventKind.AUDIO, "", 1, 1, "m", note="audio", duration_ms=4_000)


@given(st.lists(st.sampled_from([IMAGE, AUDIO, replace(IMAGE, kind=EventKind.TEXT, text="?", note=None)])))
def test_the_first_of_each_kind_are_wanted_and_each_other_one_is_left_out(kinds: list[TurnEvent]) -> None:
    events = [replace(event, id=str(n)) for n, event in enumerate(kinds)]
    wanted, told = chosen(events, BOTH)
    for kind, most, taken in (
        (EventKind.IMAGE, MAX_PICTURES, wanted.pictures),
        (EventKind.AUDIO, MAX_VOICES, wanted.voices),
    ):
        sent = [event.id for event in events if event.kind == kind]
        assert [event.id for event in taken] == sent[:most]
        left = [event.id for event in told if event.kind == kind and event.media == MediaState.LEFT_OUT]
        assert left == sent[most:]


@pytest.mark.parametrize(
    "event",
    [
        replace(IMAGE, note=None),  # unsent, or a group's own
        replace(IMAGE, external=True),
        replace(IMAGE, message_id=None),
        replace(AUDIO, duration_ms=120_001),
        with_media(AUDIO, MediaState.HEARD, "words"),
        with_media(AUDIO, MediaState.EMPTY),
    ],
)
def test_what_must_not_be_fetched_is_not_wanted(event: TurnEvent) -> None:
    wanted, _ = chosen([event], BOTH)
    assert not wanted


def test_a_picture_that_was_seen_before_a_crash_is_wanted_again() -> None:
    wanted, _ = chosen([with_media(IMAGE, MediaState.SEEN)], BOTH)
    assert wanted.pictures


def test_what_nobody_looks_at_is_neither_fetched_nor_told_to_have_failed() -> None:
    assert chosen([IMAGE, AUDIO], frozenset()) == (chosen([], BOTH)[0], (IMAGE, AUDIO))
    assert text_key([IMAGE, AUDIO]) is None


@pytest.mark.parametrize("state", MediaState)
@pytest.mark.parametrize("event", [IMAGE, AUDIO])
def test_every_end_has_a_text_and_a_note_unless_it_was_seen_or_heard(
    event: TurnEvent, state: MediaState
) -> None:
    told = with_media(event, state, "words" if state is MediaState.HEARD else "")
    good = state in {MediaState.SEEN, MediaState.HEARD}
    assert (text_key([told]) is None) is good
    assert (note_in_prompt(told) is None) is good
    assert good or text_key([told]) in TEXT_KEYS


def picture_of_a_set(event_id: str, index: int | None, set_id: str | None = "s") -> InboundEvent:
    return InboundEvent(
        event_id, "org", "U1", EventKind.IMAGE, 1, 1, image_set_id=set_id, image_index=index, image_total=3
    )


def test_a_sets_pictures_stand_by_their_index_among_what_else_was_sent() -> None:
    other = picture_of_a_set("other", None, None)
    sent = [picture_of_a_set("3", 3), other, picture_of_a_set("1", 1), picture_of_a_set("2", 2)]
    assert [event.event_id for event in in_order_sent(sent)] == ["1", "other", "2", "3"]


@given(
    st.lists(st.text("กข \n?", min_size=1, max_size=6), max_size=5),
    st.lists(st.integers(0, 5), max_size=4).map(sorted),
)
def test_pictures_stand_between_the_words_and_no_word_is_lost(words: list[str], places: list[int]) -> None:
    from core.domain.clinic import Clinic  # noqa: PLC0415
    from core.domain.memory import CustomerMemory  # noqa: PLC0415
    from core.domain.moment import Moment  # noqa: PLC0415
    from core.domain.session import Session  # noqa: PLC0415

    pictures = [(min(place, len(words)), Picture(bytes([n]))) for n, place in enumerate(places)]
    clinic = Clinic("org", "Clinic", "Ubot", "1")
    moment = Moment(1_795_478_400_000)
    asked = build_prompt(clinic, Session(), CustomerMemory(), words, moment, pictures=pictures).messages[-1]
    parts = list(asked.parts())
    assert [part for part in parts if isinstance(part, Picture)] == [picture for _, picture in pictures]
    said = "\n".join(part for part in parts if isinstance(part, str))
    assert said.replace("\n", "") == asked.content.replace("\n", "")
    if not pictures:
        assert Message("user", asked.content) == asked


def test_a_picture_takes_no_more_than_its_patches() -> None:
    patches = (PICTURE_SIDE // 32) ** 2
    for model in ("gpt-6.1-terra", "gpt-6-luna"):
        bound = load_prices().picture_tokens(model)
        assert bound is not None
        assert patches * 1.2 <= bound


def test_a_minute_costs_what_the_provider_says_and_fractions_are_rounded_up() -> None:
    price = load_prices().audio_price_at("gpt-transcribe", 1_795_478_400_000)
    assert price is not None
    assert price.of_seconds(Decimal(60), Decimal(36)) == 162_000
    assert price.of_seconds(Decimal("0.001"), Decimal(36)) == 3
    assert price.worst_case(Decimal(120), 10_000, Decimal(36)) == 324_000


def test_a_model_that_is_billed_by_tokens_has_a_bound_by_its_seconds() -> None:
    row = {"from": "2026-01-01", "input": "1.25", "output": "5", "tokens_a_second": 10}
    ((_, price),) = audio_rows("other", {"unit": "tokens", "prices": [row]}, "v")
    assert isinstance(price, AudioPrice)
    assert price.worst_case(Decimal(60), 1_000, Decimal(36)) == round((600 * 1.25 + 1_000 * 5) * 36)


@pytest.mark.parametrize(
    "raw",
    [
        {"unit": "hour", "prices": [{"from": "2026-01-01", "usd": 1}]},
        {"unit": "minute", "prices": []},
        {"unit": "minute", "prices": [{"from": "2026-01-01"}]},
        {"unit": "minute", "prices": [{"from": "soon", "usd": 1}]},
        {"unit": "minute", "prices": [{"from": "2026-01-01", "usd": -1}]},
    ],
)
def test_a_price_of_sound_that_can_not_be_read_names_its_field(raw: dict[str, object]) -> None:
    with pytest.raises(AudioPriceError, match=r"price of other: (unit|prices)"):
        audio_rows("other", raw, "v")


@pytest.mark.parametrize("seconds", [0.5, 4.0, 119.9, 600.0])
def test_a_recordings_header_says_how_long_it_is(seconds: float) -> None:
    assert recorded_ms(recording("words", seconds=seconds)) == round(1000 * seconds)


@given(st.binary(max_size=200))
def test_what_has_no_header_says_nothing(data: bytes) -> None:
    assert recorded_ms(data.replace(b"mvhd", b"")) is None
    recorded_ms(data + b"mvhd" + data[:20])


def test_a_clinic_decides_what_is_taken() -> None:
    settings = MediaSettings(images=True, voice=False)
    assert [settings.take(kind) for kind in (EventKind.IMAGE, EventKind.AUDIO, EventKind.VIDEO)] == [
        True,
        False,
        False,
    ]
