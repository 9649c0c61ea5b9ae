"""The report: one HTML file that needs nothing else, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from importlib import resources
from string import Template
from typing import Any

from core.local.peak import matching, timeline
from core.local.peak.compression import Compression
from core.local.peak.evidence import Evidence
from core.local.peak.judge import SIZES, Promise, Verdict, percentile, percentiles, size_of
from core.local.peak.old_system import OldSystem
from core.local.peak.plots import Band, Series, plot
from core.local.peak.registration import PLENTY, org_id

_STEPS = 240
BUSY_MACHINE_MS = 100
"""Lateness of the stand-ins' own timers past which the machine, not fairlane, sets the times."""
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#2563ab", "#d97706", "#1a7f4b", "#c0362c", "#7a8794"
_CAMPAIGN, _FAULT = "#fdf0d5", "#f3d9d6"
_COLOURS = dict(zip(SIZES, (_ORANGE, _GREEN, _BLUE), strict=True))


def to_json(evidence: Evidence, verdict: Verdict, old: OldSystem | None) -> dict[str, Any]:
    options = evidence.scenario.options
    small = size_of(options.clinics)
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
        "old_system": None if old is None else _old_figures(evidence, old, small),
    }


def to_html(evidence: Evidence, verdict: Verdict, old: OldSystem | None) -> str:
    options = evidence.scenario.options
    template = Template(resources.files("core.local.peak").joinpath("report.html").read_text("utf-8"))
    sections = [*_plots(evidence), _latency_table(verdict), _figures_table(evidence, verdict)]
    if old is not None:
        sections.append(_old_table(evidence, verdict, old))
    sections.append(_compression_table(evidence))
    return template.substitute(
        title=f"The peak hour of {options.clinics} clinics",
        subtitle=escape(
            f"{options.minutes:g} minutes at {evidence.speed:g} times the speed · {evidence.instances} turn "
            f"instances · {options.slots} slots · {len(evidence.scenario.arrivals):,} messages, of which a "
            f"campaign's burst · seed {options.seed}"
        ),
        verdict=escape(_verdict(evidence, verdict)),
        verdict_class="kept" if verdict.kept else "broken",
        promises="\n".join(map(_promise_row, verdict.promises)),
        sections="\n".join(sections),
    )


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


def _promise_row(promise: Promise) -> str:
    mark = {True: ("yes", "kept"), False: ("no", "broken"), None: ("open", "not shown")}[promise.holds]
    return (
        f'<tr><td>{escape(promise.name)}</td><td class="number">{escape(promise.target)}</td>'
        f'<td class="number">{escape(promise.shown)}</td><td class="{mark[0]}">{mark[1]}</td>'
        f'<td class="note">{escape(promise.note)}</td></tr>'
    )


def _section(heading: str, body: str, note: str = "") -> str:
    shown = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(heading)}</h2>{shown}{body}"


