"""The README says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.domain.settings import VARIABLES, Variable

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_every_setting_stands_in_the_table_as_it_is(variable: Variable) -> None:
    who = "both" if len(variable.roles) == 2 else next(iter(variable.roles))
    default = f"`{variable.default}`" if variable.default is not None else "none"
    row = (
        f"| `{variable.name}` | {'required' if variable.required else default} | {who} | {variable.meaning} |"
    )
    assert row in README


def test_no_other_setting_is_claimed() -> None:
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", README, re.MULTILINE)
    assert set(rows) == {variable.name for variable in VARIABLES}
