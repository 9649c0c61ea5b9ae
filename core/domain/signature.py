"""LINE's webhook signature: base64 of HMAC-SHA256 over the raw body, keyed with the channel secret.

https://developers.line.biz/en/docs/messaging-api/verify-webhook-signature/
"""

from __future__ import annotations

import base64
import hashlib
import hmac


def sign(channel_secret: str, body: bytes) -> str:
    """The value of `X-Line-Signature` for `body`."""
    digest = hmac.digest(channel_secret.encode(), body, hashlib.sha256)
    return base64.b64encode(digest).decode("ascii")


def is_signed(channel_secret: str, body: bytes, signature: str | None) -> bool:
    """Compare in constant time. A missing signature, or one with characters base64 has not, is wrong."""
    if not signature:
        return False
    # Bytes, since compare_digest refuses text beyond ASCII, which a stranger may well send.
    return hmac.compare_digest(sign(channel_secret, body).encode(), signature.encode("utf-8", "replace"))
