"""Text that every store and every API takes: JSON can carry what UTF-8 cannot."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """`text` with each half of a surrogate pair that stands alone replaced by U+FFFD. A JSON escape such as
    `\\ud83d` makes one, and no store can encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
