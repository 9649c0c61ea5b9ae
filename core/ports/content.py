"""What customers send besides words, from LINE's data API: in memory for a turn, and kept nowhere."""

from __future__ import annotations

from typing import Protocol

from core.domain.errors import FairlaneError
from core.domain.media import MediaState
from core.ports.line import ChannelCredentials


class ContentError(FairlaneError):
    """It can't be had, or can't be used; `state` says why. Nobody tries again within the turn."""

    def __init__(self, state: MediaState, detail: str) -> None:
        super().__init__(detail)
        self.state = state


class Content(Protocol):
    async def fetch(self, channel: ChannelCredentials, message_id: str, *, max_bytes: int) -> bytes:
        """A message's content, read as it comes and never beyond `max_bytes`; waits for what LINE is still
        preparing. Raises ContentError LOST or TOO_LARGE."""
        ...

    async def close(self) -> None: ...
