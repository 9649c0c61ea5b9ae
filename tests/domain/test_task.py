from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from core.domain.errors import MalformedTaskError
from core.domain.event import EventKind, InboundEvent
from core.domain.task import TurnTask

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
