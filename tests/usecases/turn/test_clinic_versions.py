"""Each turn names the version of the clinic that answered it, and what its model was told can be rebuilt."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from core.adapters.redis_clinic_marks import RedisClinicMarks
from core.adapters.redis_connection import connect
from core.adapters.system_clock import SystemClock
from core.domain.errors import InvalidInputError
from core.domain.turn import TurnRecord
from core.local.openai_faults import LlmFaultKind, LlmTrouble
from core.ports.documents import Key, Merge
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.clinic_state import ClinicState
from core.usecases.operate.clinic_versions import find_version
from core.usecases.operate.rollback_clinic import RollbackClinic
from core.usecases.operate.turn_prompt import stable_part
from tests.support.fault_scene import FaultScene, Row
from tests.support.turn_scene import said, serving, turn_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultScene]:
    async with turn_scene(tmp_path_factory.mktemp("versions")) as scene:
        yield scene


async def asked(scene: FaultScene, row: Row, words: str = "hello?") -> TurnRecord:
    sent = await scene.say(row, "a", words)
    await scene.stack.tasks.drained(20)
    assert said(scene, sent)
    data = (await scene.turns(row.clinic.org_id))[-1]
    return TurnRecord.decode(str(data["id"]), data)


def told(scene: FaultScene, row: Row, n: int = -1) -> str:
    """What the provider saw first, in the row's n-th call."""
    return str(scene.calls(row)[n].messages[0]["content"])


async def seen_at_once(scene: FaultScene, row: Row) -> None:
    async with connect(scene.stack.settings_env["REDIS_URL"]) as redis:
        await RedisClinicMarks(redis).renew(row.clinic.org_id)


async def change(scene: FaultScene, row: Row, **fields: Any) -> int | None:
    def changed(state: ClinicState) -> ClinicState:
        return replace(state, org={**(state.org or {}), **fields})

    done = await ChangeClinic(scene.documents, SystemClock(), "me")(row.clinic.org_id, "test", changed)
    await seen_at_once(scene, row)
    return done.version


async def test_each_turn_names_its_version_and_its_prompt_is_rebuilt_from_it(scene: FaultScene) -> None:
    row = await scene.row("versions")
    org_id = row.clinic.org_id
    async with serving(scene):
        turns = [await asked(scene, row)]
        for persona in ("first\nline", "second"):
            await change(scene, row, persona=persona, prices=[{"item": "ขูดหินปูน", "baht": 900}])
            turns.append(await asked(scene, row))
        await RollbackClinic(scene.documents, SystemClock(), "me")(org_id, 2)
        await seen_at_once(scene, row)
        turns.append(await asked(scene, row))
    assert [turn.clinic_version for turn in turns] == [None, 2, 3, 4]
    for n, turn in enumerate(turns):
        part = await stable_part(scene.documents, turn)
        assert (part.text, part.is_proven) == (told(scene, row, n), True)
        assert part.version == (turn.clinic_version or 1), "what was there before has become version 1"
        assert hashlib.sha256(part.text.encode()).hexdigest() == turn.prompt["stable"]
    assert (told(scene, row, 3), told(scene, row, 2)) == (told(scene, row, 1), told(scene, row, 2))
    assert "second" in told(scene, row, 2)
    rest = [turn.prompt["rest"] for turn in turns]
    assert len(set(rest)) == 4, "of what changes, the journal has a digest"


async def test_a_clinic_that_was_edited_past_the_commands_is_rebuilt_too(scene: FaultScene) -> None:
    row = await scene.row("edited")
    key = Key("orgs", row.clinic.org_id)
    async with serving(scene):
        await change(scene, row, persona="by command")
        await scene.documents.commit([Merge(key, {"persona": "in the console"}, if_exists=True)])
        await seen_at_once(scene, row)
        turn = await asked(scene, row)
        before = await stable_part(scene.documents, turn)
        assert (before.version, before.is_proven) == (None, True)
        await change(scene, row, persona="by command again")
        after = await stable_part(scene.documents, turn)
    assert (turn.clinic_version, after.version, after.is_proven) == (2, 3, True)
    assert before.text == after.text == told(scene, row)
    assert (await find_version(scene.documents, row.clinic.org_id, 3)).author.by == ""


async def test_what_can_not_be_proven_is_said(scene: FaultScene) -> None:
    """The release that answered had other house rules."""
    row = await scene.row("unproven")
    async with serving(scene):
        turn = await asked(scene, row)
    other = replace(turn, prompt={**turn.prompt, "stable": "0" * 64})
    part = await stable_part(scene.documents, other)
    assert (part.is_proven, part.text) == (False, told(scene, row))


async def test_a_turn_without_a_call_names_its_version_and_has_no_prompt(scene: FaultScene) -> None:
    row = await scene.row("fixed")
    await change(scene, row, persona="b")
    async with serving(scene):
        sticker = scene.sim.message(row.clinic, scene.sim.user(row.clinic, "a"), "sticker")
        await scene.sim.send(sticker)
        await scene.stack.tasks.drained(20)
    (data,) = await scene.turns(row.clinic.org_id)
    turn = TurnRecord.decode(str(data["id"]), data)
    assert (turn.clinic_version, turn.prompt, turn.attempts) == (2, {}, 0)
    with pytest.raises(InvalidInputError, match="the model was not asked"):
        await stable_part(scene.documents, turn)


ENDS: Mapping[str, Callable[[FaultScene], object]] = {
    "answered": lambda _: None,
    "refused": lambda scene: scene.stack.openai.faults.add(LlmTrouble(LlmFaultKind.REFUSAL), times=1),
}


@pytest.mark.parametrize("end", ENDS)
async def test_however_a_turn_ends_it_says_what_was_asked(scene: FaultScene, end: str) -> None:
    row = await scene.row(f"end {end}")
    await change(scene, row, persona="b")
    ENDS[end](scene)
    async with serving(scene):
        turn = await asked(scene, row)
    assert turn.clinic_version == 2
    assert (await stable_part(scene.documents, turn)).is_proven


async def test_of_a_forgotten_customer_no_digest_of_their_words_stays() -> None:
    record = TurnRecord.decode("t", {**_SOME, "prompt": {"day": "2026-11-24", "stable": "a", "rest": "b"}})
    assert record.without_words().prompt == {"day": "2026-11-24", "stable": "a"}


_SOME: dict[str, Any] = {
    **dict.fromkeys(("org_id", "channel", "chat_id", "chat_type"), "x"),
    "state": "delivered",
    "created_ms": 1,
}
