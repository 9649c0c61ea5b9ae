"""A model's Markdown as the plain text that LINE shows, with its addresses whole.

No parser of Markdown: a chat's reply is short, most of it is none, and what is left of a half-written mark
does no harm. No expression is more than linear, since a model may write anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from core.domain.visible import visible

_MARKUP = re.compile(r"[*_`~#>|<&\\\[\]=+-]")
_PASSES = 50  # a pass takes one layer of marks off; what is nested deeper is no text

_FENCE = re.compile(r"^[ ]{0,9}(?:`{3,}|~{3,})[^\n`]*$", re.MULTILINE)
_LINK_TEXT = r"!?\[((?:[^\[\]\\\n]|\\.|\n(?!\n))*+)\]"
_LINK = re.compile(
    _LINK_TEXT + r"\(\s*+<?([^\s()<>]*+(?:\([^\s()]*+\)[^\s()<>]*+)*+)>?"
    r"""(?:\s++(?:"[^"\n]{0,200}"|'[^'\n]{0,200}'))?\s*+\)"""
)
_DEFINED = re.compile(r"^[ ]{0,3}(\[[^\[\]\n]++\]):[ ]++<?([^\s<>]++)>?.*$", re.MULTILINE)
_ANCHOR = re.compile(
    r"""<a\s[^<>]{0,200}?href=["']?([^"'<>\s]++)["']?[^<>]{0,200}>([^<>]*+)</a>""", re.IGNORECASE
)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:|tel:)[^\s<>]++|[\w.+-]++@[\w.-]++)>", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*+/?>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:[abiusp]|em|strong|ins|del|mark|small|su[bp]|[uod]l|li|d[td]|h[1-6]|hr|code|pre|span|div|img|center|font"
    r"|blockquote|table|thead|tbody|t[rdh])(?:\s[^<>]{0,500})?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(amp|lt|gt|quot|apos|nbsp|#39);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "#39": "'", "nbsp": " "}
_ADDRESS = re.compile(
    r"https?://(?:[^\s<>\[\]`\"*\x00]|\*(?!\*))*[^\s<>\[\]`\"*_~.,;:!?)|\x00]", re.IGNORECASE
)
_KEPT = re.compile("\x00([0-9]+)\x00")

_RULE = re.compile(r"^[ ]*+(?:(?:\*[ ]*+){3,}|(?:-[ ]*+){3,}|(?:_[ ]*+){3,}|={2,}[ ]*+)$")
_HEADING = re.compile(r"^[ ]{0,3}#{1,6}[ ]++(.*?)[ ]*(?:[ ]#{1,10})?$")
_QUOTED = re.compile(r"^(?:[ ]{0,3}>)++[ ]?(?![ ]*[0-9])")
_BULLET = re.compile(r"^([ ]*+)[-*+][ ]++(?:\[[ xX]\][ ]++)?(?=\S)")
_TABLE_RULE = re.compile(r"^[ ]*+\|?(?:[ ]*+:?-++:?[ ]*+\|)++(?:[ ]*+:?-++:?[ ]*+)?$")

_EMPHASIS = (
    re.compile(r"(?<![0-9*])(\*{2,3})(?=[^\s*])([^*\n]*+(?:\*(?!\*)[^*\n]*+)*+)(?<=\S)\1(?![0-9])"),
    re.compile(r"(?<![^\W_])(_{1,3})(?=[^\s_])([^_\n]*+)(?<=\S)\1(?![^\W_])"),
    re.compile(r"(?<![A-Za-z0-9*])(\*)(?=[^\s*])([^*\n]*+)(?<=\S)\*(?![A-Za-z0-9*])"),
    re.compile(r"(`{1,3})([^`\n]++)\1"),
)
_STRUCK = re.compile(r"~~(?=[^\s~])([^~\n]*+)(?<=\S)~~")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!|~<>-])")
_ENDS_AN_ADDRESS = frozenset(" \n.,;:!?)]}»”’\"'")


def plain(text: str) -> str:
    """`text` without Markdown, without what nobody sees (see `visible`), and without blanks at its ends.

    A link becomes its words and its address, a list's mark a bullet, a table's row its cells between dots.
    Idempotent.
    """
    text = _tidy(visible(text))
    for _ in range(_PASSES):
        if not _MARKUP.search(text):
            break
        before, text = text, _tidy(visible(_without_marks(text)))
        if text == before:
            break
    return text


def _tidy(text: str) -> str:
    """No blanks at a line's end, and one empty line at most in a row."""
    lines = [line.rstrip() for line in text.split("\n")]
    kept = [line for i, line in enumerate(lines) if line or (i and lines[i - 1])]
    return "\n".join(kept).strip()


def _without_marks(text: str) -> str:
    """One layer less."""
    addresses = _Addresses()
    text = _FENCE.sub("", _ESCAPED.sub(r"\1", text))
    text = _LINK.sub(lambda found: addresses.linked(found[1], found[2]), text)
    text = _DEFINED.sub(r"\1 \2", text)
    text = _ANCHOR.sub(lambda found: addresses.linked(found[2], found[1]), text)
    text = _AUTOLINK.sub(lambda found: addresses.linked("", found[1]), text)
    text = _TAG.sub("", _BREAK.sub("\n", text))
    text = "\n".join(_lines(_ADDRESS.sub(lambda found: addresses.keep(found[0]), text)))
    for mark in _EMPHASIS:
        text = mark.sub(_unmarked, text)
    text = _STRUCK.sub(r"(\1)", text)  # an old price must not read like the new one
    text = _ENTITY.sub(lambda found: _ENTITIES[found[1]], text)
    return addresses.put_back(text).replace("](", "] (")  # whatever it is, it is no link


class _Addresses:
    """Addresses while the marks around them are taken off: what looks like a mark within one is none."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._linked: set[int] = set()

    def keep(self, address: str) -> str:
        self._kept.append(address)
        return f"\x00{len(self._kept) - 1}\x00"

    def linked(self, words: str, address: str) -> str:
        words = words.strip()
        if not address:
            return words
        self._linked.add(len(self._kept))
        return self.keep(address) if words in {"", address} else f"{words} {self.keep(address)}"

    def put_back(self, text: str) -> str:
        """A link's with a space behind it where a letter follows, which LINE would take for a part of it."""

        def address(found: re.Match[str]) -> str:
            n, follows = int(found[1]), found.string[found.end() : found.end() + 1]
            parted = n in self._linked and follows and follows not in _ENDS_AN_ADDRESS
            return f"{self._kept[n]} " if parted else self._kept[n]

        return _KEPT.sub(address, text)


def _unmarked(found: re.Match[str]) -> str:
    """Asterisks that mask a number (`***-***-1234`) stand around no word."""
    return found[2] if any(map(str.isalnum, found[2])) else found[0]


def _lines(text: str) -> Iterator[str]:
    lines = text.split("\n")
    in_table = False
    for i, line in enumerate(lines):
        heads_table = i + 1 < len(lines) and bool(_TABLE_RULE.match(lines[i + 1]))
        in_table = "|" in line and (in_table or heads_table or line.lstrip().startswith("|"))
        if _TABLE_RULE.match(line) and "|" in line:
            in_table = True
        elif in_table:
            cells = (cell.strip() for cell in line.split("|"))
            yield " · ".join(cell for cell in cells if cell)
        elif _RULE.match(line):
            yield ""
        else:
            yield _BULLET.sub(r"\1• ", _HEADING.sub(r"\1", _QUOTED.sub("", line)))
