"""Finding a word in what a customer wrote, however it was typed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.domain.thai_text import normalized


def first_found(words: Iterable[str], texts: Iterable[str]) -> str | None:
    """The first of `words` that one of `texts` contains, if any.

    Thai writes no spaces, so a word may stand anywhere; one in Latin letters must be a word of its own.
    """
    said = [normalized(text) for text in texts]
    for word in words:
        wanted = normalized(word)
        if not wanted:
            continue
        pattern = re.escape(wanted)
        if wanted.isascii():
            pattern = rf"(?<![a-z0-9]){pattern}(?![a-z0-9])"
        if any(re.search(pattern, text) for text in said):
            return word
    return None
