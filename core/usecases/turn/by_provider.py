"""Slots and models of several providers behind one port each: a model's name says which one is meant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from core.domain.providers import Providers
from core.ports.llm import Llm, LlmAnswer, LlmRequest
from core.ports.slots import Slot, SlotRequest, Slots


class SlotsByProvider:
    """See ports.slots. `slots` by the provider's name, one of each."""

    def __init__(self, providers: Providers, slots: Mapping[str, Slots]) -> None:
        self._first = providers.first.name
        self._slots = slots

    def hold(
        self, request: SlotRequest, *, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AbstractAsyncContextManager[Slot]:
        """See the port."""
        return self._slots[request.provider or self._first].hold(request, on_wait=on_wait)

    def check_now(self) -> None:
        """See the port."""
        for slots in self._slots.values():
            slots.check_now()

    async def drain(self) -> None:
        """See the port."""
        await asyncio.gather(*(slots.drain() for slots in self._slots.values()))

    async def close(self) -> None:
        """See the port."""
        await asyncio.gather(*(slots.close() for slots in self._slots.values()))


class LlmByProvider:
    """See ports.llm."""

    def __init__(self, providers: Providers, llms: Mapping[str, Llm]) -> None:
        self._providers = providers
        self._llms = llms

    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        """See the port. The provider is asked for its own name of the model."""
        provider, model = self._providers.split(request.model)
        return await self._llms[provider].complete(replace(request, model=model), timeout_s=timeout_s)

    async def close(self) -> None:
        """See the port."""
        await asyncio.gather(*(llm.close() for llm in self._llms.values()))
