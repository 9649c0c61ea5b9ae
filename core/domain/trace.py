"""The correlation id that goes from the webhook through the task to the reply."""

from __future__ import annotations

import re
import secrets

_CLOUD = re.compile(r"([0-9a-fA-F]{32})(?:/.*)?")
_W3C = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_NONE = "0" * 32


def trace_id(cloud_trace_context: str | None, traceparent: str | None) -> str:
    """32 hex digits: from `X-Cloud-Trace-Context`, else from W3C's `traceparent`, else a new one.

    A header that is not well-formed, or whose id is all zeros (W3C: invalid), counts as missing.
    """
    for header, pattern in ((cloud_trace_context, _CLOUD), (traceparent, _W3C)):
        match = pattern.fullmatch(header) if header else None
        if match and match[1] != _NONE:
            return match[1].lower()
    return secrets.token_hex(16)
