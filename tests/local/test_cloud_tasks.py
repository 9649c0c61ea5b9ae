"""The local Cloud Tasks, seen through Google's own client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks import CloudTasksAsyncClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf import duration_pb2, timestamp_pb2

from core.local.cloud_tasks import CloudTasks, DispatchPlan, QueueConfig, RetryPolicy
from core.local.http_server import HttpServer, Request, Response
from core.local.processes import free_port

PARENT = "projects/p/locations/l"
QUEUE = f"{PARENT}/queues/turns"


@dataclass
class Worker:
    """Where tasks go: answers with the next of `statuses`, then 200; keeps all it got."""

    statuses: list[int] = field(default_factory=list)
    got: list[tuple[float, Request]] = field(default_factory=list)
    hold_s: float = 0.0
    running: int = 0
    most: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, request: Request) -> Response:
        self.got.append((time.time(), request))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.hold_s)
        finally:
            self.running -= 1
        return Response(self.statuses.pop(0) if self.statuses else 200, headers=self.headers)

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for _, request in self.got]

    def header(self, name: str) -> list[str]:
        return [request.headers[f"x-cloudtasks-{name}"] for _, request in self.got]


@dataclass
class Scene:
    tasks: CloudTasks
    client: CloudTasksAsyncClient
    worker: Worker
    url: str

    async def create(self, name: str | None = None, body: bytes = b"x", **fields: Any) -> tasks_v2.Task:
        request = tasks_v2.HttpRequest(url=f"{self.url}/turn", body=body, headers={"x-own": "1"})
        task = tasks_v2.Task(name=f"{QUEUE}/tasks/{name}" if name else "", http_request=request, **fields)
        return await self.client.create_task(parent=QUEUE, task=task)


FAST = RetryPolicy(min_backoff_s=0.02, max_backoff_s=0.05)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    worker = Worker()
    server = HttpServer(worker)
    await server.start()
    async with CloudTasks() as tasks:
        tasks.create_queue(QUEUE, QueueConfig(retry=FAST))
        channel = grpc.aio.insecure_channel(tasks.address)
        client = CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        yield Scene(tasks, client, worker, server.url)
        await channel.close()
    await server.stop()


async def test_task_arrives_with_its_body_and_googles_headers(scene: Scene) -> None:
    created = await scene.create("one", b"hello")
    await scene.tasks.drained(5)
    _, request = scene.worker.got[0]
    assert created.name == f"{QUEUE}/tasks/one"
    assert (request.method, request.path, request.body) == ("POST", "/turn", b"hello")
    assert request.headers["x-own"] == "1"
    assert request.headers["x-cloudtasks-queuename"] == "turns"
    assert request.headers["x-cloudtasks-taskname"] == "one"
    assert request.headers["x-cloudtasks-taskretrycount"] == "0"
    assert request.headers["x-cloudtasks-taskexecutioncount"] == "0"
    assert abs(float(request.headers["x-cloudtasks-tasketa"]) - time.time()) < 5


async def test_name_is_taken_while_the_task_waits_and_after_it_is_done(scene: Scene) -> None:
    scene.tasks.pause()
    await scene.create("one")
    with pytest.raises(AlreadyExists):
        await scene.create("one")
    scene.tasks.resume()
    await scene.tasks.drained(5)
    with pytest.raises(AlreadyExists):
        await scene.create("one")
    assert len(scene.worker.got) == 1


async def test_task_waits_for_its_schedule_time(scene: Scene) -> None:
    due = time.time() + 0.4
    at = timestamp_pb2.Timestamp(seconds=int(due), nanos=int(due % 1 * 1e9))
    await scene.create("later", schedule_time=at)
    await scene.create("now", b"now")
    await scene.tasks.drained(5)
    assert scene.worker.bodies == [b"now", b"x"]
    assert scene.worker.got[1][0] >= due - 0.001


async def test_dispatch_rate_is_a_token_bucket(scene: Scene) -> None:
    limits = tasks_v2.RateLimits(max_dispatches_per_second=50, max_burst_size=10)
    await scene.client.update_queue(queue=tasks_v2.Queue(name=QUEUE, rate_limits=limits))
    scene.tasks.pause()
    await asyncio.gather(*(scene.create() for _ in range(40)))
    started = time.time()
    scene.tasks.resume()
    await scene.tasks.drained(5)
    assert 0.55 <= scene.worker.got[-1][0] - started <= 1.2  # 10 at once, 30 at 50/s


async def test_concurrency_is_capped(scene: Scene) -> None:
    limits = tasks_v2.RateLimits(max_concurrent_dispatches=3)
    await scene.client.update_queue(queue=tasks_v2.Queue(name=QUEUE, rate_limits=limits))
    scene.worker.hold_s = 0.03
    await asyncio.gather(*(scene.create() for _ in range(12)))
    await scene.tasks.drained(5)
    assert scene.worker.most == 3


async def test_failures_are_retried_and_only_answers_below_500_count_as_executions(scene: Scene) -> None:
    scene.worker.statuses = [500, 404, 301, 503]
    await scene.create("one")
    await scene.tasks.drained(5)
    assert scene.worker.header("taskretrycount") == ["0", "1", "2", "3", "4"]
    assert scene.worker.header("taskexecutioncount") == ["0", "0", "1", "2", "2"]


def test_backoff_doubles_then_grows_evenly_up_to_its_limit() -> None:
    retry = RetryPolicy(min_backoff_s=10, max_backoff_s=300, max_doublings=3)
    assert [retry.backoff_s(n) for n in range(1, 9)] == [10, 20, 40, 80, 160, 240, 300, 300]


def test_retries_end_only_when_count_and_age_are_both_reached() -> None:
    both = RetryPolicy(max_attempts=3, max_retry_s=60)
    assert [both.exhausted(2, 61), both.exhausted(3, 59), both.exhausted(3, 60)] == [False, False, True]
    assert RetryPolicy(max_attempts=3).exhausted(3, 0)
    assert not RetryPolicy(max_attempts=-1).exhausted(10_000, 1e9)


async def test_task_that_is_given_up_is_listed_as_dead(scene: Scene) -> None:
    scene.tasks.queue().store.config = QueueConfig(retry=RetryPolicy(max_attempts=2, min_backoff_s=0.01))
    scene.worker.statuses = [500, 500]
    await scene.create("one", b"lost")
    await scene.tasks.drained(5)
    assert [(dead.body, dead.attempts, dead.last_status) for dead in scene.tasks.dead] == [(b"lost", 2, 500)]


async def test_retry_after_delays_the_retry_and_503_slows_the_queue(scene: Scene) -> None:
    scene.worker.statuses, scene.worker.headers = [503], {"retry-after": "1"}
    await scene.create("one")
    await scene.tasks.drained(5)
    assert scene.worker.got[1][0] - scene.worker.got[0][0] >= 1.0
    assert scene.tasks.queue().bucket.congestion < 1.0


async def test_refused_connection_is_retried_on_the_next_target(scene: Scene) -> None:
    scene.tasks.targets = [f"http://127.0.0.1:{free_port()}", scene.url]
    await scene.create("one")
    await scene.tasks.drained(5)
    assert scene.worker.header("taskretrycount") == ["1"]
    assert scene.worker.header("taskexecutioncount") == ["0"]


async def test_unanswered_dispatch_ends_at_its_deadline(scene: Scene) -> None:
    scene.tasks.queue().max_deadline_s = 0.1
    scene.worker.hold_s = 0.3
    await scene.create("one")
    await asyncio.sleep(0.2)
    assert len(scene.worker.got) == 2
    scene.worker.hold_s = 0.0
    await scene.tasks.drained(5)
    assert scene.worker.running == 0


async def test_paused_queue_keeps_tasks_and_a_forced_run_goes_out(scene: Scene) -> None:
    paused = await scene.client.pause_queue(name=QUEUE)
    assert paused.state == tasks_v2.Queue.State.PAUSED
    for name in ("one", "two"):
        await scene.create(name, name.encode())
    await scene.client.run_task(name=f"{QUEUE}/tasks/two")
    await asyncio.sleep(0.1)
    assert scene.worker.bodies == [b"two"]
    await scene.client.resume_queue(name=QUEUE)
    await scene.tasks.drained(5)
    assert scene.worker.bodies == [b"two", b"one"]


async def test_hook_duplicates_and_delays_dispatches(scene: Scene) -> None:
    scene.tasks.on_dispatch = lambda attempt: (
        DispatchPlan(copies=3) if attempt.task_id == "twice" else DispatchPlan(delay_s=0.2)
    )
    await scene.create("late", b"late")
    await scene.create("twice", b"twice")
    await scene.tasks.drained(5)
    await asyncio.sleep(0.05)
    assert scene.worker.bodies == [b"twice"] * 3 + [b"late"]


async def test_finished_task_can_be_delivered_again(scene: Scene) -> None:
    await scene.create("one", b"again")
    await scene.tasks.drained(5)
    scene.tasks.redeliver("one", copies=2)
    await asyncio.sleep(0.1)
    assert scene.worker.bodies == [b"again"] * 3


async def test_too_large_and_unknown_are_refused(scene: Scene) -> None:
    with pytest.raises(InvalidArgument):
        await scene.create("large", b"x" * 102_400)
    with pytest.raises(InvalidArgument):
        await scene.create("no/slash")
    with pytest.raises(InvalidArgument):
        await scene.create("soon", dispatch_deadline=duration_pb2.Duration(seconds=1))
    with pytest.raises(NotFound):
        await scene.client.get_task(name=f"{QUEUE}/tasks/none")
    with pytest.raises(NotFound):
        await scene.client.create_task(parent=f"{PARENT}/queues/none", task=tasks_v2.Task())


async def test_queues_and_tasks_are_made_listed_deleted_and_purged(scene: Scene) -> None:
    other = f"{PARENT}/queues/other"
    await scene.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=other))
    with pytest.raises(AlreadyExists):
        await scene.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=other))
    assert [q.name async for q in await scene.client.list_queues(parent=PARENT)] == [QUEUE, other]
    shown = await scene.client.get_queue(name=other)
    assert shown.rate_limits.max_dispatches_per_second == 500
    assert shown.retry_config.max_attempts == 100
    await scene.client.pause_queue(name=QUEUE)
    for name in ("a", "b", "c"):
        await scene.create(name, b"body")
    await scene.client.delete_task(name=f"{QUEUE}/tasks/b")
    listed = [t async for t in await scene.client.list_tasks(parent=QUEUE)]
    assert [(t.name.rpartition("/")[2], t.http_request.body) for t in listed] == [("a", b""), ("c", b"")]
    assert scene.tasks.stats(QUEUE).backlog == 2
    await scene.client.purge_queue(name=QUEUE)
    assert scene.tasks.stats(QUEUE).backlog == 0
