"""Which clinics use which models, until when; and moving them from one to another."""

from __future__ import annotations

from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.domain.prices import Prices


def check_models(clinic: Clinic, prices: Prices, now_ms: int) -> None:
    """Raises InvalidInputError if one of a clinic's models can't be called and charged: no price, past its
    last day, or shorter answers than the clinic's may be."""
    for model in dict.fromkeys((clinic.model.model_name, clinic.budget.fallback_model)):
        if not model:
            continue
        prices.price_at(model, now_ms)
        if (last := prices.shuts_down_within(model, now_ms, days=-1)) is not None:
            raise InvalidInputError(f"{clinic.org_id}: {model} was shut down on {last.isoformat()}")
        if most := prices.too_long_for(model, clinic.model.max_tokens):
            raise InvalidInputError(
                f"{clinic.org_id}: {model} answers at most {most:,} tokens, max_tokens is "
                f"{clinic.model.max_tokens:,}"
            )
