"""A clinic's fields stand in the schema, all of them, with defaults that the schema allows."""

from __future__ import annotations

from dataclasses import MISSING, fields
from decimal import Decimal
from typing import Any

import pytest

from core.domain.clinic import BudgetPolicy, Clinic, ModelConfig
from core.usecases.clinics.schema import BUDGET, CLINIC, MODEL, Exact, Group, Number, Schema, Whole

READ_BY_THEMSELVES = {
    *("org_id", "bot_user_id", "channel_id", "model", "budget"),
    *("prices", "answers", "hours", "mode", "version"),
}
GROUPS = [(kind.kind, kind.fields) for kind in CLINIC.values() if isinstance(kind, Group)]


@pytest.mark.parametrize(("kind", "schema"), [(ModelConfig, MODEL), (BudgetPolicy, BUDGET), *GROUPS])
def test_a_document_has_the_fields_of_its_dataclass(kind: type[Any], schema: Schema) -> None:
    assert schema.keys() == {field.name for field in fields(kind)}


def test_a_clinics_own_fields_are_those_of_its_dataclass() -> None:
    assert CLINIC.keys() == {field.name for field in fields(Clinic)} - READ_BY_THEMSELVES


@pytest.mark.parametrize(
    ("kind", "schema"), [(Clinic, CLINIC), (ModelConfig, MODEL), (BudgetPolicy, BUDGET), *GROUPS]
)
def test_every_default_could_stand_in_a_clinics_file(kind: type[Any], schema: Schema) -> None:
    defaults = {f.name: f.default for f in fields(kind) if f.default not in (MISSING, None)}
    for name, default in defaults.items():
        allowed = schema.get(name)
        if isinstance(allowed, Whole | Number | Exact):
            high = allowed.high if allowed.high is not None else default
            assert allowed.low <= Decimal(str(default)) <= high, name
