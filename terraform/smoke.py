"""Is a deployed webhook alive, and does it know a clinic? GET, then a signed webhook without events.

    python3 smoke.py URL [--destination U… < SECRET]

SECRET is the clinic's secret as Secret Manager holds it: {"channel_id": …, "channel_secret": …}. It comes on
standard input so that no command line shows it. Without --destination only what needs no secret is checked.
Needs nothing but Python. Exit status 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import sys
import time
import urllib.error
import urllib.request

ATTEMPTS = 6
PAUSE_S = 5.0


def status_of(url: str, body: bytes | None = None, signature: str = "") -> int | str:
    headers = {"Content-Type": "application/json", "X-Line-Signature": signature}
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310  an operator's own URL
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError as exc:
        return f"no answer ({exc})"


def check(what: str, expected: int, url: str, body: bytes | None = None, signature: str = "") -> bool:
    """Tries again for half a minute: a new revision may still be taking over."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S)
        found = status_of(url, body, signature)
        if found == expected:
            break
    good = found == expected
    print(f"{'ok  ' if good else 'FAIL'} {what}: {found}" + ("" if good else f", expected {expected}"))  # noqa: T201
    return good


def sign(secret: str, body: bytes) -> str:
    """LINE's signature: HMAC-SHA256 over the raw body, in base64."""
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--destination", help="the clinic's bot_user_id")
    options = parser.parse_args()
    empty = json.dumps({"destination": options.destination or "", "events": []}).encode()
    good = check("GET", 200, options.url)
    good &= check("a body that is no webhook", 400, options.url, b"{}")
    if options.destination:
        secret = json.load(sys.stdin)["channel_secret"]
        good &= check("an empty webhook, signed", 200, options.url, empty, sign(secret, empty))
        good &= check("an empty webhook, signed wrongly", 401, options.url, empty, sign("wrong", empty))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
