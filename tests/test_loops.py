"""Tests run on uvloop, as the functions do: whatever scope a fixture or a test has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvloop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def of_the_module() -> AsyncIterator[asyncio.AbstractEventLoop]:
    yield asyncio.get_running_loop()


@pytest.fixture
async def of_the_function() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def test_a_test_and_its_fixture_run_on_uvloop(of_the_function: asyncio.AbstractEventLoop) -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    assert asyncio.get_running_loop() is of_the_function


@pytest.mark.asyncio(loop_scope="module")
async def test_a_module_runs_on_one_uvloop(of_the_module: asyncio.AbstractEventLoop) -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    assert asyncio.get_running_loop() is of_the_module
