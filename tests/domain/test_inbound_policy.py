"""Every webhook event type of LINE's reference, in every source type, from LINE's JSON to what is done."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

import pytest

from core.domain.clinic import Clinic, Handoff
from core.domain.event import EventKind, InboundEvent
from core.domain.event_kinds import KINDS, rules_of
from core.domain.inbound_policy import Action, Plan, TurnPlan, plan, plan_turn
from core.domain.line_events import read_webhook
from core.domain.memory import CustomerMemory
from core.domain.opening import SILENT_MODES
from core.domain.session import Exchange, Session
from core.domain.texts import text

NOW_MS = 1_795_485_600_000
CLINIC = Clinic("a", "A", "U1", "1", handoff=Handoff(("เจ้าหน้าที่",)))
MENTION = {"mentionees": [{"index": 0, "length": 2, "type": "user", "isSelf": True}]}
NOTHING = Plan(Action.IGNORE)
ANSWER = Plan(Action.ANSWER)

MESSAGES: dict[str, dict[str, Any]] = {
    "text": {"text": "@A ราคาเท่าไหร่คะ"},
    "location": {"title": "บ้าน", "address": "สีลม กรุงเทพ", "latitude": 13.7, "longitude": 100.5},
    "sticker": {"packageId": "1", "stickerId": "2"},
    "image": {"contentProvider": {"type": "line"}},
    "audio": {"duration": 1000, "contentProvider": {"type": "line"}},
    "video": {"duration": 1000, "contentProvider": {"type": "line"}},
    "file": {"fileName": "x.pdf", "fileSize": 9},
}
MESSAGE_PLANS = {
    "text": ANSWER,
    "location": ANSWER,
    "sticker": Plan(Action.TEXT, "sticker"),
    "image": Plan(Action.TEXT, "image"),
    "audio": Plan(Action.TEXT, "audio"),
    "video": Plan(Action.TEXT, "video"),
    "file": Plan(Action.TEXT, "file"),
}

# Event type -> (its own fields, what is done in a chat of one customer, what in groups and rooms).
EVENTS: dict[str, tuple[dict[str, Any], Plan, Plan]] = {
    "unsend": ({"unsend": {"messageId": "m1"}}, Plan(Action.FORGET_MESSAGE), Plan(Action.FORGET_MESSAGE)),
    "follow": ({"follow": {"isUnblocked": False}}, Plan(Action.TEXT, "greeting"), NOTHING),
    "unfollow": ({}, Plan(Action.PURGE), Plan(Action.PURGE)),
    "postback": ({"postback": {"data": "จองคิว"}}, ANSWER, ANSWER),
    "join": ({}, NOTHING, NOTHING),
    "leave": ({}, NOTHING, NOTHING),
    "memberJoined": ({"joined": {"members": [{"type": "user", "userId": "U9"}]}}, NOTHING, NOTHING),
    "memberLeft": ({"left": {"members": [{"type": "user", "userId": "U9"}]}}, NOTHING, NOTHING),
    "messageEdited": ({"message": {"type": "text", "id": "m1", "text": "x"}}, NOTHING, NOTHING),
    "videoPlayComplete": ({"videoPlayComplete": {"trackingId": "t"}}, NOTHING, NOTHING),
    "beacon": ({"beacon": {"hwid": "d41d8cd98f", "type": "enter"}}, NOTHING, NOTHING),
    "accountLink": ({"link": {"result": "ok", "nonce": "n"}}, NOTHING, NOTHING),
    "membership": ({"membership": {"type": "joined", "membershipId": 1}}, NOTHING, NOTHING),
    "delivery": ({"delivery": {"data": "x"}}, NOTHING, NOTHING),
    "module": ({"module": {"type": "attached"}}, NOTHING, NOTHING),
    "activated": ({"chatControl": {"expireAt": 1}}, NOTHING, NOTHING),
    "deactivated": ({}, NOTHING, NOTHING),
    "botSuspended": ({}, NOTHING, NOTHING),
    "botResumed": ({}, NOTHING, NOTHING),
    "things": ({"things": {"type": "link"}}, NOTHING, NOTHING),
    "somethingNew": ({"message": {"text": "x"}}, NOTHING, NOTHING),
}

SOURCES = {
    "user": {"type": "user", "userId": "U1"},
    "group": {"type": "group", "groupId": "C1", "userId": "U1"},
    "room": {"type": "room", "roomId": "R1", "userId": "U1"},
}


def parsed(kind: str, source: str, **fields: Any) -> list[InboundEvent]:
    raw = {"type": kind, "webhookEventId": "e1", "timestamp": NOW_MS, "mode": "active", "replyToken": "r"}
    body = {"destination": "U0", "events": [{**raw, "source": SOURCES[source], **fields}]}
    return read_webhook(json.dumps(body).encode()).events("a", NOW_MS)


def planned(events: list[InboundEvent], session: Session | None = None) -> Plan:
    if not events:
        return NOTHING
    return plan(events[0], CLINIC, session or Session(), CustomerMemory(), NOW_MS)


def message(kind: str, n: int = 1, **more: Any) -> InboundEvent:
    text = {"text": "ราคาเท่าไหร่คะ", "location": "สีลม", "postback": "จองคิว"}.get(kind, "")
    # LINE gives ids to messages, not to postbacks and follows.
    message_id = f"m{n}" if rules_of(kind).is_message or kind == "messageEdited" else None
    event = InboundEvent(
        f"e{n}", "a", "U1", EventKind(kind), NOW_MS + n, NOW_MS, text=text, message_id=message_id
    )
    return replace(event, **more)


def of(*events: InboundEvent, memory: CustomerMemory | None = None) -> TurnPlan:
    return plan_turn(events, CLINIC, Session(), memory or CustomerMemory(), NOW_MS)


class TestTable:
    @pytest.mark.parametrize("kind", EVENTS)
    def test_event_from_a_customer(self, kind: str) -> None:
        fields, expected, _ = EVENTS[kind]
        assert planned(parsed(kind, "user", **fields)) == expected

    @pytest.mark.parametrize("source", ["group", "room"])
    @pytest.mark.parametrize("kind", EVENTS)
    def test_event_from_a_group_or_room(self, kind: str, source: str) -> None:
        fields, _, expected = EVENTS[kind]
        assert planned(parsed(kind, source, **fields)) == expected

    @pytest.mark.parametrize("kind", MESSAGES)
    def test_message_from_a_customer(self, kind: str) -> None:
        events = parsed("message", "user", message={"type": kind, "id": "m1", **MESSAGES[kind]})
        assert planned(events) == MESSAGE_PLANS[kind]

    @pytest.mark.parametrize("source", ["group", "room"])
    @pytest.mark.parametrize("kind", MESSAGES)
    def test_message_from_a_group_or_room_only_if_it_addresses_us(self, kind: str, source: str) -> None:
        content = {"type": kind, "id": "m1", **MESSAGES[kind]}
        ours = Session().with_sent(["s1"])
        quoting = parsed("message", source, message={**content, "quotedMessageId": "s1"})
        quoting_others = parsed("message", source, message={**content, "quotedMessageId": "s9"})
        mentioning = parsed("message", source, message={**content, "mention": MENTION})
        assert planned(parsed("message", source, message=content), ours).action is Action.IGNORE
        assert planned(quoting_others, ours).action is Action.IGNORE
        assert planned(quoting, ours) == MESSAGE_PLANS[kind]
        assert planned(mentioning) == MESSAGE_PLANS[kind]

    def test_a_message_of_a_new_type_is_told_that_it_cannot_be_read(self) -> None:
        events = parsed("message", "user", message={"type": "hologram", "id": "m1"})
        assert planned(events) == Plan(Action.TEXT, "unsupported")

    def test_the_table_says_something_about_each_kind(self) -> None:
        assert set(KINDS) == set(EventKind)
        for kind, rules in KINDS.items():
            assert (rules.action is None) == (rules.text_key is not None), kind
            assert not (rules.action is None and rules.everywhere), kind

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_the_table_lists_every_type_that_lines_own_library_knows(self) -> None:
        models = "linebot.v3.webhooks.models"  # costs half a second, so only here
        event = import_module(f"{models}.event").Event
        content = import_module(f"{models}.message_content").MessageContent
        assert set(event._Event__discriminator_value_class_map) - {"message"} <= set(EVENTS)
        assert set(content._MessageContent__discriminator_value_class_map) == set(MESSAGES)


class TestOneEvent:
    def test_an_unknown_kind_in_a_task_is_ignored(self) -> None:
        newer = replace(message("text"), kind=cast(EventKind, "hologram"))  # as a task is read
        assert planned([newer]).action is Action.IGNORE

    @pytest.mark.parametrize("kind", ["postback", "location"])
    def test_what_has_no_words_gets_a_line_instead_of_a_model(self, kind: str) -> None:
        assert planned([message(kind, text="  ")]).text_key == "unsupported"

    @pytest.mark.parametrize("kind", ["text", "sticker", "image", "follow", "postback"])
    def test_the_bot_is_silent_while_people_answer(self, kind: str) -> None:
        handed_off = CustomerMemory().handed_off(NOW_MS + 1, "keyword")
        assert plan(message(kind), CLINIC, Session(), handed_off, NOW_MS) == Plan(
            Action.IGNORE, None, "handoff"
        )
        assert plan(message(kind), CLINIC, Session(), handed_off, NOW_MS + 1).action is not Action.IGNORE

    @pytest.mark.parametrize(
        ("kind", "text", "token", "told_min", "urgent"),
        [
            ("text", "หายใจไม่ออก", "r", None, True),
            ("text", "แม่หาย\u200bใจไม่ออกค่ะ ทำไงดี", "r", 60, True),
            ("text", "I can’t breathe!!", "r", None, True),
            ("sticker", "เจ็บหน้าอก", "r", None, True),
            ("text", "หายใจไม่ออก", "r", 59, False),
            ("text", "หายใจไม่ออก", None, None, False),
            ("postback", "หายใจไม่ออก", "r", None, False),
            ("text", "นัดพรุ่งนี้ได้ไหมคะ", "r", None, False),
            ("text", "ขอดูลิ้นชักเก็บของหน่อย", "r", None, False),
        ],
    )
    def test_while_people_answer_the_emergency_number_is_given_once_an_hour(
        self, kind: str, text: str, token: str | None, told_min: int | None, urgent: bool
    ) -> None:
        told_ms = None if told_min is None else NOW_MS - told_min * 60_000
        memory = replace(CustomerMemory().handed_off(NOW_MS + 1, "keyword"), urgent_ms=told_ms)
        asked = message(kind, text=text, reply_token=token)
        expected = Plan(Action.TEXT, "urgent", "urgent") if urgent else Plan(Action.IGNORE, None, "handoff")
        assert plan(asked, CLINIC, Session(), memory, NOW_MS) == expected
        late = replace(asked, arrived_ms=NOW_MS - 50_001)  # no reply token is left: it would cost a push
        assert plan(late, CLINIC, Session(), memory, NOW_MS).action is Action.IGNORE
        assert of(asked, memory=memory).words == ((text,) if kind != "postback" or not urgent else ())

    def test_urgent_words_are_the_models_while_nobody_else_answers(self) -> None:
        assert planned([message("text", text="หายใจไม่ออก", reply_token="r")]) == ANSWER

    @pytest.mark.parametrize("kind", ["unsend", "unfollow"])
    def test_rights_over_data_hold_while_people_answer(self, kind: str) -> None:
        handed_off = CustomerMemory().handed_off(NOW_MS + 1, "keyword")
        assert plan(message(kind), CLINIC, Session(), handed_off, NOW_MS).action is not Action.IGNORE

    @pytest.mark.parametrize("kind", ["text", "location", "sticker"])
    def test_a_clinics_keyword_hands_over(self, kind: str) -> None:
        asked = message(kind, text="ขอคุยกับเจ้าหน้าที่ค่ะ")
        assert planned([asked]) == Plan(Action.HANDOFF, "handoff", "keyword")

    def test_a_postbacks_data_are_the_clinics_words_and_call_nobody(self) -> None:
        assert planned([message("postback", text="menu=เจ้าหน้าที่")]) == ANSWER

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            ("menu=2", Plan(Action.IGNORE, reason="silent_postback")),
            ("menu=21", ANSWER),
            ("page:7", Plan(Action.IGNORE, reason="silent_postback")),
            ("page", ANSWER),
        ],
    )
    def test_a_clinics_silent_postbacks_get_no_answer(self, data: str, expected: Plan) -> None:
        clinic = replace(CLINIC, silent_postbacks=("menu=2", "page:*"))
        tapped = message("postback", text=data)
        assert plan(tapped, clinic, Session(), CustomerMemory(), NOW_MS) == expected
        assert (
            plan(replace(tapped, kind=EventKind.TEXT), clinic, Session(), CustomerMemory(), NOW_MS) == ANSWER
        )

    def test_a_sticker_with_words_on_it_says_them(self) -> None:
        assert planned([message("sticker", text="ขอบคุณค่ะ")]) == ANSWER

    @pytest.mark.parametrize("text", ["", " ", "\u200b", "\u200b\n\ufeff", "\u3164", "\u2800", "\ufe0f"])
    def test_what_looks_empty_costs_no_call(self, text: str) -> None:
        assert planned([message("text", text=text)]) == Plan(Action.TEXT, "no_words")


GONE = TurnPlan(Action.IGNORE, unfollowed_ms=NOW_MS + 2, reason="unfollowed")


class TestTurn:
    def test_words_stand_in_order_of_lines_timestamp_whatever_the_order_of_delivery(self) -> None:
        events = [message("text", n, text=f"{n}") for n in (3, 1, 2)]
        assert of(*events).words == ("1", "2", "3")

    def test_words_go_before_a_sticker_which_is_named(self) -> None:
        turn = of(message("text", 1), message("image", 2), message("sticker", 3))
        assert (turn.action, turn.text_key) == (Action.ANSWER, None)
        assert turn.words == ("ราคาเท่าไหร่คะ",)

    def test_without_words_the_newest_gets_its_line(self) -> None:
        turn = of(message("image", 1), message("audio", 2))
        assert (turn.action, turn.text_key) == (Action.TEXT, "audio")

    def test_people_are_called_even_if_the_keyword_was_not_the_last_word(self) -> None:
        turn = of(message("text", 1, text="ขอเจ้าหน้าที่"), message("text", 2, text="ด่วน"))
        assert (turn.action, turn.text_key, turn.reason) == (Action.HANDOFF, "handoff", "keyword")

    def test_what_was_unsent_before_it_was_answered_is_not_answered(self) -> None:
        turn = of(message("text", 1), message("text", 2, text="b"), message("unsend", 3, message_id="m1"))
        assert turn.words == ("b",)

    def test_unsending_the_only_message_ends_in_silence(self) -> None:
        turn = of(message("unsend", 3, message_id="m1"), message("text", 1))
        assert turn == TurnPlan(Action.IGNORE)

    def test_an_edited_message_is_answered_as_it_stands_last(self) -> None:
        first, other = message("text", 1), message("text", 4, text="จัดฟันด้วยค่ะ")
        newest = message("messageEdited", 6, text="ฟอกสีฟันราคาเท่าไหร่คะ", message_id="m1")
        older = message("messageEdited", 5, text="ฟอก", message_id="m1")
        turn = of(first, newest, other, older)
        assert turn.words == ("ฟอกสีฟันราคาเท่าไหร่คะ", "จัดฟันด้วยค่ะ")

    def test_an_edit_may_call_for_people_and_may_take_the_call_back(self) -> None:
        asked = message("text", 1, text="ขอเจ้าหน้าที่ค่ะ")
        to_price = message("messageEdited", 2, text="ราคาเท่าไหร่คะ", message_id="m1")
        assert of(asked, to_price).action is Action.ANSWER
        to_people = message("messageEdited", 3, text="ขอเจ้าหน้าที่ค่ะ", message_id="m1")
        assert of(message("text", 1), to_price, to_people).action is Action.HANDOFF

    def test_a_group_message_edited_until_it_is_for_somebody_else_is_group_talk(self) -> None:
        asked = message("text", 1, chat_type="group", mentioned=True)
        edited = message("messageEdited", 2, text="@ann ว่าไง", message_id="m1", chat_type="group")
        assert of(asked, edited).reason == "group_talk"
        assert of(asked, replace(edited, mentioned=True)).words == ("@ann ว่าไง",)

    def test_an_edit_of_what_was_answered_or_unsent_says_nothing(self) -> None:
        edited = message("messageEdited", 2, text="x", message_id="m1")
        assert of(edited) == TurnPlan(Action.IGNORE)
        assert of(message("text", 1), edited, message("unsend", 3, message_id="m1")).words == ()

    def test_who_left_is_told_nothing_and_pays_for_no_call(self) -> None:
        assert of(message("text", 1), message("unfollow", 2)) == GONE
        assert (
            of(message("unsend", 3, message_id="m9"), memory=CustomerMemory(unfollowed_ms=NOW_MS + 2)) == GONE
        )

    @pytest.mark.parametrize("kind", ["follow", "text", "postback", "sticker"])
    def test_who_writes_or_follows_later_than_they_left_is_back(self, kind: str) -> None:
        assert of(message("unfollow", 2), message(kind, 3)).unfollowed_ms is None
        assert (
            of(message(kind, 3), memory=CustomerMemory(unfollowed_ms=NOW_MS + 2)).action is not Action.IGNORE
        )

    def test_what_was_sent_before_leaving_and_comes_late_brings_nobody_back(self) -> None:
        assert of(message("text", 1), memory=CustomerMemory(unfollowed_ms=NOW_MS + 2)) == GONE

    def test_a_follow_gets_the_greeting(self) -> None:
        assert of(message("follow", 1)).text_key == "greeting"

    def test_why_nothing_is_said_is_told(self) -> None:
        turn = of(message("text", 1), memory=CustomerMemory().handed_off(NOW_MS + 9, "model"))
        assert (turn.action, turn.reason) == (Action.IGNORE, "handoff")
        assert of() == TurnPlan(Action.IGNORE)


class TestABurstThatGoesOnAfterItsText:
    """One fixed text for ten pictures, however they are spread over turns."""

    def told(self, text_key: str, ms_ago: int) -> Session:
        said = Exchange("t0", NOW_MS - ms_ago, f"[{text_key}]", text(CLINIC, text_key))
        heard = Exchange("t1", NOW_MS - 1, f"[{text_key}]", "")
        return Session(exchanges=(said, heard))

    def planned(self, session: Session, kind: EventKind = EventKind.IMAGE, **fields: Any) -> Plan:
        event = InboundEvent("E1", "a", "U9", kind, NOW_MS, NOW_MS, **fields)
        return plan(event, CLINIC, session, CustomerMemory(), NOW_MS)

    def test_gets_no_second_one(self) -> None:
        assert self.planned(self.told("image", 5_000)) == Plan(Action.IGNORE, reason="told_already")
        late = self.told("image", 40_000)
        assert self.planned(late) == Plan(Action.TEXT, "image")
        assert self.planned(late, image_set_id="S1") == Plan(Action.IGNORE, reason="told_already")

    def test_gets_the_text_of_another_kind_and_the_answer_to_its_words(self) -> None:
        assert self.planned(self.told("sticker", 5_000)) == Plan(Action.TEXT, "image")
        assert self.planned(self.told("image", 5_000), EventKind.TEXT, text="ราคา") == ANSWER
        worded = self.planned(self.told("sticker", 5_000), EventKind.STICKER, text="ขอบคุณค่ะ")
        assert worded == ANSWER

    def test_is_taken_along_by_the_question_that_follows(self) -> None:
        events = [
            InboundEvent("E1", "a", "U9", EventKind.IMAGE, NOW_MS, NOW_MS),
            InboundEvent("E2", "a", "U9", EventKind.TEXT, NOW_MS + 1, NOW_MS, text="อันนี้เป็นอะไรคะ"),
        ]
        turn = plan_turn(events, CLINIC, self.told("image", 5_000), CustomerMemory(), NOW_MS)
        assert (turn.action, turn.taken) == (Action.ANSWER, frozenset({"E1", "E2"}))


class TestWhileTheModeSaysSilence:
    @pytest.mark.parametrize("silence", sorted(SILENT_MODES))
    @pytest.mark.parametrize("kind", [EventKind.TEXT, EventKind.IMAGE, EventKind.FOLLOW, EventKind.STICKER])
    def test_nothing_is_answered_and_the_reason_is_kept(self, silence: str, kind: EventKind) -> None:
        event = InboundEvent("E1", "a", "U9", kind, NOW_MS, NOW_MS, text="ขอคุยกับแอดมิน")
        turn = plan_turn([event], CLINIC, Session(), CustomerMemory(), NOW_MS, silence)
        assert (turn.action, turn.reason, turn.taken) == (Action.IGNORE, silence, frozenset({"E1"}))

    @pytest.mark.parametrize("silence", sorted(SILENT_MODES))
    def test_urgent_words_get_the_emergency_number_once_an_hour(self, silence: str) -> None:
        event = InboundEvent(
            "E1", "a", "U9", EventKind.TEXT, NOW_MS, NOW_MS, text="หายใจไม่ออก", reply_token="t"
        )
        for told_ms, expected in ((None, Action.TEXT), (NOW_MS - 1, Action.IGNORE)):
            memory = CustomerMemory(urgent_ms=told_ms)
            turn = plan_turn([event], CLINIC, Session(), memory, NOW_MS, silence)
            assert turn.action is expected
            assert turn.words == (event.text,)

    def test_a_groups_own_talk_stays_its_own(self) -> None:
        event = InboundEvent("E1", "a", "C9", EventKind.TEXT, NOW_MS, NOW_MS, text="x", chat_type="group")
        turn = plan_turn([event], CLINIC, Session(), CustomerMemory(), NOW_MS, "mode is off")
        assert (turn.reason, turn.taken) == ("group_talk", frozenset())


def test_what_is_said_to_people_belongs_to_the_conversation() -> None:
    event = InboundEvent("E1", "a", "U9", EventKind.TEXT, NOW_MS, NOW_MS, text="นัดวันศุกร์")
    in_handoff = CustomerMemory().handed_off(NOW_MS + 1, "keyword")
    turn = plan_turn([event], CLINIC, Session(), in_handoff, NOW_MS)
    assert (turn.action, turn.words, turn.taken) == (Action.IGNORE, ("นัดวันศุกร์",), frozenset({"E1"}))
