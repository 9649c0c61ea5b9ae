"""The bound of a prompt's tokens holds by construction: checked against byte-level BPE with any merges."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from core.domain.prompt import Message
from core.domain.tokens import PER_MESSAGE, PER_REQUEST, prompt_bound, text_bound

THAI = "อยากทราบราคาขูดหินปูนค่ะ 🦷 ว่างวันเสาร์บ่ายสองไหมคะ"


def bpe_tokens(text: str, merges: set[tuple[bytes, bytes]]) -> int:
    """Byte-level byte-pair encoding with an arbitrary merge table: as many merges as there are to make."""
    parts = [bytes([byte]) for byte in text.encode()]
    n = 0
    while n < len(parts) - 1:
        if (parts[n], parts[n + 1]) in merges:
            parts[n : n + 2] = [parts[n] + parts[n + 1]]
            n = 0
        else:
            n += 1
    return len(parts)


thai_or_any = st.text(
    st.characters(min_codepoint=0x0E00, max_codepoint=0x0E5B) | st.characters(codec="utf-8")
)


@given(text=thai_or_any, learnt_from=thai_or_any)
def test_no_byte_level_vocabulary_makes_more_tokens_than_the_bound(text: str, learnt_from: str) -> None:
    raw = learnt_from.encode()
    merges = {(raw[n : n + 1], raw[n + 1 : n + 2]) for n in range(len(raw) - 1)}
    assert bpe_tokens(text, merges) <= text_bound(text)
    assert bpe_tokens(text, set()) == text_bound(text)  # the empty vocabulary reaches it: it can't be lower


def test_thai_is_bounded_by_its_bytes_and_not_its_letters() -> None:
    assert text_bound("ค่ะ") == 9
    assert text_bound(THAI) > len(THAI)


def test_a_broken_surrogate_is_counted_and_never_fails() -> None:
    assert text_bound("\ud83d") == 3


@given(texts=st.lists(thai_or_any, max_size=4))
def test_the_bound_of_a_prompt_covers_every_message_and_the_chat_format(texts: list[str]) -> None:
    messages = [Message("user", text) for text in texts]
    content = sum(len(text.encode()) for text in texts)
    assert prompt_bound(messages) == content + len(texts) * (PER_MESSAGE + len("user")) + PER_REQUEST


def test_the_bound_covers_the_response_schema_however_it_is_written_out() -> None:
    schema = {"type": "object", "properties": {"reply": {"type": "string", "description": THAI}}}
    added = prompt_bound([], schema_name="turn", schema=schema) - prompt_bound([])
    for rendering in (json.dumps(schema), json.dumps(schema, ensure_ascii=False, indent=2)):
        assert added >= len(rendering.encode())
