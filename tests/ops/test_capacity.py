from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.ops.cli import app

TERRAFORM = Path(__file__).parents[2] / "terraform"


def test_sizes_come_as_json_and_as_a_file_for_terraform(tmp_path: Path) -> None:
    sizes = tmp_path / "sizes.tfvars"
    result = CliRunner().invoke(
        app,
        ["capacity", "--clinics", "5000", "--rpm", "9000", "--simulate", "--json", "--tfvars", str(sizes)],
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["simulated"]["p95_s"] == pytest.approx(found["p95_s"], rel=0.2)
    declared = set(re.findall(r'variable "(\w+)"', "".join(p.read_text() for p in TERRAFORM.glob("*.tf"))))
    written = dict(re.findall(r"^(\w+) = (\d+)$", sizes.read_text(), re.MULTILINE))
    assert set(written) <= declared
    assert written["chat_max_concurrent"] == str(found["slots"])
    assert written["llm_requests_per_minute"] == "9000"


def test_limits_that_were_not_given_are_not_left_to_terraforms_defaults(tmp_path: Path) -> None:
    sizes = tmp_path / "sizes.auto.tfvars"
    result = CliRunner().invoke(app, ["capacity", "--tfvars", str(sizes)])
    assert result.exit_code == 0, result.output
    assert "llm_requests_per_minute = null\nllm_tokens_per_minute = null\n" in sizes.read_text()
    assert f"Terraform in {tmp_path}/ reads it by itself" in result.stdout.replace("\n", "")
    declared = (TERRAFORM / "variables_settings.tf").read_text()
    for name in ("llm_requests_per_minute", "llm_tokens_per_minute"):
        assert re.search(rf'variable "{name}" .*?condition += var.{name} == null \|\| ', declared, re.DOTALL)


def test_a_person_reads_what_gives_out_first() -> None:
    result = CliRunner().invoke(app, ["capacity", "--clinics", "50000"])
    assert result.exit_code == 0
    assert "what gives out first" in result.stdout
    assert "queue" in result.stdout


def test_the_file_for_terraform_has_one_cells_share_where_one_deployment_does_not_do(tmp_path: Path) -> None:
    sizes = tmp_path / "sizes.tfvars"
    result = CliRunner().invoke(
        app, ["capacity", "--clinics", "50000", "--rpm", "90000", "--json", "--tfvars", str(sizes)]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    written = dict(re.findall(r"^(\w+) = (\d+)$", sizes.read_text(), re.MULTILINE))
    assert "one of 3 cells" in sizes.read_text()
    assert int(written["chat_max_concurrent"]) * 3 <= found["slots"]
    assert written["llm_requests_per_minute"] == "30000"
