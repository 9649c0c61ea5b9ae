"""Variables explain and check themselves, are all tried out, and nothing reads a secret's value."""

from __future__ import annotations

import re
from pathlib import Path

TERRAFORM = Path(__file__).parents[2] / "terraform"
FILES = {path.name: path.read_text(encoding="utf-8") for path in TERRAFORM.glob("*.tf")}
VARIABLES: dict[str, str] = {
    name: block
    for text in FILES.values()
    for name, block in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
}
REQUIRED = {"project_id", "region", "openai_secret_id"}


def test_every_variable_is_described_typed_and_validated() -> None:
    for name, block in VARIABLES.items():
        assert re.search(r"^  description += \"..", block, re.MULTILINE), name
        kind = re.search(r"^  type += (.*)$", block, re.MULTILINE)
        assert kind, name
        assert "validation {" in block or kind[1] == "bool", name


def test_a_first_apply_needs_three_variables() -> None:
    assert {name for name, block in VARIABLES.items() if " default " not in block} == REQUIRED
    example = (TERRAFORM / "terraform.tfvars.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^(\w+) +=", example, re.MULTILINE)) == REQUIRED
    assert set(re.findall(r"^# (\w+) +=", example, re.MULTILINE)) <= VARIABLES.keys()


def test_every_option_is_set_to_something_else_in_a_test() -> None:
    tried = (TERRAFORM / "tests" / "all_options.tftest.hcl").read_text(encoding="utf-8")
    assert VARIABLES.keys() - set(re.findall(r"^  (\w+) += ", tried, re.MULTILINE)) == set()


def test_terraform_reads_no_secrets_value_and_stores_one_only_write_only() -> None:
    text = "\n".join(FILES.values())
    assert not re.search(r'^(data|ephemeral) "google_secret_manager_secret_version', text, re.MULTILINE)
    assert not re.search(r"^\s*secret_data +=", text, re.MULTILINE)
    assert len(re.findall(r'^resource "google_secret_manager_secret_version"', text, re.MULTILINE)) == 1


def test_nobody_gets_a_basic_role_or_may_act_as_every_account() -> None:
    text = "\n".join(FILES.values())
    forbidden = r'"roles/(owner|editor|viewer|iam\.serviceAccountTokenCreator|resourcemanager\.\w+)"'
    assert re.findall(forbidden, text) == []
    for block in re.findall(r'^resource "google_project_iam_member".*?^\}', text, re.MULTILINE | re.DOTALL):
        assert "serviceAccountUser" not in block
        if "secretAccessor" in block:
            assert "condition {" in block
