"""Pictures and voice messages of a turn: which of them are looked at or listened to, and what became of each.

The journal keeps the outcome and a voice message's words, never a picture or a sound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from core.domain.event import EventKind, InboundEvent

if TYPE_CHECKING:
    from core.domain.turn import TurnEvent, TurnRecord

MAX_PICTURES: Final = 4
MAX_PICTURE_BYTES: Final = 10 * 1024 * 1024
MAX_VOICES: Final = 4
MAX_VOICE_MS: Final = 120_000
_VOICE_BYTES_A_S: Final = 40_000
"""320 kbit/s; LINE's own voice messages have a tenth of it."""

_WORDS_BYTES_A_S: Final = 100
"""Of a voice message's words: fast Thai speech is some seven syllables a second, four letters each, three
bytes a letter. What is longer is cut, so that the prompt stays within what is held for it."""
NOTE_TOKENS: Final = 80
"""Upper bound of what a prompt says of a picture or a voice message that could not be had."""


class MediaState(StrEnum):
    """What became of a picture or a voice message."""

    SEEN = "seen"
    HEARD = "heard"  # its words are the customer's
    EMPTY = "empty"  # nobody says anything in it
    LOST = "lost"  # LINE does not have it, or not in time
    EXTERNAL = "external"  # it is not LINE's: never fetched
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    UNREADABLE = "unreadable"
    LEFT_OUT = "left_out"  # beyond MAX_PICTURES or MAX_VOICES
    BLIND = "blind"  # the model that the budget allows takes no pictures


_DONE: Final = frozenset({MediaState.HEARD, MediaState.EMPTY})
"""Of a voice message: paid for, so it is not listened to again."""

_TEXTS: Final = {
    (EventKind.IMAGE, MediaState.TOO_LARGE): "image_large",
    (EventKind.IMAGE, MediaState.UNREADABLE): "image_unreadable",
    (EventKind.IMAGE, MediaState.BLIND): "image",
    (EventKind.AUDIO, MediaState.TOO_LARGE): "audio_long",
    (EventKind.AUDIO, MediaState.TOO_LONG): "audio_long",
    (EventKind.AUDIO, MediaState.EMPTY): "audio_empty",
}
_OTHERWISE: Final = {EventKind.IMAGE: "image_lost", EventKind.AUDIO: "audio_lost"}

_NOTES: Final = {
    MediaState.EMPTY: "nothing is said in it",
    MediaState.TOO_LARGE: "too large to be opened",
    MediaState.TOO_LONG: "longer than two minutes, not listened to",
    MediaState.UNREADABLE: "not a file that can be opened",
    MediaState.LEFT_OUT: "not looked at, too many at once",
    MediaState.BLIND: "cannot be looked at now",
}


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """Whether a clinic's customers may show and say what they mean, where the model can take it."""

    images: bool = True
    voice: bool = True

    def take(self, kind: str) -> bool:
        """Whether events of this kind are looked at or listened to."""
        return (kind == EventKind.IMAGE and self.images) or (kind == EventKind.AUDIO and self.voice)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a turn is to be fetched: in the order in which it was sent."""

    pictures: tuple[TurnEvent, ...] = ()
    voices: tuple[TurnEvent, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pictures or self.voices)

    @property
    def voice_ms(self) -> int:
        """What a voice message lasts whose length LINE does not say is bounded by MAX_VOICE_MS."""
        return sum(voice_ms(event) for event in self.voices)

    @property
    def text_tokens(self) -> int:
        """Upper bound of what they add to a prompt in words."""
        count = len(self.pictures) + len(self.voices)
        return sum(words_bytes(event) for event in self.voices) + NOTE_TOKENS * count


def voice_ms(event: TurnEvent) -> int:
    return event.duration_ms or MAX_VOICE_MS


def voice_bytes(event: TurnEvent) -> int:
    """How large a voice message may be."""
    return _VOICE_BYTES_A_S * (-(-voice_ms(event) // 1000) + 2)


def words_bytes(event: TurnEvent) -> int:
    """How long the words of a voice message may be."""
    return _WORDS_BYTES_A_S * (-(-voice_ms(event) // 1000) + 2)


def chosen(events: Sequence[TurnEvent], takes: Collection[str]) -> tuple[Wanted, tuple[TurnEvent, ...]]:
    """What is to be fetched of a turn's events, and the events with the outcome of what is not. `takes`: the
    kinds that are looked at or listened to at all."""
    wanted: dict[str, list[TurnEvent]] = {EventKind.IMAGE: [], EventKind.AUDIO: []}
    most = {EventKind.IMAGE: MAX_PICTURES, EventKind.AUDIO: MAX_VOICES}
    told = []
    for event in events:
        told.append(event)
        if event.kind not in wanted or event.kind not in takes or not event.note or event.media in _DONE:
            continue
        kind = EventKind(event.kind)
        if outcome := _refused(event):
            told[-1] = with_media(event, outcome)
        elif len(wanted[kind]) >= most[kind]:
            told[-1] = with_media(event, MediaState.LEFT_OUT)
        else:
            wanted[kind].append(event)
    return Wanted(tuple(wanted[EventKind.IMAGE]), tuple(wanted[EventKind.AUDIO])), tuple(told)


def _refused(event: TurnEvent) -> MediaState | None:
    if event.external or not event.message_id:
        return MediaState.EXTERNAL
    return MediaState.TOO_LONG if (event.duration_ms or 0) > MAX_VOICE_MS else None


def with_media(event: TurnEvent, outcome: MediaState, words: str = "") -> TurnEvent:
    """A voice message that was heard is its words from then on."""
    note = None if outcome is MediaState.HEARD else event.note
    return replace(event, media=outcome.value, text=words or event.text, note=note)


def blinded(record: TurnRecord) -> TurnRecord:
    """A turn whose pictures the model that the budget allows can't see."""
    return replace(
        record,
        events=tuple(
            with_media(event, MediaState.BLIND) if event.kind == EventKind.IMAGE and event.note else event
            for event in record.events
        ),
    )


def text_key(events: Iterable[TurnEvent]) -> str | None:
    """Of the fixed text that says truthfully why the newest of these was not looked at or listened to; None
    if there is nothing of the kind, or it was taken back."""
    failed = [event for event in events if event.media and event.note and event.media != MediaState.SEEN]
    if not failed:
        return None
    kind = EventKind(failed[-1].kind)
    return _TEXTS.get((kind, MediaState(failed[-1].media or "")), _OTHERWISE.get(kind, "unsupported"))


def note_in_prompt(event: TurnEvent) -> str | None:
    """What came without words and is not shown to the model, and why."""
    if not event.note or event.media == MediaState.SEEN:
        return None
    if not event.media:
        return event.note
    return f"{event.note}: {_NOTES.get(MediaState(event.media), 'could not be opened')}"


def in_order_sent(events: Sequence[InboundEvent]) -> list[InboundEvent]:
    """Pictures of a set by their index, where they stand: they may arrive in any order."""
    ordered = list(events)
    for set_id in {event.image_set_id for event in events if event.image_set_id}:
        places = [i for i, event in enumerate(ordered) if event.image_set_id == set_id]
        members = sorted((ordered[i] for i in places), key=lambda event: event.image_index or 0)
        for place, event in zip(places, members, strict=True):
            ordered[place] = event
    return ordered
