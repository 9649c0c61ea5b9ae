"""What a clinic has set for itself, as its documents hold it: what versions keep, compare and bring back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from core.domain.errors import InvalidInputError
from core.usecases.clinics.documents import Data, clinic_from, org_document
from core.usecases.clinics.schema import BUDGET, MODEL

RECORDS = frozenset({"connected", "version"})
"""Fields of `orgs/{org_id}` that nobody sets: what was done with the clinic."""
CHANNEL = ("bot_user_id", "channel_id")


@dataclass(frozen=True, slots=True)
class ClinicState:
    """`orgs/{org_id}`, and of model and budget what the clinic sets for itself. None: there is no document.
    Of `default`, `org` is None."""

    org: Data | None = None
    model: Data | None = None
    budget: Data | None = None

    @classmethod
    def of(cls, org_id: str, org: Data | None, model: Data | None, budget: Data | None) -> ClinicState:
        """Fields that a document does not name have their defaults, whichever release stored it."""
        return cls(
            None if org is None else _complete(org_id, org),
            None if model is None else _known(model, MODEL),
            None if budget is None else _known(budget, BUDGET),
        )

    @property
    def is_there(self) -> bool:
        return (self.org, self.model, self.budget) != (None, None, None)

    def encode(self) -> dict[str, Any]:
        return {"org": self.org, "model": self.model, "budget": self.budget}

    @classmethod
    def decode(cls, org_id: str, data: Mapping[str, Any]) -> ClinicState:
        return cls.of(org_id, data.get("org"), data.get("model"), data.get("budget"))


def _complete(org_id: str, org: Data) -> dict[str, Any]:
    """What can't be read stays as it is, so that a version can show it."""
    try:
        return org_document(clinic_from(org_id, org, None, None, None, None))
    except InvalidInputError:
        return {name: value for name, value in org.items() if name not in RECORDS}


def _known(data: Data, names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name in names}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs, None where there is none. The secret's values are never shown."""

    field: str
    old: Any
    new: Any


def differences(before: ClinicState, after: ClinicState) -> list[FieldChange]:
    """By the names that the fields have in the clinics file."""
    old, new = _shown(before), _shown(after)
    changes = [FieldChange(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    return [change for change in changes if change.old != change.new]


def _shown(state: ClinicState) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in (state.org or {}).items():
        if name in RECORDS:
            continue
        if isinstance(value, Mapping):
            shown |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            shown[f"line.{name}" if name in CHANNEL else name] = value
    for place, document in (("model", state.model), ("budget", state.budget)):
        shown |= {f"{place}.{name}": value for name, value in (document or {}).items()}
    return shown
