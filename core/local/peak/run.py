"""Runs the hour: the local stack with the real functions, the customers, the faults, the observer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from core.bootstrap import shared
from core.domain.settings import Settings
from core.local.peak import faults, gathering, registration, scenario
from core.local.peak.compression import Compression
from core.local.peak.evidence import Cost, Evidence
from core.local.peak.faults import Faults
from core.local.peak.observer import Observer
from core.local.peak.scenario import Arrival, ScenarioOptions
from core.local.simulator import Clinic, LineSimulator, Sent
from core.local.stack import LocalStack
from core.local.stack_options import StackOptions
from core.ports.documents import DocumentStore

_FEW_CLINICS = 10
_PAIRS = 4
_DRAIN_S = 60.0
OUTAGE_MODEL = "backup/gpt-6-luna"


@dataclass(frozen=True, slots=True)
class PeakOptions:
    """`speed`: simulated seconds in a real one. `compare_s`: real seconds of each of the phases before the
    hour that compare the cost of a turn; 0 for none."""

    scenario: ScenarioOptions = field(default_factory=ScenarioOptions)
    instances: int = 4
    speed: float = 15.0
    faults: bool = False
    firestore: bool = False
    compare_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Live:
    """For a progress bar. `at_s` of the simulated hour; `phase` is what is being done."""

    phase: str
    at_s: float
    sent: int
    answered: int
    running: int
    slots: int


class PeakRun:
    """One run; `show` is called a few times a second."""

    def __init__(self, options: PeakOptions, show: Callable[[Live], None] = lambda _: None) -> None:
        self._options = options
        self._compression = Compression(options.speed)
        self._show = show
        self._scenario = scenario.build(options.scenario)
        self._phase = "starting"
        self._start = time.monotonic()
        self._campaign: set[str] = set()
        self._sending: set[asyncio.Task[None]] = set()

    async def __call__(self) -> Evidence:
        environment = self._compression.environment(self._options.scenario)
        stack_options = StackOptions(
            turns=self._options.instances,
            firestore=self._options.firestore,
            environment=environment,
            latency=self._compression.latency(self._options.scenario.latency),
            queue=self._compression.queue(self._options.scenario),
            seed=self._options.scenario.seed,
            backup=self._options.faults,
        )
        async with LocalStack(stack_options) as stack:
            self._stack = stack
            os.environ.update({k: v for k, v in stack.settings_env.items() if k.startswith("FIRESTORE_")})
            settings = Settings.read(stack.settings_env, ())
            documents, secrets = shared.documents(settings), shared.secrets(settings)
            self._simulator = LineSimulator(stack.line, stack.webhook_url, seed=stack_options.seed)
            self._faults = Faults(
                stack,
                speed=self._options.speed,
                lease_s=settings.slot_lease_s,
                slots=self._options.scenario.slots,
                seed=self._options.scenario.seed,
            )
            try:
                budgets = registration.small_budgets(self._scenario)
                clinics = await registration.register(
                    self._scenario,
                    self._simulator,
                    documents,
                    secrets,
                    budgets,
                    outage_model=OUTAGE_MODEL if self._options.faults else None,
                )
                return await self._run(documents, clinics, budgets)
            finally:
                await self._simulator.close()
                await documents.close()

    async def _run(
        self,
        documents: DocumentStore,
        clinics: Sequence[Clinic],
        budgets: dict[int, registration.SmallBudget],
    ) -> Evidence:
        number = len(clinics)
        watched = registration.watched(budgets, number, time.time_ns() // 1_000_000)
        observer = Observer(self._stack, documents, watched)
        watching = [asyncio.create_task(observer.run()), asyncio.create_task(self._tell())]
        try:
            evidence = Evidence(self._scenario, self._options.speed, self._options.instances, 0)
            evidence.budgets = registration.budgets_micro_baht(budgets, number)
            await self._warm_up(clinics)
            if self._options.compare_s:
                evidence.costs = await self._compare(clinics, observer)
            await self._hour(clinics, evidence)
            await self._drain(evidence)
        finally:
            for task in watching:
                task.cancel()
            for task in watching:
                with suppress(asyncio.CancelledError):
                    await task
        evidence.samples, evidence.books = observer.samples, observer.books
        evidence.disturbances = self._faults.disturbances
        if self._options.faults:
            slots = self._options.scenario.slots
            evidence.disturbances = [*evidence.disturbances, *faults.followed(observer.samples, slots)]
        evidence.faults = dict(self._faults.counts)
        await gathering.gather(evidence, self._stack, documents, self._simulator, self._campaign)
        return evidence

    async def _warm_up(self, clinics: Sequence[Clinic]) -> None:
        """Every process has its connections, scripts and modules before anything is measured."""
        self._phase = "warming up"
        count = 6 * self._options.instances
        sent = []
        for i in range(count):
            clinic = clinics[-1 - i % min(len(clinics), count)]
            sent.append(
                await self._simulator.say(clinic, self._simulator.user(clinic, f"w{i}"), f"สวัสดี (w{i})")
            )
        await self._simulator.wait_answered([s.event_id for s in sent], 30.0)

    async def _compare(self, clinics: Sequence[Clinic], observer: Observer) -> list[tuple[Cost, Cost]]:
        """Few clinics and all write as much as all will on average, in turns, so that what the machine does
        meanwhile falls on both. No clinic writes more than another, and those whose budget ends within the
        hour stay out: a stopped turn costs less."""
        self._phase = "few clinics and all, for comparison"
        kept = [clinic for number, clinic in enumerate(clinics) if number not in self._scenario.budgeted]
        few = kept[-_FEW_CLINICS:]
        pairs = []
        for number in range(_PAIRS):
            sides = [few, kept] if number % 2 else [kept, few]
            costs = [await self._cost(side, observer, number) for side in sides]
            first, second = sorted(costs, key=lambda cost: cost.clinics)
            pairs.append((first, second))
        return pairs

    async def _cost(self, clinics: Sequence[Clinic], observer: Observer, number: int) -> Cost:
        tag = f"k{number}-{len(clinics)}-"
        options = replace(
            self._options.scenario,
            clinics=len(clinics),
            minutes=self._options.compare_s * self._options.speed / 60,
            campaign_minutes=0.0,
            follow_up=0.0,  # an answer comes back after the phase
            zipf=0.0,
            seed=self._options.scenario.seed + 1 + number,
        )
        arrivals = [
            replace(a, customer=f"{tag}{a.customer}", text=f"{a.text} ({tag})")
            for a in scenario.build(options).arrivals
        ]
        cpu_s, turns = observer.cpu_s(), len(self._stack.line.deliveries)
        await self._customers(clinics, arrivals)
        await self._stack.tasks.drained(_DRAIN_S)
        return Cost(len(clinics), len(self._stack.line.deliveries) - turns, observer.cpu_s() - cpu_s)

    async def _hour(self, clinics: Sequence[Clinic], evidence: Evidence) -> None:
        self._phase = "the hour"
        self._start = time.monotonic()
        evidence.start_ms = time.time_ns() // 1_000_000
        disturbing = None
        if self._options.faults:
            self._faults.install()
            planned = faults.plan(
                self._scenario.options.duration_s, self._options.instances, self._options.speed
            )
            disturbing = asyncio.create_task(self._faults.run(planned, self._until))
        await self._customers(clinics, self._scenario.arrivals, faults=self._options.faults)
        if disturbing is not None:
            await disturbing

    async def _drain(self, evidence: Evidence) -> None:
        """The customers have gone; what they wrote is still to be answered."""
        self._phase = "draining"
        if self._sending:
            await asyncio.wait(self._sending, timeout=_DRAIN_S)
        with suppress(TimeoutError):
            await self._stack.tasks.drained(_DRAIN_S)
        evidence.end_ms = time.time_ns() // 1_000_000

    async def _customers(
        self, clinics: Sequence[Clinic], arrivals: Sequence[Arrival], *, faults: bool = False
    ) -> None:
        self._start = time.monotonic()
        for arrival in arrivals:
            await self._until(arrival.at_s)
            clinic = clinics[arrival.clinic]
            user = self._simulator.user(clinic, arrival.customer)
            sent = self._simulator.message(clinic, user, "text", text=arrival.text)
            if arrival.campaign:
                self._campaign.add(sent.event_id)
            again = faults and self._faults.redelivers()
            sending = asyncio.create_task(self._deliver(sent, again=again))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _deliver(self, sent: Sent, *, again: bool) -> None:
        """The webhook, until it is acknowledged; now and then once more, though it was."""
        if again:
            await asyncio.gather(self._simulator.send(sent), self._later(sent))
        await self._simulator.send_until_acked(sent, attempts=8, every_s=0.5)

    async def _later(self, sent: Sent) -> None:
        await asyncio.sleep(5 / self._options.speed)
        await self._simulator.redeliver(sent)

    async def _until(self, at_s: float) -> None:
        delay_s = self._start + at_s / self._options.speed - time.monotonic()
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    async def _tell(self) -> None:
        while True:
            at_s = (time.monotonic() - self._start) * self._options.speed
            sent, answered = len(self._simulator.sent), len(self._stack.line.deliveries)
            running = self._stack.openai.running
            self._show(Live(self._phase, at_s, sent, answered, running, self._options.scenario.slots))
            await asyncio.sleep(0.25)
