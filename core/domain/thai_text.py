"""One form for text that looks the same, so that words can be compared: see `normalized`.

People type Thai in several ways that no reader can tell apart: เ twice for แ, a tone mark before its vowel,
a mark twice, ํ and า for ำ. Unicode's own forms (NFKC) leave all of these as they are.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_PASSES = 4  # one is enough for all that people write
_QUOTES: Final = str.maketrans(dict.fromkeys("‘’‚‛′‵´`ʹʼ＇", "'") | dict.fromkeys("“”„‟″‶«»＂〝〞", '"'))
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What has no look of its own, besides the format characters (category Cf): joiners, fillers, selectors."""

# From below to above, as Thai keyboards and dictionaries have them: a letter's vowel, its tone, its silencer.
_MARKS = "\u0e38\u0e39\u0e3a\u0e31\u0e34\u0e35\u0e36\u0e37\u0e47\u0e4d\u0e48\u0e49\u0e4a\u0e4b\u0e4c\u0e4e"
_NIKHAHIT, _SARA_AA, _SARA_AM = "\u0e4d", "\u0e32", "\u0e33"
_WITH_SARA_AM = re.compile(f"([{_MARKS}]*{_NIKHAHIT}[{_MARKS}]*){_SARA_AA}([{_MARKS}]*)")
_SEVERAL_MARKS = re.compile(f"[{_MARKS}]{{2,}}")


def normalized(text: str) -> str:
    """`text` without what a reader can't see or tell apart: NFKC, no case, no format characters, Thai vowels
    and marks in one order and once, straight quotes, single spaces. Normalizing twice changes nothing."""
    for _ in range(_PASSES):
        before, text = text, _pass(text)
        if text == before:
            break
    return text


def is_blank(text: str) -> bool:
    """A reader sees nothing."""
    return not normalized(text)


def _pass(text: str) -> str:
    text = unicodedata.normalize("NFKC", _visible(text.translate(_QUOTES))).casefold()
    text = text.replace("เเ", "แ")
    text = _WITH_SARA_AM.sub(_sara_am, text)
    text = _SEVERAL_MARKS.sub(lambda run: _in_order(run[0]), text)
    return " ".join(text.split())


def _visible(text: str) -> str:
    text = _INVISIBLE.sub("", text)
    if text.isprintable():
        return text
    # What separates (a line feed, a tab) stays; a format character joins what it stood between.
    return "".join(c for c in text if c.isprintable() or c.isspace() or unicodedata.category(c)[0] != "C")


def _sara_am(found: re.Match[str]) -> str:
    """ํ and า, with the tone mark before, between or behind them."""
    return _in_order((found[1] + found[2]).replace(_NIKHAHIT, "")) + _SARA_AM


def _in_order(marks: str) -> str:
    return "".join(mark for mark in _MARKS if mark in marks)
