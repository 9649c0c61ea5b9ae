"""The webhook function: LINE's request in, an acknowledgement out."""

from __future__ import annotations

from collections.abc import Mapping

from core.domain.trace import trace_id
from core.edge.process import Process, uncollected
from core.ports import log

with uncollected():
    from core.bootstrap.webhook import build
    from core.usecases.webhook.acknowledge import AckWebhook, Outcome

PROCESS: Process[AckWebhook] = Process("webhook", build)


STATUSES = {
    Outcome.ENQUEUED: 200,
    Outcome.NOT_A_WEBHOOK: 400,
    Outcome.WRONG_SIGNATURE: 401,
    Outcome.UNKNOWN_DESTINATION: 404,
    Outcome.TOO_MANY_UNKNOWN: 503,
    Outcome.IN_DOUBT: 503,
}
"""LINE delivers a webhook again that was answered with 5xx."""


async def acknowledge(body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    """Status and text of the answer; 500 for what nobody foresaw. `headers` by lower-case name."""
    trace = trace_id(headers.get("x-cloud-trace-context"), headers.get("traceparent"))
    try:
        ack = await PROCESS.app()(body, headers.get("x-line-signature"), trace)
    except Exception as exc:
        # A defect of ours: a person is told.
        log.error("webhook.defect", exc=exc, trace=trace, reason=type(exc).__name__)
        return 500, "try again"
    return STATUSES[ack.outcome], ack.detail
