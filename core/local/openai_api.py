"""A stand-in for OpenAI's chat completions: checks like OpenAI, answers in Thai, takes its time, counts.

What it counts is the far side's truth about fairlane: how many calls ran at once, in all and by clinic.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.local.faults import FaultScript
from core.local.http_server import HttpServer, Request, ResetConnectionError, Response
from core.local.openai_answers import PromptCache, Served, instance_of, prompt_tokens, reply_text, token_count
from core.local.openai_audio import OpenAiAudio
from core.local.openai_checks import MODELS, RefusedError, check, output_limit, response_schema
from core.local.openai_faults import (
    BILLED,
    LlmFaultKind,
    LlmTrouble,
    error_response,
    refusal,
    spoiled_choice,
    spoiled_content,
)
from core.local.openai_pictures import pictures_in, text_of
from core.local.specs import watched

__all__ = ["Call", "Latency", "LlmFaultKind", "LlmTrouble", "OpenAiApi", "Served"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Log-normal: half the calls take less than `median_s`; all are multiplied by `scale`."""

    median_s: float = 1.6
    sigma: float = 0.4
    scale: float = 1.0

    def draw(self, dice: random.Random) -> float:
        return self.scale * self.median_s * dice.lognormvariate(0.0, self.sigma)


@dataclass(slots=True)
class Call:
    """One call as the provider saw it. `outcome`: running, answered, abandoned (the client went away),
    refused (4xx of its own making), or the kind of fault. `usage` is None when nothing was billed. Times
    are Unix ms."""

    clinic: str
    model: str
    messages: Sequence[Mapping[str, Any]]
    started_ms: int
    ended_ms: int | None = None
    outcome: str = "running"
    status: int | None = None
    usage: Served | None = None
    request_id: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last_words(self) -> str:
        return next((text_of(m["content"]) for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def pictures(self) -> list[bytes]:
        """What the model was shown, in order."""
        return [data for data, _ in pictures_in(self.messages)]


def clinic_of(body: Mapping[str, Any]) -> str:
    """Who a call is for, as far as a provider can tell."""
    metadata = body.get("metadata") or {}
    for value in (
        metadata.get("org_id"),
        body.get("prompt_cache_key"),
        body.get("safety_identifier"),
        body.get("user"),
    ):
        if value:
            return str(value).removeprefix("fairlane-")
    return "unknown"


Answer = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


class OpenAiApi:
    """`answer`: overrides parts of what it says, by the call's body; properties it does not name keep the
    least value that the schema allows. `running` and `most` count calls at once: all, and by clinic. `audio`:
    what was written down; its calls are nobody's in particular, since they name no clinic."""

    def __init__(
        self,
        *,
        port: int = 0,
        latency: Latency | None = None,
        seed: int = 0,
        models: tuple[str, ...] = MODELS,
        discriminator: Callable[[Mapping[str, Any]], str] = clinic_of,
        answer: Answer | None = None,
        keep_bodies: bool = True,
    ) -> None:
        self.latency = latency or Latency()
        self.faults: FaultScript[LlmTrouble, Call] = FaultScript(seed)
        self.answer = answer
        self.calls: list[Call] = []
        self.running = 0
        self.most = 0
        self.running_by_clinic: Counter[str] = Counter()
        self.most_by_clinic: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._models = models
        self._discriminator = discriminator
        self._keep_bodies = keep_bodies
        self._cache = PromptCache()
        self.audio = OpenAiAudio(lambda: self.latency.draw(self._dice), self._count)
        self._server = HttpServer(watched("openai", self._handle), port=port)

    @property
    def url(self) -> str:
        """What OPENAI_BASE_URL wants."""
        return f"{self._server.url}/v1"

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def _handle(self, request: Request) -> Response:
        request_id = f"req_{secrets.token_hex(16)}"
        try:
            return await self._route(request, request_id)
        except RefusedError as exc:
            return error_response(exc, request_id)

    async def _route(self, request: Request, request_id: str) -> Response:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            detail = "You didn't provide an API key."
            raise RefusedError(detail, status=401, code="invalid_api_key")
        if request.method == "GET" and request.path == "/v1/models":
            models = [{"id": m, "object": "model", "created": 0, "owned_by": "local"} for m in self._models]
            return Response.of_json({"object": "list", "data": models})
        if (request.method, request.path) == ("POST", "/v1/audio/transcriptions"):
            return await self.audio.transcribe(request, request_id)
        if (request.method, request.path) != ("POST", "/v1/chat/completions"):
            raise RefusedError(f"Invalid URL ({request.method} {request.path})", status=404)
        # A client that gave up on its last call and the next call may arrive in one batch of socket events:
        # the end is looked at first, or the count would show more calls at once than there were.
        for _ in range(3):
            await asyncio.sleep(0)
        return await self._complete(request.json(), request_id)

    async def _complete(self, body: Any, request_id: str) -> Response:
        shown = body if isinstance(body, dict) else {}
        clinic = self._discriminator(shown)
        call = Call(clinic, str(shown.get("model")), shown.get("messages") or [], _now_ms())
        call.request_id = request_id
        if self._keep_bodies:
            call.body = shown
        self.calls.append(call)
        self._count(clinic, 1)
        try:
            response = await self._work(call, check(body, self._models))
        except RefusedError as exc:
            call.outcome = "refused" if call.outcome == "running" else call.outcome
            call.status = exc.status
            raise
        except asyncio.CancelledError:
            call.outcome = "abandoned" if call.outcome == "running" else call.outcome
            raise
        finally:
            call.ended_ms = _now_ms()
            self._count(clinic, -1)
        call.status = response.status
        return response

    def _count(self, clinic: str, change: int) -> None:
        self.running += change
        self.most = max(self.most, self.running)
        self.running_by_clinic[clinic] += change
        self.most_by_clinic[clinic] = max(self.most_by_clinic[clinic], self.running_by_clinic[clinic])

    async def _work(self, call: Call, body: Mapping[str, Any]) -> Response:
        trouble = self.faults.next(call)
        latency_s = self.latency.draw(self._dice)
        if trouble is None or trouble.kind in BILLED or trouble.late:
            await asyncio.sleep(latency_s)
        if trouble is None:
            response = self._response(call, body, self._content(body))
            call.outcome = "answered"
            return response
        call.outcome = trouble.kind.value
        if trouble.kind is LlmFaultKind.HANG:
            await asyncio.Event().wait()
        if trouble.kind is LlmFaultKind.RESET:
            raise ResetConnectionError
        if trouble.kind in BILLED:
            return self._spoiled(call, body, trouble)
        return refusal(trouble, call.request_id)

    def _spoiled(self, call: Call, body: Mapping[str, Any], trouble: LlmTrouble) -> Response:
        content = spoiled_content(trouble.kind, self._content(body))
        response = self._response(call, body, content, trouble.kind)
        drip_s = trouble.drip_s if trouble.kind is LlmFaultKind.DRIP else 0.0
        cut_at = len(response.body) // 2 if trouble.kind is LlmFaultKind.CUT_BODY else None
        described = trouble.kind is not LlmFaultKind.NULL_MESSAGE
        return Response(response.status, response.body, response.headers, drip_s, cut_at, described)

    def _content(self, body: Mapping[str, Any]) -> str:
        schema = response_schema(body)
        reply = reply_text(body["messages"])
        if schema is None:
            return reply
        value = instance_of(schema, reply)
        changes = self.answer(body) if self.answer is not None else None
        return json.dumps({**value, **(changes or {})}, ensure_ascii=False)

    def _response(
        self, call: Call, body: Mapping[str, Any], content: str, kind: LlmFaultKind | None = None
    ) -> Response:
        limit = output_limit(body)
        finish = "stop"
        if limit is not None and token_count(content) > limit:
            finish = "length"
            # One token is at least one character, so this ends.
            while token_count(content) > limit:
                content = content[:-1]
        schema = response_schema(body)
        prompt = prompt_tokens(body["messages"], schema)
        # The schema stands before the messages and is cached with them (OpenAI, "Prompt caching").
        parts = [json.dumps(schema), *(f"{m['role']}:{text_of(m['content'])}" for m in body["messages"])]
        text = "\n".join(parts)
        key = str(body.get("prompt_cache_key") or body.get("user") or "")
        cached, written = self._cache.look_up(call.model, key, text, prompt)
        call.usage = Served(prompt, token_count(content), cached, written)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": content, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": finish,
        }
        shown = {
            "id": f"chatcmpl-{secrets.token_hex(14)}",
            "object": "chat.completion",
            "created": _now_ms() // 1000,
            "model": call.model,
            "choices": [spoiled_choice(kind, choice)],
            "usage": call.usage.to_json(),
            "service_tier": "default",
            "system_fingerprint": "fp_local",
        }
        return Response.of_json(shown, 200, {"x-request-id": call.request_id})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
