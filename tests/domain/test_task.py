from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from core.domain.errors import MalformedTaskError
from core.domain.event import EventKind, InboundEvent
from core.domain.task import EffectKind, EffectTask, TurnTask, clinic_of, decode_task

EVENT = InboundEvent("E1", "bkk-smile", "U1", EventKind.TEXT, 1, 2, text="สวัสดีค่ะ", reply_token="t")
TASK = TurnTask(EVENT, "trace", hop=2, place=7)


def body(**changes: Any) -> bytes:
    return json.dumps({**json.loads(TASK.encode()), **changes}).encode()


def test_a_task_comes_back_as_it_was() -> None:
    assert TurnTask.decode(TASK.encode()) == TASK


def test_a_successor_keeps_event_trace_and_place_and_has_a_name_of_its_own() -> None:
    successor = TASK.successor()
    assert (successor.event, successor.trace, successor.place, successor.hop) == (EVENT, "trace", 7, 3)
    assert successor.name != TASK.name
    assert TASK.successor(9).place == 9


@pytest.mark.parametrize("event_id", ["01HXYZ", "a/b c", "ข้อความ", "x" * 5000, "m-1"])
def test_a_name_begins_with_a_hash_and_shows_clinic_event_and_hop(event_id: str) -> None:
    task = replace(TASK, event=replace(EVENT, event_id=event_id))
    digest, shown = task.name[:40], task.name[40:]
    assert re.fullmatch(r"[0-9a-f]{40}", digest)
    assert re.fullmatch(r"-bkk-smile-[A-Za-z0-9_-]+-2", shown)
    assert re.sub(r"[^A-Za-z0-9_-]", "_", event_id)[:26] in shown
    assert len(task.name) < 200
    assert digest not in replace(task, event=replace(EVENT, event_id=event_id + "+")).name


def test_fields_of_a_newer_sender_are_left_out() -> None:
    event = {**json.loads(TASK.encode())["event"], "mood": "good"}
    assert TurnTask.decode(body(event=event, extra=1)) == TASK


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"v":2}',
        b'{"v":1}',
        b'{"v":1,"event":{}}',
        body(event={"event_id": "E1"}),
        body(event={**json.loads(TASK.encode())["event"], "event_id": ""}),
        body(event={**json.loads(TASK.encode())["event"], "timestamp_ms": "1"}),
        body(hop="2"),
        json.dumps({k: v for k, v in json.loads(TASK.encode()).items() if k != "trace"}).encode(),
    ],
)
def test_what_is_not_ours_is_malformed(strange: bytes) -> None:
    with pytest.raises(MalformedTaskError):
        TurnTask.decode(strange)
    with pytest.raises(MalformedTaskError):
        decode_task(strange)


EFFECT = EffectTask(EffectKind.NOTICE, "bkk-smile", "E1-handoff", due_ms=5, trace="t", hop=1)


def test_an_envelope_says_which_kind_of_task_it_holds() -> None:
    assert decode_task(EFFECT.encode()) == EFFECT
    assert decode_task(TASK.encode()) == TASK


def test_an_effect_has_one_name_whoever_enqueues_it_and_a_successor_another() -> None:
    again = EffectTask(EffectKind.NOTICE, "bkk-smile", "E1-handoff", due_ms=9, trace="other", hop=1)
    assert again.name == EFFECT.name
    assert re.fullmatch(r"[0-9a-f]{40}-bkk-smile-notice-E1-handoff-1", EFFECT.name)
    others = (EFFECT.successor(7), replace(EFFECT, org_id="b"), replace(EFFECT, id="E2-handoff"))
    assert len({EFFECT.name, *(task.name for task in others)}) == 4


@pytest.mark.parametrize(
    "changes",
    [{"kind": "stray"}, {"kind": 1}, {"kind": None}, {"id": ""}, {"org_id": ""}, {"due_ms": "1"}, {"id": 7}],
)
def test_a_stray_kind_or_a_nameless_effect_is_malformed(changes: dict[str, Any]) -> None:
    body = json.dumps({**json.loads(EFFECT.encode()), **changes}).encode()
    with pytest.raises(MalformedTaskError):
        decode_task(body)


@pytest.mark.parametrize("org_id", ["a", "bkk-smile", "a-b-1"])
def test_a_turns_task_says_by_its_name_whose_it_is(org_id: str) -> None:
    event = replace(TASK.event, org_id=org_id, event_id="01M8H2PK1Z7QX96QEXE98JKYVW")
    assert clinic_of(TurnTask(event, "t", hop=12).name) == org_id
    assert clinic_of(EffectTask("notice", org_id, "n-1").name) is None
    assert clinic_of("fairlane") is None
