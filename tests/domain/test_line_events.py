from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.event import EventKind, InboundEvent
from core.domain.line_events import NotAWebhookError, read_webhook
from core.domain.line_words import MAX_TEXT_CHARS, cut
from core.domain.signature import sign
from core.domain.task import TurnTask
from tests.support.line_samples import (
    BOT,
    CHATS,
    LINE_CONTENT,
    SILENT,
    SOURCES,
    STICKER,
    TABLE,
    TEXT,
    USER,
    envelope,
    message,
)

ARRIVED = 1_800_000_000_000


def body(*events: Any, **changes: Any) -> bytes:
    return json.dumps({"destination": BOT, "events": list(events), **changes}).encode()


def parsed(*events: Any) -> list[InboundEvent]:
    return read_webhook(body(*events)).events("bkk-smile", ARRIVED)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", TABLE)
def test_every_event_of_lines_reference_becomes_a_turn_or_is_ignored_on_purpose(
    name: str, source: str
) -> None:
    event, where, text = TABLE[name]
    found = parsed(envelope(event, source))
    assert [e.text for e in found] == ([text] if source in where else [])
    for e in found:
        kind = event["message"]["type"] if event["type"] == "message" else event["type"]
        assert e.kind == ("unknown" if kind == "hologram" else kind)
        assert (e.chat_id, e.chat_type, e.user_id) == (CHATS[source], source, USER)
        assert (e.event_id, e.timestamp_ms) == ("01FZ74A0TDDPYRVKNK77XKC3ZR", 1_692_251_666_727)
        assert (e.org_id, e.arrived_ms) == ("bkk-smile", ARRIVED)
        assert e.reply_token == event.get("replyToken")
        assert e.mentioned == ("text, mentioned" in name)
        assert e.quoted_message_id == ("4680" if "quoting" in name else None)
        assert e.message_id == {
            "message": "444573844083572737",
            "unsend": "325708",
            "messageEdited": "325709",
        }.get(event["type"])


@pytest.mark.parametrize("name", TABLE)
def test_in_standby_only_what_needs_no_answer_counts(name: str) -> None:
    event, where, _ = TABLE[name]
    assert bool(parsed(envelope(event, mode="standby"))) == ("user" in where and name in SILENT)


def test_the_sdk_reads_the_same_events() -> None:
    # Imported here, since it takes over a second.
    from linebot.v3 import WebhookParser  # noqa: PLC0415
    from linebot.v3.webhooks import Event  # noqa: PLC0415

    known = {name: row for name, row in TABLE.items() if not name.startswith("hologram")}
    raw = body(*(envelope(event) for event, _, _ in known.values()))
    theirs = WebhookParser("secret").parse(raw.decode(), sign("secret", raw))
    assert not [event for event in theirs if type(event) is Event]
    answered = [e for e, (_, where, _) in zip(theirs, known.values(), strict=True) if "user" in where]
    ours = read_webhook(raw).events("bkk-smile", ARRIVED)
    assert len(ours) == len(answered)
    for mine, its in zip(ours, answered, strict=True):
        said: Any = getattr(its, "message", None)
        assert mine.kind == (said.type if its.type == "message" else its.type)
        assert mine.event_id == its.webhook_event_id
        assert mine.timestamp_ms == its.timestamp
        assert mine.user_id == its.source.user_id
        assert mine.reply_token == getattr(its, "reply_token", None)
        assert mine.redelivered == its.delivery_context.is_redelivery
        if mine.kind == "text":
            assert said.text.endswith(mine.text)
        if said:
            assert mine.message_id == said.id
            assert mine.quoted_message_id == getattr(said, "quoted_message_id", None)


