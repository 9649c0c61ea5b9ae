"""What Terraform sets is what the functions read: every variable known to one is known to the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.domain.settings import VARIABLES, Role

TERRAFORM = Path(__file__).parents[2] / "terraform"
SETTINGS = (TERRAFORM / "settings.tf").read_text(encoding="utf-8")

LOCAL_ONLY = {"CLOUD_TASKS_EMULATOR_HOST"}
"""Set on a developer's machine, never in the cloud."""

SECRETS = {"REDIS_URL", "OPENAI_API_KEY"}
SET_BY_OTHER_RESOURCES = {
    "DOCUMENT_STORE",
    "FIRESTORE_DATABASE",
    "GOOGLE_CLOUD_PROJECT",
    "REDIS_CA_CERT",
    "SECRET_STORE",
    "TASKS_DISPATCHES_PER_S",
    "TASKS_QUEUE",
    "TASKS_SERVICE_ACCOUNT",
    "TURN_URL",
}


def _names(block: str) -> set[str]:
    """Keys of the map `block` in settings.tf."""
    body = re.search(rf"^  {block} = \{{\n(.*?)^  \}}", SETTINGS, re.MULTILINE | re.DOTALL)
    assert body, f"settings.tf has no map {block}"
    return set(re.findall(r"^    ([A-Z][A-Z0-9_]*) +=", body[1], re.MULTILINE))


def _set_for(role: Role) -> set[str]:
    blocks = ["settings_both", "secrets_both", f"settings_{role}"]
    return set().union(*map(_names, blocks), _names("secrets_turn") if role == "turn" else set())


@pytest.mark.parametrize("role", ["webhook", "turn"])
def test_terraform_sets_exactly_the_variables_that_a_function_reads(role: Role) -> None:
    read = {variable.name for variable in VARIABLES if role in variable.roles}
    assert _set_for(role) == read - LOCAL_ONLY


def test_secrets_are_references_and_nothing_else_is() -> None:
    assert _names("secrets_both") | _names("secrets_turn") == SECRETS


def test_each_tunable_setting_is_a_terraform_variable_with_the_same_default() -> None:
    declared = (TERRAFORM / "variables_settings.tf").read_text(encoding="utf-8")
    blocks = dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', declared, re.MULTILINE | re.DOTALL))
    tunable = {
        v.attribute: v for v in VARIABLES if v.name not in LOCAL_ONLY | SECRETS | SET_BY_OTHER_RESOURCES
    }
    assert blocks.keys() == tunable.keys()
    for name, block in blocks.items():
        default = re.search(r"^  default += (.*)$", block, re.MULTILINE)
        assert default, f"{name} has no default"
        expected = tunable[name].default
        if expected is not None:
            assert re.sub(r'[\[\]" ]', "", default[1]) == expected, name
