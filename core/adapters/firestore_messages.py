"""Firestore's messages, to and from our values, as plain protobuf.

The client's own wrappers (proto-plus, and its helpers around them) take several times as long as the call
itself; they are used nowhere here. https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from google.cloud.firestore_v1.types import (
    BatchGetDocumentsRequest,
    CommitRequest,
    RunQueryRequest,
    StructuredQuery,
)

from core.ports.documents import (
    DELETE_FIELD,
    Create,
    Delete,
    Document,
    Increment,
    Key,
    Merge,
    Where,
    Write,
)

_Filter = StructuredQuery.FieldFilter.Operator
_OPERATORS: Mapping[str, int] = {
    "==": _Filter.EQUAL,
    "<": _Filter.LESS_THAN,
    "<=": _Filter.LESS_THAN_OR_EQUAL,
    ">": _Filter.GREATER_THAN,
    ">=": _Filter.GREATER_THAN_OR_EQUAL,
    "array_contains": _Filter.ARRAY_CONTAINS,
}
_AND = StructuredQuery.CompositeFilter.Operator.AND
_MAPS = (dict, Mapping)
"""A dict is known at once, what else is a mapping only by asking its class."""
_SIMPLE_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)


class Messages:
    """Of one database: `database` is `projects/P/databases/D`. What can't be said in a message raises
    TypeError or ValueError."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._root = f"{database}/documents"

    def name(self, key: Key) -> str:
        if not key.id or "/" in key.id:
            raise ValueError(f"{key.id!r} is no document's id")
        return f"{self._root}/{key.collection}/{key.id}"

    def reading(self, names: Sequence[str]) -> Any:
        return BatchGetDocumentsRequest.pb()(database=self._database, documents=names)

    def committing(self, writes: Sequence[Write]) -> Any:
        request = CommitRequest.pb()(database=self._database)
        for write in writes:
            self._add(request.writes.add(), write)
        return request

    def _add(self, message: Any, write: Write) -> None:
        name = self.name(write.key)
        match write:
            case Delete():
                message.delete = name
            case Create():
                message.update.name = name
                message.current_document.exists = False
                if _changes(message, write.data):
                    raise ValueError("a new document has no fields to remove")
                message.ClearField("update_mask")
            case Merge():
                message.update.name = name
                message.update_mask.SetInParent()  # without one the document would be replaced
                _changes(message, write.data)
                if write.if_version is not None or write.if_exists:
                    if not write.data:
                        raise ValueError(f"an update of {write.key.id} with nothing")
                    message.current_document.exists = True
        if not isinstance(write, Create) and write.if_version is not None:
            message.current_document.update_time.CopyFrom(write.if_version)

    def querying(
        self,
        collection: str,
        where: Sequence[Where],
        order_by: str | None,
        *,
        descending: bool,
        limit: int | None,
    ) -> Any:
        request = RunQueryRequest.pb()(parent=self._root)
        query = request.structured_query
        query.from_.add().collection_id = collection
        if where:
            query.where.composite_filter.op = _AND
        for condition in where:
            asked = query.where.composite_filter.filters.add().field_filter
            asked.field.field_path = _quoted(condition.field)
            asked.op = _OPERATORS[condition.op]
            _set(asked.value, condition.value)
        if order_by:
            order = query.order_by.add()
            order.field.field_path = _quoted(order_by)
            kind = StructuredQuery.Direction
            order.direction = kind.DESCENDING if descending else kind.ASCENDING
        if limit is not None:
            query.limit.value = limit
        return request


def document_of(message: Any) -> Document:
    """Its version is the time of its last update."""
    *_, collection, doc_id = message.name.rsplit("/", 2)
    return Document(Key(collection, doc_id), _values(message.fields), message.update_time)


def _changes(message: Any, data: Mapping[str, Any]) -> bool:
    """Put `data` into a write, field by field; whether it removes any."""
    removes = False
    for path, names, value in _leaves(data):
        if isinstance(value, Increment):
            added = message.update_transforms.add()
            added.field_path = path
            added.increment.integer_value = value.amount
            continue
        message.update_mask.field_paths.append(path)
        if value is DELETE_FIELD:
            removes = True
            continue
        fields = message.update.fields
        for name in names[:-1]:
            fields = fields[name].map_value.fields
        _set(fields[names[-1]], value)
    return removes


def _leaves(
    data: Mapping[str, Any], path: str = "", names: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """What a merge sets, with its path: maps go field by field, but for an empty one."""
    for name, value in data.items():
        here, named = path + _quoted(name), (*names, name)
        if isinstance(value, _MAPS) and value:
            yield from _leaves(value, f"{here}.", named)
        else:
            yield here, named, value


@lru_cache(4096)
def _quoted(name: str) -> str:
    """As it stands in a path."""
    if _SIMPLE_NAME.fullmatch(name):
        return name
    if not name:
        raise ValueError("a name is a text that is not empty")
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _set(message: Any, value: Any) -> None:
    """`value` into a Value."""
    match value:
        case str():
            message.string_value = value
        case bool():
            message.boolean_value = value
        case int():
            message.integer_value = value
        case None:
            message.null_value = 0
        case float():
            message.double_value = value
        case datetime():
            message.timestamp_value.FromDatetime(value)
        case dict() | Mapping():
            message.map_value.SetInParent()
            for name, inner in value.items():
                _set(message.map_value.fields[name], inner)
        case list() | tuple():
            message.array_value.SetInParent()
            for inner in value:
                _set(message.array_value.values.add(), inner)
        case _:
            raise TypeError(f"a document can't hold {type(value).__name__}")


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "string_value": lambda message: message.string_value,
    "boolean_value": lambda message: message.boolean_value,
    "integer_value": lambda message: message.integer_value,
    "null_value": lambda _: None,
    "double_value": lambda message: message.double_value,
    "timestamp_value": lambda message: message.timestamp_value.ToDatetime(UTC),
    "map_value": lambda message: _values(message.map_value.fields),
    "array_value": lambda message: [_value(inner) for inner in message.array_value.values],
}


def _value(message: Any) -> Any:
    return _READERS[message.WhichOneof("value_type")](message)


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(message) for name, message in fields.items()}
