"""Prices and approved answers in the clinics file: read, and checked against each other and the persona."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation

from ruamel.yaml.nodes import Node, SequenceNode

from core.domain.clinic_prices import ApprovedAnswer, ListedPrice, compact
from core.domain.price_contradictions import contradictions
from core.domain.visible import is_damaged, looks_empty
from core.ops.yaml_fields import Fields, Problem, text_of

PRICE = ("item", "baht", "from", "until", "note")
ANSWER = ("q", "a")
MAX_PRICES, MAX_ANSWERS = 300, 100
"""They go into every prompt, as the persona does."""
ITEM_CHARACTERS, NOTE_CHARACTERS = 100, 200
QUESTION_CHARACTERS, ANSWER_CHARACTERS = 200, 1_000
MAX_BAHT = 100_000_000


def read_prices(entry: Fields, problems: list[Problem]) -> tuple[ListedPrice, ...]:
    """A clinic's `prices`; each that can't hold beside an earlier one is named with its own line."""
    nodes = entry.items("prices", "expected a list such as [{item: ขูดหินปูน, baht: 900}]")
    if len(nodes) > MAX_PRICES:
        entry.problem("prices", f"expected at most {MAX_PRICES} prices")
    kept: list[tuple[ListedPrice, int]] = []
    for place, node in enumerate(nodes[:MAX_PRICES]):
        fields = _inner(entry, "prices", place, node, PRICE, problems)
        price = _price(fields)
        if price is None:
            continue
        for other, line in kept:
            if price.is_same_item(other) and price.is_valid_with(other):
                said = "the same price" if price.baht == other.baht else f"a price of {other.baht} baht"
                fields.problem("item", f"{price.item!r} has {said} in line {line}, valid at the same time")
                break
        kept.append((price, fields.line))
    return tuple(price for price, _ in kept)


def read_answers(entry: Fields, problems: list[Problem]) -> tuple[ApprovedAnswer, ...]:
    nodes = entry.items("answers", "expected a list such as [{q: มีที่จอดรถไหม, a: มีค่ะ หน้าคลินิก}]")
    if len(nodes) > MAX_ANSWERS:
        entry.problem("answers", f"expected at most {MAX_ANSWERS} answers")
    kept: dict[str, int] = {}
    answers = []
    for place, node in enumerate(nodes[:MAX_ANSWERS]):
        fields = _inner(entry, "answers", place, node, ANSWER, problems)
        question = _line(fields, "q", "expected a question on one line", QUESTION_CHARACTERS)
        answer = fields.text("a", "expected its answer", longest=ANSWER_CHARACTERS, required=True)
        if question is None or answer is None:
            continue
        if looks_empty(answer) or is_damaged(answer):
            fields.problem("a", "expected text that customers can see, without control characters")
        if (line := kept.get(compact(question))) is not None:
            fields.problem("q", f"{question!r} is answered in line {line} too")
        kept.setdefault(compact(question), fields.line)
        answers.append(ApprovedAnswer(question, answer.strip()))
    return tuple(answers)


def check_against_list(
    entry: Fields, persona: str, prices: Sequence[ListedPrice], answers: Sequence[ApprovedAnswer]
) -> None:
    """What the clinic says elsewhere of a listed item must be its price."""
    texts = [("persona", persona), *(("answers", f"{each.question}\n{each.answer}") for each in answers)]
    for name, text in texts:
        for item, amount, listed in contradictions(text, prices):
            entry.problem(name, f"says {amount} of {item!r}, whose listed price is {listed} baht")


def _price(fields: Fields) -> ListedPrice | None:
    item = _line(fields, "item", "expected the name of what is priced, on one line", ITEM_CHARACTERS)
    note = _line(fields, "note", "expected a note on one line", NOTE_CHARACTERS, required=False)
    baht = _baht(fields)
    since, until = (_day(fields, name) for name in ("from", "until"))
    if since and until and until < since:
        fields.problem("until", f"{until} is before `from` ({since})")
        return None
    if item is None or baht is None:
        return None
    return ListedPrice(item, *baht, since, until, note or "")


def _inner(
    entry: Fields, name: str, place: int, node: Node, allowed: Sequence[str], problems: list[Problem]
) -> Fields:
    at_least = entry.line_of(name)
    return Fields(node, f"{entry.way}: {name}[{place}]", allowed, problems, at_least=at_least)


def _line(fields: Fields, name: str, expected: str, longest: int, *, required: bool = True) -> str | None:
    text = fields.text(name, expected, pattern=r".*\S.*", longest=longest, required=required)
    if text is not None and (is_damaged(text) or not compact(text)):
        fields.problem(name, expected)
        return None
    return text and text.strip()


def _baht(fields: Fields) -> tuple[Decimal, Decimal] | None:
    node = fields.node("baht")
    ends = list(node.value) if isinstance(node, SequenceNode) else [node]
    read = [_amount(end) for end in ends]
    amounts = [amount for amount in read if amount is not None]
    if len(amounts) != len(read) or not 1 <= len(amounts) <= 2:
        fields.problem("baht", "expected an amount such as 900, or a range such as [39000, 65000]")
        return None
    if amounts[-1] < amounts[0]:
        fields.problem("baht", "expected the lower amount of a range first")
        return None
    return amounts[0], amounts[-1]


def _amount(node: Node | None) -> Decimal | None:
    try:
        amount = Decimal((text_of(node) if node else None) or "")
    except InvalidOperation:
        return None
    is_price = amount.is_finite() and 0 <= amount <= MAX_BAHT and amount == round(amount, 2)
    return amount if is_price else None


def _day(fields: Fields, name: str) -> date | None:
    text = fields.text(name, "expected a day such as 2026-12-31", pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        fields.problem(name, f"{text!r}: there is no such day")
        return None
