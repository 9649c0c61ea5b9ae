"""The turn function: a task in, a status out that tells the queue whether to send it again."""

from __future__ import annotations

from collections.abc import Mapping

from core.domain.errors import DefectAfterCallError, InvalidInputError, MalformedTaskError, UnavailableError
from core.domain.task import TurnTask
from core.edge.process import Process, uncollected
from core.ports import log

with uncollected():
    from core.bootstrap.turn import build, wait_for_redis
    from core.usecases.turn.lead import RunTurn

DEFECT_RETRIES = 10
"""Dispatches after which a task that fails by a defect is recorded as failed instead of lost one day."""

PROCESS: Process[RunTurn] = Process("turn", build, RunTurn.drain, wait_for_redis)


async def execute(body: bytes, headers: Mapping[str, str]) -> int:
    """200: finished with this task. 503: a dependency is down. 500: try again.

    A body that isn't ours is recorded and finished with: sending it again would not make it better.
    """
    run = PROCESS.app()
    try:
        task = TurnTask.decode(body)
    except MalformedTaskError as exc:
        name = headers.get("x-cloudtasks-taskname")
        log.error("task.malformed", reason=str(exc), task=name, size=len(body))
        await run.record_malformed(body, str(exc))
        return 200
    with log.bound(trace=task.trace, org=task.event.org_id, event=task.event.event_id):
        try:
            return await _run(run, task, _count(headers.get("x-cloudtasks-taskretrycount")))
        except UnavailableError as exc:
            log.warning("turn.unavailable", reason=type(exc).__name__, detail=str(exc))
            return 503


async def _run(run: RunTurn, task: TurnTask, retries: int) -> int:
    try:
        await run(task)
    except UnavailableError:
        raise
    except InvalidInputError as exc:
        # A document that somebody wrote by hand can't be read: trying again would not make it better.
        log.error("turn.defect", reason=type(exc).__name__, detail=str(exc))
        await run.give_up(task, "unreadable_settings")
    except DefectAfterCallError as exc:
        log.error("turn.defect", exc=exc.__cause__, reason=type(exc.__cause__).__name__)
        await run.give_up(task, str(exc))
    except Exception as exc:
        # Anything else is a defect of ours: a person is told, and the queue tries again for a while.
        log.error("turn.defect", exc=exc, reason=type(exc).__name__)
        if retries < DEFECT_RETRIES:
            return 500
        await run.give_up(task, f"defect_{type(exc).__name__}")
    return 200


def _count(header: str | None) -> int:
    return int(header) if header and header.isdigit() else 0
