"""The parts of the peak hour that need no process: arrivals, matching, slots, fairness, plots."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from core.local.peak import faults, matching, report, scenario, timeline
from core.local.peak.evidence import Answer, Cost, Disturbance, Evidence, Message, ModelCall, Sample
from core.local.peak.judge import dispatches_promise, judge, percentile, size_of
from core.local.peak.scenario import ScenarioOptions
from core.local.peak.timeline import Interval
from core.reports.plots import plot

HOUR = ScenarioOptions(clinics=100, minutes=30)


def evidence(options: ScenarioOptions = HOUR, **facts: object) -> Evidence:
    made = Evidence(scenario.build(options), speed=1.0, instances=2, start_ms=0, end_ms=100_000)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def message(number: int, sent_ms: int, **more: object) -> Message:
    made = Message(
        event_id=f"e{number}",
        clinic="clinic-001",
        chat_id="U1",
        text=f"text {number}",
        timestamp_ms=sent_ms,
        sent_ms=sent_ms,
        reply_token=f"token {number}",
        acked_ms=sent_ms + 10,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def answer(at_ms: int, *quoted: str, token: str | None = None) -> Answer:
    return Answer("clinic-001", "U1", quoted, token is not None, token, at_ms)


def test_the_same_seed_makes_the_same_arrivals_and_another_one_others() -> None:
    assert scenario.build(HOUR) == scenario.build(HOUR)
    assert scenario.build(HOUR).arrivals != scenario.build(replace(HOUR, seed=1)).arrivals


def test_arrivals_have_the_load_that_was_asked_for_a_peak_and_unlike_clinics() -> None:
    made = scenario.build(ScenarioOptions())
    everyday = [a for a in made.arrivals if not a.campaign]
    options = made.options
    expected = options.load * options.capacity_per_s * options.duration_s
    assert len(everyday) == pytest.approx(expected, rel=0.1)
    tenth = options.duration_s / 10
    counts = Counter(int(a.at_s / tenth) for a in everyday)
    assert counts.most_common(1)[0][0] == 3
    sizes = Counter(a.clinic for a in everyday).most_common()
    assert sizes[0][1] > 10 * sizes[len(sizes) // 2][1]
    assert len({a.text for a in made.arrivals}) == len(made.arrivals)
    start, end = made.campaign
    assert all(start <= a.at_s <= end for a in made.arrivals if a.campaign)


def test_messages_answered_together_are_each_answered_once() -> None:
    facts = evidence(
        messages=[message(1, 0), message(2, 500)],
        answers=[answer(2_000, "text 1", "text 2", token="token 2")],
    )
    fates = matching.fates(facts)
    assert [fate.latency_ms for fate in fates] == [2_000, 1_500]
    assert not any(fate.lost or len(fate.answers) > 1 for fate in fates)


@pytest.mark.parametrize(("put_backs", "kept"), [(0, True), (2, True), (3, False)])
def test_put_backs_of_the_campaign_are_counted_and_bounded(put_backs: int, kept: bool) -> None:
    campaign = [message(n, 0, campaign=True) for n in range(4)]
    facts = evidence(
        messages=[*campaign, message(9, 0)],
        dispatches={**{m.event_id: 1 + put_backs for m in campaign}, "e9": 50},
    )
    promise = dispatches_promise(facts)
    assert (promise.value, promise.holds) == (1 + put_backs, kept)


def test_a_message_nobody_answered_is_lost_unless_its_budget_stopped_it() -> None:
    facts = evidence(messages=[message(1, 0), message(2, 500)], stopped=frozenset({"e2"}))
    assert [fate.lost for fate in matching.fates(facts)] == [True, False]


def test_a_fixed_text_answers_its_tokens_message_and_what_waited_before_it() -> None:
    facts = evidence(
        messages=[message(1, 0), message(2, 500), message(3, 900)],
        answers=[answer(1_000, token="token 2")],
    )
    assert [bool(fate.answers) for fate in matching.fates(facts)] == [True, True, False]


def test_a_second_answer_to_the_same_message_is_seen() -> None:
    facts = evidence(
        messages=[message(1, 0)],
        answers=[answer(1_000, "text 1", token="token 1"), answer(2_000, "text 1")],
    )
    assert len(matching.fates(facts)[0].answers) == 2


def test_an_answer_that_overtakes_an_earlier_message_is_out_of_order() -> None:
    answers = [answer(1_000, "text 2"), answer(2_000, "text 1")]
    facts = evidence(messages=[message(1, 0), message(2, 500)], answers=answers)
    assert len(matching.overtaken(matching.fates(facts))) == 1
    late = evidence(messages=[message(1, 0, acked_ms=700), message(2, 500)], answers=answers)
    assert not matching.overtaken(matching.fates(late))  # it was not ours before the other one came


def test_slots_count_as_idle_only_while_somebody_could_use_them() -> None:
    """Two slots, one a clinic: until 10 s one clinic alone, then two of which one waits."""
    options = replace(HOUR, slots=2, org_slots=1)
    runs = [Interval("a", 0, 10_000), Interval("a", 10_000, 20_000), Interval("b", 12_000, 20_000)]
    waits = [Interval("b", 10_000, 12_000), Interval("c", 10_000, 20_000)]
    found = timeline.use(evidence(options), timeline.moments(runs, waits, 1))
    assert found.backlog_ms == 10_000
    assert found.busy_ms == 2_000 + 16_000
    disturbed = evidence(options, disturbances=[Disturbance(9_000, 12_000)])
    assert timeline.use(disturbed, timeline.moments(runs, waits, 1)).share == 1.0


def test_a_conversation_waits_from_its_message_or_the_end_of_its_last_turn() -> None:
    facts = evidence(
        messages=[message(1, 0), message(2, 500)],
        answers=[answer(3_000, "text 1"), answer(6_000, "text 2")],
        calls=[
            ModelCall("clinic-001", 1_000, 2_900, "answered", ("text 1",)),
            ModelCall("clinic-001", 4_000, 5_900, "answered", ("text 2",)),
        ],
    )
    waits = timeline.waiting(facts, matching.fates(facts))
    assert [(wait.from_ms, wait.until_ms) for wait in waits] == [(100, 1_000), (3_100, 4_000)]


def test_fairness_looks_at_clinics_that_waited_all_the_time() -> None:
    waits = [Interval("a", 0, 60_000), Interval("b", 0, 60_000), Interval("c", 1_000, 1_500)]
    even = [Interval(clinic, 0, 60_000) for clinic in "ab"]
    assert timeline.fairness(evidence(), even, waits).index == pytest.approx(1.0)
    uneven = [*even, Interval("a", 0, 60_000), Interval("a", 0, 60_000)]
    assert timeline.fairness(evidence(), uneven, waits).index == pytest.approx(0.8)


def test_the_series_of_a_plot_are_means_over_each_step() -> None:
    moments = timeline.moments([Interval("a", 0, 500), Interval("b", 250, 1_000)], [], 5)
    assert timeline.series(moments, 0, 1_000, 2) == [(250, 1.5, 0), (750, 1.0, 0)]


@pytest.mark.parametrize(
    ("calls", "disturbed", "found"),
    [
        ([], [], 1),
        ([Interval("clinic-001", 0, 50_000)], [], 0),  # the clinic's own slot was taken
        ([Interval("b", 0, 39_000), Interval("c", 38_000, 60_000)], [], 0),  # all slots were, for a while
        ([Interval("b", 0, 60_000)], [], 1),
        ([Interval("clinic-001", 0, 30_000)], [], 1),
        ([], [Disturbance(39_000, 41_000)], 0),
    ],
)
def test_a_fixed_text_while_a_call_could_have_begun_is_seen(
    calls: list[Interval], disturbed: list[Disturbance], found: int
) -> None:
    options = replace(HOUR, slots=2, org_slots=1)
    facts = evidence(
        options, messages=[message(1, 0)], answers=[answer(40_000, token="token 1")], disturbances=disturbed
    )
    assert len(timeline.unserved(facts, matching.fates(facts), calls)) == found


def test_sizes_go_by_rank() -> None:
    size = size_of(500)
    assert [size(f"clinic-{n:03d}") for n in (1, 10, 11, 100, 101, 500)] == [
        "big",
        "big",
        "medium",
        "medium",
        "small",
        "small",
    ]
    assert percentile([3, 1, 2], 0.5) == 2


def test_kills_spare_the_instance_whose_memory_is_watched() -> None:
    assert {f.instance for f in faults.plan(3600, 4, 15) if f.kind == faults.KILL} == {1, 2, 3}
    assert not [f for f in faults.plan(3600, 1, 15) if f.kind == faults.KILL]


@pytest.mark.parametrize(("highest", "ticks"), [(15, 4), (1, 6), (8, 5), (950, 6), (0, 6)])
def test_axes_of_a_plot_have_round_numbers_up_to_the_highest_value(highest: float, ticks: int) -> None:
    drawn = plot("p", {"a & b": [(0, 0), (1, highest)]}, "calls", minutes=1)
    assert drawn.startswith('<svg id="p"')
    assert drawn.count('class="grid"') == ticks
    assert all(text in drawn for text in ("calls", "a &amp; b", f'<polyline points="0.000,0 1.000,{highest}'))


def test_the_report_has_every_plot_and_table_and_escapes_what_was_seen() -> None:
    facts = evidence(
        messages=[message(1, 0)],
        answers=[answer(3_000, "text 1")],
        calls=[ModelCall("clinic-001", 1_000, 2_900, "answered", ("text 1",))],
        broken_rules=["reply: a <b> twice"],
    )
    page = report.to_html(facts, judge(facts))
    for name in ("backlog", "slots", "latency", "spend"):
        assert f'<svg id="plot-{name}"' in page
    for name in ("promises", "latency", "figures", "compression"):
        assert f'<table id="{name}"' in page
    assert "reply: a &lt;b&gt; twice" in page
    assert '<td class="broken">broken</td>' in page
    assert "$" not in page


def costs(*ratios: float, turns: int = 40) -> list[tuple[Cost, Cost]]:
    return [(Cost(10, turns, turns * 0.02), Cost(496, turns, turns * 0.02 * ratio)) for ratio in ratios]


@pytest.mark.parametrize(
    ("pairs", "holds"),
    [
        (costs(1.02, 1.9, 0.98, 1.05), True),  # the machine had something else to do in one phase
        (costs(1.25, 0.7, 1.31, 1.22), False),
        (costs(1.0, 1.0, turns=20), None),
        ([], None),
    ],
)
def test_cost_of_a_turn_is_judged_by_the_middle_of_its_pairs(
    pairs: list[tuple[Cost, Cost]], holds: bool | None
) -> None:
    seen = evidence()
    seen.costs = pairs
    (promise,) = [p for p in judge(seen).promises if p.name.startswith("CPU a turn")]
    assert promise.holds is holds


def test_stretches_in_which_fewer_calls_were_given_are_disturbed() -> None:
    def sample(at_ms: int, limit: int | None) -> Sample:
        return Sample(at_ms, 0, 0.0, {}, 0, 0.0, limit)

    given = [10, 7, 8, 10, None, 9, 10]
    samples = [sample(500 * n, limit) for n, limit in enumerate(given)]
    assert faults.followed(samples, 10) == [Disturbance(500, 1_500), Disturbance(2_500, 3_000)]


def test_a_whole_hour_has_an_outage_and_a_provider_that_takes_less() -> None:
    planned = {fault.kind for fault in faults.plan(3600, 4, 15)}
    assert {faults.OUTAGE, faults.LESS} <= planned
