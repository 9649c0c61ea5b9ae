"""A process that takes slots, to be killed and paused. One JSON argument (see `main`), one line an event."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

from core.domain.errors import FairlaneError
from core.ports.slots import NoSlotError, Outcome, OutcomeKind, SlotLostError
from tests.support.slots_scene import process, request


def say(event: str, ticket: str, **fields: Any) -> None:
    print(json.dumps({"event": event, "ticket": ticket, **fields}), flush=True)


async def turn(slots: Any, org: str, ticket: str, *, wait_s: float, body_s: float) -> None:
    async def waits() -> None:
        say("waiting", ticket)

    try:
        async with slots.hold(request(org, ticket, wait_s), on_wait=waits) as slot:
            say("held", ticket)
            await asyncio.sleep(body_s)
            slot.outcome = Outcome(OutcomeKind.OK)
        say("done", ticket)
    except NoSlotError as exc:
        say("refused", ticket, reason=exc.reason.value)
    except SlotLostError:
        say("lost", ticket)
    except FairlaneError as exc:
        say("failed", ticket, error=str(exc))


async def main(url: str, options: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    """`turns`: org, ticket, wait_s, body_s of each; all at once."""
    async with process(url, **options) as slots:
        await asyncio.gather(*(turn(slots, **each) for each in turns))


if __name__ == "__main__":
    uvloop.run(main(**json.loads(sys.argv[1])))
