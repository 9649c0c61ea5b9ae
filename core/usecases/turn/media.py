"""A turn's pictures and voice messages: what of them a clinic and its model take, and their bytes, which are
in memory for the turn and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from core.domain.clinic import Clinic
from core.domain.event import EventKind
from core.domain.media import (
    MAX_PICTURE_BYTES,
    MAX_VOICE_MS,
    MediaState,
    Wanted,
    voice_bytes,
    with_media,
)
from core.domain.prompt import Picture
from core.domain.recording import recorded_ms
from core.domain.turn import TurnEvent, TurnRecord
from core.ports import log
from core.ports.clock import Clock
from core.ports.content import Content, ContentError
from core.ports.line import ChannelCredentials
from core.ports.pictures import Pictures
from core.usecases.clinics.price_list import PriceList
from core.usecases.turn.room import Room

PICTURES_ROOM: Final = 3 * MAX_PICTURE_BYTES
VOICES_ROOM: Final = 20 * 1024 * 1024
"""Bytes in memory at once, all turns of a process together; the others wait. A voice message is there until
it is written down, a picture until it is scaled down. Two rooms: nobody holds one and waits for it."""
ALL_S: Final = 40.0
"""For all of a turn's pictures and voice messages, the wait for room included: with this, the slot and the
model's deadline, an answer is still in time."""

_KINDS: Final = frozenset({EventKind.IMAGE, EventKind.AUDIO})


@dataclass(frozen=True, slots=True)
class Fetched:
    """`record`: the turn, whose events say what became of each. `pictures`, `voices`: by event id."""

    record: TurnRecord
    pictures: dict[str, Picture] = field(default_factory=dict)
    voices: dict[str, bytes] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.pictures or self.voices)


class Media:
    """`transcribe_model`: writes voice messages down."""

    def __init__(
        self,
        content: Content,
        pictures: Pictures,
        prices: PriceList,
        clock: Clock,
        *,
        transcribe_model: str,
        all_s: float = ALL_S,
    ) -> None:
        self._content = content
        self._pictures = pictures
        self._prices = prices
        self._clock = clock
        self._transcribe_model = transcribe_model
        self._for_pictures = Room(PICTURES_ROOM)
        self._for_voices = Room(VOICES_ROOM)
        self._all_s = all_s

    async def takes(self, clinic: Clinic, kinds: Iterable[str]) -> frozenset[str]:
        """Which of these kinds of events a model looks at or listens to for this clinic."""
        asked = _KINDS.intersection(kinds)
        if not asked:
            return frozenset()
        prices = await self._prices.current()
        audio = prices.audio_price_at(self._transcribe_model, self._clock.now_ms())
        able = {
            EventKind.IMAGE: prices.picture_tokens(clinic.model.model_name) is not None,
            EventKind.AUDIO: audio is not None,
        }
        return frozenset(kind for kind in asked if able[kind] and clinic.media.take(kind))

    @asynccontextmanager
    async def fetched(
        self, channel: ChannelCredentials, record: TurnRecord, wanted: Wanted
    ) -> AsyncIterator[Fetched]:
        """All of it at once, each once, in `all_s`; what is not there by then is lost."""
        if not wanted:
            yield Fetched(record)
            return
        began = self._clock.monotonic()
        async with self._for_voices.taking(sum(map(voice_bytes, wanted.voices))):
            got, outcomes = await self._all(channel, wanted)
            fetched = Fetched(
                replace(record, events=tuple(_told(event, outcomes) for event in record.events)),
                {i: value for i, value in got.items() if isinstance(value, Picture)},
                {i: value for i, value in got.items() if isinstance(value, bytes)},
            )
            log.info(
                "media.fetched",
                pictures=len(fetched.pictures),
                voices=len(fetched.voices),
                failed=sum(outcome is not MediaState.SEEN for outcome in outcomes.values()),
                duration_ms=round(1000 * (self._clock.monotonic() - began)),
            )
            yield fetched

    async def _all(
        self, channel: ChannelCredentials, wanted: Wanted
    ) -> tuple[dict[str, Picture | bytes], dict[str, MediaState]]:
        got: dict[str, Picture | bytes] = {}
        outcomes: dict[str, MediaState] = {}

        async def fetch(event: TurnEvent) -> None:
            try:
                if event.kind == EventKind.IMAGE:
                    got[event.id] = await self._picture(channel, event)
                    outcomes[event.id] = MediaState.SEEN
                else:
                    got[event.id] = await self._voice(channel, event)
            except ContentError as exc:
                log.warning("media.failed", kind=event.kind, outcome=exc.state.value, detail=str(exc))
                outcomes[event.id] = exc.state
            except Exception as exc:  # a defect of ours: a person is told, and the customer still answered
                log.error("turn.defect", exc=exc, reason=type(exc).__name__, kind=event.kind)
                outcomes[event.id] = MediaState.LOST

        events = (*wanted.pictures, *wanted.voices)
        fetching = [asyncio.ensure_future(fetch(event)) for event in events]
        try:
            await asyncio.wait(fetching, timeout=self._all_s)
        finally:
            for task in fetching:
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)
        late = [event.id for event in events if event.id not in got and event.id not in outcomes]
        return got, outcomes | dict.fromkeys(late, MediaState.LOST)

    async def _picture(self, channel: ChannelCredentials, event: TurnEvent) -> Picture:
        async with self._for_pictures.taking(MAX_PICTURE_BYTES):
            data = await self._content.fetch(channel, event.message_id or "", max_bytes=MAX_PICTURE_BYTES)
            return await self._pictures.scaled(data)

    async def _voice(self, channel: ChannelCredentials, event: TurnEvent) -> bytes:
        data = await self._content.fetch(channel, event.message_id or "", max_bytes=voice_bytes(event))
        if not data:
            raise ContentError(MediaState.UNREADABLE, "it is empty")
        if (recorded_ms(data) or 0) > MAX_VOICE_MS:
            raise ContentError(MediaState.TOO_LONG, "it is longer than LINE said")
        return data


def _told(event: TurnEvent, outcomes: dict[str, MediaState]) -> TurnEvent:
    return with_media(event, outcomes[event.id]) if event.id in outcomes else event
