"""LINE's webhook signature: base64 of HMAC-SHA256 over the raw body, keyed with the channel secret.

https://developers.line.biz/en/docs/messaging-api/verify-webhook-signature/
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

_FORM = re.compile(r"[A-Za-z0-9+/]{43}=")


def sign(channel_secret: str, body: bytes) -> str:
    """The value of `X-Line-Signature` for `body`."""
    digest = hmac.digest(channel_secret.encode(), body, hashlib.sha256)
    return base64.b64encode(digest).decode("ascii")


def is_signed(channel_secret: str, body: bytes, signature: str | None) -> bool:
    """Compare in constant time. What no digest can look like is wrong without computing one."""
    if not (signature and _FORM.fullmatch(signature)):
        return False
    return hmac.compare_digest(sign(channel_secret, body), signature)