@pytest.mark.parametrize(
    "strange",
    [
        None,
        7,
        "text",
        [],
        {},
        {"type": "call"},
        {"type": 5},
        {"type": ["message"]},
        envelope({"type": "teleport"}),
        envelope(message(type=["text"])),
        envelope(message(type="text")),
        envelope(message(type="text", text=5)),
        envelope(message(type="text", text="")),
        envelope({"type": "message", "message": None}),
        envelope(message(**TEXT, text="x"), source=None),
        envelope(message(**TEXT, text="x"), source={"type": "square", "userId": USER}),
        envelope(message(**TEXT, text="x"), source={"type": {}, "userId": USER}),
        envelope(message(**TEXT, text="x"), source={"type": "user"}),
        envelope(message(**TEXT, text="x"), source={"type": "user", "userId": "a/../b"}),
        envelope({"type": "unsend", "unsend": {}}),
    ],
)
def test_a_strange_event_is_skipped_and_its_neighbours_are_not(strange: Any) -> None:
    good = envelope(message(**TEXT, text="ยังอยู่ค่ะ"))
    assert [e.text for e in parsed(good, strange, good)] == ["ยังอยู่ค่ะ", "ยังอยู่ค่ะ"]


@pytest.mark.parametrize("wrong", [None, 5, 5.5, True, [], {}, "", "x" * 10_000])
@pytest.mark.parametrize(
    "field", ["mode", "timestamp", "replyToken", "webhookEventId", "deliveryContext", "brandNew"]
)
def test_a_field_of_the_wrong_type_counts_as_missing(field: str, wrong: Any) -> None:
    [event] = parsed(envelope(message(**TEXT, text="x"), **{field: wrong}))
    assert event.text == "x"
    assert event.timestamp_ms == (ARRIVED if field == "timestamp" and wrong != 5 else event.timestamp_ms)
    assert event.reply_token == (None if field == "replyToken" else "nHuyWiB7yP5Zw52FIkcQobQuGDXCTA")
    assert TurnTask.decode(TurnTask(event, "t").encode()).event == event


@pytest.mark.parametrize("chat_id", ["Uok", "u|1", "line-user#7", "a.b:c@d~e", "U" + "x" * 127])
def test_an_id_that_can_stand_in_a_key_is_taken_as_it_is(chat_id: str) -> None:
    [event] = parsed(envelope(message(**TEXT, text="x"), source={"type": "user", "userId": chat_id}))
    assert (event.chat_id, event.user_id) == (chat_id, chat_id)


@pytest.mark.parametrize(
    "chat_id", ["a/b", "a b", "a{b", "a}b", "a\nb", "\x7f", "é", "\ud800", "", "x" * 129, 7]
)
def test_an_event_of_a_chat_that_can_not_stand_in_a_key_is_told_of(chat_id: Any) -> None:
    lost: list[Any] = []
    event = envelope(message(**TEXT, text="x"), source={"type": "user", "userId": chat_id})
    standby = {**event, "mode": "standby"}
    assert read_webhook(body(event, standby)).events("bkk-smile", ARRIVED, lost.append) == []
    assert lost == [chat_id]


def spans(text: str, *parts: str, **more: Any) -> list[dict[str, Any]]:
    """Where `parts` stand in `text`, as LINE counts: in UTF-16 units."""

    def units(part: str) -> int:
        return len(part.encode("utf-16-le")) // 2

    return [{"index": units(text[: text.index(p)]), "length": units(p), **more} for p in parts]


@pytest.mark.parametrize(
    ("text", "bots", "emojis", "said"),
    [
        ("@แอดมิน คลินิก", ["@แอดมิน คลินิก"], [], ""),
        ("@แอดมิน ราคาเท่าไหร่", ["@แอดมิน"], [], "ราคาเท่าไหร่"),
        ("😀😀 @bot ราคา?", ["@bot"], [], "😀😀 ราคา?"),
        ("สวัสดีค่ะ(staff)", [], ["(staff)"], "สวัสดีค่ะ"),
        ("👨‍👩‍👧(love)(staff)ค่ะ", [], ["(love)", "(staff)"], "👨‍👩‍👧 ค่ะ"),
        ("@bot(staff)", ["@bot"], ["(staff)"], ""),
        ("แอด(heart)มิน", [], ["(heart)"], "แอด มิน"),
        ("ราคา @bot\nกี่บาท", ["@bot"], [], "ราคา \nกี่บาท"),
        ("ราคา(1)", [], [], "ราคา(1)"),
    ],
)
def test_the_bots_own_name_and_lines_emoji_are_not_what_a_customer_says(
    text: str, bots: list[str], emojis: list[str], said: str
) -> None:
    content = {
        "mention": {"mentionees": spans(text, *bots, type="user", userId=BOT, isSelf=True)},
        "emojis": spans(text, *emojis, productId="p", emojiId="e"),
    }
    [event] = parsed(envelope(message(**TEXT, text=text, **content)))
    assert event.text == said


