"""The pipeline: pinned, careful by default, and calling what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

TREE = Path(__file__).parents[2]
BUILD: dict[str, Any] = YAML(typ="safe").load((TREE / "cloudbuild.yaml").read_text(encoding="utf-8"))
STEPS: dict[str, dict[str, Any]] = {step["id"]: step for step in BUILD["steps"]}
SCRIPTS = {name: step["args"][-1] for name, step in STEPS.items() if "entrypoint" in step}


def test_nothing_is_applied_unless_asked_for() -> None:
    assert BUILD["substitutions"]["_APPLY"] == "false"
    assert SCRIPTS["apply"].splitlines()[0].startswith('test "${_APPLY}" = true || ')


def test_what_is_applied_is_the_plan_that_was_saved() -> None:
    (saved,) = [arg.removeprefix("-out=") for arg in STEPS["plan"]["args"] if arg.startswith("-out=")]
    assert f"terraform apply -lock-timeout=60s {saved}\n" in SCRIPTS["apply"]


def test_the_plan_is_made_with_all_variables_that_lie_beside_the_state() -> None:
    assert STEPS["variables"]["args"][-2:] == ["gs://${_STATE_BUCKET}/*.tfvars", "terraform/"]
    assert "variables" in STEPS["plan"]["waitFor"]


def test_the_smoke_check_signs_with_the_secret_of_this_deployment() -> None:
    assert "output -raw secret_prefix > ../.tools/secret_prefix" in SCRIPTS["apply"]
    assert '--secret="$$(cat .tools/secret_prefix)line-${_SMOKE_ORG}"' in SCRIPTS["smoke"]


def test_sources_are_uploaded_to_a_bucket_of_their_own() -> None:
    runbook = (TREE / "terraform" / "README.md").read_text(encoding="utf-8")
    staged = re.findall(r"--gcs-source-staging-dir (\S+)", runbook)
    assert staged == ["gs://$PROJECT-fairlane-source/source"] * 2
    bucket = 'name     = "${var.project_id}-${var.name}-source"'
    assert bucket in (TREE / "terraform" / "pipeline.tf").read_text(encoding="utf-8")


def test_every_image_is_pinned_to_a_version() -> None:
    for step in STEPS.values():
        assert re.search(r":\d+\.\d+\.\d+[\w.-]*$", step["name"]), step["name"]


def test_it_runs_as_its_own_account_and_logs_to_cloud_logging_alone() -> None:
    assert "-pipeline@" in BUILD["serviceAccount"]
    assert BUILD["options"]["logging"] == "CLOUD_LOGGING_ONLY"


def test_steps_wait_only_for_steps_that_come_before() -> None:
    seen: set[str] = set()
    for name, step in STEPS.items():
        assert set(step.get("waitFor", [])) <= seen | {"-"}
        seen.add(name)


def test_make_targets_and_files_that_the_steps_use_exist() -> None:
    text = "\n".join(SCRIPTS.values())
    makefile = (TREE / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in ("tests/requirements.txt", "terraform/smoke.py", "tests/terraform"):
        assert path in text
        assert (TREE / path).exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_is_one_that_a_shell_understands(name: str) -> None:
    script = SCRIPTS[name].replace("$$", "$").replace("$PROJECT_ID", "project")
    shell = shutil.which("sh")
    assert shell
    done = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
