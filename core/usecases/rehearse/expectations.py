"""Whether a last reply is as a case expects: by code alone, in one form for text that reads the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from core.domain.stages import Stage
from core.domain.thai_text import normalized
from core.usecases.rehearse.cases import Expectations, Phrase

_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_THAI_DIGITS = str.maketrans("๐๑๒๓๔๕๖๗๘๙", "0123456789")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a case's last turn ended. `stage`: the conversation's."""

    reply: str
    handoff: bool
    booking: bool
    stage: Stage


def unmet(expect: Expectations, ending: Ending) -> Iterator[str]:
    """What is not as expected, a line each."""
    for phrase in expect.contains:
        if not any(stands_in(word, ending.reply) for word in phrase):
            yield f"contains: {_in_words(phrase)} is missing"
    for word in expect.not_contains:
        if stands_in(word, ending.reply):
            yield f"not_contains: «{word}» stands there"
    for name, wanted, got in (
        ("handoff", expect.handoff, ending.handoff),
        ("booking", expect.booking, ending.booking),
        ("stage", expect.stage, ending.stage),
    ):
        if wanted is not None and wanted != got:
            yield f"{name}: expected {str(wanted).lower()}, got {str(got).lower()}"
    if expect.max_chars is not None and len(ending.reply) > expect.max_chars:
        yield f"max_chars: {len(ending.reply)} characters, expected at most {expect.max_chars}"


def stands_in(word: str, text: str) -> bool:
    """However both are typed; a number only as a whole one: 900 does not stand in 9,000."""
    wanted = re.escape(_plain(word))
    left = r"(?<!\d)" if re.match(r"\d", _plain(word)) else ""
    right = r"(?!\d)" if re.search(r"\d$", _plain(word)) else ""
    return re.search(f"{left}{wanted}{right}", _plain(text)) is not None


def _plain(text: str) -> str:
    return _SEPARATOR.sub("", normalized(text).translate(_THAI_DIGITS))


def _in_words(phrase: Phrase) -> str:
    return " or ".join(f"«{word}»" for word in phrase)
