"""An event of every kind that LINE's reference has."""

from __future__ import annotations

from typing import Any

USER, GROUP, ROOM = "U" + "1" * 32, "C" + "2" * 32, "R" + "3" * 32
BOT = "U" + "b" * 32
SOURCES = {
    "user": {"type": "user", "userId": USER},
    "group": {"type": "group", "groupId": GROUP, "userId": USER},
    "room": {"type": "room", "roomId": ROOM, "userId": USER},
}
CHATS = {"user": USER, "group": GROUP, "room": ROOM}


def message(**content: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "replyToken": "nHuyWiB7yP5Zw52FIkcQobQuGDXCTA",
        "message": {"id": "444573844083572737", **content},
    }


TEXT = {"type": "text", "quoteToken": "q3Plxr4AgKd"}
SELF = {"mentionees": [{"index": 0, "length": 4, "type": "user", "userId": BOT, "isSelf": True}]}
OTHERS = {
    "mentionees": [
        {"index": 0, "length": 4, "type": "user", "userId": USER, "isSelf": False},
        {"index": 5, "length": 4, "type": "all"},
    ]
}
BY_ID = {"mentionees": [{"index": 0, "length": 4, "type": "user", "userId": BOT}]}
STICKER = {
    "type": "sticker",
    "packageId": "446",
    "stickerId": "1988",
    "stickerResourceType": "STATIC",
    "keywords": ["ok"],
    "quoteToken": "q",
}
LINE_CONTENT = {"contentProvider": {"type": "line"}}
LOCATION = {
    "type": "location",
    "title": "คลินิก",
    "address": "ถนนสีลม กรุงเทพฯ",
    "latitude": 13.72,
    "longitude": 100.53,
}
POSTBACK = {
    "type": "postback",
    "replyToken": "b60d432864f44d079f6d8efe86cf404b",
    "postback": {"data": "action=book", "params": {"datetime": "2026-12-25T10:00"}},
}
SWITCH = {
    "type": "postback",
    "replyToken": "b60d432864f44d079f6d8efe86cf404b",
    "postback": {"data": "page 2", "params": {"newRichMenuAliasId": "page-2", "status": "SUCCESS"}},
}
ALL, ALONE, NOWHERE = frozenset(SOURCES), frozenset({"user"}), frozenset[str]()

# Every webhook event type and message type of LINE's reference: (event, where it becomes a turn, its text).
TABLE: dict[str, tuple[dict[str, Any], frozenset[str], str]] = {
    "text": (message(**TEXT, text="ฟอกสีฟันราคาเท่าไหร่คะ"), ALONE, "ฟอกสีฟันราคาเท่าไหร่คะ"),
    "text, mentioned": (message(**TEXT, text="@bot ราคา?", mention=SELF), ALL, "ราคา?"),
    "text, mentioned by id": (message(**TEXT, text="@bot ราคา?", mention=BY_ID), ALL, "ราคา?"),
    "text, others mentioned": (message(**TEXT, text="@ann @All", mention=OTHERS), ALONE, "@ann @All"),
    "text, quoting": (message(**TEXT, text="แล้วอันนี้?", quotedMessageId="4680"), ALL, "แล้วอันนี้?"),
    "sticker": (message(**STICKER), ALONE, ""),
    "sticker, quoting": (message(**STICKER, quotedMessageId="4680"), ALL, ""),
    "image": (message(type="image", **LINE_CONTENT, quoteToken="q"), ALONE, ""),
    "video": (message(type="video", **LINE_CONTENT, duration=60000, quoteToken="q"), ALONE, ""),
    "audio": (message(type="audio", **LINE_CONTENT, duration=60000), ALONE, ""),
    "file": (message(type="file", fileName="x-ray.pdf", fileSize=2138), ALONE, ""),
    "location": (message(**LOCATION), ALONE, "คลินิก, ถนนสีลม กรุงเทพฯ"),
    "postback": (POSTBACK, ALL, "action=book 2026-12-25T10:00"),
    "follow": ({"type": "follow", "replyToken": "r", "follow": {"isUnblocked": False}}, ALONE, ""),
    "unfollow": ({"type": "unfollow"}, ALL, ""),
    "unsend": ({"type": "unsend", "unsend": {"messageId": "325708"}}, ALL, ""),
    "messageEdited": (
        {"type": "messageEdited", "replyToken": "r", "message": {"id": "325709", **TEXT, "text": "x"}},
        ALL,
        "x",
    ),
    "sticker with words": (
        message(**{**STICKER, "stickerResourceType": "MESSAGE"}, text="รอคิวค่ะ"),
        ALONE,
        "รอคิวค่ะ",
    ),
    "hologram": (message(type="hologram"), ALONE, ""),
    "hologram, quoting": (message(type="hologram", quotedMessageId="4680"), ALL, ""),
    # Ignored on purpose: nobody asks for anything.
    "postback of a rich menu's switch": (SWITCH, NOWHERE, ""),
    "join": ({"type": "join", "replyToken": "r"}, NOWHERE, ""),
    "leave": ({"type": "leave"}, ALL, ""),
    "memberJoined": (
        {
            "type": "memberJoined",
            "replyToken": "r",
            "joined": {"members": [{"type": "user", "userId": USER}]},
        },
        NOWHERE,
        "",
    ),
    "memberLeft": (
        {"type": "memberLeft", "left": {"members": [{"type": "user", "userId": USER}]}},
        NOWHERE,
        "",
    ),
    "videoPlayComplete": (
        {"type": "videoPlayComplete", "replyToken": "r", "videoPlayComplete": {"trackingId": "t"}},
        NOWHERE,
        "",
    ),
    "beacon": (
        {"type": "beacon", "replyToken": "r", "beacon": {"hwid": "d41d8cd98f", "type": "enter"}},
        NOWHERE,
        "",
    ),
    "accountLink": (
        {"type": "accountLink", "replyToken": "r", "link": {"result": "ok", "nonce": "n"}},
        NOWHERE,
        "",
    ),
    "membership": (
        {"type": "membership", "replyToken": "r", "membership": {"type": "joined", "membershipId": 1}},
        NOWHERE,
        "",
    ),
    "module": ({"type": "module", "module": {"type": "attached", "botId": BOT, "scopes": []}}, NOWHERE, ""),
    "activated": ({"type": "activated", "chatControl": {"expireAt": 1462629479859}}, NOWHERE, ""),
    "deactivated": ({"type": "deactivated"}, NOWHERE, ""),
    "botSuspended": ({"type": "botSuspended"}, NOWHERE, ""),
    "botResumed": ({"type": "botResumed"}, NOWHERE, ""),
    "delivery": ({"type": "delivery", "delivery": {"data": "15034552939884E28681A7D668CEA94C"}}, NOWHERE, ""),
}
SILENT = {"unfollow", "unsend", "messageEdited", "leave"}


def envelope(event: dict[str, Any], chat: str = "user", /, **changes: Any) -> dict[str, Any]:
    return {
        "webhookEventId": "01FZ74A0TDDPYRVKNK77XKC3ZR",
        "deliveryContext": {"isRedelivery": False},
        "timestamp": 1_692_251_666_727,
        "mode": "active",
        "source": SOURCES[chat],
        **event,
        **changes,
    }
