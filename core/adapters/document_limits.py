"""What Firestore refuses to store: https://cloud.google.com/firestore/quotas#limits.

For stores that would take it. How large a document may be is theirs to measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.domain.errors import InvalidInputError
from core.ports.documents import DELETE_FIELD, Create, Delete, Increment, Merge, Write

MAX_DOCUMENT_BYTES: Final = 1_048_576
_MAX_NAME_BYTES = 1_500
_MAX_NESTED_MAPS = 20
_INT64 = range(-(2**63), 2**63)


def check(write: Write) -> None:
    """Raises InvalidInputError, which names the document and what is wrong with the write."""
    problem = _bad_id(write.key.id)
    if problem is None and not isinstance(write, Delete):
        update = isinstance(write, Merge) and (write.if_exists or write.if_version is not None)
        problem = "an update with nothing" if update and not write.data else _bad_map(write.data, 0)
        if problem is None and isinstance(write, Create) and _deletes(write.data):
            problem = "a new document has no fields to remove"
    if problem is not None:
        raise InvalidInputError(f"{write.key.collection}/{write.key.id}: {problem}")


def _bad_id(name: str) -> str | None:
    return "a slash or dots alone are no id" if "/" in name or name in {".", ".."} else _bad_name(name)


def _bad_name(name: object) -> str | None:
    if not isinstance(name, str) or not name:
        return "a name is a text that is not empty"
    if name.startswith("__") and name.endswith("__"):
        return f"{name} is reserved"
    if len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        return "a name is too long"
    return _bad_text(name)


def _bad_text(text: str) -> str | None:
    return "half a surrogate pair is no text" if any("\ud800" <= char <= "\udfff" for char in text) else None


def _bad_map(data: Mapping[str, Any], depth: int) -> str | None:
    if depth > _MAX_NESTED_MAPS:
        return "maps are nested too deeply"
    for name, value in data.items():
        if problem := _bad_name(name) or _bad_value(value, depth, in_list=False):
            return problem
    return None


def _bad_value(value: object, depth: int, *, in_list: bool) -> str | None:
    match value:
        case Mapping():
            return _bad_map(value, depth + 1)
        case list():
            found = (_bad_value(inner, depth, in_list=True) for inner in value)
            return "a list in a list" if in_list else next(filter(None, found), None)
        case str():
            return _bad_text(value)
    if isinstance(value, int) and value not in _INT64:
        return "a number beyond 64 bits"
    special = value is DELETE_FIELD or isinstance(value, Increment)
    return "a list holds values alone" if in_list and special else None


def _deletes(data: Mapping[str, Any]) -> bool:
    return any(
        value is DELETE_FIELD or (isinstance(value, Mapping) and _deletes(value)) for value in data.values()
    )
