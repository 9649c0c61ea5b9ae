"""`fairlane clinics`, run as an operator runs it: what is refused, what is written, what is left alone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.adapters.file_secrets import FileSecrets
from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.errors import SecretsUnavailableError
from core.ops import cli
from core.ops.clinics_file import EXAMPLE, Rules, read_clinics_file
from core.ports.documents import Create, DocumentStore, Key, Merge
from core.ports.secrets import SecretStore
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.apply_clinics import ApplyClinics, IncompleteError, TakenError
from core.usecases.operate.stored_clinics import read_stored
from tests.support.clock import FakeClock

SECRET = "8c570fa6dd201bb328f1c1eac23a96d8"
Run = Callable[..., Result]


def bot(n: int) -> str:
    return f"U{n:032x}"


def clinic(n: int, **more: Any) -> dict[str, Any]:
    line = {"bot_user_id": bot(n), "channel_id": 1_650_000_000 + n, "channel_secret": f"canary-{n}"}
    return {"org_id": f"clinic-{n}", "name": f"คลินิก {n}", "line": line, **more}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("SECRET_STORE", f"file:{tmp_path / 'secrets.json'}")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("GOOGLE_CLOUD_PROJECT", "CHAT_MAX_CONCURRENT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(cli.app, ["clinics", *arguments])


@pytest.fixture
def apply(run: Run, folder: Path) -> Run:
    """Apply a text, or a whole file's worth of clinics."""

    def apply(content: str | Mapping[str, Any], *options: str) -> Result:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "clinics.yaml").write_text(text, "utf-8")
        return run("apply", "clinics.yaml", *options)

    return apply


def in_store(work: Callable[[DocumentStore], Any]) -> Any:
    async def opened() -> Any:
        documents = SqliteDocuments(os.environ["DOCUMENT_STORE"].removeprefix("sqlite:"))
        try:
            return await work(documents)
        finally:
            await documents.close()

    return asyncio.run(opened())


def stored() -> dict[str, dict[str, Any]]:
    """Everything that describes clinics, by `collection/id`."""
    found = in_store(read_stored)
    many = (found.orgs, found.channels, found.models, found.budgets)
    return {f"{d.key.collection}/{d.key.id}": dict(d.data) for of in many for d in of.values()}


def test_the_example_of_the_help_is_applied_as_it_stands(apply: Run, run: Run, folder: Path) -> None:
    result = apply(EXAMPLE)
    assert result.exit_code == 0, result.output
    documents = stored()
    assert documents["line_channels/U8e742f61d673b39c7fff3cecb7536ef0"] == {"org_id": "bkk-smile"}
    assert documents["org_ai_budgets/bkk-smile"] == {"daily_budget_baht": 500}
    assert documents["org_ai_budgets/default"] == {
        "daily_budget_baht": 300,
        "fallback_model": "gpt-6-luna",
    }
    assert documents["orgs/bkk-smile"]["handoff"] == {"keywords": ["staff"], "hours": 12}
    assert "ai_model_config/bkk-smile" not in documents
    secrets = folder / "secrets.json"
    credentials = {"channel_id": "1650000001", "channel_secret": SECRET}
    assert json.loads(secrets.read_text()) == {"line-bkk-smile": credentials}
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert "Friendly and brief" in run("apply", "--help").stdout


def test_the_file_of_the_design_is_applied(apply: Run) -> None:
    """Its model takes no temperature: that is said, and the temperature is never sent."""
    result = apply(
        f"""
clinics:
  - org_id: bkk-smile              # [a-z0-9-]{{1,40}}
    name: Bangkok Smile Dental
    line: {{bot_user_id: {bot(1)}, channel_id: "1650000001", channel_secret: {SECRET}}}
    persona: |
      สุภาพ
    model: {{model_name: gpt-6.1-terra, max_tokens: 600, temperature: 0.4}}
    budget: {{daily_budget_baht: 300, hard_stop_enabled: true, model_downgrade_enabled: true,
             downgrade_threshold: 0.8, fallback_model: gpt-6-luna}}
    limits: {{max_concurrent: 5, messages_per_minute: 30}}
    messages: {{budget: "…", busy: "…"}}
"""
    )
    assert result.exit_code == 0, result.output
    assert "clinics.yaml:8: bkk-smile: model.temperature: gpt-6.1-terra takes no temperature" in result.stderr
    assert stored()["ai_model_config/bkk-smile"]["temperature"] == 0.4


