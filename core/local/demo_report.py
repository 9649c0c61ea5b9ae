"""What the demo has shown, as data: promises, transcript, figures by clinic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

from core.local.demo_play import Demo, Scene
from core.local.line_api import Delivery
from core.local.openai_answers import QUOTE_OPEN
from core.local.simulator import Sent


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a customer and what came of it. Several lines may share a reply, which
    stands at the last of them. `outcome`: answered, refused (bad signature), silent (on purpose), or notice:
    nobody said anything; staff were told, or the customer what they decided."""

    at_ms: int
    org_id: str
    clinic: str
    customer: str
    said: str
    outcome: str
    reply: str = ""
    how: str = ""
    instance: str = ""
    model: str = ""
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ClinicFigures:
    """`received`: messages that the webhook has accepted; `duplicates`: deliveries of them beyond the
    first, by LINE; latency from sent to answered, in ms."""

    org_id: str
    clinic: str
    received: int
    answered: int
    silent: int
    duplicates: int
    refused: int
    p50_ms: int | None
    p95_ms: int | None
    spent_micro_baht: int


@dataclass(frozen=True, slots=True)
class Report:
    scenes: Sequence[Scene]
    transcript: Sequence[Line]
    clinics: Sequence[ClinicFigures]
    spend: Sequence[dict[str, Any]]
    spend_table: str
    served_micro_baht: int
    unknown_micro_baht: int
    judged_by_model: bool
    seconds: float

    @property
    def broken(self) -> list[str]:
        """What did not hold; empty if all did."""
        return [f"{scene.title}: {reason}" for scene in self.scenes for reason in scene.broken]

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": not self.broken,
            "broken": self.broken,
            "seconds": round(self.seconds, 1),
            "scenes": [asdict(scene) for scene in self.scenes],
            "clinics": [asdict(figures) for figures in self.clinics],
            "spend": list(self.spend),
            "served_micro_baht": self.served_micro_baht,
            "unknown_micro_baht": self.unknown_micro_baht,
            "transcript": [asdict(line) for line in self.transcript],
        }


def report(demo: Demo, seconds: float) -> Report:
    everything = sorted(demo.simulator.sent.values(), key=lambda sent: sent.sent_ms)
    lines = _transcript(demo, everything)
    spent = {row["org_id"]: row["spent_micro_baht"] for row in demo.spend}
    figures = [
        _figures(clinic.name, org_id, [s for s in everything if s.clinic is clinic], lines, spent)
        for org_id, clinic in demo.clinics.items()
    ]
    return Report(
        demo.scenes,
        lines,
        [*figures, _figures("all", "", everything, lines, {"": sum(spent.values())})],
        demo.spend,
        demo.spend_table,
        demo.served_micro_baht,
        demo.unknown_micro_baht,
        demo.judged_by_model,
        seconds,
    )


def _transcript(demo: Demo, everything: Sequence[Sent]) -> list[Line]:
    replies = {s.event_id: next(iter(demo.simulator.answers(s.event_id)), None) for s in everything}
    last_of = {id(reply): event_id for event_id, reply in replies.items() if reply is not None}
    instances = dict(zip(replies, demo.instances(*everything), strict=True))
    for event_id, reply in replies.items():  # the instance of a turn is known by one of its events
        if reply is not None and instances[last_of[id(reply)]] == "?":
            instances[last_of[id(reply)]] = instances[event_id]
    lines = [_line(demo, sent, replies[sent.event_id], last_of, instances) for sent in everything]
    return sorted([*lines, *_notices(demo)], key=lambda line: line.at_ms)


def _notices(demo: Demo) -> list[Line]:
    """What people were sent without having said anything."""
    clinics = {clinic.channel.channel_id: clinic for clinic in demo.clinics.values()}
    return [
        Line(
            delivery.at_ms - demo.began_ms,
            clinics[delivery.channel_id].org_id,
            clinics[delivery.channel_id].name,
            demo.customers[delivery.to],
            "",
            "notice",
            *_unasked(message),
        )
        for delivery in demo.stack.line.deliveries
        for message in delivery.messages
        if message["type"] == "template" or message.get("text") in demo.simulator.unasked
    ]


def _unasked(message: Mapping[str, Any]) -> tuple[str, str]:
    """Its words, and how they came."""
    if message["type"] == "template":
        return " ".join(message["template"]["text"].split("\n")), "notice to staff, with buttons"
    return message["text"], "push: staff have decided"


def _line(
    demo: Demo, sent: Sent, reply: Delivery | None, last_of: dict[int, str], instances: dict[str, str]
) -> Line:
    words = demo.words(sent)
    said = sent.text or " ".join(filter(None, (f"({sent.event['message']['type']})", words)))
    place = (sent.sent_ms - demo.began_ms, sent.clinic.org_id, sent.clinic.name, demo.customers[sent.chat_id])
    if not sent.acked:
        return Line(*place, said, "refused", how=f"HTTP {sent.acks[0].status}")
    if sent.event_id in demo.silent:
        return Line(*place, said, "silent")
    if reply is None:
        return Line(*place, said, "unanswered")
    latency_ms = reply.at_ms - sent.sent_ms
    if last_of[id(reply)] != sent.event_id:
        return Line(*place, said, "answered", latency_ms=latency_ms)
    calls = [call.model for call in demo.calls(sent) if call.outcome == "answered"] if words else []
    return Line(
        *place,
        said,
        "answered",
        " ".join(
            line for text in reply.texts for line in text.splitlines() if not line.startswith(QUOTE_OPEN)
        ),
        reply.how.value,
        instances[sent.event_id],
        calls[-1] if calls else "",
        latency_ms,
    )


def _figures(
    name: str, org_id: str, sent: Sequence[Sent], lines: Sequence[Line], spent: dict[str, int]
) -> ClinicFigures:
    mine = [line for line in lines if org_id in {"", line.org_id}]
    took = [line.latency_ms for line in mine if line.latency_ms is not None]
    percentiles = quantiles(took, n=20, method="inclusive") if len(took) > 1 else took * 19
    return ClinicFigures(
        org_id,
        name,
        received=sum(s.acked for s in sent),
        answered=sum(line.outcome == "answered" for line in mine),
        silent=sum(line.outcome == "silent" for line in mine),
        duplicates=sum(max(0, sum(ack.status == 200 for ack in s.acks) - 1) for s in sent),
        refused=sum(line.outcome == "refused" for line in mine),
        p50_ms=round(percentiles[9]) if took else None,
        p95_ms=round(percentiles[18]) if took else None,
        spent_micro_baht=spent.get(org_id, 0),
    )
