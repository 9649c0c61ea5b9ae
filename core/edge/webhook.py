"""The webhook function: LINE's request in, an acknowledgement out."""

from __future__ import annotations

from collections.abc import Mapping

from core.domain.trace import trace_id
from core.edge.process import Process, uncollected
from core.ports import log

with uncollected():
    from core.bootstrap.webhook import build
    from core.usecases.webhook.acknowledge import Ack, AckWebhook

PROCESS: Process[AckWebhook] = Process("webhook", build)


async def acknowledge(body: bytes, headers: Mapping[str, str]) -> Ack:
    """`headers` by lower-case name. Statuses: see core.usecases.webhook.acknowledge; 500 for what nobody
    foresaw, so that LINE delivers it again."""
    trace = trace_id(headers.get("x-cloud-trace-context"), headers.get("traceparent"))
    try:
        return await PROCESS.app()(body, headers.get("x-line-signature"), trace)
    except Exception as exc:
        # A defect of ours: a person is told.
        log.error("webhook.defect", exc=exc, trace=trace, reason=type(exc).__name__)
        return Ack(500, "try again")