def test_applying_again_writes_nothing(apply: Run) -> None:
    both = {"clinics": [clinic(1, budget={"daily_budget_baht": 0.1}), clinic(2)]}
    first = json.loads(apply(both, "--json").stdout)
    assert [change["status"] for change in first["clinics"]] == ["new", "new"]
    before = in_store(read_stored)
    again = json.loads(apply(both, "--json").stdout)
    assert [(change["status"], change["changes"]) for change in again["clinics"]] == [("unchanged", [])] * 2
    assert in_store(read_stored) == before  # versions too


def test_a_dry_run_shows_the_difference_and_writes_nothing(apply: Run, folder: Path) -> None:
    apply({"clinics": [clinic(1, persona="เดิม"), clinic(2)]})
    before = stored()
    changed = clinic(1, persona="ใหม่", limits={"max_concurrent": 3})
    changed["line"]["channel_secret"] = "canary-changed"
    result = apply({"clinics": [changed, clinic(3)]}, "--dry-run")
    assert result.exit_code == 0, result.output
    for shown in (
        "persona: เดิม → ใหม่",
        "limits.max_concurrent: none → 3",
        "line.channel_secret: stored anew",
        "new       clinic-3",
        "left alone: 1 (clinic-2)",
        "nothing was written",
    ):
        assert shown in result.stdout
    assert stored() == before
    assert "canary-changed" not in (folder / "secrets.json").read_text()


def test_no_secret_is_ever_shown(apply: Run, run: Run) -> None:
    good, bad = clinic(1), clinic(2, nonsense=1)
    bad["line"]["channel_secret"] = "canary with a blank"
    outputs = [
        apply({"clinics": [good]}, *options) for options in (["--dry-run"], ["--json"], [], ["--json"])
    ]
    outputs += [
        run("list"),
        run("list", "--json"),
        run("show", "clinic-1"),
        run("show", "clinic-1", "--json"),
    ]
    assert {result.exit_code for result in outputs} == {0}
    outputs.append(apply({"clinics": [bad]}))
    assert all("canary" not in result.output for result in outputs)


def test_what_leaves_the_file_goes_back_to_the_default(apply: Run, run: Run) -> None:
    own = {"model": {"model_name": "gpt-6-luna"}, "budget": {"daily_budget_baht": 7, "fallback_model": None}}
    apply({"defaults": {"budget": {"daily_budget_baht": "12.345678"}}, "clinics": [clinic(1, **own)]})
    shown = json.loads(run("show", "clinic-1", "--json").stdout)
    assert shown["own"] == ["model.model_name", "budget.daily_budget_baht", "budget.fallback_model"]
    assert (shown["budget"]["daily_budget_baht"], shown["budget"]["fallback_model"]) == (7, None)
    assert shown["secret_stored"]

    apply({"clinics": [clinic(1, budget={"hard_stop_enabled": False})]})
    documents = stored()
    assert documents["org_ai_budgets/clinic-1"] == {"hard_stop_enabled": False}
    assert "ai_model_config/clinic-1" not in documents

    apply({"clinics": [clinic(1)]})
    shown = json.loads(run("show", "clinic-1", "--json").stdout)
    assert (shown["own"], shown["budget"]["daily_budget_baht"]) == ([], 12.345678)
    assert (shown["budget"]["hard_stop_enabled"], shown["budget"]["fallback_model"]) == (True, "gpt-6-luna")


def test_an_operators_switch_outlasts_a_file_that_says_nothing_of_the_mode(apply: Run) -> None:
    apply({"clinics": [clinic(1), clinic(2)]})
    in_store(lambda store: store.commit([Merge(Key("orgs", "clinic-1"), {"mode": "off"})]))
    changed = json.loads(apply({"clinics": [clinic(1, persona="ใหม่"), clinic(2)]}, "--json").stdout)
    assert [change["field"] for change in changed["clinics"][0]["changes"]] == ["persona"]
    assert stored()["orgs/clinic-1"]["mode"] == "off"
    apply({"clinics": [clinic(1, mode="live")]})
    assert stored()["orgs/clinic-1"]["mode"] == "live"


def test_hours_that_leave_the_file_leave_the_store(apply: Run) -> None:
    week = {"mon-sat": "10:00-20:00", "sun": "closed"}
    apply({"clinics": [clinic(1, hours=week, holidays=["2026-12-31"])]})
    assert stored()["orgs/clinic-1"]["hours"] == {
        **dict.fromkeys(("mon", "tue", "wed", "thu", "fri", "sat"), "10:00-20:00"),
        "sun": "closed",
    }
    apply({"clinics": [clinic(1)]})
    assert stored()["orgs/clinic-1"]["hours"] == {}
    assert stored()["orgs/clinic-1"]["holidays"] == []


