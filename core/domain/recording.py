"""How long a recording is, as its own header says (ISO 14496-12, the movie header of an MP4 or M4A file)."""

from __future__ import annotations

import struct

_MOVIE_HEADER = b"mvhd"


def recorded_ms(data: bytes) -> int | None:
    """None if it has no such header."""
    at = data.find(_MOVIE_HEADER)
    if at < 0:
        return None
    try:
        if data[at + 4] == 1:
            timescale, duration = struct.unpack_from(">IQ", data, at + 24)
        else:
            timescale, duration = struct.unpack_from(">II", data, at + 16)
    except (struct.error, IndexError):
        return None
    return round(1000 * duration / timescale) if timescale else None