def test_other_mentions_stay_words() -> None:
    text = "@bot ถาม @พี่นุ่น หน่อย"
    mentionees = [*spans(text, "@bot", type="user", isSelf=True), *spans(text, "@พี่นุ่น", type="user")]
    [event] = parsed(envelope(message(**TEXT, text=text, mention={"mentionees": mentionees})))
    assert event.text == "ถาม @พี่นุ่น หน่อย"


@settings(max_examples=200)
@given(
    st.text(max_size=20),
    st.lists(
        st.dictionaries(st.sampled_from(["index", "length"]), st.integers(-3, 30) | st.text(max_size=1))
        | st.none(),
        max_size=4,
    ),
)
def test_wherever_emoji_are_said_to_be_nothing_is_lost_but_what_stands_there(text: str, emojis: Any) -> None:
    events = parsed(envelope(message(**TEXT, text="ก" + text, emojis=emojis)))
    assert [set(e.text) - set("ก" + text) - {" ", "\ufffd"} for e in events] == [set()]
    if not any(isinstance(e, dict) and len(e) == 2 for e in emojis):
        assert events[0].text == "ก" + text


@pytest.mark.parametrize("token", ["0" * 32, "f" * 32])
def test_a_trial_of_lines_console_is_nobodys_message(token: str) -> None:
    assert parsed(envelope(message(**TEXT, text="Hello, world"), replyToken=token)) == []
    trial = {"type": "user", "userId": "Udeadbeefdeadbeefdeadbeefdeadbeef"}
    assert parsed(envelope(message(**TEXT, text="Hello, world"), source=trial)) == []
    assert parsed(envelope({"type": "follow", "replyToken": token})) == []


def test_what_can_be_done_with_a_message_later_is_kept() -> None:
    picture = message(
        type="image",
        **LINE_CONTENT,
        quoteToken="quote",
        markAsReadToken="read",
        imageSet={
            "id": "E005D41A7288F41B65593ED38FF6E9834B046AB36A37921A56BC236F13A91855",
            "index": 2,
            "total": 9,
        },
    )
    [event] = parsed(envelope(picture))
    assert (event.quote_token, event.read_token) == ("quote", "read")
    assert (event.image_set_id, event.image_index, event.image_total) == (
        "E005D41A7288F41B65593ED38FF6E9834B046AB36A37921A56BC236F13A91855",
        2,
        9,
    )
    assert TurnTask.decode(TurnTask(event, "t").encode()).event == event


@pytest.mark.parametrize("strange", [None, [], "x", {"id": 5, "index": "2", "total": -1}, {"id": ""}])
def test_a_strange_image_set_is_none(strange: Any) -> None:
    [event] = parsed(envelope(message(type="image", **LINE_CONTENT, imageSet=strange)))
    assert (event.image_set_id, event.image_index, event.image_total) == (None, None, None)


def test_a_sticker_has_its_words_and_what_it_shows() -> None:
    sticker = {**STICKER, "stickerResourceType": "MESSAGE", "keywords": ["ยิ้ม", 5, "ขอบคุณ"]}
    [event] = parsed(envelope(message(**sticker, text="ขอบคุณนะคะ")))
    assert (event.text, event.hint) == ("ขอบคุณนะคะ", "ยิ้ม, ขอบคุณ")


def test_edits_of_one_message_are_events_of_their_own() -> None:
    edit = envelope({"type": "messageEdited", "message": {"id": "99", **TEXT, "text": "x"}}, "group")
    del edit["webhookEventId"]
    [first] = parsed(edit)
    [second] = parsed({**edit, "timestamp": edit["timestamp"] + 1})
    assert len({"99", first.event_id, second.event_id}) == 3
    assert first.message_id == second.message_id == "99"