def test_what_others_wrote_to_a_clinics_documents_stays(apply: Run) -> None:
    apply({"clinics": [clinic(1, messages={"busy": "รอสักครู่", "budget": "เต็ม"})]})
    in_store(lambda store: store.commit([Merge(Key("orgs", "clinic-1"), {"connected_at": 1})]))
    apply({"clinics": [clinic(1, messages={"busy": "แป๊บนะคะ"})]})
    org = stored()["orgs/clinic-1"]
    assert (org["connected_at"], org["messages"]) == (1, {"busy": "แป๊บนะคะ"})


def test_clinics_swap_and_change_their_bots(apply: Run) -> None:
    apply({"clinics": [clinic(1), clinic(2), clinic(3)]})
    one, two = clinic(1, line=clinic(2)["line"]), clinic(2, line=clinic(1)["line"])
    three = clinic(3, line=clinic(4)["line"])
    assert apply({"clinics": [one, two, three]}).exit_code == 0
    channels = {key: data["org_id"] for key, data in stored().items() if key.startswith("line_channels/")}
    assert channels == {
        f"line_channels/{bot(2)}": "clinic-1",
        f"line_channels/{bot(1)}": "clinic-2",
        f"line_channels/{bot(4)}": "clinic-3",
    }


def test_a_bot_of_a_clinic_that_is_not_in_the_file_is_refused(apply: Run) -> None:
    apply({"clinics": [clinic(1)]})
    before = stored()
    result = apply(json.dumps({"clinics": [clinic(2), {**clinic(3), "line": clinic(1)["line"]}]}, indent=1))
    assert result.exit_code == 1
    assert "clinic-3: line.bot_user_id: belongs to the clinic clinic-1" in result.stderr
    assert "clinic-3: line.channel_id: belongs to the clinic clinic-1" in result.stderr
    assert "clinics.yaml:16:" in result.stderr
    assert stored() == before


BROKEN = f"""\
clinics:
  - org_id: Bangkok
    name: A
    line: {{bot_user_id: U123, channel_id: abc, channel_secret: "hunter 2"}}
    persna: x
  - org_id: b
    line:
      bot_user_id: {bot(1)}
      channel_id: 0165
      channel_secret: s
    model: {{model_name: gpt-99, max_tokens: lots, temperature: 3}}
    budget:
      daily_budget_baht: 0.0000001
      hard_stop_enabled: yes
      downgrade_threshold: 80
      fallback_model: gpt-98
    limits: {{max_concurrent: 16, messages_per_minute: 60001}}
    messages: {{bussy: x}}
    handoff: {{keywords: staff}}
    language: de
  - org_id: b
    org_id: c
    name: C
    line: {{bot_user_id: {bot(1)}, channel_id: "0165", channel_secret: s}}
  - org_id: default
    name: D
"""


def test_all_problems_are_reported_at_once_with_line_field_and_remedy(apply: Run, folder: Path) -> None:
    result = apply(BROKEN)
    assert result.exit_code == 1
    assert result.stdout == ""
    for expected in (
        "2: Bangkok: org_id: 'Bangkok': expected 1 to 40 small letters",
        "4: Bangkok: line.bot_user_id: 'U123': expected U and 32",
        "4: Bangkok: line.channel_id: 'abc': expected digits",
        "4: Bangkok: line.channel_secret: expected the channel's secret",
        "5: Bangkok: persna: unknown field: did you mean persona?",
        "6: b: name: is missing: expected the clinic's name",
        "11: b: model.model_name: model 'gpt-99' has no price: use one of gpt-4.1",
        "11: b: model.max_tokens: 'lots': expected a whole number",
        "11: b: model.temperature: '3': expected a number from 0 to 2",
        "13: b: budget.daily_budget_baht: 1E-7 baht: expected an amount with at most six decimals",
        "14: b: budget.hard_stop_enabled: 'yes': expected true or false",
        "15: b: budget.downgrade_threshold: '80': expected a number from 0 to 1",
        "16: b: budget.fallback_model: model 'gpt-98' has no price",
        "17: b: limits.max_concurrent: '16': expected a whole number from 1 to 15 (CHAT_MAX_CONCURRENT",
        "17: b: limits.messages_per_minute: '60001': expected a whole number from 1 to 60000",
        "18: b: messages.bussy: unknown field: did you mean busy?",
        "19: b: handoff.keywords: expected a list of words",
        "20: b: language: 'de': expected th or en",
        "22: b: org_id: stands here twice",
        "24: b: line.bot_user_id",
        "24: b: line.channel_id: '0165' stands in line 9 too",
        "25: default: org_id: 'default' is kept for the defaults",
        "25: default: line: is missing",
    ):
        assert f"clinics.yaml:{expected}" in result.stderr
    assert "hunter" not in result.output
    assert stored() == {}
    assert not (folder / "secrets.json").exists()


