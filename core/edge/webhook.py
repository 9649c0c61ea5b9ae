"""The webhook function: LINE's request in, an acknowledgement out."""

from __future__ import annotations

from collections.abc import Mapping

from core.bootstrap.webhook import build
from core.domain.trace import trace_id
from core.edge.process import Process
from core.usecases.ack_webhook import Ack, AckWebhook

PROCESS: Process[AckWebhook] = Process("webhook", build)


async def acknowledge(body: bytes, headers: Mapping[str, str]) -> Ack:
    """`headers` by lower-case name. Statuses: see core.usecases.ack_webhook."""
    trace = trace_id(headers.get("x-cloud-trace-context"), headers.get("traceparent"))
    return await PROCESS.app()(body, headers.get("x-line-signature"), trace)
