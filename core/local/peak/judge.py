"""The promises, judged by what the far sides saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from core.local.peak import matching, timeline
from core.local.peak.evidence import Evidence, Sample
from core.local.peak.matching import Fate
from core.local.peak.registration import org_id
from core.local.peak.scenario import PEAK_AT

TOKEN_FRESH_MS = 50_000
SIZES = ("big", "medium", "small")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one promise. `holds` None: this run could not show it, and `note` says why."""

    name: str
    target: str
    shown: str
    value: float | None
    holds: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds of the simulated hour, from the customer's message to LINE."""

    count: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Verdict:
    promises: tuple[Finding, ...]
    latency: dict[str, Percentiles]
    figures: dict[str, float | int | None]

    @property
    def kept(self) -> bool:
        return all(promise.holds is not False for promise in self.promises)


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank of sorted values; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def percentiles(values: Sequence[float]) -> Percentiles:
    return Percentiles(len(values), *(percentile(values, share) for share in (0.5, 0.95, 0.99)))


def size_of(clinics: int) -> Callable[[str], str]:
    """By rank: the biggest fiftieth, the rest of the biggest fifth, the others."""
    ranks = {org_id(number): number for number in range(clinics)}

    def size(clinic: str) -> str:
        rank = ranks[clinic]
        if rank < max(1, clinics // 50):
            return "big"
        return "medium" if rank < max(2, clinics // 5) else "small"

    return size


def judge(evidence: Evidence) -> Verdict:
    fates = matching.fates(evidence)
    hour = [fate for fate in fates if fate.message.sent_ms >= evidence.start_ms]
    latencies = Latencies(evidence, hour)
    runs, waits = timeline.running(evidence), timeline.waiting(evidence, fates)
    moments = timeline.moments(runs, waits, evidence.scenario.options.org_slots)
    use, fair = timeline.use(evidence, moments), timeline.fairness(evidence, runs, waits)
    promises = (
        *_safety(evidence, fates),
        _slots(evidence, use),
        _zero(
            "fixed texts while slots were free",
            len(timeline.unserved(evidence, hour, runs)),
            "for as long as a call takes before; without a call, a budget's end or a fault",
        ),
        _fair(fair),
        *_small_clinics(latencies),
        dispatches_promise(evidence),
        _free(hour),
        *_cost(evidence),
    )
    return Verdict(promises, latencies.by_size(), _figures(evidence, hour, use))


def _open(name: str, target: str, note: str) -> Finding:
    return Finding(name, target, "–", None, None, note)


def _zero(name: str, count: int, note: str = "") -> Finding:
    return Finding(name, "0", f"{count:,}", count, count == 0, note)


def _safety(evidence: Evidence, fates: Sequence[Fate]) -> Iterable[Finding]:
    options = evidence.scenario.options
    over_all = max(0, evidence.most_running - options.slots)
    over_one = max((most - options.org_slots for most in evidence.most_by_clinic.values()), default=0)
    billed: dict[str, int] = {}
    for call in evidence.calls:
        billed[call.clinic] = billed.get(call.clinic, 0) + call.cost_micro_baht
    overspent = {clinic for clinic, cost in billed.items() if cost > evidence.budgets.get(clinic, cost)}
    overspent |= {
        seen.clinic
        for seen in evidence.books
        if seen.spent_micro_baht + seen.held_micro_baht > evidence.budgets[seen.clinic]
    }
    yield _zero("messages lost", sum(f.lost for f in fates) + evidence.dead, f"of {len(fates):,}")
    yield _zero("messages answered twice", sum(len(f.answers) > 1 for f in fates))
    yield _zero(
        "calls above the global limit", over_all, f"most at once {evidence.most_running} of {options.slots}"
    )
    most = max(evidence.most_by_clinic.values(), default=0)
    yield _zero(
        "calls above a clinic's limit", max(0, over_one), f"most at once {most} of {options.org_slots}"
    )
    yield _zero("clinics over budget", len(overspent), "by the provider's bill, and by the books at any time")
    overtaken = len(matching.overtaken(fates))
    yield _zero("messages answered out of order", overtaken, "within a conversation")
    yield _zero("LINE's rules broken", len(evidence.broken_rules), "; ".join(evidence.broken_rules[:2]))


def _slots(evidence: Evidence, use: timeline.Use) -> Finding:
    """What is idle between two calls takes milliseconds that do not shrink with the calls: judged is the
    share at the calls' real length."""
    name, target = "slots busy while there is a backlog", "≥ 95 %"
    if use.share is None or use.backlog_ms < 1_000:
        return _open(name, target, "no backlog of a second: more load would make one")
    mean_s = evidence.scenario.options.mean_latency_s
    calls = use.busy_ms / (mean_s / evidence.speed * 1000)
    idle_s = (use.backlog_ms * use.slots - use.busy_ms) / 1000 / max(calls, 1)
    share = mean_s / (mean_s + idle_s)
    note = (
        f"a slot idles {idle_s * 1000:.0f} ms between calls of {mean_s:.1f} s; "
        f"compressed as run: {use.share:.1%} over {use.backlog_ms / 1000:.1f} s of backlog"
    )
    return Finding(name, target, f"{share:.1%}", share, share >= 0.95, note)


def _fair(fair: timeline.Fairness) -> Finding:
    name, target = "fairness over backlogged clinics (Jain)", "≥ 0.95"
    if fair.index is None:
        return _open(name, target, f"never were two clinics backlogged for {timeline.WINDOW_MS / 1000:g} s")
    windows = f"{fair.windows} windows of {timeline.WINDOW_MS / 1000:g} s"
    note = f"mean of {windows}, up to {fair.clinics} clinics backlogged throughout"
    return Finding(name, target, f"{fair.index:.3f}", fair.index, fair.index >= 0.95, note)


class Latencies:
    """Seconds of the simulated hour, by size and by when."""

    def __init__(self, evidence: Evidence, hour: Sequence[Fate]) -> None:
        self._evidence = evidence
        size = size_of(evidence.scenario.options.clinics)
        self.all = [
            (fate.message, size(fate.message.clinic), fate.latency_ms / 1000 * evidence.speed)
            for fate in hour
            if fate.latency_ms is not None
        ]

    def by_size(self) -> dict[str, Percentiles]:
        return {size: percentiles([s for _, its, s in self.all if its == size]) for size in SIZES}

    def small(self, *, campaign: bool) -> list[float]:
        """Of small clinics, undisturbed: during the campaign, or in the calm without it."""
        evidence = self._evidence
        start_s, end_s = evidence.scenario.campaign
        total_s = evidence.scenario.options.duration_s
        kept = []
        for message, size, latency_s in self.all:
            at_s = evidence.seconds(message.sent_ms)
            during = start_s <= at_s < end_s
            calm = abs(at_s / total_s - PEAK_AT) > 0.15 and not start_s <= at_s < end_s + 120
            wanted = during if campaign else calm
            if size == "small" and wanted and not evidence.disturbed(message.sent_ms):
                kept.append(latency_s)
        return kept


def _small_clinics(latencies: Latencies) -> Iterable[Finding]:
    ratio, difference = (
        "small clinics' p95 during the campaign ÷ without",
        "small clinics' p95 during the campaign − without",
    )
    during, calm = latencies.small(campaign=True), latencies.small(campaign=False)
    if min(len(during), len(calm)) < 20:
        for name, target in ((ratio, "≤ 2"), (difference, "≤ 1 s")):
            yield _open(name, target, "fewer than 20 messages to compare")
        return
    one, other = percentile(during, 0.95), percentile(calm, 0.95)
    note = f"{one:.1f} s of {len(during)} messages, {other:.1f} s of {len(calm)}"
    yield Finding(ratio, "≤ 2", f"{one / other:.2f}", one / other, one <= 2 * other, note)
    yield Finding(difference, "≤ 1 s", f"{one - other:.1f} s", one - other, one - other <= 1, note)


def dispatches_promise(evidence: Evidence) -> Finding:
    """A put-back is a dispatch, too: it spends the queue's rate, which answers need."""
    name, target = "the queue's dispatches a message of the campaign", "≤ 3"
    campaign = [message.event_id for message in evidence.messages if message.campaign]
    if not campaign:
        return _open(name, target, "no campaign")
    share = sum(evidence.dispatches.get(event_id, 0) for event_id in campaign) / len(campaign)
    return Finding(name, target, f"{share:.2f}", share, share <= 3, f"{len(campaign):,} messages")


def _free(hour: Sequence[Fate]) -> Finding:
    answers = [(f.latency_ms or 0, f.answers[0].by_reply) for f in hour if f.answers]
    fresh = [by_reply for latency_ms, by_reply in answers if latency_ms <= TOKEN_FRESH_MS]
    name, target = "free replies, of answers in reply-token time", "≥ 95 %"
    if not fresh:
        return _open(name, target, "nothing was answered in that time")
    share = sum(fresh) / len(fresh)
    note = f"{len(fresh):,} answers within 50 s (that time is not compressed)"
    return Finding(name, target, f"{share:.1%}", share, share >= 0.95, note)


def _cost(evidence: Evidence) -> Iterable[Finding]:
    yield _cpu(evidence)
    second, last = (memory_in(evidence, quarter) for quarter in (1, 3))
    name = "memory of a turn process, last quarter ÷ second"
    if not second or not last:
        yield _open(name, "≤ 1.1", "too short to sample")
    else:
        growth, note = last / second, f"{second / 2**20:.0f} MiB, then {last / 2**20:.0f} MiB"
        yield Finding(name, "≤ 1.1", f"{growth:.2f}", growth, growth <= 1.1, note)


def _cpu(evidence: Evidence) -> Finding:
    """The median of pairs of phases: what else the machine does in one of them moves one ratio only."""
    few, every = ([pair[side] for pair in evidence.costs] for side in (0, 1))
    if not evidence.costs or min(sum(c.turns for c in few), sum(c.turns for c in every)) < 100:
        return _open("CPU a turn, all clinics ÷ 10", "≤ 1.2", "too few turns to compare")
    ratio = median(every_.turn_ms / few_.turn_ms for few_, every_ in evidence.costs)
    name = f"CPU a turn, {every[0].clinics} clinics ÷ {few[0].clinics}"
    many_ms, few_ms = median(c.turn_ms for c in every), median(c.turn_ms for c in few)
    ratios = ", ".join(f"{every_.turn_ms / few_.turn_ms:.2f}" for few_, every_ in evidence.costs)
    note = f"{many_ms:.1f} ms and {few_ms:.1f} ms of a core; pairs of phases: {ratios}"
    return Finding(name, "≤ 1.2", f"{ratio:.2f}", ratio, ratio <= 1.2, note)


def hour_samples(evidence: Evidence) -> list[Sample]:
    end_ms = evidence.ms(evidence.scenario.options.duration_s)
    return [s for s in evidence.samples if evidence.start_ms <= s.at_ms <= end_ms]


def turn_cpu(evidence: Evidence) -> tuple[float, int]:
    """CPU seconds and answers, while nothing was disturbed: a process that starts is no turn's cost."""
    cpu_s, turns = 0.0, 0
    for one, other in pairwise(hour_samples(evidence)):
        if not evidence.disturbed(one.at_ms) and not evidence.disturbed(other.at_ms):
            cpu_s += max(0.0, other.turn_cpu_s - one.turn_cpu_s)
            turns += other.answered - one.answered
    return cpu_s, turns


def memory_in(evidence: Evidence, quarter: int) -> float:
    """Median bytes of the process that was never killed."""
    length_s = evidence.scenario.options.duration_s / 4
    seen = [
        float(memory)
        for sample in hour_samples(evidence)
        for memory in sample.turn_memory.values()
        if quarter * length_s <= evidence.seconds(sample.at_ms) < (quarter + 1) * length_s
    ]
    return median(seen) if seen else 0.0


def _figures(evidence: Evidence, hour: Sequence[Fate], use: timeline.Use) -> dict[str, float | int | None]:
    samples = hour_samples(evidence)
    answers = max(1, samples[-1].answered - samples[0].answered) if samples else 1
    calls_a_text: dict[str, int] = {}
    for call in evidence.calls:
        for text in call.quoted if call.outcome == "answered" else ():
            calls_a_text[text] = calls_a_text.get(text, 0) + 1
    answered = [fate for fate in hour if fate.answers]
    latencies_s = [(fate.latency_ms or 0) / 1000 * evidence.speed for fate in answered]
    cpu_s, turns = turn_cpu(evidence)
    return {
        "messages": len(hour),
        "answers": len({id(fate.answers[0]) for fate in answered}),
        "answered_by_the_model": sum(not fate.fixed for fate in answered),
        "answered_by_a_fixed_text": sum(fate.fixed for fate in answered),
        "stopped_by_budget_without_a_word": sum(fate.stopped and not fate.answers for fate in hour),
        "coalesced_messages": len(answered) - len({id(fate.answers[0]) for fate in answered}),
        "free_replies": sum(fate.answers[0].by_reply for fate in answered),
        "pushes": sum(not fate.answers[0].by_reply for fate in answered),
        "messages_paid_for_twice": sum(count > 1 for count in calls_a_text.values()),
        "latency_p50_s": round(percentile(latencies_s, 0.5), 2),
        "latency_p95_s": round(percentile(latencies_s, 0.95), 2),
        "latency_p99_s": round(percentile(latencies_s, 0.99), 2),
        "within_50_simulated_s": round(sum(s <= 50 for s in latencies_s) / max(1, len(latencies_s)), 4),
        "slots_busy_compressed": None if use.share is None else round(use.share, 4),
        "turn_cpu_ms": round(cpu_s / turns * 1000, 2) if turns else None,
        "redis_scripts_an_answer": round((samples[-1].redis_calls - samples[0].redis_calls) / answers, 2)
        if samples
        else None,
        "stand_in_lag_p99_ms": round(percentile([s.lag_s for s in samples], 0.99) * 1000, 1),
    }
