"""`fairlane demo`: a scripted scene on the local stack, judged by what LINE and OpenAI have seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from core.local import demo_answers
from core.local.demo_play import Demo, Watch
from core.local.demo_report import Report, report
from core.local.demo_scenes import everything
from core.local.openai_api import Latency
from core.local.stack import LocalStack
from core.local.stack_options import StackOptions

# Shorter than in production, so that the scene is: a dead instance's conversation and slot are free again
# after the lease, and a conversation is over after the session's time to live.
SHORTENED = {"SLOT_LEASE_S": "3", "SESSION_TTL_S": "8"}


def options(*, turns: int, openai: bool, firestore: bool, run_dir: Path | None) -> StackOptions:
    return StackOptions(
        turns=turns,
        openai_real=openai,
        firestore=firestore,
        run_dir=run_dir,
        environment=SHORTENED,
        latency=Latency(median_s=1.2, sigma=0.3),
    )


async def perform(
    chosen: StackOptions, *, watch: Watch, on_ready: Callable[[float], None], coloured: bool = False
) -> Report:
    """Start the stack, play every scene, and report. `on_ready` gets the seconds that the start took.

    Raises PartFailedError if a part can't start.
    """
    began = time.monotonic()
    async with LocalStack(chosen) as stack:
        stack.openai.answer = demo_answers.answer
        demo = Demo(stack, watch=watch, coloured=coloured)
        try:
            await demo.prepare()
            on_ready(time.monotonic() - began)
            await everything(demo)
            return report(demo, time.monotonic() - began)
        finally:
            await demo.close()
