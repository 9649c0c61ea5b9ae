"""The local stack's deployment is the one that Terraform builds: formulas evaluated by Terraform itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from core.domain.settings import VARIABLES
from core.local import deployment

TERRAFORM = Path(__file__).parents[2] / "terraform"
QUEUE = (TERRAFORM / "queue.tf").read_text(encoding="utf-8")
DECLARED = "\n".join(path.read_text(encoding="utf-8") for path in TERRAFORM.glob("variables*.tf"))
BLOCKS = dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', DECLARED, re.MULTILINE | re.DOTALL))

BY_NAME = {"firestore_database"}
"""null in Terraform: what it is follows from the deployment's name (terraform/tests/isolation.tftest.hcl)."""

CHOICES: Sequence[Mapping[str, str]] = [
    {},
    {"CHAT_MAX_CONCURRENT": "10"},
    {"LLM_REQUESTS_PER_MINUTE": "1"},
    {"LLM_REQUESTS_PER_MINUTE": "3500", "CHAT_MAX_CONCURRENT": "200"},
    {"LLM_REQUESTS_PER_MINUTE": "30000"},
    {"SLOT_WAIT_S": "7.5", "CHAT_MAX_CONCURRENT": "7"},
    {"SLOT_WAIT_S": "0.1", "CHAT_MAX_CONCURRENT": "40"},
]


def _default(variable: str) -> str:
    found = re.search(r"^  default += (.*)$", BLOCKS[variable], re.MULTILINE)
    assert found, f"{variable} has no default"
    return found[1]


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")
def test_rate_and_room_of_the_local_queue_are_terraforms(tmp_path: Path) -> None:
    (formulas,) = re.findall(r"^locals \{\n.*?^\}", QUEUE, re.MULTILINE | re.DOTALL)
    (tmp_path / "queue.tf").write_text(formulas)
    used = sorted(set(re.findall(r"var\.(\w+)", formulas)))
    (tmp_path / "variables.tf").write_text(
        "".join(f'variable "{name}" {{\n  default = {_default(name)}\n}}\n' for name in used)
    )
    for chosen in CHOICES:
        done = subprocess.run(
            ["terraform", f"-chdir={tmp_path}", "console"]
            + [f"-var={name.lower()}={value}" for name, value in chosen.items()],
            input="jsonencode([local.dispatches_per_s, local.room])",
            env={**os.environ, "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull},
            capture_output=True,
            text=True,
            check=True,
        )
        queue = deployment.queue(chosen)
        found = json.loads(json.loads(done.stdout))
        assert [queue.max_dispatches_per_s, queue.max_concurrent] == found, chosen


def test_retries_are_terraforms() -> None:
    body = re.search(r"retry_config \{\n(.*?)\n  \}", QUEUE, re.DOTALL)
    assert body
    said = {name: float(number) for name, number in re.findall(r'(\w+) += "?([\d.]+)s?"?', body[1])}
    retry = deployment.RETRY
    assert said == {
        "max_attempts": retry.max_attempts,
        "max_retry_duration": retry.max_retry_s,
        "min_backoff": retry.min_backoff_s,
        "max_backoff": retry.max_backoff_s,
        "max_doublings": retry.max_doublings,
    }


def test_settings_without_a_choice_are_terraforms_defaults() -> None:
    settings = deployment.settings({})
    for variable in VARIABLES:
        name = variable.name.lower()
        if name not in BLOCKS.keys() - BY_NAME or (not variable.default and variable.name not in settings):
            continue
        value = settings.get(variable.name, variable.default)
        assert re.sub(r'[\[\]" ]', "", _default(name)) == value, name


def test_instances_and_time_limits_are_terraforms() -> None:
    assert int(_default("turn_max_instances")) == deployment.TURN_MAX_INSTANCES
    assert int(_default("turn_concurrency")) == deployment.TURN_CONCURRENCY
    assert int(_default("turn_timeout_s")) == deployment.TIMEOUT_S["turn"]
    webhook = re.search(r"timeout_seconds += (\d+)", (TERRAFORM / "webhook.tf").read_text("utf-8"))
    assert webhook
    assert int(webhook[1]) == deployment.TIMEOUT_S["webhook"]