@pytest.mark.parametrize("text", ["\u200b", "\u2800 \u3164", "\u0e49", "ฟอก\x07ฟัน"])
@pytest.mark.parametrize("field", ["privacy_notice", "messages.busy"])
def test_a_text_that_customers_could_not_read_is_refused(apply: Run, field: str, text: str) -> None:
    name, _, key = field.partition(".")
    result = apply({"clinics": [clinic(1, **{name: {key: text} if key else text})]})
    assert result.exit_code == 1
    assert f"{field}: expected text that customers can see, without control characters" in result.stderr
    assert stored() == {}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "clinics.yaml:1: clinics: the file is empty"),
        ("clinic: []", "clinics.yaml:1: clinic: unknown field: did you mean clinics?"),
        ("{}", "clinics: is missing"),
        ("clinics: {a: 1}", "clinics.yaml:1: clinics: expected a list"),
        ("clinics:\n  - just text", "clinics.yaml:2: clinics[0]: expected fields: org_id"),
        ("clinics:\n  - a: [1\n  - b", "clinics.yaml:3: YAML: "),
        ("clinics: []\n---\nclinics: []", "YAML: "),
        ("clinics: !!python/object:os.system {}", "clinics: expected a list"),
        ("clinics:\n  - {name: \x07}", "YAML: "),
    ],
)
def test_a_file_that_is_no_clinics_file_is_refused_in_words(apply: Run, content: str, complaint: str) -> None:
    result = apply(content)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_a_file_that_can_not_be_read_is_named(run: Run, folder: Path) -> None:
    assert "nowhere.yaml: No such file" in run("apply", "nowhere.yaml").stderr
    (folder / "latin.yaml").write_bytes("clinics: é".encode("latin-1"))
    assert "latin.yaml: not UTF-8" in run("apply", "latin.yaml").stderr


def test_json_with_escaped_emoji_arrives_whole(apply: Run) -> None:
    apply({"clinics": [clinic(1, persona="ยินดีค่ะ 😀")]})
    assert stored()["orgs/clinic-1"]["persona"] == "ยินดีค่ะ 😀"


def test_prices_in_documents_count_and_a_model_past_its_end_is_refused(apply: Run) -> None:
    row = {"from": "2026-01-01", "input": "1", "output": "2"}
    priced = {"prices": [row]}
    in_store(lambda store: store.commit([Create(Key("ai_model_prices", "house-model"), priced)]))
    assert apply({"clinics": [clinic(1, model={"model_name": "house-model"})]}).exit_code == 0
    gone = {"prices": [row], "shutdown": "2026-01-02"}
    in_store(lambda store: store.commit([Create(Key("ai_model_prices", "old-model"), gone)]))
    result = apply({"clinics": [clinic(1, model={"model_name": "old-model"})]})
    assert result.exit_code == 1
    assert "old-model was shut down on 2026-01-02: choose another" in result.stderr


@pytest.mark.parametrize(
    ("defaults", "own", "complaint"),
    [
        (
            {},
            {"model": {"model_name": "gpt-4o-mini", "max_tokens": 16_385}},
            "clinic-1: model.max_tokens: gpt-4o-mini",
        ),
        (
            {},
            {"model": {"max_tokens": 20_000}, "budget": {"fallback_model": "gpt-4o-mini"}},
            "clinic-1: model.max_tokens: gpt-4o-mini answers at most 16,384 tokens, max_tokens is 20,000",
        ),
        (
            {"model": {"max_tokens": 20_000}},
            {"budget": {"fallback_model": "gpt-4o-mini"}},
            "clinic-1: budget.fallback_model: gpt-4o-mini answers at most",
        ),
        (
            {"model": {"max_tokens": 40_000}, "budget": {"fallback_model": "gpt-4.1"}},
            {},
            "defaults: model.max_tokens: gpt-4.1 answers at most 32,768",
        ),
    ],
)
def test_more_tokens_than_a_model_may_answer_are_refused_for_primary_and_fallback(
    apply: Run, defaults: dict[str, Any], own: dict[str, Any], complaint: str
) -> None:
    result = apply({"defaults": defaults, "clinics": [clinic(1, **own)]})
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert stored() == {}