def _table(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def cells(row: Sequence[Any]) -> str:
        first, *others = (escape(str(cell)) for cell in row)
        return f"<td>{first}</td>" + "".join(f"<td>{cell}</td>" for cell in others)

    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return f'<table id="{name}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'


class _Hour:
    """What the plots share: the x axis in minutes, the shaded stretches, the timeline."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.fates = matching.fates(evidence)
        self.minutes = evidence.scenario.options.minutes
        start_s, end_s = evidence.scenario.campaign
        self.campaign = Band("campaign", start_s / 60, end_s / 60, _CAMPAIGN)
        self.faults = [
            Band("fault", self.minute(d.from_ms), self.minute(d.until_ms), _FAULT)
            for d in evidence.disturbances
        ]
        runs, waits = timeline.running(evidence), timeline.waiting(evidence, self.fates)
        moments = timeline.moments(runs, waits, evidence.scenario.options.org_slots)
        start_ms = evidence.start_ms
        end_ms = round(max(evidence.ms(self.minutes * 60), evidence.end_ms))
        self.range = (0.0, self.minute(end_ms))
        self.series = timeline.series(moments, start_ms, end_ms, _STEPS)

    def minute(self, at_ms: float) -> float:
        return self.evidence.seconds(at_ms) / 60

    def drawn(self, name: str, series: Sequence[Series], y_label: str, **more: Any) -> str:
        return plot(
            name,
            series,
            x_label="minute of the simulated hour",
            y_label=y_label,
            x_range=self.range,
            bands=[*self.faults, self.campaign],
            **more,
        )


def _plots(evidence: Evidence) -> Iterable[str]:
    hour, slots = _Hour(evidence), evidence.scenario.options.slots
    backlog = [(hour.minute(at), waiting) for at, _, waiting in hour.series]
    used = [(hour.minute(at), running) for at, running, _ in hour.series]
    limit = [(hour.range[0], float(slots)), (hour.range[1], float(slots))]
    yield _section(
        "Backlog",
        hour.drawn("plot-backlog", [Series("waiting", backlog, _BLUE, "area")], "conversations"),
        "Conversations with a message that waits for a slot.",
    )
    yield _section(
        "Slots in use",
        hour.drawn(
            "plot-slots",
            [Series("running", used, _BLUE, "area"), Series("limit", limit, _RED, "limit")],
            "calls at the provider",
            y_top=slots * 1.1,
        ),
        "Calls that ran at the provider at once, as the provider counted, against all instances' limit.",
    )
    yield _latency_plot(hour)
    yield _small_clinic_plot(hour)
    yield _spend_plot(hour)


def _latency_plot(hour: _Hour) -> str:
    """p95 a minute, by size."""
    size = size_of(hour.evidence.scenario.options.clinics)
    width = max(hour.minutes / 40, 1e-9)
    series = []
    for wanted in SIZES:
        steps: dict[int, list[float]] = {}
        for fate in hour.fates:
            at = hour.minute(fate.message.sent_ms)
            if at >= 0 and fate.latency_ms is not None and size(fate.message.clinic) == wanted:
                latency_s = fate.latency_ms / 1000 * hour.evidence.speed
                steps.setdefault(int(at / width), []).append(latency_s)
        points = [((i + 0.5) * width, percentile(found, 0.95)) for i, found in sorted(steps.items())]
        series.append(Series(f"{wanted} clinics", points, _COLOURS[wanted]))
    return _section(
        "Latency by size of clinic (p95)",
        hour.drawn("plot-latency", series, "seconds from message to LINE"),
        "Big: the largest fiftieth. Medium: the rest of the largest fifth. Small: all others. Seconds of the "
        "simulated hour; what a turn costs besides the model counts in full, as if it took longer.",
    )


def _small_clinic_plot(hour: _Hour) -> str:
    size = size_of(hour.evidence.scenario.options.clinics)
    campaign_clinic = org_id(hour.evidence.scenario.campaign_clinic)
    start, end = hour.campaign.start, hour.campaign.end
    margin = 2.5 * (end - start)
    low, high = max(0.0, start - margin), min(hour.range[1], end + margin)
    small: list[tuple[float, float]] = []
    big: list[tuple[float, float]] = []
    for fate in hour.fates:
        at = hour.minute(fate.message.sent_ms)
        if fate.latency_ms is None or not low <= at <= high:
            continue
        point = at, fate.latency_ms / 1000 * hour.evidence.speed
        if fate.message.clinic == campaign_clinic:
            big.append(point)
        elif size(fate.message.clinic) == "small":
            small.append(point)
    drawn = plot(
        "plot-campaign",
        [
            Series("the campaign's clinic", big, _ORANGE, "dots"),
            Series("small clinics", small, _BLUE, "dots"),
        ],
        x_label="minute of the simulated hour",
        y_label="seconds from message to LINE",
        x_range=(low, high),
        bands=[hour.campaign, *hour.faults],
    )
    note = (
        "One dot a message. The clinic that sends the campaign waits for its own slots; the others must not."
    )
    return _section("Small clinics during a big one's campaign", drawn, note)


def _spend_plot(hour: _Hour) -> str:
    """Committed money as a share of the budget, of the clinics whose budget is small."""
    plenty = int(PLENTY * 1_000_000)
    lines: dict[str, list[tuple[float, float]]] = {}
    for seen in hour.evidence.books:
        budget = hour.evidence.budgets[seen.clinic]
        if budget < plenty and hour.minute(seen.at_ms) >= 0:
            share = 100 * (seen.spent_micro_baht + seen.held_micro_baht) / budget
            lines.setdefault(seen.clinic, []).append((hour.minute(seen.at_ms), share))
    colours = (_BLUE, _GREEN, _ORANGE, _GREY)
    series = [
        Series(f"{clinic} ฿{hour.evidence.budgets[clinic] / 1e6:.2f}", points, colours[i % 4])
        for i, (clinic, points) in enumerate(sorted(lines.items()))
    ]
    series.append(Series("budget", [(hour.range[0], 100.0), (hour.range[1], 100.0)], _RED, "limit"))
    drawn = hour.drawn("plot-spend", series, "% of a budget", y_top=100)
    note = (
        "Spent and reserved, of clinics whose budget is too small for the hour: from 80 % the cheaper model, "
        "in the end no call."
    )
    return _section("Spend against budget", drawn, note)


def _latency_table(verdict: Verdict) -> str:
    rows = [
        (size, f"{p.count:,}", f"{p.p50:.1f} s", f"{p.p95:.1f} s", f"{p.p99:.1f} s")
        for size, p in verdict.latency.items()
    ]
    table = _table("latency", ("clinics", "messages", "p50", "p95", "p99"), rows)
    return _section("Latency, from the customer's message to LINE", table)


def _figures_table(evidence: Evidence, verdict: Verdict) -> str:
    figures = {**verdict.figures, **evidence.faults}
    rows = [(name.replace("_", " "), "–" if v is None else f"{v:,}") for name, v in figures.items()]
    note = "CPU of turn processes without the disturbed stretches. Redis scripts: both functions', an answer."
    return _section("More figures", _table("figures", ("what", "seen"), rows), note)


def _old_figures(evidence: Evidence, old: OldSystem, size: Any) -> dict[str, Any]:
    start_s, end_s = evidence.scenario.campaign
    small = [(at_s, s) for at_s, clinic, s in old.latencies if size(org_id(clinic)) == "small"]
    during = percentiles([s for at_s, s in small if start_s <= at_s < end_s])
    whole = percentiles([s for _, s in small])
    return {
        "most_calls_at_once": old.most_at_once,
        "calls_above_the_limit": old.calls_above_limit,
        "lost": old.lost,
        "lost_to_429": old.refused_429,
        "lost_on_restart": old.lost_on_restart,
        "answered_twice": old.answered_twice,
        "turns_on_another_instance": old.other_state,
        "small_p95_s": round(whole.p95, 2),
        "small_p95_during_campaign_s": round(during.p95, 2),
    }


def _old_table(evidence: Evidence, verdict: Verdict, old: OldSystem) -> str:
    figures = _old_figures(evidence, old, size_of(evidence.scenario.options.clinics))
    shown = {promise.name: promise.shown for promise in verdict.promises}
    ours = {
        "most_calls_at_once": evidence.most_running,
        "calls_above_the_limit": shown["calls above the global limit"],
        "lost": shown["messages lost"],
        "answered_twice": shown["messages answered twice"],
        "small_p95_s": round(verdict.latency["small"].p95, 2),
    }
    rows = [(name.replace("_", " "), value, ours.get(name, "–")) for name, value in figures.items()]
    note = (
        "The audited design as a model, same arrivals and faults: 10 calls and 5 a clinic in each of "
        f"{evidence.instances} processes, one FIFO queue, no retry, no de-duplication. The provider "
        f"refuses calls above {evidence.scenario.options.slots} with 429."
    )
    return _section("The old system", _table("old", ("what", "old system", "fairlane"), rows), note)


def _compression_table(evidence: Evidence) -> str:
    rows = [
        (row.name, row.real, row.here, row.why)
        for row in Compression(evidence.speed).table(evidence.scenario.options)
    ]
    note = (
        f"One second of this run is {evidence.speed:g} seconds of the hour. CPU, network, Redis and "
        "documents do not get faster: they count in full, so latencies here are worse than in real time."
    )
    return _section(
        "What was compressed", _table("compression", ("what", "in production", "here", "why"), rows), note
    )
