"""The turn function: a task in, a status out that tells the queue whether to send it again."""

from __future__ import annotations

from collections.abc import Mapping

from core.domain.errors import DefectAfterCallError, InvalidInputError, MalformedTaskError, UnavailableError
from core.domain.task import EffectTask, Task, TurnTask, decode_task
from core.edge.process import Process, uncollected
from core.ports import log

with uncollected():
    from core.bootstrap.turn import TurnParts, build, wait_for_redis
    from core.usecases.effects.run_effect import RunEffect
    from core.usecases.turn.lead import RunTurn

DEFECT_RETRIES = 10
"""Dispatches after which a task that fails by a defect is recorded as failed instead of lost one day."""

PROCESS: Process[TurnParts] = Process("turn", build, TurnParts.drain, wait_for_redis)


async def execute(body: bytes, headers: Mapping[str, str]) -> int:
    """200: finished with this task. 503: a dependency is down. 500: try again.

    A body that isn't ours is recorded and finished with: sending it again would not make it better.
    """
    parts = PROCESS.app()
    try:
        task = decode_task(body)
    except MalformedTaskError as exc:
        name = headers.get("x-cloudtasks-taskname")
        log.error("task.malformed", reason=str(exc), task=name, size=len(body))
        await parts.turns.record_malformed(body, str(exc))
        return 200
    retries = _count(headers.get("x-cloudtasks-taskretrycount"))
    with log.bound(**_names(task)):
        try:
            if isinstance(task, EffectTask):
                return await _run_effect(parts.effects, task, retries)
            return await _run(parts.turns, task, retries)
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


async def _run_effect(run: RunEffect, task: EffectTask, retries: int) -> int:
    try:
        await run(task)
    except UnavailableError:
        raise
    except Exception as exc:
        log.error("effect.defect", exc=exc, reason=type(exc).__name__)
        if retries < DEFECT_RETRIES:
            return 500
        await run.give_up(task, f"defect_{type(exc).__name__}")
    return 200


def _names(task: Task) -> dict[str, str]:
    """What every line of the log says of a task."""
    if isinstance(task, EffectTask):
        return {"trace": task.trace, "org": task.org_id, "effect": task.id}
    return {"trace": task.trace, "org": task.event.org_id, "event": task.event.event_id}


def _count(header: str | None) -> int:
    return int(header) if header and header.isdigit() else 0
