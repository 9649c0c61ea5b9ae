"""What the demo's scenes share: the stack, the customers, and how what came of them is judged.

Nothing here asks fairlane whether it did well: a message counts as answered when the LINE stand-in has
accepted a reply to it, a call as made when the OpenAI stand-in has received it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.domain import texts
from core.domain.clinic import Clinic as Known
from core.domain.task import TurnTask, decode_task
from core.local.demo_cast import CAST
from core.local.openai_api import Call
from core.local.processes import PartFailedError
from core.local.simulator import Clinic, LineSimulator, Sent
from core.local.stack import LocalStack
from core.local.task_dispatcher import Attempt, DispatchPlan
from core.local.task_store import StoredTask

_PATIENCE_S = 30.0


@dataclass(slots=True)
class Scene:
    """One part of the demo. `outcome` says in a few words what happened; `broken` what did not hold."""

    title: str
    state: str = "waiting"
    outcome: str = ""
    broken: list[str] = field(default_factory=list)


Watch = Callable[[Scene], None]
Play = Callable[["Demo", Scene], Awaitable[str]]
"""Returns the outcome in a few words; adds to the scene what did not hold."""


class Demo:
    """What the scenes share. `silent`: events that are to get no answer. `spoken`: what voice messages say,
    by event id. `spend`, `spend_table`: as `fairlane spend` shows it at the end; `served_micro_baht`,
    `unknown_micro_baht`: by the OpenAI stand-in's side, what it has billed, and the worst case of calls whose
    end nobody knows."""

    def __init__(self, stack: LocalStack, *, watch: Watch, coloured: bool = False) -> None:
        self.stack = stack
        self.simulator = LineSimulator(stack.line, stack.webhook_url, seed=stack.options.seed)
        self.clinics: dict[str, Clinic] = {}
        self.customers: dict[str, str] = {}
        self.scenes: list[Scene] = []
        self.silent: set[str] = set()
        self.spoken: dict[str, str] = {}
        self.spend: list[dict[str, Any]] = []
        self.spend_table = ""
        self.served_micro_baht = self.unknown_micro_baht = 0
        self.table_shape = {"COLUMNS": "100", **({"FORCE_COLOR": "1"} if coloured else {})}
        self.began_ms = self.simulator.factory.now_ms()
        self.thb_per_usd = Decimal(stack.settings_env.get("THB_PER_USD", "36"))
        self._watch = watch
        self._steered: dict[str, str] = {}
        stack.tasks.on_dispatch = self._plan

    @property
    def judged_by_model(self) -> bool:
        """The real OpenAI tells nobody what it has seen."""
        return not self.stack.options.openai_real

    async def prepare(self) -> None:
        """The cast's clinics, applied with the operator's command."""
        file = self.stack.run_dir / "clinics.yaml"
        for role in CAST:
            self.clinics[role.org_id] = self.simulator.clinic(role.org_id, name=role.name)
        settings = {role.org_id: role.entry for role in CAST}
        self.simulator.write_clinics(file, self.clinics.values(), settings)
        await self.operator("clinics", "apply", str(file))
        self.began_ms = self.simulator.factory.now_ms()

    async def play(self, title: str, scene: Play) -> None:
        """Run one scene; what goes wrong in it is its own."""
        shown = Scene(title, "running")
        self.scenes.append(shown)
        self._watch(shown)
        try:
            shown.outcome = await scene(self, shown)
        except (TimeoutError, PartFailedError, OSError) as exc:
            shown.broken.append(f"{type(exc).__name__}: {exc}")
        shown.state = "broken" if shown.broken else "held"
        self._watch(shown)

    async def operator(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        """A `fairlane` command in a process of its own, as an operator runs it."""
        fairlane = Path(sys.executable).parent / "fairlane"
        process = await asyncio.create_subprocess_exec(
            fairlane,
            *arguments,
            env={**self.stack.process_env(), **(environment or {})},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, problem = await process.communicate()
        if process.returncode != 0:
            said = " ".join(problem.decode(errors="replace").split())
            raise PartFailedError(f"fairlane {' '.join(arguments)}", said, f"See {self.stack.run_dir}")
        return out.decode()

    # What customers do

    def customer(self, org_id: str, name: str) -> tuple[Clinic, str]:
        clinic = self.clinics[org_id]
        user_id = self.simulator.user(clinic, name)
        self.customers[user_id] = name
        return clinic, user_id

    def writes(self, org_id: str, name: str, words: str) -> Sent:
        """A text bubble that is not yet delivered."""
        clinic, user_id = self.customer(org_id, name)
        return self.simulator.message(clinic, user_id, "text", text=words)

    async def says(self, org_id: str, name: str, words: str) -> Sent:
        return await self.simulator.send(self.writes(org_id, name, words))

    def steer(self, sent: Sent, instance: int) -> None:
        """The queue will give this event to that instance first."""
        self._steered[sent.event_id] = self.stack.turn_urls[instance % len(self.stack.turn_urls)]

    def _plan(self, attempt: Attempt) -> DispatchPlan | None:
        task = decode_task(attempt.body)
        target = self._steered.get(task.event.event_id) if isinstance(task, TurnTask) else None
        return DispatchPlan(target=target) if target and attempt.number == 1 else None

    # What came of it

    async def answered(self, scene: Scene, *sent: Sent, within_s: float = _PATIENCE_S) -> bool:
        """Every one is answered, exactly once; otherwise the scene says which is not."""
        missing = await self.simulator.wait_answered([s.event_id for s in sent], within_s)
        if missing:
            said = ", ".join(self.simulator.sent[event_id].text for event_id in missing)
            scene.broken.append(f"not answered within {within_s:g} s: {said}")
        return not missing

    async def settled(self, *sent: Sent) -> None:
        """The queue holds no task of theirs. Raises TimeoutError."""
        await until(lambda: not any(self.task_of(s) for s in sent))

    def task_of(self, sent: Sent) -> StoredTask | None:
        """The task that carries an event now."""
        wanted = sent.event_id.encode()
        return next((t for t in self.stack.tasks.queue().store.tasks.values() if wanted in t.body), None)

    def instance_of(self, task: StoredTask) -> int:
        return self.stack.turn_urls.index(task.sent_to)

    def calls(self, *sent: Sent) -> list[Call]:
        """The model's calls whose last message holds one of these."""
        return [
            call
            for call in self.stack.openai.calls
            if any(
                call.clinic == s.clinic.org_id and self.words(s) in call.last_words.splitlines() for s in sent
            )
        ]

    def words(self, sent: Sent) -> str:
        """Written or spoken; "" if there are none."""
        return sent.text or self.spoken.get(sent.event_id, "")

    async def under_way(self, sent: Sent) -> None:
        """The model has been asked. Raises TimeoutError. (The real OpenAI is given a moment.)"""
        if not self.judged_by_model:
            await asyncio.sleep(1.0)
            return
        await until(lambda: any(call.outcome == "running" for call in self.calls(sent)))
        await asyncio.sleep(0.2)

    def said_to(self, sent: Sent) -> list[str]:
        """The texts that LINE was told in answer to it."""
        return [text for delivery in self.simulator.answers(sent.event_id) for text in delivery.texts]

    def instances(self, *sent: Sent) -> list[str]:
        """The names of the instances that finished their turns; "?" for one that no log tells of."""
        served: dict[str, str] = {}
        for turn in self.stack.turns:
            for line in turn.log.read_text(errors="replace").splitlines():
                if '"turn.done"' in line and line.endswith("}"):
                    entry = json.loads(line)
                    served |= dict.fromkeys((entry.get("event"), entry.get("turn")), turn.name)
        return [served.get(s.event_id, "?") for s in sent]

    def promise(self, scene: Scene, held: bool, broken: str) -> None:
        if not held:
            scene.broken.append(broken)

    async def close(self) -> None:
        await self.simulator.close()


def fixed_text(org_id: str, key: str, **parts: str) -> str:
    """As the clinic's customers read it (no clinic of the cast has texts of its own)."""
    return texts.text(Known(org_id, "", "", ""), key, **parts)


async def until(holds: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)
