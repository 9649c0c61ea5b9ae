"""A form as `multipart/form-data` has it."""

from __future__ import annotations

from email.message import Message
from email.parser import BytesParser
from typing import NamedTuple


class FormField(NamedTuple):
    """`file_name`: "" of what is no file."""

    file_name: str
    value: bytes


def form_fields(body: bytes, content_type: str) -> dict[str, FormField]:
    """By name; nothing of what is no form."""
    message = BytesParser().parsebytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
    parts = message.get_payload() if message.is_multipart() else []
    fields = {}
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Message):
            value = part.get_payload(decode=True)
            name = part.get_param("name", header="content-disposition")
            fields[str(name)] = FormField(
                part.get_filename() or "", value if isinstance(value, bytes) else b""
            )
    return fields
