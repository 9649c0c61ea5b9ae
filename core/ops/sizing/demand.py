"""The load: how many turns a second in the peak hour, how unevenly spread, how long a call takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Latency:
    """A log-normal time in seconds: its median, and sigma of its logarithm."""

    median_s: float = 2.5
    sigma: float = 0.5

    @property
    def mean_s(self) -> float:
        return self.median_s * math.exp(self.sigma**2 / 2)

    @property
    def cv2(self) -> float:
        """Squared coefficient of variation: what makes queues longer at the same load."""
        return math.exp(self.sigma**2) - 1

    def quantile_s(self, share: float) -> float:
        return self.median_s * math.exp(self.sigma * _NORMAL.inv_cdf(share))


@dataclass(frozen=True, slots=True)
class Demand:
    """`messages`: of a clinic in its peak hour, on average. `zipf`: exponent of the clinics' sizes, 0 for all
    alike; none has more than `most_per_minute`, which the webhook's shaper sees to. `coalesced`: share of
    messages that are answered together with another one. `peak_hours`: how many such hours a month has in
    all, for costs (a day is worth about eight peak hours)."""

    clinics: int
    messages: float = 30.0
    latency: Latency = Latency()
    zipf: float = 1.0
    most_per_minute: float = 30.0
    coalesced: float = 0.1
    input_tokens: int = 1_600
    output_tokens: int = 150
    cached_share: float = 0.6
    peak_hours: float = 240.0

    @property
    def messages_per_s(self) -> float:
        return self.clinics * self.messages / 3600

    @property
    def turns_per_s(self) -> float:
        return self.messages_per_s * (1 - self.coalesced)

    @property
    def load(self) -> float:
        """Calls at the provider at once, on average (erlangs)."""
        return self.turns_per_s * self.latency.mean_s

    def shares(self) -> list[float]:
        """Each clinic's share of the turns, the biggest first."""
        weights = [1 / (rank**self.zipf) for rank in range(1, self.clinics + 1)]
        most = self.most_per_minute / 60 / self.messages_per_s
        if most * self.clinics <= 1:
            return [1 / self.clinics] * self.clinics
        # Those above the limit have the limit; what they can't have, the others share by their sizes.
        capped, rest = 0, sum(weights)
        while weights[capped] / rest * (1 - capped * most) > most:
            rest -= weights[capped]
            capped += 1
        left = 1 - capped * most
        return [most] * capped + [weight / rest * left for weight in weights[capped:]]
