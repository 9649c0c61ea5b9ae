"""Which of the next calls go wrong, and how: by count, by probability, by predicate."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

F = TypeVar("F")
C = TypeVar("C")


@dataclass(slots=True)
class _Rule(Generic[F, C]):
    fault: F
    times: int | None
    after: int
    probability: float
    when: Callable[[C], bool] | None


class FaultScript(Generic[F, C]):
    """Rules in the order they were added; the first that applies to a call spends itself on it.

    F is what goes wrong (each stand-in has its own kinds), C the call that a predicate looks at.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._rules: list[_Rule[F, C]] = []

    def add(
        self,
        fault: F,
        *,
        times: int | None = 1,
        after: int = 0,
        probability: float = 1.0,
        when: Callable[[C], bool] | None = None,
    ) -> None:
        """`times`: how many calls it hits, None for no end. `after`: how many fitting calls pass first.
        `when`: which calls it fits. `probability` is drawn from the script's own seeded generator."""
        self._rules.append(_Rule(fault, times, after, probability, when))

    def clear(self) -> None:
        self._rules.clear()

    def next(self, call: C) -> F | None:
        """The fault that hits this call, if any."""
        for rule in self._rules:
            if rule.when is not None and not rule.when(call):
                continue
            if rule.after > 0:
                rule.after -= 1
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
            return rule.fault
        return None
