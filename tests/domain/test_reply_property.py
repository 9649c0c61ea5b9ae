"""Whatever the model answers, what reaches LINE is text that a customer can see, within LINE's limits."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.messages import reply_messages
from core.domain.model_reply import SchemaError, parse_reply
from core.local import line_rules
from tests.support.readable import faults_of_messages

PIECES = [
    *[
        "ฟอกสีฟัน",
        "น้ำ",
        "ค่ะ ",
        "900",
        "a",
        " ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "\u2028",
        "**",
        "_",
        "`",
        "```",
        "~~",
        "# ",
        "- ",
        "|",
    ],
    *[
        "[จอง](https://a.b/c_d)",
        "[",
        "]",
        "(",
        ")",
        "](",
        "<https://a.b>",
        "<b>",
        "&amp;",
        "\\",
        "https://a.b/c",
    ],
    *[
        "😀",
        "👨‍👩‍👧‍👦",
        "❤️",
        "🇹🇭",
        "1️⃣",
        "👍🏽",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "\u200d",
        "\ufe0f",
        "\u20e3",
        "🏴",
        "\U000e0067",
        "\U000e007f",
    ],
    *[
        "\u200b",
        "\u00ad",
        "\u202e",
        "\ufeff",
        "\u3164",
        "\u2800",
        "\u0e49",
        "\u115f",
        "\x00",
        "\x1b",
        "\x85",
        "\ud83d",
        "\udf00",
    ],
]
piece = st.sampled_from(PIECES)
texts = st.lists(
    piece | st.text(max_size=3) | st.characters(categories=["Cf", "Mn", "Cc", "Cs"]), max_size=30
).map("".join)
floods = st.tuples(texts, piece, st.integers(0, 6_000), texts).map(lambda t: t[0] + t[1] * t[2] + t[3])


@settings(max_examples=200)
@given(texts | floods, st.lists(texts | floods, max_size=15))
def test_whatever_is_said_customers_can_read_what_reaches_line(reply: str, quick_replies: list[str]) -> None:
    messages = reply_messages(reply, quick_replies)
    if messages:
        assert faults_of_messages(messages) == []
        assert line_rules.problems(list(messages)) == []


@settings(max_examples=200)
@given(texts | floods, st.lists(texts, max_size=6))
def test_whatever_the_model_replies_is_readable_or_refused(reply: str, quick_replies: list[str]) -> None:
    content = json.dumps({"reply": reply, "quick_replies": quick_replies})
    with suppress(SchemaError):
        answer = parse_reply(content, "stop")
        messages = reply_messages(answer.reply, answer.quick_replies)
        assert faults_of_messages(messages) == []
        assert messages == reply_messages(messages[0]["text"], answer.quick_replies) or len(messages) > 1
