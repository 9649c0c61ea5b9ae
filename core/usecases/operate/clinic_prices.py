"""Change a clinic's price list, as one version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from core.domain.clinic_prices import ApprovedAnswer, ListedPrice
from core.domain.errors import InvalidInputError
from core.domain.price_contradictions import contradictions
from core.usecases.clinics.documents import ORGS
from core.usecases.clinics.price_documents import answers_from, prices_document
from core.usecases.operate.change_clinic import ChangeClinic, Changed
from core.usecases.operate.clinic_state import ClinicState


async def change_prices(change: ChangeClinic, org_id: str, prices: Sequence[ListedPrice]) -> Changed:
    """All of them, in this order. Raises as ChangeClinic does; InvalidInputError naming the price that can't
    hold beside another one, or beside what the clinic says of it elsewhere."""
    for one, other in combinations(prices, 2):
        if one.is_same_item(other) and one.is_valid_with(other):
            raise InvalidInputError(
                f"{one.item}: {one.baht} and {other.baht} baht are valid at the same time"
            )

    def changed(state: ClinicState) -> ClinicState:
        org = state.org or {}
        answers = answers_from(f"{ORGS}/{org_id}", org.get("answers"))
        check_said(str(org.get("persona") or ""), answers, prices)
        return replace(state, org={**org, "prices": prices_document(prices)})

    return await change(org_id, "prices", changed)


def check_said(persona: str, answers: Sequence[ApprovedAnswer], prices: Sequence[ListedPrice]) -> None:
    """Raises InvalidInputError."""
    for text in (persona, *(f"{each.question}\n{each.answer}" for each in answers)):
        for item, amount, listed in contradictions(text, prices):
            raise InvalidInputError(
                f"{item}: the clinic's words say {amount}, the list {listed} baht: correct the words first"
            )
