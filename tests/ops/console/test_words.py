"""The pages' texts: the same in both languages, and none is missing."""

from __future__ import annotations

import re

import pytest

from core.ops.console.view import FOLDER, LANGUAGES, words

_VALUE = re.compile(r"{(\w+)}")
_USED = re.compile(r"""\bt\(\s*["']([a-z_]+\.[\w-]+)["']\s*[,)]""")
_SAID = re.compile(r"""view\.text\(request, "([a-z_]+\.\w+)\"""")


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_say_the_same(language: str) -> None:
    english, other = words("en"), words(language)
    assert english.keys() == other.keys()
    values = {key: set(_VALUE.findall(text)) for key, text in other.items()}
    assert values == {key: set(_VALUE.findall(text)) for key, text in english.items()}


def test_every_text_that_a_page_shows_is_there() -> None:
    used = {
        key
        for path in (FOLDER / "templates").glob("*.html")
        for key in _USED.findall(path.read_text("utf-8"))
    }
    used |= {key for path in FOLDER.glob("*.py") for key in _SAID.findall(path.read_text("utf-8"))}
    assert len(used) > 100
    assert not used - words("en").keys()


def test_thai_is_thai() -> None:
    english, thai = words("en"), words("th")
    same = {key for key, text in english.items() if text and thai[key] == text}
    assert same <= {"turns.trace"}
