"""The report: one HTML file that needs nothing else, and the same as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from core.local.peak import matching, timeline
from core.local.peak.compression import Compression
from core.local.peak.evidence import Evidence
from core.local.peak.judge import SIZES, Verdict, percentile, size_of
from core.local.peak.registration import PLENTY, org_id
from core.reports.page import page, section, table
from core.reports.page import verdict as page_verdict
from core.reports.plots import plot

_STEPS, _LATENCY_STEPS = 240, 40
BUSY_MACHINE_MS = 100
"""Lateness of the stand-ins' own timers past which the machine, not fairlane, sets the times."""
RESULTS = {True: "kept", False: "broken", None: "not shown"}


def to_json(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    options = evidence.scenario.options
    return {
        "kept": verdict.kept,
        "clinics": options.clinics,
        "instances": evidence.instances,
        "minutes": options.minutes,
        "speed": evidence.speed,
        "seed": options.seed,
        "slots": options.slots,
        "load": options.load,
        "model_latency_median_s": options.latency.median_s,
        "model_latency_sigma": options.latency.sigma,
        "promises": [asdict(promise) for promise in verdict.promises],
        "latency_s": {size: asdict(found) for size, found in verdict.latency.items()},
        "figures": verdict.figures,
        "faults": evidence.faults,
    }


def to_html(evidence: Evidence, verdict: Verdict) -> str:
    options = evidence.scenario.options
    subtitle = (
        f"{options.minutes:g} minutes at {evidence.speed:g} times the speed · {evidence.instances} turn "
        f"instances · {options.slots} slots · {len(evidence.scenario.arrivals):,} messages, of which a "
        f"campaign's burst · seed {options.seed}"
    )
    sections = [*_tables(verdict), *_plots(evidence), *_backgrounds(evidence, verdict)]
    judged = page_verdict(_verdict(evidence, verdict), kept=verdict.kept)
    return page(f"The peak hour of {options.clinics} clinics", subtitle, "\n".join([judged, *sections]))


def _verdict(evidence: Evidence, verdict: Verdict) -> str:
    figures = verdict.figures
    broken = [promise.name for promise in verdict.promises if promise.holds is False]
    open_ones = [promise.name for promise in verdict.promises if promise.holds is None]
    text = "Every promise was kept. " if not broken else f"Broken: {', '.join(broken)}. "
    if open_ones:
        text += f"Not shown by this run: {', '.join(open_ones)}. "
    faults = ", ".join(f"{count:,} {what}" for what, count in evidence.faults.items())
    lag_ms = figures["stand_in_lag_p99_ms"] or 0
    if lag_ms > BUSY_MACHINE_MS:
        text += (
            f"The machine could not keep up (timers were up to {lag_ms:.0f} ms late): times show it as well "
            "as fairlane; a lower --speed asks less of it. "
        )
    return (
        f"{text}{figures['messages']:,} messages got {figures['answers']:,} answers "
        f"({figures['coalesced_messages']:,} messages were answered together with another one); half of them "
        f"within {figures['latency_p50_s']} s, 95 % within {figures['latency_p95_s']} s. "
        + (f"Meanwhile: {faults}." if faults else "Nothing was made to go wrong (--faults does).")
    )


def _tables(verdict: Verdict) -> Iterator[str]:
    judged = [(p.name, p.target, p.shown, RESULTS[p.holds], p.note) for p in verdict.promises]
    yield section(
        "Promises",
        table("promises", ("promise", "target", "seen", "", "how"), judged, marks=RESULTS.values()),
    )
    latency = [
        (size, f"{p.count:,}", f"{p.p50:.1f} s", f"{p.p95:.1f} s", f"{p.p99:.1f} s")
        for size, p in verdict.latency.items()
    ]
    seen = table("latency", ("clinics", "messages", "p50", "p95", "p99"), latency)
    yield section("Latency, from the customer's message to LINE", seen)


def _plots(evidence: Evidence) -> Iterator[str]:
    options, fates = evidence.scenario.options, matching.fates(evidence)
    end_ms = round(max(evidence.ms(options.duration_s), evidence.end_ms))

    def minute(at_ms: float) -> float:
        return evidence.seconds(at_ms) / 60

    bands = [("fault", minute(d.from_ms), minute(d.until_ms)) for d in evidence.disturbances]
    start_s, end_s = evidence.scenario.campaign
    bands.append(("campaign", start_s / 60, end_s / 60))

    def drawn(
        name: str, lines: dict[str, list[tuple[float, float]]], label: str, limit: float | None = None
    ) -> str:
        return plot(name, lines, label, minutes=minute(end_ms), limit=limit, bands=bands)

    runs, waits = timeline.running(evidence), timeline.waiting(evidence, fates)
    moments = timeline.moments(runs, waits, options.org_slots)
    steps = timeline.series(moments, evidence.start_ms, end_ms, _STEPS)
    waiting = {"waiting": [(minute(at), waiting) for at, _, waiting in steps]}
    running = _calls(evidence, minute, end_ms)
    yield section(
        "Backlog",
        drawn("plot-backlog", waiting, "conversations"),
        "Conversations with a message that waits for a slot. Shaded: the campaign, and faults.",
    )
    yield section(
        "Slots in use",
        drawn("plot-slots", running, "calls at the provider", options.slots),
        "Calls that ran at a provider at once, as it counted, against all instances' limit. Given: how many "
        "the first one got at the time, which follows what it takes.",
    )
    yield section(
        "Latency by size of clinic (p95)",
        drawn("plot-latency", _latency_lines(evidence, fates), "seconds from message to LINE"),
        "Big: the largest fiftieth. Medium: the rest of the largest fifth. Small: all others. The campaign's "
        "clinic waits for its own slots; the others must not. Seconds of the simulated hour; what a turn "
        "costs besides the model counts in full, as if it took longer.",
    )
    yield section(
        "Spend against budget",
        drawn("plot-spend", _spend_lines(evidence), "% of a budget", 100),
        "Spent and reserved, of clinics whose budget is too small for the hour: from 80 % the cheaper model, "
        "in the end no call.",
    )


def _calls(
    evidence: Evidence, minute: Callable[[float], float], end_ms: int
) -> dict[str, list[tuple[float, float]]]:
    """Calls at once by provider, and the limit that the first one had."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, is_backup in (("running", False), ("running at the second provider", True)):
        calls = [call for call in evidence.calls if call.is_backup == is_backup]
        if calls or not is_backup:
            runs = [timeline.Interval(c.clinic, c.started_ms, c.ended_ms) for c in calls]
            steps = timeline.series(timeline.moments(runs, [], 1), evidence.start_ms, end_ms, _STEPS)
            lines[name] = [(minute(at), ran) for at, ran, _ in steps]
    given = [(minute(s.at_ms), float(s.limit)) for s in evidence.samples if s.limit and s.at_ms <= end_ms]
    if given:
        lines["given"] = [(at, limit) for at, limit in given if at >= 0]
    return lines


def _latency_lines(
    evidence: Evidence, fates: Iterable[matching.Fate]
) -> dict[str, list[tuple[float, float]]]:
    """p95 of each step of the hour."""
    options, campaign = evidence.scenario.options, org_id(evidence.scenario.campaign_clinic)
    size, width_s = size_of(options.clinics), options.duration_s / _LATENCY_STEPS
    groups = [*(f"{size} clinics" for size in SIZES), "the campaign's clinic"]
    steps: dict[str, dict[int, list[float]]] = {group: defaultdict(list) for group in groups}
    for fate in fates:
        clinic, at_s = fate.message.clinic, evidence.seconds(fate.message.sent_ms)
        if at_s >= 0 and fate.latency_ms is not None:
            group = groups[-1] if clinic == campaign else f"{size(clinic)} clinics"
            steps[group][int(at_s / width_s)].append(fate.latency_ms / 1000 * evidence.speed)
    return {
        group: [((i + 0.5) * width_s / 60, percentile(seen, 0.95)) for i, seen in sorted(found.items())]
        for group, found in steps.items()
    }


def _spend_lines(evidence: Evidence) -> dict[str, list[tuple[float, float]]]:
    """Committed money as a share of the budget, of the clinics whose budget is small."""
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seen in evidence.books:
        budget, at_s = evidence.budgets[seen.clinic], evidence.seconds(seen.at_ms)
        if budget < PLENTY * 1_000_000 and at_s >= 0:
            share = 100 * (seen.spent_micro_baht + seen.held_micro_baht) / budget
            lines[f"{seen.clinic} ฿{budget / 1e6:.2f}"].append((at_s / 60, share))
    return dict(sorted(lines.items()))


def _backgrounds(evidence: Evidence, verdict: Verdict) -> Iterator[str]:
    figures = {**verdict.figures, **evidence.faults}
    rows = [(name.replace("_", " "), "–" if v is None else f"{v:,}") for name, v in figures.items()]
    yield section(
        "More figures",
        table("figures", ("what", "seen"), rows),
        "CPU of turn processes without the disturbed stretches. Redis scripts: both functions', an answer.",
    )
    compressed = Compression(evidence.speed).table(evidence.scenario.options)
    yield section(
        "What was compressed",
        table("compression", ("what", "in production", "here"), compressed),
        f"One second of this run is {evidence.speed:g} seconds of the hour. CPU, network, Redis and "
        "documents do not get faster: they count in full, so latencies here are worse than in real time. "
        "Leases, attempts and patience have a floor: the machine's own pauses do not shrink.",
    )
