"""Money is an integer number of micro-baht: a charge, its worst case, and how both are shown.

Prices are USD per 1,000,000 tokens and a baht has 1,000,000 micro-baht, so the millions cancel out:
micro-baht = tokens × price × baht per dollar. That is exact until it is rounded once a call, up (§7.13).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, Inexact, localcontext
from typing import Protocol

from core.domain.errors import InvalidInputError
from core.domain.prices import Price

MICRO = 1_000_000

# Wide enough for any product here to be exact; if one ever is not, it fails instead of being a little off.
_EXACT = Context(prec=100, traps=[Inexact])


class TokenCounts(Protocol):
    """core.ports.llm.Usage: as the provider counted; `input` includes `cached` and `cache_write`."""

    @property
    def input(self) -> int: ...
    @property
    def cached(self) -> int: ...
    @property
    def cache_write(self) -> int: ...
    @property
    def output(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a charge: `tokens` of a kind at `usd` per 1,000,000 make `micro_baht`, not yet rounded."""

    kind: str
    tokens: int
    usd: Decimal
    micro_baht: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """What one call costs: the lines' exact sum × the tier's multiplier, up to the next micro-baht."""

    micro_baht: int
    lines: tuple[Line, ...]
    multiplier: Decimal = Decimal(1)


def charge(
    price: Price, usage: TokenCounts, thb_per_usd: Decimal, *, multiplier: Decimal = Decimal(1)
) -> Charge:
    """The cost of a call by its usage; `multiplier` is the returned service tier's.

    Every input token is billed once: cached, written to the cache (where that has a price), or plain. Counts
    that contradict each other are cut to the input, so that the worst case stays a bound.
    """
    cached = min(usage.cached, usage.input)
    written = min(usage.cache_write, usage.input - cached) if price.cache_write is not None else 0
    counts = (
        ("input", usage.input - cached - written, price.input),
        ("cached input", cached, price.cached_input),
        ("cache write", written, price.cache_write or Decimal(0)),
        ("output", usage.output, price.output),
    )
    with localcontext(_EXACT):
        lines = tuple(
            Line(kind, tokens, usd, tokens * usd * thb_per_usd) for kind, tokens, usd in counts if tokens
        )
        total = sum((line.micro_baht for line in lines), Decimal(0)) * multiplier
    return Charge(_up(total), lines, multiplier)


def worst_case(price: Price, input_bound: int, max_tokens: int, thb_per_usd: Decimal) -> int:
    """Micro-baht that a call can't exceed if it has at most `input_bound` input and `max_tokens` output
    tokens and is served on the default tier, the one that is asked for."""
    dearest_input = max(price.input, price.cache_write or price.input)
    with localcontext(_EXACT):
        return _up((input_bound * dearest_input + max_tokens * price.output) * thb_per_usd)


def to_micro_baht(baht: Decimal) -> int:
    """Exactly. Raises InvalidInputError for what micro-baht can't hold (more than six decimals)."""
    with localcontext(prec=100):
        micro = baht * MICRO
        if not micro.is_finite() or micro != micro.to_integral_value():
            raise InvalidInputError(f"{baht} baht: expected an amount with at most six decimals")
        return int(micro)


def share_of(micro_baht: int, share: Decimal) -> int:
    """A share of an amount, down to the next micro-baht: a limit is never rounded in its favour."""
    with localcontext(prec=100):
        return int((micro_baht * share).to_integral_value(ROUND_FLOOR))


def format_baht(micro_baht: int, *, decimals: int = 2) -> str:
    """`฿12.34`. The stored amount is exact; only the shown one is rounded."""
    with localcontext(prec=100):
        shown = (Decimal(micro_baht) / MICRO).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{'-' if shown < 0 else ''}฿{abs(shown):,}"


def _up(micro_baht: Decimal) -> int:
    return int(micro_baht.to_integral_value(ROUND_CEILING))
