"""LINE's side of a webhook: how a body is signed, and the test that LINE's console does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

from core.adapters.http_client import HttpClient
from core.local.line_state import Channel


def sign(channel_secret: str, body: bytes) -> str:
    """The X-Line-Signature header. Written apart from the code that checks it, on purpose."""
    return base64.b64encode(hmac.new(channel_secret.encode(), body, hashlib.sha256).digest()).decode()


async def test_webhook(channel: Channel, url: str) -> Mapping[str, Any]:
    """What LINE's test does: an empty webhook, signed."""
    body = f'{{"destination":"{channel.bot_user_id}","events":[]}}'.encode()
    headers = {"content-type": "application/json", "x-line-signature": sign(channel.channel_secret, body)}
    client = HttpClient()
    status, reason = 0, "COULD_NOT_CONNECT"
    try:
        async with asyncio.timeout(10):
            status = (await client.request("POST", url, headers=headers, body=body)).status
        reason = "OK" if status == 200 else "ERROR_STATUS_CODE"
    except TimeoutError:
        reason = "REQUEST_TIMEOUT"
    except OSError:
        pass
    finally:
        await client.close()
    shown = {"success": status == 200, "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return {**shown, "statusCode": status, "reason": reason, "detail": str(status or reason)}
