from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.memory import ProposedFact
from core.domain.model_reply import SCHEMA, SCHEMA_NAME, ModelReply, SchemaError, parse_reply
from core.domain.stages import Stage

FULL: dict[str, Any] = {
    "reply": " ขูดหินปูน 900 บาทค่ะ ",
    "service": "ขูดหินปูน",
    "area": None,
    "stage": "advising",
    "preference": "เช้าวันเสาร์",
    "facts": [{"key": "name", "value": "เมย์", "because": "ชื่อเมย์ค่ะ"}],
    "handoff": None,
    "quick_replies": ["จองเลย", "ดูราคา"],
}


def parse(**changes: Any) -> ModelReply:
    return parse_reply(json.dumps({**FULL, **changes}), "stop")


def test_a_full_answer_is_read() -> None:
    reply = parse()
    assert reply == ModelReply(
        reply="ขูดหินปูน 900 บาทค่ะ",
        service="ขูดหินปูน",
        stage="advising",
        preference="เช้าวันเสาร์",
        facts=(ProposedFact("name", "เมย์", "ชื่อเมย์ค่ะ"),),
        quick_replies=("จองเลย", "ดูราคา"),
    )
    assert reply.updates == {"service": "ขูดหินปูน", "stage": "advising", "preference": "เช้าวันเสาร์"}


def test_an_answer_of_a_reply_alone_is_enough_for_the_customer() -> None:
    assert parse_reply('{"reply": "ค่ะ"}', "stop") == ModelReply("ค่ะ")


@pytest.mark.parametrize("cut", [1, 10, 60, -2])
def test_truncated_json_is_refused_and_says_how_it_ended(cut: int) -> None:
    with pytest.raises(SchemaError, match="length"):
        parse_reply(json.dumps(FULL)[:cut], "length")


def test_a_whole_answer_is_taken_however_it_ended() -> None:
    assert parse_reply(json.dumps(FULL), "length").reply


@pytest.mark.parametrize("content", ["", "null", "[]", "7", '"reply"', "{}", "ค่ะ", "NaN"])
def test_what_is_no_object_with_a_reply_is_refused(content: str) -> None:
    with pytest.raises(SchemaError):
        parse_reply(content, "stop")


@pytest.mark.parametrize(
    "changes",
    [
        {"reply": ""},
        {"reply": " \n"},
        {"reply": None},
        {"reply": ["x"]},
        {"service": 7},
        {"stage": {}},
        {"facts": "x"},
        {"facts": ["x"]},
        {"facts": [{"key": 1}]},
        {"handoff": True},
        {"handoff": {"reason": "x"}},
        {"handoff": {"needed": "yes"}},
        {"handoff": {"needed": True, "reason": 1}},
        {"quick_replies": [1]},
        {"quick_replies": {"a": 1}},
    ],
)
def test_wrong_types_and_empty_replies_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        parse(**changes)


def test_too_many_empty_and_repeated_quick_replies_are_left_out() -> None:
    entries = ["a", " a ", "", "x" * 301, "b", "c", "d", "e"]
    assert parse(quick_replies=entries).quick_replies == ("a", "b", "c", "d")
    assert parse(quick_replies=None).quick_replies == ()


def test_a_handoff_is_its_reason_and_only_if_it_is_needed() -> None:
    assert parse(handoff={"needed": True, "reason": "complaint"}).handoff == "complaint"
    assert parse(handoff={"needed": True, "reason": None}).handoff == "unspecified"
    assert parse(handoff={"needed": False, "reason": "x"}).handoff is None


@given(st.text() | st.binary().map(lambda b: b.decode(errors="replace")))
def test_no_content_crashes(content: str) -> None:
    with contextlib.suppress(SchemaError):
        parse_reply(content, "stop")


STRICT_KEYWORDS = {"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf"}


def _objects(schema: Any) -> list[dict[str, Any]]:
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    found = [entry for value in inner for entry in _objects(value)]
    return [*found, schema] if isinstance(schema, dict) and schema.get("type") == "object" else found


def test_the_schema_is_strict_everywhere() -> None:
    objects = _objects(SCHEMA)
    assert len(objects) == 3
    for schema in objects:
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])


def test_the_schema_uses_no_keyword_that_strict_mode_may_refuse() -> None:
    def keywords(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(keywords, schema))
        if not isinstance(schema, dict):
            return set()
        found = set(schema)
        for name, value in schema.items():
            found |= set().union(*map(keywords, value.values())) if name == "properties" else keywords(value)
        return found

    assert keywords(SCHEMA) <= STRICT_KEYWORDS | {"description"}
    assert SCHEMA_NAME.replace("_", "").isalnum()


def test_the_schema_names_what_is_parsed() -> None:
    assert set(SCHEMA["properties"]) == set(FULL)
    assert SCHEMA["properties"]["stage"]["enum"] == list(Stage)
