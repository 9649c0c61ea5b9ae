"""What the client of Redis returns is awaitable, and no coroutine by its type."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

Result = TypeVar("Result")


async def result_of(work: Awaitable[Result]) -> Result:
    return await work
