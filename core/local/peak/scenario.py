"""Who writes what and when: clinics by Zipf, customers in conversations, a peak, one clinic's campaign.

Times are seconds of the simulated hour. The same seed gives the same arrivals, for fairlane and for whatever
it is compared with.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from core.local.openai_api import Latency

PEAK_AT = 0.33
CAMPAIGN_AT = 0.66
# Arrivals over the hour, relative to their mean: a flat part, and a bell around the peak.
_FLAT, _BELL, _WIDTH = 0.75, 1.0, 0.1
_QUESTIONS = (
    "ขูดหินปูนราคาเท่าไหร่คะ",
    "พรุ่งนี้บ่ายสองว่างไหมคะ",
    "จัดฟันใสเริ่มต้นเท่าไหร่ครับ",
    "ถอนฟันคุดต้องเตรียมตัวยังไงบ้าง",
    "คลินิกเปิดวันอาทิตย์ไหมคะ",
    "ฟอกสีฟันทำกี่ครั้งคะ",
    "ขอเลื่อนนัดเป็นวันศุกร์ได้ไหมครับ",
    "มีที่จอดรถไหมคะ",
)


@dataclass(frozen=True, slots=True)
class ScenarioOptions:
    """`load`: mean arrivals as a share of what `slots` can answer. `zipf`: exponent of the clinics' sizes.
    `follow_up`: probability that a customer goes on after an answer; `second_bubble`: that a message comes in
    two pieces. `budgeted`: clinics whose daily budget is too small for the hour."""

    clinics: int = 500
    minutes: float = 60.0
    slots: int = 10
    org_slots: int = 5
    load: float = 0.65
    latency: Latency = field(default_factory=lambda: Latency(median_s=4.0, sigma=0.3))
    zipf: float = 0.8
    follow_up: float = 0.6
    second_bubble: float = 0.1
    campaign_minutes: float = 4.0
    budgeted: int = 4
    seed: int = 0

    @property
    def duration_s(self) -> float:
        return self.minutes * 60

    @property
    def mean_latency_s(self) -> float:
        return self.latency.median_s * math.exp(self.latency.sigma**2 / 2)

    @property
    def capacity_per_s(self) -> float:
        """Answers a second with all slots busy."""
        return self.slots / self.mean_latency_s


@dataclass(frozen=True, slots=True)
class Arrival:
    """One bubble. `clinic` counts from 0, the biggest; `tag` makes its text unique."""

    at_s: float
    clinic: int
    customer: str
    text: str
    campaign: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """`campaign`: from and to, in seconds; its clinic is `campaign_clinic`."""

    options: ScenarioOptions
    arrivals: tuple[Arrival, ...]
    campaign_clinic: int
    campaign: tuple[float, float]

    @property
    def budgeted(self) -> range:
        """Clinics of the upper middle, with enough traffic to spend a small budget within the hour."""
        first = self.campaign_clinic + 1
        return range(first, min(first + self.options.budgeted, self.options.clinics))


def build(options: ScenarioOptions) -> Scenario:
    dice = random.Random(options.seed)
    campaign_clinic = min(2, options.clinics - 1)
    start = CAMPAIGN_AT * options.duration_s
    # The burst holds as much work as the clinic's slots can do in this time, and comes in half of it.
    length_s = min(options.campaign_minutes * 60, 0.12 * options.duration_s)
    burst = round(options.org_slots / options.mean_latency_s * length_s)
    arrivals = [*_everyday(options, dice), *_campaign(burst, campaign_clinic, start, length_s, dice)]
    arrivals.sort(key=lambda arrival: arrival.at_s)
    return Scenario(options, tuple(arrivals), campaign_clinic, (start, start + length_s))


def intensity(share: float) -> float:
    """Arrivals at this share of the hour, relative to their mean over it."""
    bell = _BELL * math.exp(-(((share - PEAK_AT) / _WIDTH) ** 2) / 2)
    return (_FLAT + bell) / (_FLAT + _BELL * _WIDTH * math.sqrt(2 * math.pi))


def _everyday(options: ScenarioOptions, dice: random.Random) -> Iterator[Arrival]:
    """Conversations begin as a non-homogeneous Poisson process; each goes on at its customer's pace."""
    sizes = list(accumulate((rank + 1) ** -options.zipf for rank in range(options.clinics)))
    bubbles_a_conversation = (1 + options.second_bubble) / (1 - options.follow_up)
    rate_per_s = options.load * options.capacity_per_s / bubbles_a_conversation
    highest = max(intensity(i / 1000) for i in range(1001))
    at_s, number = 0.0, 0
    while (at_s := at_s + dice.expovariate(rate_per_s * highest)) < options.duration_s:
        if dice.random() * highest > intensity(at_s / options.duration_s):
            continue
        number += 1
        clinic = bisect(sizes, dice.random() * sizes[-1])
        yield from _conversation(options, dice, at_s, clinic, f"c{number}")


def _conversation(
    options: ScenarioOptions, dice: random.Random, at_s: float, clinic: int, customer: str
) -> Iterator[Arrival]:
    bubble = 0
    while at_s < options.duration_s:
        bubble += 1
        yield Arrival(at_s, clinic, customer, _text(dice, f"{customer}-{bubble}"))
        if dice.random() < options.second_bubble:
            bubble += 1
            after_s = at_s + dice.uniform(0.5, 3.0)
            yield Arrival(after_s, clinic, customer, _text(dice, f"{customer}-{bubble}"))
        if dice.random() >= options.follow_up:
            return
        # Reading and writing: half a minute, now and then much longer or before the answer is there.
        at_s += 30 * dice.lognormvariate(0.0, 0.8)


def _campaign(
    burst: int, clinic: int, start_s: float, length_s: float, dice: random.Random
) -> Iterator[Arrival]:
    """A message to all followers of one clinic: many answer within the first half of the time."""
    for i in range(burst):
        at_s = start_s + dice.triangular(0.0, length_s / 2, 0.0)
        yield Arrival(at_s, clinic, f"p{i}", _text(dice, f"p{i}-1"), campaign=True)


def _text(dice: random.Random, tag: str) -> str:
    return f"{dice.choice(_QUESTIONS)} ({tag})"
