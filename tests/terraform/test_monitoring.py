"""Metrics and alarms listen to events that the code logs, and to fields that these events have."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
TERRAFORM = TREE / "terraform"
METRICS = (TERRAFORM / "metrics.tf").read_text(encoding="utf-8")
ALERTS = (TERRAFORM / "alerts.tf").read_text(encoding="utf-8")
DASHBOARD = (TERRAFORM / "dashboard.tf").read_text(encoding="utf-8")

EVENT = re.compile(r"[a-z]+\.[a-z_]+")
BOUND = {"org", "trace", "event"}
"""Fields that every event of a turn carries from its context."""


def _syntax_trees() -> Iterator[ast.Module]:
    """Of the code that the functions run."""
    for path in (TREE / "core").rglob("*.py"):
        if path.relative_to(TREE / "core").parts[0] not in {"local", "ops", "reports"}:
            yield ast.parse(path.read_text(encoding="utf-8"))


def _names() -> set[str]:
    """Whatever looks like an event's name; some are chosen from a table before they are logged."""
    constants = (
        node.value for tree in _syntax_trees() for node in ast.walk(tree) if isinstance(node, ast.Constant)
    )
    return {value for value in constants if isinstance(value, str) and EVENT.fullmatch(value)}


def _logged() -> dict[str, set[str]]:
    """Fields of the events that are logged by name with fields by name."""
    events: dict[str, set[str]] = defaultdict(set)
    passed_on: set[str] = set()
    calls = (node for tree in _syntax_trees() for node in ast.walk(tree) if isinstance(node, ast.Call))
    for call in calls:
        level = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if level not in {"info", "warning", "error"} or not call.args:
            continue
        if isinstance(name := call.args[0], ast.Constant) and isinstance(name.value, str):
            events[name.value] |= {keyword.arg for keyword in call.keywords if keyword.arg}
            if any(keyword.arg is None for keyword in call.keywords):
                passed_on.add(name.value)
    return {name: fields for name, fields in events.items() if name not in passed_on}


def _listened_to() -> dict[str, set[str]]:
    """Events that a metric or an alarm names, with the fields it reads."""
    events: dict[str, set[str]] = defaultdict(set)
    for line in METRICS.splitlines():
        if found := re.search(r'event = "([\w.]+)"', line):
            labels = re.search(r"labels = \[(.*?)\]", line)
            fields = set(re.findall(r'"(\w+)"', labels[1])) if labels else set()
            fields |= set(re.findall(r'field = "(\w+)"', line))
            events[found[1]] |= fields
    for block in re.findall(r"filter += (.*)\n\s+labels +=(.*)", ALERTS):
        fields = set(re.findall(r'"(\w+)"', block[1])) | set(re.findall(r"jsonPayload\.(\w+)=\d", block[0]))
        for event in re.findall(r'\\"([a-z_]+\.[a-z_]+)\\"', block[0]):
            events[event] |= fields
    return events


def test_metrics_and_alarms_name_only_events_that_the_code_logs() -> None:
    assert sorted(_listened_to().keys() - _names()) == []


def test_metrics_and_alarms_read_only_fields_that_their_events_have() -> None:
    logged = _logged()
    missing = {
        event: sorted(fields - logged[event] - BOUND)
        for event, fields in _listened_to().items()
        if event in logged and fields - logged[event] - BOUND
    }
    assert missing == {}


def test_what_counts_as_late_is_read_from_fields_that_the_event_has() -> None:
    block = re.search(r"^  filtered_counts = \{\n(.*?)^  \}", METRICS, re.MULTILINE | re.DOTALL)
    assert block
    fields = set(re.findall(r"jsonPayload\.(\w+)", block[1]))
    assert fields == {"duration_ms", "outcome", "reason"}
    assert fields <= _logged()["turn.done"]


def _alarm(name: str) -> str:
    block = re.search(rf"^    {name} = \{{\n(.*?)^    \}}", ALERTS, re.MULTILINE | re.DOTALL)
    assert block, name
    return block[1]


