from __future__ import annotations

import json
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.domain import dispatching
from core.ops.cli import app
from core.ops.sizing.tfvars import ADDRESSES_AN_INSTANCE, RESERVED_ADDRESSES

DEFAULT_SUBNET = '"10.8.0.0/24"'
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
    written = dict(re.findall(r"^(\w+) = (.+)$", sizes.read_text(), re.MULTILINE))
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
    assert "One of 3 cells: a project" in sizes.read_text()
    assert int(written["chat_max_concurrent"]) * 3 <= found["slots"]
    assert written["llm_requests_per_minute"] == "30000"


@pytest.mark.parametrize("clinics", [1, 20_000, 50_000])
@pytest.mark.parametrize("latency", ["2.5", "60"])
@pytest.mark.parametrize("limits", [[], ["--rpm", "7", "--tpm", "11", "--per-org", "40"]])
def test_terraform_takes_what_the_file_says(
    tmp_path: Path, clinics: int, latency: str, limits: list[str]
) -> None:
    """The preconditions of queue.tf, network.tf and the variables, whatever the sizes."""
    sizes = tmp_path / "sizes.tfvars"
    words = ["capacity", "--clinics", str(clinics), "--latency", latency, *limits, "--tfvars", str(sizes)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    written = dict(re.findall(r"^(\w+) = (.+)$", sizes.read_text(), re.MULTILINE))
    slots, instances = int(written["chat_max_concurrent"]), int(written["turn_max_instances"])
    room = dispatching.room(slots, 20, instances=instances, concurrency=int(written["turn_concurrency"]))
    assert slots <= room
    assert 1 <= int(written["chat_max_concurrent_per_org"]) <= slots
    subnet = ip_network(written.get("subnet_cidr", DEFAULT_SUBNET).split('"')[1])
    needed = 4 * (instances + int(written["webhook_max_instances"]))
    assert needed <= subnet.num_addresses - 4 <= max(252, 2 * needed)
    assert 2 <= instances <= 1000
    assert 1 <= int(written["redis_memory_gb"]) <= 300
    assert written["llm_requests_per_minute"] in ({"1", "2", "3", "7"} if limits else {"null"})


def test_addresses_are_reckoned_as_terraform_does() -> None:
    network = (TERRAFORM / "network.tf").read_text("utf-8")
    assert f"addresses_needed = {ADDRESSES_AN_INSTANCE} * (" in network
    assert f"[1])) - {RESERVED_ADDRESSES}\n" in network
    assert f"  default     = {DEFAULT_SUBNET}\n" in (TERRAFORM / "variables.tf").read_text("utf-8")
