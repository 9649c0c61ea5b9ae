"""Pictures, made fit for a model."""

from __future__ import annotations

from typing import Protocol

from core.domain.prompt import Picture


class Pictures(Protocol):
    async def scaled(self, data: bytes) -> Picture:
        """The picture as a JPEG of at most PICTURE_SIDE pixels a side, upright, without what a camera writes
        beside it. Raises ContentError UNREADABLE for what is no still picture, and TOO_LARGE for one of more
        pixels than are decoded here."""
        ...