def test_a_clinic_whose_every_request_exceeds_a_minute_s_tokens_is_refused(
    apply: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = {"clinics": [clinic(1, model={"max_tokens": 10_000}), clinic(2, model={"max_tokens": 600})]}
    monkeypatch.setenv("LLM_TOKENS_PER_MINUTE", "10000")
    result = apply(file)
    assert result.exit_code == 1
    assert "clinic-1: model.max_tokens: a request of clinic-1 takes" in result.stderr
    assert "LLM_TOKENS_PER_MINUTE is 10,000" in result.stderr
    assert "clinic-2" not in result.stderr
    assert stored() == {}
    monkeypatch.setenv("LLM_TOKENS_PER_MINUTE", "30000")
    assert apply(file).exit_code == 0


def test_new_defaults_may_not_break_a_clinic_that_is_left_alone(apply: Run) -> None:
    apply({"clinics": [clinic(1, model={"model_name": "gpt-4o-mini"}), clinic(2, model={"max_tokens": 700})]})
    before = stored()
    result = apply({"defaults": {"model": {"max_tokens": 20_000}}})
    assert result.exit_code == 1
    assert "clinics.yaml:1: defaults: model.max_tokens: gpt-4o-mini answers at most" in result.stderr
    assert stored() == before


@pytest.mark.parametrize("threshold", ["0.6666667", "0.66666666666666666666666666666666666666"])
def test_a_threshold_of_many_decimals_is_read_back_as_it_was_written(
    apply: Run, run: Run, threshold: str
) -> None:
    share = {"budget": {"downgrade_threshold": threshold}}
    assert apply({"defaults": share, "clinics": [clinic(1), clinic(2, **share)]}).exit_code == 0
    shown = json.loads(run("list", "--json").stdout)
    assert {str(row["budget"]["downgrade_threshold"]) for row in shown} == {threshold}


def test_what_could_be_written_but_not_be_read_is_refused_before_anything_is_written(apply: Run) -> None:
    """Here a default that somebody broke in the console: whoever follows it would answer nobody."""
    apply({"clinics": [clinic(1)]})
    broken = {"daily_budget_baht": "much"}
    in_store(lambda store: store.commit([Create(Key("org_ai_budgets", "default"), broken)]))
    before = stored()
    result = apply({"clinics": [clinic(1, persona="new"), clinic(2)]})
    assert result.exit_code == 1
    assert "document org_ai_budgets/clinic-1, field daily_budget_baht: 'much'" in result.stderr
    assert stored() == before
    mended = {"defaults": {"budget": {"daily_budget_baht": 5}}, "clinics": [clinic(1), clinic(2)]}
    assert apply(mended).exit_code == 0


async def test_a_model_that_shuts_down_within_60_days_is_warned_of(
    documents: DocumentStore, clock: FakeClock, tmp_path: Path
) -> None:
    path = tmp_path / "clinics.yaml"
    many = [clinic(n, model={"model_name": "gpt-4o-mini"}) for n in range(3)]
    await asyncio.to_thread(path.write_text, json.dumps({"clinics": many}))
    rules = Rules(await PriceList(documents, clock).current(), clock.now_ms(), 15)
    (warning,) = read_clinics_file(path, rules).warnings
    assert "gpt-4o-mini shuts down on 2027-01-14: choose another before (and 2 more)" in warning


async def test_both_stores_end_up_as_wanted(
    documents: DocumentStore, clock: FakeClock, tmp_path: Path
) -> None:
    """The use case on each document store: create, change, take away, again."""
    secrets = FileSecrets(str(tmp_path / "secrets.json"))
    applying = ApplyClinics(documents, secrets, FakeClock(), "me")
    rules = Rules(await PriceList(documents, clock).current(), clock.now_ms(), 15)
    path = tmp_path / "clinics.yaml"

    async def apply(*clinics: Mapping[str, Any]) -> list[str]:
        await asyncio.to_thread(path.write_text, json.dumps({"clinics": clinics}))
        plan = await applying.plan(read_clinics_file(path, rules).wanted)
        await applying.apply(plan)
        return [change.status for change in plan.changes]

    full = clinic(1, messages={"busy": "x"}, model={"model_name": "gpt-6-luna"}, handoff={"keywords": ["a"]})
    assert await apply(full, clinic(2)) == ["new", "new"]
    assert await apply(full, clinic(2)) == ["unchanged", "unchanged"]
    assert await apply({**clinic(1), "line": clinic(3)["line"]}) == ["changed"]
    assert await apply({**clinic(1), "line": clinic(3)["line"]}) == ["unchanged"]
    found = await read_stored(documents)
    assert set(found.channels) == {bot(2), bot(3)}
    assert not found.models
    assert found.clinic("clinic-1").messages == {}
    with pytest.raises(TakenError):
        await apply({**clinic(2), "line": clinic(3)["line"]})


class NoSecrets(SecretStore):
    """Takes one clinic's secret and not the other's."""

    async def get(self, name: str) -> None: ...

    async def delete(self, name: str) -> bool:
        raise SecretsUnavailableError("as asked")

    async def put(self, name: str, value: Mapping[str, str]) -> None:
        if name == "line-clinic-2":
            raise SecretsUnavailableError("as asked")

    async def close(self) -> None: ...


async def test_a_clinic_without_its_secret_is_not_made_visible_and_the_others_go_on(tmp_path: Path) -> None:
    documents = SqliteDocuments(str(tmp_path / "documents.db"))
    applying = ApplyClinics(documents, NoSecrets(), FakeClock(), "me")
    path = tmp_path / "clinics.yaml"
    await asyncio.to_thread(path.write_text, json.dumps({"clinics": [clinic(n) for n in range(1, 4)]}))
    prices = await PriceList(documents, SystemClock()).current()
    plan = await applying.plan(read_clinics_file(path, Rules(prices, SystemClock().now_ms(), 15)).wanted)
    done: list[str] = []
    with pytest.raises(IncompleteError, match=r"1 of 3 were not applied(.|\n)*clinic-2: as asked"):
        await applying.apply(plan, lambda change: done.append(change.org_id))
    found = await read_stored(documents)
    assert sorted(done) == sorted(found.orgs) == ["clinic-1", "clinic-3"]
    assert set(found.channels) == {bot(1), bot(3)}
    await documents.close()


async def test_what_someone_else_changes_between_plan_and_write_is_not_overwritten(tmp_path: Path) -> None:
    documents, secrets = SqliteDocuments(str(tmp_path / "d.db")), FileSecrets(str(tmp_path / "s.json"))
    applying, path = ApplyClinics(documents, secrets, FakeClock(), "me"), tmp_path / "clinics.yaml"
    rules = Rules(await PriceList(documents, SystemClock()).current(), SystemClock().now_ms(), 15)
    for persona in ("one", "two"):
        text = json.dumps({"clinics": [clinic(1, persona=persona)]})
        await asyncio.to_thread(path.write_text, text)
        plan = await applying.plan(read_clinics_file(path, rules).wanted)
        if persona == "one":
            await applying.apply(plan)
    await documents.commit([Merge(Key("orgs", "clinic-1"), {"persona": "three"})])
    with pytest.raises(IncompleteError, match="changed by someone else"):
        await applying.apply(plan)
    assert (await read_stored(documents)).clinic("clinic-1").persona == "three"
    await documents.close()


def test_list_shows_what_holds_and_where_it_comes_from(apply: Run, run: Run) -> None:
    assert "clinics apply" in run("list").stdout
    apply({"clinics": [clinic(2, budget={"daily_budget_baht": 12.5}), clinic(1)]})
    rows = run("list").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["clinic", "clinic-1", "clinic-2"]
    assert "gpt-6.1-terra*" in rows[1]
    assert "300*" in rows[1]
    assert " 12.5 " in rows[2]
    assert [row["org_id"] for row in json.loads(run("list", "--json").stdout)] == ["clinic-1", "clinic-2"]
    unknown = run("show", "nobody")
    assert unknown.exit_code == 1
    assert "no such clinic" in unknown.stderr


def test_the_console_script_applies_500_clinics_without_a_traceback_or_a_secret(folder: Path) -> None:
    (folder / "clinics.json").write_text(json.dumps({"clinics": [clinic(n) for n in range(500)]}))
    command = [str(Path(sys.executable).parent / "fairlane"), "clinics", "apply", "clinics.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert "500 new, 0 changed, 0 unchanged" in done.stdout
    assert "canary" not in done.stdout + done.stderr
