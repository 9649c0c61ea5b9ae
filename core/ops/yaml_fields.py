"""Reading a YAML file that people write: every problem is collected with its line, nothing is guessed.

Values are read from the text as it stands in the file: 300.10 is exactly that, and 0165 keeps its zero.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from core.domain.errors import InvalidInputError

_NULL = "tag:yaml.org,2002:null"
_BOOL = "tag:yaml.org,2002:bool"
_FIELD_NAME = re.compile(r"[A-Za-z_]{1,30}")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """`field` is the way to the value, such as `bkk-smile: line.channel_id`."""

    line: int
    field: str
    message: str


class FileProblemsError(InvalidInputError):
    """Everything that is wrong with a file, a line each: `FILE:LINE: FIELD: what is expected`."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.problems = sorted(set(problems))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        lines = "\n".join(f"{path}:{p.line}: {p.field}: {p.message}" for p in self.problems)
        super().__init__(f"{count} in {path}, nothing was done\n{lines}")


def read_yaml(path: Path, top: str = "clinics") -> Node:
    """The file's only document, not yet interpreted. `top`: the field that an empty file lacks.
    Raises InvalidInputError, FileProblemsError."""
    try:
        root: Node | None = YAML(typ="safe", pure=True).compose(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise InvalidInputError(f"{path}: {reason}") from exc
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = Problem(mark.line + 1 if mark else 1, "YAML", f"{exc.problem or exc.context}")
        raise FileProblemsError(path, [problem]) from exc
    except YAMLError as exc:
        raise FileProblemsError(path, [Problem(1, "YAML", "has a character that is not text")]) from exc
    except RecursionError:
        raise FileProblemsError(path, [Problem(1, "YAML", "is nested too deeply to be read")]) from None
    if root is None:
        raise FileProblemsError(path, [Problem(1, top, f"the file is empty: expected a list of {top}")])
    return root


def text_of(node: Node) -> str | None:
    """A scalar as written; None for anything else."""
    if not isinstance(node, ScalarNode) or node.tag == _NULL:
        return None
    # JSON writes characters beyond U+FFFF as two escapes, which YAML leaves apart.
    return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Fields:
    """One mapping of the file. Each method reads a field, or notes a problem and returns None."""

    def __init__(
        self,
        node: Node,
        way: str,
        allowed: Collection[str],
        problems: list[Problem],
        *,
        at_least: int = 1,
    ) -> None:
        """`at_least`: the line that the mapping hangs on. What came there by an alias is written above it,
        and it is the alias that is to be changed."""
        self.way = way
        self.line = max(at_least, node.start_mark.line + 1)
        self._problems = problems
        self._values: dict[str, tuple[int, Node]] = {}
        if not isinstance(node, MappingNode):
            self.problem(None, f"expected fields: {', '.join(allowed)}")
            return
        for key, value in node.value:
            name, line = text_of(key) or "", max(self.line, key.start_mark.line + 1)
            if name in self._values:
                problems.append(Problem(line, self._way(name), "stands here twice: keep one"))
            elif name not in allowed:
                problems.append(self._unknown(name, line, allowed))
            else:
                self._values[name] = (line, value)

    def _unknown(self, name: str, line: int, allowed: Collection[str]) -> Problem:
        """Of a key, only what can be a field's name is shown: without the blank after its colon, a field and
        its value, be it a secret, are one key."""
        field, colon, _ = name.partition(":")
        if colon and field in allowed:
            return Problem(line, self._way(field), "a blank is missing after the colon")
        expected = f"expected one of {', '.join(allowed)}"
        if not _FIELD_NAME.fullmatch(name):
            message = f"unknown field, not shown since it may hold a secret: {expected}"
            return Problem(line, self.way or "the file", message)
        close = get_close_matches(name, allowed, 1)
        remedy = f"did you mean {close[0]}?" if close else expected
        return Problem(line, self._way(name), f"unknown field: {remedy}")

    def __contains__(self, name: str) -> bool:
        """Whether it stands in the file, be it with an empty value."""
        return name in self._values

    def is_empty(self, name: str) -> bool:
        """Whether it stands in the file without a value."""
        return name in self and self.node(name) is None

    def line_of(self, name: str) -> int:
        return self._values[name][0] if name in self._values else self.line

    def problem(self, name: str | None, message: str, line: int = 0) -> None:
        """`line`: of what is wrong within the field, if it is not the field's own."""
        line = max(line, self.line_of(name) if name else self.line)
        self._problems.append(Problem(line, self._way(name) if name else self.way, message))

    def text(
        self,
        name: str,
        expected: str = "expected text",
        *,
        pattern: str = r"(?s).*\S.*",
        longest: int = 1_000,
        required: bool = False,
        secret: bool = False,
    ) -> str | None:
        """`secret`: the value is not shown in a problem."""
        node = self.node(name)
        if node is None:
            if required:
                self.problem(name, f"is missing: {expected}")
            return None
        value = text_of(node)
        if value is None or not re.fullmatch(pattern, value) or len(value) > longest:
            shown = "" if secret or value is None or len(value) > 80 else f"{value!r}: "
            over = f" of at most {longest:,} characters" if value and len(value) > longest else ""
            self.problem(name, f"{shown}{expected}{over}")
            return None
        return value

    def flag(self, name: str) -> bool | None:
        node = self.node(name)
        if node is None:
            return None
        value = text_of(node)
        # YAML 1.1, which a file may ask for, knows yes and on as well: nothing is guessed.
        if node.tag != _BOOL or value is None or value.lower() not in {"true", "false"}:
            self.problem(name, f"{value!r}: expected true or false")
            return None
        return value.lower() == "true"

    def whole(self, name: str, low: int, high: int, remark: str = "") -> int | None:
        node = self.node(name)
        if node is None:
            return None
        value = text_of(node) or ""
        if not re.fullmatch(r"[0-9]{1,12}", value) or not low <= int(value) <= high:
            self.problem(name, f"{value!r}: expected a whole number from {low} to {high}{remark}")
            return None
        return int(value)

    def decimal(self, name: str, low: int, high: int, example: str) -> Decimal | None:
        node = self.node(name)
        if node is None:
            return None
        value = text_of(node) or ""
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if not (number.is_finite() and low <= number <= high):
            self.problem(name, f"{value!r}: expected a number from {low} to {high} such as {example}")
            return None
        return number

    def fields(self, name: str, allowed: Collection[str]) -> Fields | None:
        node = self.node(name)
        if node is None:
            return None
        return Fields(node, self._way(name), allowed, self._problems, at_least=self.line_of(name))

    def pairs(self, name: str, expected: str) -> list[tuple[str, str, int]]:
        """A mapping of texts whose keys the file chooses: key, value and line of each."""
        node = self.node(name)
        if node is None:
            return []
        pairs = node.value if isinstance(node, MappingNode) else []
        read = [(text_of(key), text_of(value), key.start_mark.line + 1) for key, value in pairs]
        whole = [(key, value, max(self.line_of(name), line)) for key, value, line in read if key and value]
        if not read or len(whole) < len(read):
            self.problem(name, expected)
        return whole

    def items(self, name: str, expected: str) -> list[Node]:
        node = self.node(name)
        if node is None:
            return []
        if not isinstance(node, SequenceNode):
            self.problem(name, expected)
            return []
        return list(node.value)

    def node(self, name: str) -> Node | None:
        """A field without a value counts as left out."""
        node = self._values[name][1] if name in self._values else None
        return None if node is not None and node.tag == _NULL else node

    def _way(self, name: str) -> str:
        joint = "" if not self.way else ": " if "." not in self.way and ":" not in self.way else "."
        return f"{self.way}{joint}{name}"
