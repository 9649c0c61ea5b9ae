from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.memory import ProposedFact
from core.domain.model_reply import (
    FOR_STAFF,
    SCHEMA,
    SCHEMA_NAME,
    CutOffError,
    DeclinedError,
    ModelReply,
    SchemaError,
    parse_reply,
)
from core.domain.questions import Missing
from core.domain.stages import Stage

FULL: dict[str, Any] = {
    "reply": " ขูดหินปูน 900 บาทค่ะ ",
    "service": "ขูดหินปูน",
    "area": None,
    "stage": "advising",
    "preference": "เช้าวันเสาร์",
    "facts": [{"key": "name", "value": "เมย์", "because": "ชื่อเมย์ค่ะ"}],
    "handoff": None,
    "booking": None,
    "missing": {"topic": " ที่จอดรถ ", "question": "มีที่จอดรถไหม\nคะ"},
    "quick_replies": ["จองเลย", "ดูราคา"],
}


def parse(**changes: Any) -> ModelReply:
    return parse_reply(json.dumps({**FULL, **changes}), "stop")


def test_a_full_answer_is_read() -> None:
    reply = parse()
    assert reply == ModelReply(
        reply="ขูดหินปูน 900 บาทค่ะ",
        service="ขูดหินปูน",
        stage=Stage.ADVISING,
        preference="เช้าวันเสาร์",
        facts=(ProposedFact("name", "เมย์", "ชื่อเมย์ค่ะ"),),
        missing=Missing("ที่จอดรถ", "มีที่จอดรถไหม คะ"),
        quick_replies=("จองเลย", "ดูราคา"),
    )
    assert reply.updates == {"service": "ขูดหินปูน", "stage": "advising", "preference": "เช้าวันเสาร์"}


def test_an_answer_of_a_reply_alone_is_enough_for_the_customer() -> None:
    assert parse_reply('{"reply": "ค่ะ"}', "stop") == ModelReply("ค่ะ")


@pytest.mark.parametrize("ended_by", ["length", "stop"])
@pytest.mark.parametrize("cut", [1, 10, 60])
def test_an_answer_that_breaks_off_within_its_reply_is_refused(cut: int, ended_by: str) -> None:
    with pytest.raises(SchemaError, match=ended_by) as caught:
        parse_reply(json.dumps(FULL)[:cut], ended_by)
    assert isinstance(caught.value, CutOffError) == (ended_by == "length")


@given(st.integers(min_value=len('{"reply": "ได้ค่ะ"')), st.sampled_from(["length", "stop"]))
def test_a_reply_that_is_whole_is_taken_wherever_its_answer_breaks_off(cut: int, ended_by: str) -> None:
    content = json.dumps({**FULL, "reply": "ได้ค่ะ"}, ensure_ascii=False)
    reply = parse_reply(content[:cut], ended_by)
    assert reply.reply == "ได้ค่ะ"
    assert reply.service in {None, FULL["service"]}


def test_endless_blanks_after_the_reply_do_not_cost_it() -> None:
    assert parse_reply('{"reply": "ได้ค่ะ", "service":' + " \n" * 50_000, "length") == ModelReply("ได้ค่ะ")
    with pytest.raises(CutOffError):
        parse_reply(" \n" * 50_000, "length")


ONE, OTHER = '{"reply": "หนึ่งค่ะ", "stage": "done"}', '{"reply": "สองค่ะ"}'


@pytest.mark.parametrize(
    "content",
    [
        ONE + OTHER,
        f"{ONE}\n\n{ONE}",
        f"```json\n{ONE}\n```",
        f"ได้ค่ะ นี่คือคำตอบ:\n{ONE}",
        f"{ONE}\nหวังว่าจะเป็นประโยชน์นะคะ }}",
        ONE + " \n\t" * 1000,
        f"\ufeff{ONE}\x00",
        ONE.replace("{", "{\n\n   "),
    ],
)
def test_the_first_object_counts_whatever_stands_around_it(content: str) -> None:
    assert parse_reply(content, "stop") == ModelReply("หนึ่งค่ะ", stage=Stage.DONE)


@pytest.mark.parametrize("reason", ["refusal", "content_filter", "null_message"])
def test_a_model_that_will_not_answer_is_no_fault_of_the_schema(reason: str) -> None:
    with pytest.raises(DeclinedError) as caught:
        parse_reply("", reason)
    assert caught.value.reason == reason
    assert reason in FOR_STAFF


def test_a_quotation_mark_within_the_reply_does_not_end_it() -> None:
    with pytest.raises(SchemaError):
        parse_reply('{"reply": "หมอบอกว่า "ปกติ" ค่ะ", "stage": "done"}', "stop")


