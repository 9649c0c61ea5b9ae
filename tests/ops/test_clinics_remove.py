"""`fairlane clinics remove`: what goes, what stays, and that the webhook does not know the bot any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.adapters.file_secrets import FileSecrets
from core.domain.clinic import Clinic
from core.domain.errors import FairlaneError, SecretsUnavailableError
from core.ops import cli
from core.ports.documents import Create, DocumentStore, Key, Merge
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.clinics.documents import budget_document, channel_document, model_document, org_document
from core.usecases.operate.remove_clinic import RemoveClinic
from tests.support.clock import FakeClock

Run = Callable[..., Result]
SECRET = {"channel_id": "1", "channel_secret": "canary"}


def clinic(org_id: str, bot: str) -> dict[str, dict[str, Any]]:
    it = Clinic(org_id, org_id, bot, "1")
    return {
        f"orgs/{org_id}": org_document(it),
        f"line_channels/{bot}": channel_document(org_id),
        f"ai_model_config/{org_id}": model_document(it.model),
        f"org_ai_budgets/{org_id}": budget_document(it.budget),
    }


KEPT = {
    **clinic("stays", "Ustays"),
    "ai_model_config/default": {"max_tokens": 700},
    "org_ai_spend/goes:20261124": {"day": "20261124", "spent": 1, "held": 0},
    "customer_memory/goes:U1": {"facts": []},
    "turns/t1": {"org_id": "goes"},
}
GOES = {**clinic("goes", "Ugoes"), "line_channels/Uformer": channel_document("goes")}


async def write(documents: DocumentStore) -> None:
    many: Mapping[str, Mapping[str, Any]] = {**KEPT, **GOES}
    await documents.commit([Create(Key(*at.split("/")), data) for at, data in many.items()])


async def left(documents: DocumentStore) -> list[str]:
    keys = [Key(*at.split("/")) for at in {**KEPT, **GOES}]
    return [f"{d.key.collection}/{d.key.id}" for d in await documents.get_many(keys) if d]


@pytest.fixture
async def secrets(tmp_path: Path) -> FileSecrets:
    secrets = FileSecrets(str(tmp_path / "secrets.json"))
    for org_id in ("goes", "stays"):
        await secrets.put(f"line-{org_id}", SECRET)
    return secrets


async def test_a_removed_clinic_is_gone_and_the_books_stay(
    documents: DocumentStore, secrets: FileSecrets
) -> None:
    await write(documents)
    removing = RemoveClinic(documents, secrets, FakeClock(), "me")
    await removing(await removing.plan("goes"))
    assert await left(documents) == list(KEPT)
    assert (await secrets.get("line-goes"), await secrets.get("line-stays")) == (None, SECRET)
    assert (await removing.plan("goes")).nothing


async def test_the_bot_of_a_removed_clinic_is_unknown_within_the_directorys_time(
    documents: DocumentStore, secrets: FileSecrets, clock: FakeClock
) -> None:
    """Unknown is what the webhook answers with 404."""
    await write(documents)
    directory = ClinicDirectory(documents, secrets, clock, patience_s=20.0)
    assert await directory.by_destination("Ugoes") is not None
    removing = RemoveClinic(documents, secrets, FakeClock(), "me")
    await removing(await removing.plan("goes"))
    clock.advance(46)
    assert await directory.by_destination("Ugoes") is None
    assert await directory.by_destination("Ustays") is not None


async def test_what_changed_meanwhile_is_not_removed_and_a_secret_left_over_is_removed_later(
    documents: DocumentStore, secrets: FileSecrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(documents)
    removing = RemoveClinic(documents, secrets, FakeClock(), "me")
    removal = await removing.plan("goes")
    await documents.commit([Merge(Key("orgs", "goes"), {"persona": "new"})])
    with pytest.raises(FairlaneError, match="was changed meanwhile: run the same command again"):
        await removing(removal)
    assert "orgs/goes" in await left(documents)

    async def down(_: str) -> bool:
        raise SecretsUnavailableError("as asked")

    with monkeypatch.context() as patched:
        patched.setattr(secrets, "delete", down)
        with pytest.raises(SecretsUnavailableError):
            await removing(await removing.plan("goes"))
    again = await removing.plan("goes")
    assert (again.documents, again.has_secret) == ((), True)
    await removing(again)
    assert (await removing.plan("goes")).nothing


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DOCUMENT_STORE", f"sqlite:{tmp_path / 'documents.db'}")
    monkeypatch.setenv("SECRET_STORE", f"file:{tmp_path / 'secrets.json'}")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    line = {"bot_user_id": "U" + "1" * 32, "channel_id": "1", "channel_secret": "canary"}
    clinics = {"clinics": [{"org_id": "goes", "name": "A", "line": line, "budget": {"daily_budget_baht": 1}}]}
    path = tmp_path / "clinics.json"
    path.write_text(json.dumps(clinics))
    runner = CliRunner()
    assert runner.invoke(cli.app, ["clinics", "apply", str(path)]).exit_code == 0

    def run(*arguments: str, answer: str | None = None) -> Result:
        return runner.invoke(cli.app, ["clinics", *arguments], input=answer)

    return run


def test_it_asks_first_and_says_what_goes_and_what_stays(run: Run) -> None:
    refused = run("remove", "goes", answer="n\n")
    assert refused.exit_code == 1
    for part in ("orgs/goes", f"line_channels/U{'1' * 32}", "org_ai_budgets/goes", "secret line-goes"):
        assert part in refused.stderr
    assert run("show", "goes").exit_code == 0
    done = run("remove", "goes", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "removed: orgs/goes" in done.stdout
    assert "kept until they expire" in done.stdout
    assert "canary" not in refused.output + done.output
    assert run("show", "goes").exit_code == 1


def test_removing_again_is_fine_and_changes_nothing(run: Run) -> None:
    first = json.loads(run("remove", "goes", "--yes", "--json").stdout)
    assert first["removed"] == [
        "orgs/goes",
        "org_ai_budgets/goes",
        f"line_channels/U{'1' * 32}",
        "secret line-goes",
    ]
    again = run("remove", "goes", "--yes", "--json")
    assert (again.exit_code, json.loads(again.stdout)["removed"]) == (0, [])
    assert "nothing to remove" in run("remove", "goes").stdout


def test_the_defaults_can_not_be_removed(run: Run) -> None:
    result = run("remove", "default", "--yes")
    assert result.exit_code == 1
    assert "the defaults are no clinic" in result.stderr
