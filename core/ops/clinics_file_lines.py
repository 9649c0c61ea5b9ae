"""A clinics file that was read, and its lines for what only the stores show to be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.domain.clinic import Clinic
from core.domain.prices import Prices
from core.domain.role_manager import least_request
from core.ops.yaml_fields import FileProblemsError, Problem
from core.usecases.clinics.documents import DEFAULT
from core.usecases.operate.apply_clinics import TakenError
from core.usecases.operate.clinic_changes import Wanted


@dataclass(frozen=True, slots=True)
class ClinicsFile:
    path: Path
    wanted: Wanted
    warnings: tuple[str, ...]
    lines: Mapping[tuple[str, str], int] = field(repr=False)

    def refused(self, error: TakenError) -> FileProblemsError:
        """The error in terms of this file."""
        remedy = "use another, or put that clinic into this file as well with the channel that it has now"
        problems = [
            Problem(
                self.lines[t.org_id, t.field],
                f"{t.org_id}: {t.field}",
                f"belongs to the clinic {t.owner}: {remedy}",
            )
            for t in error.taken
        ]
        return FileProblemsError(self.path, problems)

    def check_output(self, clinics: Iterable[Clinic], prices: Prices) -> None:
        """Primary, outage model and fallback may answer at `max_tokens`, by whatever default they follow.
        Raises FileProblemsError with the line that is nearest to the cause."""
        problems = []
        for clinic in clinics:
            for place, model in (
                ("model.model_name", clinic.model.model_name),
                ("model.outage_model", clinic.model.outage_model),
                ("budget.fallback_model", clinic.budget.fallback_model),
            ):
                most = prices.too_long_for(model, clinic.model.max_tokens) if model else None
                if most is None:
                    continue
                ways = [(name, at) for name in (clinic.org_id, DEFAULT) for at in ("model.max_tokens", place)]
                owner, at = next((way for way in ways if way in self.lines), (clinic.org_id, "org_id"))
                who = "defaults" if owner == DEFAULT else owner
                message = (
                    f"{model} answers at most {most:,} tokens, max_tokens is {clinic.model.max_tokens:,}"
                )
                problems.append(Problem(self.lines.get((owner, at), 1), f"{who}: {at}", message))
        if problems:
            raise FileProblemsError(self.path, problems)

    def check_rate(self, clinics: Iterable[Clinic], tokens_per_minute: int | None, now_ms: int) -> None:
        """A clinic's least request fits into a minute of the provider's tokens, else it would never run.
        Raises FileProblemsError."""
        problems = []
        for clinic in clinics if tokens_per_minute else ():
            least = least_request(clinic, now_ms)
            if tokens_per_minute is None or least <= tokens_per_minute:
                continue
            ways = [(name, at) for name in (clinic.org_id, DEFAULT) for at in ("model.max_tokens", "persona")]
            owner, at = next((way for way in ways if way in self.lines), (clinic.org_id, "org_id"))
            who = "defaults" if owner == DEFAULT else owner
            message = (
                f"a request of {clinic.org_id} takes {least:,} tokens at least (its prompt, and max_tokens "
                f"{clinic.model.max_tokens:,}), LLM_TOKENS_PER_MINUTE is {tokens_per_minute:,}"
            )
            problems.append(Problem(self.lines.get((owner, at), 1), f"{who}: {at}", message))
        if problems:
            raise FileProblemsError(self.path, problems)
