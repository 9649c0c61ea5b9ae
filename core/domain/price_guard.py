"""No amount of money reaches a customer that the clinic has not stated.

An amount is covered if it stands in a price that is valid on the day (or lies in its range), in the persona
or in an approved answer. So is one that the customer has named, where it can't be read as a price: in a
sentence without a listed item; and if they have offered it («ลดเหลือ 500 ได้ไหม»), in one that refuses it.
Sums and multiples of prices are amounts like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache

from core.domain.amounts import BAHT, Amount, Kind, amounts, lines
from core.domain.clinic import Clinic
from core.domain.clinic_prices import ListedPrice, compact

_Money = tuple[str, Decimal]

_SENTENCE_ENDS = re.compile(r"(?:ค่ะ|คะ|ครับ|จ้า|จ้ะ|นะ|ค่า)\s+|[!?…。]+\s*|\.\s+")
_ONLY_POLITE = re.compile(r"(?:ค่ะ|คะ|ครับ|นะ|จ้า|จ้ะ|ได้|เลย|โอเค|ok|[\s.,!?…()\[\]])*")
_OFFERS = re.compile(
    r"ลด|เหลือ|ต่อราคา|ได้(?:ไหม|มั|ไม|ป|รึ|หรือ)|ขอ(?!ง|โทษ|อภัย)|discount|cheaper|deal|(?:can|could) you"
)
_REFUSES = re.compile(
    r"ไม่(?:ได้|สามารถ|มี(?!ปัญหา)|ใช่|รับ|ลด|ทราบ|พบ|แน่ใจ)|ยังไม่|ขออภัย|เสียใจ|เจ้าหน้าที่|ทีมงาน"
    r"|n['o]t(?![a-z])|unable|sorry|staff"
)


@dataclass(frozen=True, slots=True)
class PriceGuard:
    """What covers an amount in one turn. `prices`: those of its day. `items`: all that the clinic lists.
    `said`: the customer's own words in this conversation."""

    prices: tuple[ListedPrice, ...]
    stated: frozenset[_Money]
    items: tuple[str, ...]
    said: tuple[str, ...] = ()

    @classmethod
    def of(cls, clinic: Clinic, day: date, said: Iterable[str] = ()) -> PriceGuard | None:
        """None where the clinic has none."""
        if not clinic.guards_prices:
            return None
        prices = tuple(price for price in clinic.prices if price.is_valid_on(day))
        answers = (f"{each.question}\n{each.answer}" for each in clinic.answers)
        own = (clinic.persona, *answers, *(price.note for price in prices))
        return cls(prices, frozenset().union(*map(_stated, own)), _items(clinic.prices), tuple(said))

    def uncovered(self, reply: str, quick_replies: Sequence[str] = ()) -> tuple[str, ...]:
        """The amounts that nothing covers, as they were written, each once."""
        held: dict[str, None] = {}
        for text in (reply, *quick_replies):
            found = [a for a in amounts(text, self.items) if a.kind is Kind.MONEY and not self._states(a)]
            if found:
                named, offered = self._customers_own()
                sentences = _sentences(text)
                for amount in found:
                    sentence = _sentence_of(amount, sentences)
                    allowed = named if not _REFUSES.search(sentence) else named | offered
                    if _money(amount) not in allowed or self._lists(sentence):
                        held[amount.text] = None
        return tuple(held)

    def _states(self, amount: Amount) -> bool:
        in_list = amount.currency == BAHT and any(price.covers(amount.value) for price in self.prices)
        return in_list or _money(amount) in self.stated

    def _customers_own(self) -> tuple[set[_Money], set[_Money]]:
        """The amounts that the customer has just named, and those that they have offered as a price. Numbers
        without a currency count."""
        named: set[_Money] = set()
        offered: set[_Money] = set()
        for text in self.said:
            found = amounts(text)
            sentences = _sentences(text) if found else []
            for amount in found:
                sentence = _sentence_of(amount, sentences)
                is_offer = _OFFERS.search(sentence) or self._lists(sentence)
                (offered if is_offer else named).add(_money(amount))
        return named - offered, offered

    def _lists(self, sentence: str) -> bool:
        said = compact(sentence)
        return any(item in said for item in self.items)


@dataclass(frozen=True, slots=True)
class _Sentence:
    line: int
    start: int
    end: int
    text: str

    def holds(self, amount: Amount) -> bool:
        return self.line == amount.line and self.start <= amount.start < self.end


def _sentences(text: str) -> list[_Sentence]:
    """Thai marks no end of a sentence: it is a polite particle and a blank, a mark, or the line. What says
    nothing but an amount («ได้ค่ะ 500 บาทค่ะ») belongs to what stands before it."""
    found: list[_Sentence] = []
    for n, line in enumerate(lines(text)):
        start = 0
        for end in (*(end.end() for end in _SENTENCE_ENDS.finditer(line)), len(line)):
            if end == start:
                continue
            words = line[start:end]
            before = found[-1].text if found and _says_only_amounts(words) else ""
            found.append(_Sentence(n, start, end, f"{before} {words}" if before else words))
            start = end
    return found


def _says_only_amounts(words: str) -> bool:
    for amount in amounts(words):
        words = words.replace(amount.text, "", 1)
    return bool(_ONLY_POLITE.fullmatch(words))


def _sentence_of(amount: Amount, sentences: Sequence[_Sentence]) -> str:
    return next(sentence.text for sentence in sentences if sentence.holds(amount))


def _money(amount: Amount) -> _Money:
    return amount.currency, amount.value


@lru_cache(maxsize=2_000)
def _stated(text: str) -> frozenset[_Money]:
    """What a clinic's own text states. Numbers that only may be amounts count: «ขูดหินปูน 900»."""
    return frozenset(map(_money, amounts(text)))


@lru_cache(maxsize=2_000)
def _items(prices: tuple[ListedPrice, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(compact(price.item) for price in prices))
