"""`fairlane doctor`, against real parts and stand-ins over sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis.asyncio
from google.api_core.exceptions import PermissionDenied
from typer.testing import CliRunner

from core.adapters.file_secrets import FileSecrets
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.clinic import Clinic, ModelConfig, secret_name
from core.domain.errors import DocumentsUnavailableError
from core.local.cloud_tasks import CloudTasks, QueueConfig, RetryPolicy
from core.local.http_server import HttpServer, Request, Response
from core.local.line_api import Channel, LineApi
from core.local.openai_api import OpenAiApi
from core.ops import cli
from core.ops.doctor_checks import examine_deployment
from core.ports.documents import Create, Key, Merge
from core.ports.inspection import RedisFacts
from core.usecases.clinics.documents import channel_document, model_document, org_document
from core.usecases.operate.examine import Check, Finding, Verdict, examine, ok
from core.usecases.operate.examine_platform import judge_redis

QUEUE = "projects/p/locations/l/queues/turns"


@dataclass
class Deployment:
    environment: dict[str, str]
    documents: SqliteDocuments
    secrets: FileSecrets
    line: LineApi
    tasks: CloudTasks

    async def clinic(
        self, org_id: str, *, secret: bool = True, model: str | None = None, outage: str | None = None
    ) -> Channel:
        n = len(self.line.state.channels)
        channel = Channel(str(1_650_000_000 + n), "secret", f"U{n:032x}", org_id)
        self.line.add_channel(channel)
        clinic = Clinic(org_id, org_id, channel.bot_user_id, channel.channel_id)
        writes = [
            Create(Key("orgs", org_id), org_document(clinic)),
            Create(Key("line_channels", clinic.bot_user_id), channel_document(org_id)),
        ]
        if model:
            config = ModelConfig(model, outage_model=outage)
            writes.append(Create(Key("ai_model_config", org_id), model_document(config)))
        await self.documents.commit(writes)
        if secret:
            value = {"channel_id": channel.channel_id, "channel_secret": "secret"}
            await self.secrets.put(secret_name(org_id), value)
        return channel

    async def bad(self, **environment: str) -> dict[str, Finding]:
        """What is not all right, by check."""
        found = await examine_deployment({**self.environment, **environment}, None)
        return {finding.check: finding for finding in found if finding.verdict is not Verdict.OK}


@pytest.fixture
async def deployment(tmp_path: Path, redis_url: str) -> AsyncIterator[Deployment]:
    line, openai, tasks = LineApi(), OpenAiApi(), CloudTasks()
    for part in (line, openai, tasks):
        await part.start()
    retry = RetryPolicy(max_attempts=100, max_retry_s=90_000, max_backoff_s=60)
    tasks.create_queue(QUEUE, QueueConfig(max_dispatches_per_s=20, max_concurrent=100, retry=retry))
    environment = {
        "GOOGLE_CLOUD_PROJECT": "p",
        "DOCUMENT_STORE": f"sqlite:{tmp_path / 'documents.db'}",
        "SECRET_STORE": f"file:{tmp_path / 'secrets.json'}",
        "REDIS_URL": redis_url,
        "LINE_API_BASE_URL": line.url,
        "TASKS_QUEUE": QUEUE,
        "TURN_URL": "http://127.0.0.1:9",
        "CLOUD_TASKS_EMULATOR_HOST": tasks.address,
        "OPENAI_API_KEY": "sk-local",
        "OPENAI_BASE_URL": openai.url,
    }
    documents = SqliteDocuments(str(tmp_path / "documents.db"))
    yield Deployment(environment, documents, FileSecrets(str(tmp_path / "secrets.json")), line, tasks)
    await documents.close()
    for part in (tasks, openai, line):
        await part.stop()


async def test_sound_deployment_needs_nothing_but_its_clinics_connected(deployment: Deployment) -> None:
    await deployment.clinic("one")
    bad = await deployment.bad()
    assert list(bad) == ["connected", "desks"]
    assert "fairlane desk code" in bad["desks"].remedy
    assert "fairlane clinics connect --all" in bad["connected"].remedy
    assert not await deployment.documents.query("doctor_probes")


async def test_each_clinic_with_a_problem_is_named(deployment: Deployment) -> None:
    revoked = await deployment.clinic("revoked")
    await deployment.clinic("no-secret", secret=False)
    other = await deployment.clinic("other-bot")
    await deployment.clinic("odd-model", model="gpt-nobody")
    await deployment.clinic("old-model", model="gpt-4o-mini")
    deployment.line.revoke(revoked.channel_id)
    channel = deployment.line.state.channels[other.channel_id]
    channel.channel = Channel(other.channel_id, "secret", "U" + "e" * 32)
    await deployment.documents.commit([Merge(Key("orgs", "unread"), {"limits": {"max_concurrent": "x"}})])
    findings = await examine_deployment(deployment.environment, None)
    details = [f.detail for f in findings if f.verdict is not Verdict.OK]
    for expected in (
        "LINE takes neither id nor secret of 1 clinic (revoked)",
        "none, or incomplete: 1 clinic (no-secret)",
        "another bot than bot_user_id: 1 clinic (other-bot)",
        "gpt-nobody has no price, so it is never called: 1 clinic (odd-model)",
        "gpt-4o-mini is shut down on 2027-01-14: used by 1 clinic (old-model)",
        "unread: document orgs/unread, field limits, field max_concurrent: 'x': expected a whole number",
    ):
        assert expected in details
    assert all(f.remedy for f in findings if f.verdict is not Verdict.OK)
    assert any("fairlane clinics move-model gpt-4o-mini NEW" in f.remedy for f in findings)


async def test_another_providers_model_is_not_looked_for_at_the_first(deployment: Deployment) -> None:
    await deployment.clinic("one", model="gpt-6.1-terra", outage="backup/gpt-4o-mini")
    providers = [
        {"name": "openai"},
        {"name": "backup", "base_url": "http://b/v1", "api_key_env": "BACKUP_KEY"},
    ]
    bad = await deployment.bad(LLM_PROVIDERS=json.dumps(providers), BACKUP_KEY="sk")
    assert bad["models"].detail == "backup/gpt-4o-mini is shut down on 2027-01-14: used by 1 clinic (one)"


async def test_parts_that_are_down_are_named_and_the_others_still_looked_at(deployment: Deployment) -> None:
    closed = "127.0.0.1:9"
    bad = await deployment.bad(
        REDIS_URL=f"redis://{closed}", CLOUD_TASKS_EMULATOR_HOST=closed, OPENAI_BASE_URL=f"http://{closed}"
    )
    assert {name for name, finding in bad.items() if finding.verdict is Verdict.BROKEN} == {
        "redis",
        "slots",
        "queue",
        "openai key",
    }
    assert "ConnectionError" in bad["redis"].detail


async def test_what_is_not_set_here_is_said_and_not_checked(deployment: Deployment) -> None:
    bad = await deployment.bad(REDIS_URL="", OPENAI_API_KEY="")
    assert {finding.verdict for finding in bad.values()} == {Verdict.ATTENTION}
    assert bad["settings"].detail == "right, but not set here: REDIS_URL, OPENAI_API_KEY"
    assert bad["redis"].detail == "not checked: REDIS_URL is not set here"
    assert "OPENAI_API_KEY is not set here" in bad["openai key"].detail


async def test_wrong_settings_are_the_only_finding(deployment: Deployment) -> None:
    found = await examine_deployment({**deployment.environment, "ORG_ROOM": "many", "LOG_LEVEL": "X"}, None)
    assert [finding.verdict for finding in found] == [Verdict.BROKEN] * 2
    assert found[0].detail.startswith("ORG_ROOM 'many'")


async def test_queue_that_answers_nothing_starves_slots_or_drops_messages(deployment: Deployment) -> None:
    deployment.tasks.pause()
    deployment.tasks.queue().store.config = QueueConfig(max_dispatches_per_s=1, max_concurrent=3)
    bad = await deployment.bad()
    assert bad["queue"].detail == "paused, backlog 0: nothing is answered"
    assert "fewer at once than slots" in bad["queue limits"].detail
    assert "messages can be dropped" in bad["queue retries"].detail
    assert "queue limits" not in await deployment.bad(CHAT_MAX_CONCURRENT="2")
    bad = await deployment.bad(CHAT_MAX_CONCURRENT="3", LLM_REQUESTS_PER_MINUTE="600")
    assert bad["queue limits"].verdict is Verdict.ATTENTION


async def test_open_circuit_and_operators_limits_are_seen(deployment: Deployment, redis_url: str) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    slots = RedisSlotsOperator(client)
    await slots.set_limit(4)
    await slots.set_limit(2, org_id="one")
    await client.aclose()
    bad = await deployment.bad()
    assert bad["slot limits"].detail == "overridden by an operator: all 4 instead of 15, one 2"


async def test_turns_that_are_not_final_after_ten_minutes_are_stuck(deployment: Deployment) -> None:
    now = datetime.now(UTC)
    ages = {
        "old": ("reserved", 11),
        "answered": ("answered", 12),
        "new": ("reserved", 2),
        "done": ("delivered", 60),
    }
    await deployment.documents.commit(
        [
            Create(Key("turns", name), {"state": state, "created_at": now - timedelta(minutes=age)})
            for name, (state, age) in ages.items()
        ]
    )
    assert (await deployment.bad())["turns"].detail == "2 not final after 10 minutes, such as old"


@pytest.mark.parametrize(("status", "verdict"), [(200, Verdict.OK), (403, Verdict.BROKEN)])
async def test_webhook_is_asked_from_outside(status: int, verdict: Verdict) -> None:
    async def answer(_: Request) -> Response:
        return Response(status)

    server = HttpServer(answer)
    await server.start()
    found = await examine_deployment({}, server.url)
    await server.stop()
    assert found[-1].check == "webhook"
    assert found[-1].verdict is verdict


async def test_redis_that_evicts_speaks_in_the_clear_or_is_full_is_broken() -> None:
    facts = RedisFacts("7.2", False, "volatile-lru", 960, 1000, 0.5, 5_000)
    found = {f.check: f.verdict for f in judge_redis(facts, on_this_machine=False)}
    assert found == {
        "redis": Verdict.OK,
        "redis tls": Verdict.BROKEN,
        "redis policy": Verdict.BROKEN,
        "redis memory": Verdict.BROKEN,
        "clocks": Verdict.ATTENTION,
    }


async def test_checks_run_together_and_none_can_end_the_others() -> None:
    async def slow() -> list[Finding]:
        await asyncio.sleep(0.2)
        return [ok("slow", "")]

    async def forbidden() -> list[Finding]:
        raise DocumentsUnavailableError("Firestore: 403") from PermissionDenied("no")

    async def defect() -> list[Finding]:
        raise ZeroDivisionError("oops")

    checks = [Check(f"slow {n}", slow, "") for n in range(5)]
    checks.append(Check("late", lambda: asyncio.sleep(9, []), "wait", timeout_s=0.1))
    checks.append(Check("forbidden", forbidden, "", "roles/datastore.user"))
    checks.append(Check("defect", defect, ""))
    began = time.monotonic()
    *slow_ones, late, not_allowed, failed = await examine(checks)
    assert time.monotonic() - began < 0.6
    assert slow_ones == [ok("slow", "")] * 5
    assert (late.verdict, late.detail) == (Verdict.BROKEN, "no answer within 0.1 s")
    assert not_allowed.verdict is Verdict.ATTENTION
    assert not_allowed.remedy == "grant yourself roles/datastore.user"
    assert "ZeroDivisionError" in failed.detail


def test_broken_deployment_ends_with_1_and_json_says_why(tmp_path: Path) -> None:
    environment = {
        "DOCUMENT_STORE": f"sqlite:{tmp_path / 'd.db'}",
        "SECRET_STORE": f"file:{tmp_path / 's.json'}",
        "REDIS_URL": "redis://127.0.0.1:9",
        "GOOGLE_CLOUD_PROJECT": "",
        "TASKS_QUEUE": "",
    }
    result = CliRunner().invoke(cli.app, ["doctor", "--json"], env=environment)
    assert result.exit_code == 1
    found = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert found["redis"]["verdict"] == "broken"
    assert found["redis"]["remedy"]
    assert CliRunner().invoke(cli.app, ["doctor"], env=environment).stdout.count("✗") == 2
