"""Two versions of a clinic compared: by field, and within a field by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from core.usecases.operate.clinic_state import ClinicState, FieldChange, differences


@dataclass(frozen=True, slots=True)
class Line:
    """One that is gone (`-`) or new (`+`), with its number in the version that has it, from 1."""

    sign: Literal["-", "+"]
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """`change` has the values; `lines` what of them differs."""

    change: FieldChange
    lines: tuple[Line, ...]

    @property
    def is_one_line(self) -> bool:
        """Old and new fit beside each other."""
        return not any(isinstance(value, list) or len(as_lines(value)) > 1 for value in self._values)

    @property
    def _values(self) -> tuple[Any, Any]:
        return self.change.old, self.change.new


def diff(before: ClinicState, after: ClinicState) -> list[FieldDiff]:
    return [FieldDiff(change, tuple(_lines(change))) for change in differences(before, after)]


def as_lines(value: Any) -> list[str]:
    """A text by line, a list by entry."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return value.splitlines()
    if isinstance(value, list):
        return [_entry(each) for each in value]
    return [_entry(value)]


def _entry(value: Any) -> str:
    if isinstance(value, Mapping):
        return " · ".join(_entry(part) for part in value.values() if part not in (None, ""))
    if isinstance(value, list):
        return "–".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lines(change: FieldChange) -> Iterator[Line]:
    old, new = as_lines(change.old), as_lines(change.new)
    for kind, a, b, c, d in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind != "equal":
            yield from (Line("-", n + 1, old[n]) for n in range(a, b))
            yield from (Line("+", n + 1, new[n]) for n in range(c, d))
