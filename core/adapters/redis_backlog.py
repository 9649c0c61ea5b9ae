"""The clinics' backlogs in Redis: one script call an operation (lua/backlog*.lua)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.adapters import redis_keys
from core.adapters.redis_connection import ALLOWED_WHEN_FULL, REFUSED_WHEN_FULL
from core.domain.errors import RedisUnavailableError, TasksUnavailableError
from core.domain.settings import default
from core.domain.task import TurnTask, clinic_of
from core.ports.backlog import Next, Pace
from core.ports.tasks import Scheduled

_RESTORED_MS = 60_000
_SOON_MS = 5_000  # what comes before comes by itself
_KEPT_MS = 600_000  # as in lua/backlog.lua


class RedisBacklog:
    """`redis` is the caller's to close. `pace`: of a clinic whose turns are refused before any has waited.
    `longest_s`: see RedisShaper."""

    def __init__(
        self,
        redis: Redis,
        *,
        dispatches_per_s: float,
        pace: Pace,
        longest_s: float = default("PATIENCE_S") - default("SLOT_WAIT_S"),
    ) -> None:
        self._redis = redis
        lua = resources.files("core.adapters").joinpath("lua")
        shared = lua.joinpath("backlog.lua").read_text()
        # Who is refused a slot is told when to come also by a Redis without memory left. Nobody is brought
        # forward then, to be refused at the mailbox.
        self._open, self._next, self._again = (
            redis.register_script(when_full + shared + lua.joinpath(f"backlog_{name}.lua").read_text())
            for name, when_full in (
                ("open", ALLOWED_WHEN_FULL),
                ("next", REFUSED_WHEN_FULL),
                ("again", ALLOWED_WHEN_FULL),
            )
        )
        self._told_every_ms = told_every_ms(dispatches_per_s)
        self._pace = pace
        self._longest_ms = longest_s * 1000

    async def open(self, org_id: str, pace: Pace) -> None:
        """See the port."""
        args = [_depth(pace), pace.hold_ms / pace.at_once]
        await _call(self._open, [redis_keys.backlog(org_id, "plan")], args)

    async def next(self, org_id: str, waited_ms: int | None = None, *, forward: bool = True) -> Next:
        """See the port."""
        args = [org_id, -1 if waited_ms is None else waited_ms, int(forward)]
        planned, *names = await _call(self._next, backlog_keys(org_id), args)
        return Next([name.decode() for name in names], planned)

    async def clinics(self) -> list[str]:
        """See the port."""
        before, after = redis_keys.backlog("*", "plan").split("*")
        try:
            found = [key.decode() async for key in self._redis.scan_iter(f"{before}*{after}", count=1000)]
        except (RedisError, OSError) as exc:
            raise RedisUnavailableError(f"the backlog in Redis: {type(exc).__name__}: {exc}") from exc
        return sorted({key[len(before) : -len(after)] for key in found})

    async def restore(self, read: Callable[[], Awaitable[Sequence[Scheduled]]]) -> list[str]:
        """See the port."""
        try:
            if not await self._redis.set(redis_keys.RESTORED, 1, nx=True, px=_RESTORED_MS):
                return []
            try:
                lines = _lines(await read())
            except TasksUnavailableError:
                await self._redis.delete(redis_keys.RESTORED)  # somebody else may try
                raise
            for org_id, tasks in lines.items():
                await self.open(org_id, self._pace)
                await self._put(org_id, tasks)
        except (RedisError, OSError) as exc:
            raise RedisUnavailableError(f"the backlog in Redis: {type(exc).__name__}: {exc}") from exc
        return list(lines)

    async def _put(self, org_id: str, tasks: Sequence[Scheduled]) -> None:
        """Who was to wait for longer than anybody is planned ahead was parked."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for task in tasks:
                part = "parked" if task.due_ms - task.created_ms > self._longest_ms else "planned"
                pipe.zadd(redis_keys.backlog(org_id, part), {task.name: task.due_ms}, nx=True)
            for part in ("planned", "parked"):
                pipe.pexpire(redis_keys.backlog(org_id, part), _KEPT_MS)
            await pipe.execute()

    async def again(self, task: TurnTask, *, shut_ms: int, patience_until_ms: int) -> int:
        """See the port."""
        org_id = task.event.org_id
        await self.open(org_id, self._pace)
        keys = [*backlog_keys(org_id), redis_keys.mailbox(task.event.conversation, "lead")]
        args = [org_id, task.name, shut_ms, patience_until_ms, self._told_every_ms]
        return int(await _call(self._again, keys, args))


def _lines(tasks: Sequence[Scheduled]) -> dict[str, list[Scheduled]]:
    """The clinics' turns that wait on the queue for their place."""
    lines: dict[str, list[Scheduled]] = {}
    now_ms = time.time() * 1000
    for task in tasks:
        org_id = clinic_of(task.name) if task.due_ms - now_ms > _SOON_MS else None
        if org_id:
            lines.setdefault(org_id, []).append(task)
    return lines


def backlog_keys(org_id: str) -> list[str]:
    """As lua/backlog.lua names them."""
    parts = ("plan", "planned", "parked", "sent")
    return [redis_keys.slots("queue"), redis_keys.TOLD, *(redis_keys.backlog(org_id, part) for part in parts)]


def told_every_ms(dispatches_per_s: float) -> float:
    """Those who were not reached take half of the queue's rate at most."""
    return 2000 / dispatches_per_s


def _depth(pace: Pace) -> int:
    """As many wait in the room as run: one for each slot that comes free, wherever the others are."""
    return max(2, pace.at_once)


async def _call(script: Any, keys: list[str], args: list[Any]) -> Any:
    try:
        return await script(keys=keys, args=args)
    except (RedisError, OSError) as exc:
        raise RedisUnavailableError(f"the backlog in Redis: {type(exc).__name__}: {exc}") from exc