@pytest.mark.parametrize(
    ("alarm", "sees"),
    [
        ("turn_refused", "turn_turned_away"),
        ("turn_refused", "queue_task_attempt_count"),
        ("webhook_turned_away", "webhook_turned_away"),
        ("silence", "webhook_acked"),
        ("llm_refused", "(401 OR 403 OR 404)"),
        ("redis_failover", "replication_role"),
        ("redis_cpu", "stats_cpu_utilization_main_thread"),
    ],
)
def test_what_makes_no_noise_by_itself_raises_an_alarm(alarm: str, sees: str) -> None:
    assert sees in _alarm(alarm)


def test_a_single_slow_ack_of_a_quiet_window_raises_none() -> None:
    alarm = _alarm("ack_latency")
    assert re.search(r"ack_slow\}\{\$\{local.revision\}\}\[10m\]\)\) >= 5\n\s+and ", alarm)


def test_a_dead_key_is_seen_at_the_first_call() -> None:
    assert "alert_events" in ALERTS[: ALERTS.index("    llm_refused = {")]
    assert 'severity = "CRITICAL"' in _alarm("llm_refused")
    assert "llm.attempt" in _names()


def test_the_models_own_time_is_measured_by_model() -> None:
    [line] = [line for line in METRICS.splitlines() if "llm_attempt_ms" in line]
    assert 'field = "duration_ms"' in line
    assert '"model"' in line
    assert DASHBOARD.count("local.prometheus.llm_attempt_ms") == 2


def test_5xx_of_both_services_raise_a_critical_alarm() -> None:
    blocks = re.findall(r"^    \w+ = \{\n(.*?)^    \}", ALERTS, re.MULTILINE | re.DOTALL)
    for service in ("webhook_service", "turn_service"):
        watched = f'request_count{{${{local.{service}}},response_code_class="5xx"}}'
        (alarm,) = (block for block in blocks if watched in block)
        assert 'severity = "CRITICAL"' in alarm


def test_reissued_channel_secret_is_seen_where_webhooks_are_refused() -> None:
    """By a number of them: anybody can send one webhook with a bad signature."""
    alarm = (
        r"""increase\(\$\{local.prometheus.webhook_refused\}\{.*=\\"wrong_signature\\".*\[1h\]\)\) >= \d"""
    )
    assert re.search(alarm, ALERTS)
    assert _listened_to()["webhook.refused"] == {"org", "reason"}


def test_queries_say_of_which_type_of_resource_they_want_a_metric_that_several_have() -> None:
    """By a selector that is `local.revision` or begins with it."""
    assert 'revision = "monitored_resource=\\"cloud_run_revision\\""' in METRICS
    for selector in ('webhook_service = "', 'turn_service    = "', 'total    = "sum(increase(%s{'):
        assert selector + "${local.revision}" in DASHBOARD
    selected = r"(\}_sum)?\W{2,4}local\.(revision|webhook_service|turn_service)\b"
    for text in (ALERTS, DASHBOARD):
        with_selectors = re.sub(r"format\(local\.total, .*?\)", "", text)
        after = re.findall(r"(?:run_googleapis_com:\w+|local\.prometheus\.\w+)(.*)", with_selectors)
        assert len(after) >= 4
        assert [rest for rest in after if not re.match(selected, rest)] == []


def test_every_alarm_is_explained_in_the_runbook() -> None:
    runbook = (TERRAFORM / "README.md").read_text(encoding="utf-8")
    titles = re.findall(r'^      title += "(.*)"', ALERTS, re.MULTILINE)
    assert len(titles) >= 9
    assert [title for title in titles if title not in runbook] == []


def test_the_runbook_says_what_each_file_owns() -> None:
    runbook = (TERRAFORM / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in TERRAFORM.glob("*.tf") if f"`{path.name}`" not in runbook] == []
