"""Structured events: a dotted name and fields, never a sentence with values baked in.

An event at INFO never carries a secret, a token, or a customer's words. The formatter (JSON in Cloud
Logging's field names) is `core.adapters.json_log`; Terraform turns some events into metrics and alarms, and
a test holds their names together. The event's name is positional, so that a field may be called `event`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

LOGGER = logging.getLogger("fairlane")

_context: ContextVar[dict[str, Any] | None] = ContextVar("fairlane_log_context", default=None)


def context() -> dict[str, Any]:
    """The fields that every event of the current task carries (trace, org, turn, event)."""
    return _context.get() or {}


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add `fields` to every event logged inside the block, by this coroutine and those it starts."""
    token = _context.set({**context(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def info(event: str, /, **fields: Any) -> None:
    LOGGER.info(event, extra={"fields": {**context(), **fields}})


def warning(event: str, /, **fields: Any) -> None:
    LOGGER.warning(event, extra={"fields": {**context(), **fields}})


def error(event: str, /, *, exc: BaseException | None = None, **fields: Any) -> None:
    """Something a person must look at; `exc` adds its traceback."""
    LOGGER.error(event, extra={"fields": {**context(), **fields}}, exc_info=exc)


def debug(event: str, /, **fields: Any) -> None:
    """May carry customers' words; never on in production."""
    LOGGER.debug(event, extra={"fields": {**context(), **fields}})