def test_what_is_missing_is_filled_in() -> None:
    bare = {
        "type": "message",
        "source": SOURCES["user"],
        "message": {"type": "text", "id": "99", "text": "x"},
    }
    [event] = parsed(bare)
    assert event == InboundEvent(
        "99", "bkk-smile", USER, EventKind.TEXT, ARRIVED, ARRIVED, user_id=USER, text="x", message_id="99"
    )


@pytest.mark.parametrize("timestamp", [-1, 0, 2**53, 10**30, 1e308])
def test_an_impossible_timestamp_is_the_arrival(timestamp: float) -> None:
    [event] = parsed(envelope(message(**TEXT, text="x"), timestamp=timestamp))
    assert event.timestamp_ms == ARRIVED


def test_an_event_id_can_always_name_a_document() -> None:
    ids = ["a/b", "..", "__x__", "é", "x" * 200, "\ud800", "a b"]
    events = [parsed(envelope(message(**TEXT, text="x"), webhookEventId=i))[0].event_id for i in ids]
    assert all(len(i) == 40 and i.isalnum() for i in events)
    assert len(set(events)) == len(ids)


def test_without_any_id_a_redelivery_is_still_the_same_event() -> None:
    event = envelope({"type": "follow", "replyToken": "r"})
    del event["webhookEventId"]
    [first] = parsed(event)
    [again] = parsed({**event, "deliveryContext": {"isRedelivery": True}})
    [other] = parsed({**event, "timestamp": 1})
    assert first.event_id == again.event_id != other.event_id
    assert again.redelivered


def test_an_unsend_without_an_id_is_not_taken_for_its_message() -> None:
    unsend = envelope({"type": "unsend", "unsend": {"messageId": "99"}})
    del unsend["webhookEventId"]
    [event] = parsed(unsend)
    assert event.event_id != "99"


def test_half_a_surrogate_pair_does_no_harm() -> None:
    [event] = parsed(envelope(message(**TEXT, text="a\ud83d b \ud83d\ude00")))
    assert event.text == "a\ufffd b 😀"
    TurnTask(event, "t").encode()


def test_an_integer_too_long_for_python_costs_nothing() -> None:
    raw = body(envelope(message(**TEXT, text="x"), timestamp=1)).replace(
        b'": 1,', b'": ' + b"9" * 5000 + b","
    )
    [event] = read_webhook(raw).events("bkk-smile", ARRIVED)
    assert event.timestamp_ms == ARRIVED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense",
        b"\xff\xfe\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"events":[]}',
        b'{"destination":5,"events":[]}',
        b'{"destination":"","events":[]}',
        b"[" * 100_000,
        b"9" * 5000,
        b"9" * 5000 + b"x",
    ],
)
def test_what_is_no_webhook_is_refused(raw: bytes) -> None:
    with pytest.raises(NotAWebhookError):
        read_webhook(raw)


@pytest.mark.parametrize("events", [None, 5, "x", {}])
def test_events_must_be_a_list(events: Any) -> None:
    with pytest.raises(NotAWebhookError):
        read_webhook(body(events=events)).events("bkk-smile", ARRIVED)


@pytest.mark.parametrize("destination", ["a/b", "x" * 500, "\ud800", "ก", "__all__"])
def test_a_destination_that_no_bot_can_have_is_never_looked_up(destination: str) -> None:
    assert read_webhook(body(destination=destination)).destination is None


@pytest.mark.parametrize(
    "text", ["ก" * 200_000, "😀" * 100_000, "\x00" * 100_000, '"\\' * 60_000, "x" * 90_000]
)
def test_a_task_never_outgrows_the_queue(text: str) -> None:
    event = envelope(
        message(**TEXT, text=text, quotedMessageId="9" * 512),
        webhookEventId="w" * 128,
        replyToken="r" * 512,
        source={"type": "user", "userId": "u" * 128},
    )
    [found] = parsed(event)
    assert 13_000 <= len(found.text) <= MAX_TEXT_CHARS
    assert text.startswith(found.text)
    assert len(TurnTask(found, "t" * 32, hop=10**6, place=10**12).encode()) < 90_000


@settings(max_examples=50)
@given(st.text(max_size=50))
def test_ordinary_words_are_kept_whole(text: str) -> None:
    assert cut(text) == text