@pytest.mark.parametrize("damage", ["\x00e2", "\x07", "\x1b[1m", "\x7f", "\x85"])
def test_a_reply_with_lost_letters_is_never_delivered(damage: str) -> None:
    with pytest.raises(SchemaError, match="control"):
        parse(reply=f"ฟอก{damage}ฟัน")
    assert parse(quick_replies=[f"ฟอก{damage}ฟัน", "ราคา"]).quick_replies == ("ราคา",)


@pytest.mark.parametrize("reply", ["", "\u200b", "ฟอก\x00ฟัน", "---", None])
def test_an_unusable_answer_that_was_cut_off_as_well_is_not_asked_for_in_the_same_way(reply: Any) -> None:
    with pytest.raises(CutOffError):
        parse_reply(json.dumps({"reply": reply, "service": "x" * 99})[:-9], "length")


def test_line_ends_and_tabs_are_no_damage() -> None:
    assert parse(reply="หนึ่ง\r\nสอง\tสาม\u2028สี่").reply == "หนึ่ง\nสอง สาม\nสี่"
    assert parse_reply('{"reply": "หนึ่ง\nสอง"}', "stop").reply == "หนึ่ง\nสอง", "also as they are in the JSON"


def test_the_reply_and_its_buttons_are_plain_text() -> None:
    reply = parse(
        reply="**ฟอกสีฟัน** [จองคิว](https://clinic.example/b_o_o_k)\u200b",
        quick_replies=["\u200b", "**จอง**", "ดู\nราคา", "\u2800", "[แผนที่](https://x.example)"],
    )
    assert reply.reply == "ฟอกสีฟัน จองคิว https://clinic.example/b_o_o_k"
    assert reply.quick_replies == ("จอง", "ดู ราคา", "แผนที่ https://x.example")


def test_a_reply_that_nobody_could_see_is_refused() -> None:
    for nothing in ("\u200b\u2060", "\u3164", "\u2800 \n", "\ufe0f", "---", "<br>", "```\n```"):
        with pytest.raises(SchemaError):
            parse(reply=nothing)


@pytest.mark.parametrize(
    "content",
    [
        *["", "null", "[]", "7", '"reply"', "{}", "ค่ะ", "NaN"],
        *['{"reply": ""}', '{"reply": " \\n"}', '{"reply": null}', '{"reply": ["x"]}'],
        pytest.param("[" * 200_000, id="too deep"),
        pytest.param([{"type": "text", "text": '{"reply": "ค่ะ"}'}], id="parts"),
    ],
)
def test_what_has_no_reply_for_the_customer_is_refused(content: Any) -> None:
    with pytest.raises(SchemaError):
        parse_reply(content, "stop")


@pytest.mark.parametrize(
    "changes",
    [
        {"service": 7},
        {"area": ["x"]},
        {"preference": {"time": "am"}},
        {"stage": {}},
        {"stage": "ลูกค้าชื่อเมย์"},
        {"facts": "x"},
        {"facts": ["x"]},
        {"handoff": True},
        {"handoff": False},
        {"handoff": {"reason": "x"}},
        {"handoff": {"needed": "yes"}},
        {"quick_replies": [1]},
        {"quick_replies": {"a": 1}},
    ],
)
def test_an_unreadable_property_counts_as_absent_and_the_reply_stays(changes: dict[str, Any]) -> None:
    (name,) = changes
    assert parse(**changes) == parse(**{name: None})


def test_what_can_be_read_of_a_fact_or_a_hand_off_is() -> None:
    whole = {"key": "a", "value": "", "because": "b"}
    assert parse(facts=["x", {**whole, "value": 1}, whole]).facts == (ProposedFact("a", "", "b"),)
    assert parse(handoff={"needed": True, "reason": 1}).handoff == "unspecified"


def test_no_half_of_a_surrogate_pair_is_left_anywhere() -> None:
    half = "ค่ะ \ud83d"
    reply = parse(
        reply=half,
        service=half,
        area=half,
        preference=half,
        facts=[{"key": half, "value": half, "because": half}],
        handoff={"needed": True, "reason": half},
        quick_replies=[half],
    )
    assert (reply.reply, reply.quick_replies) == ("ค่ะ \ufffd", ("ค่ะ \ufffd",))
    repr(asdict(reply)).encode()
    assert "ud83d" not in repr(asdict(reply))
    assert parse(reply="\ud83d\ude00").reply == "😀", "a whole pair stays"


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
    assert len(objects) == 5
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


@pytest.mark.parametrize(
    "missing",
    [
        *(None, "x", [], {}, {"topic": "a"}, {"topic": "a", "question": ""}, {"topic": "a", "question": 1}),
        {"topic": "a", "question": "\u200b"},
    ],
)
def test_a_missing_answer_that_can_not_be_read_is_none(missing: Any) -> None:
    assert parse(missing=missing).missing is None


def test_a_missing_answer_is_kept_short() -> None:
    found = parse(missing={"topic": "ก" * 500, "question": "ข" * 5000}).missing
    assert found is not None
    assert (len(found.topic), len(found.question)) == (60, 300)
