from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.tasks_v2 import CreateTaskRequest, Task
from pytest_mock import MockerFixture

from core.adapters.cloudtasks_tasks import CloudTasksQueue, connect
from core.domain.errors import TasksUnavailableError
from core.domain.event import EventKind, InboundEvent
from core.domain.task import TurnTask
from core.local.cloud_tasks import CloudTasks
from core.local.processes import free_port
from tests.support.faulty_link import FaultyLink

QUEUE = "projects/p/locations/asia-southeast1/queues/turns"
URL = "https://turn-123.asia-southeast1.run.app"
TASK = TurnTask(InboundEvent("e1", "a", "U1", EventKind.TEXT, 1, 2, text="ราคาเท่าไหร่คะ"), "0" * 32)


class FarSide:
    """The gRPC method CreateTask, with names that exist once, and faults to choose."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.fault: grpc.StatusCode | None = None
        self.hang_s = 0.0

    async def create(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(self.hang_s)
        if self.fault:
            await context.abort(self.fault, "as asked")
        if any(known.task.name == request.task.name for known in self.requests):
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, request.task.name)
        self.requests.append(request)
        return request.task

    async def serve(self, port: int) -> grpc.aio.Server:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            self.create,
            request_deserializer=CreateTaskRequest.pb().FromString,
            response_serializer=Task.pb().SerializeToString,
        )
        service = grpc.method_handlers_generic_handler(
            "google.cloud.tasks.v2.CloudTasks", {"CreateTask": handler}
        )
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server


@pytest.fixture
async def far_side() -> AsyncIterator[tuple[FarSide, str]]:
    far_side, port = FarSide(), free_port()
    server = await far_side.serve(port)
    yield far_side, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def queue(far_side: tuple[FarSide, str]) -> AsyncIterator[CloudTasksQueue]:
    queue = CloudTasksQueue(QUEUE, URL, emulator_host=far_side[1])
    yield queue
    await queue.close()


async def test_a_task_stands_in_the_queue_as_it_was_given(
    far_side: tuple[FarSide, str], queue: CloudTasksQueue
) -> None:
    assert await queue.create(TASK)
    [request] = far_side[0].requests
    assert request.parent == QUEUE
    assert request.task.name == f"{QUEUE}/tasks/{TASK.name}"
    http = request.task.http_request
    assert (http.url, http.http_method, http.headers["Content-Type"]) == (URL, 1, "application/json")
    assert TurnTask.decode(http.body) == TASK
    assert "ราคา" in json.loads(http.body)["event"]["text"]
    assert request.task.dispatch_deadline.seconds == 120
    assert not request.task.HasField("schedule_time")
    assert not http.HasField("oidc_token")


async def test_the_same_name_again_is_success_without_a_second_task(
    far_side: tuple[FarSide, str], queue: CloudTasksQueue
) -> None:
    assert [await queue.create(TASK), await queue.create(TASK)] == [True, False]
    assert await queue.create(TASK.successor())
    assert len(far_side[0].requests) == 2


async def test_a_delay_becomes_the_schedule_time(
    far_side: tuple[FarSide, str], queue: CloudTasksQueue
) -> None:
    before = time.time() * 1000
    await queue.create(TASK, delay_ms=90_000)
    scheduled = far_side[0].requests[0].task.schedule_time.ToMilliseconds()
    assert before + 89_000 < scheduled < time.time() * 1000 + 91_000


async def test_a_service_account_signs_the_dispatch_for_the_turns_url(far_side: tuple[FarSide, str]) -> None:
    queue = CloudTasksQueue(
        QUEUE, URL, service_account="tasks@p.iam", emulator_host=far_side[1], dispatch_deadline_s=45
    )
    await queue.create(TASK)
    await queue.close()
    task = far_side[0].requests[0].task
    assert task.http_request.oidc_token.service_account_email == "tasks@p.iam"
    assert task.http_request.oidc_token.audience == URL
    assert task.dispatch_deadline.seconds == 45


@pytest.mark.parametrize(
    "fault", ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNKNOWN"]
)
async def test_any_other_answer_is_no_confirmation(
    far_side: tuple[FarSide, str], queue: CloudTasksQueue, fault: str
) -> None:
    far_side[0].fault = grpc.StatusCode[fault]
    with pytest.raises(TasksUnavailableError):
        await queue.create(TASK)


async def test_a_queue_that_hangs_is_given_up_in_time(
    far_side: tuple[FarSide, str], queue: CloudTasksQueue
) -> None:
    await queue.create(TASK.successor())
    far_side[0].hang_s = 5
    started = time.perf_counter()
    with pytest.raises(TasksUnavailableError):
        await queue.create(TASK, timeout_s=0.3)
    assert time.perf_counter() - started < 1.5


async def test_a_queue_that_was_away_is_found_again_within_seconds() -> None:
    far_side, port = FarSide(), free_port()
    queue = CloudTasksQueue(QUEUE, URL, emulator_host=f"127.0.0.1:{port}")
    with pytest.raises(TasksUnavailableError):
        await queue.create(TASK, timeout_s=2)
    server = await far_side.serve(port)
    deadline = time.perf_counter() + 6
    while True:
        try:
            assert await queue.create(TASK, timeout_s=2)
            break
        except TasksUnavailableError:
            assert time.perf_counter() < deadline
            await asyncio.sleep(0.1)
    await queue.close()
    await server.stop(None)


async def test_a_task_waits_for_a_queue_that_comes_back_within_its_timeout() -> None:
    far_side, port = FarSide(), free_port()
    server = await far_side.serve(port)
    queue = CloudTasksQueue(QUEUE, URL, emulator_host=f"127.0.0.1:{port}")
    assert await queue.create(TASK)
    await server.stop(None)
    creating = asyncio.create_task(queue.create(TASK.successor(), timeout_s=1.8))
    await asyncio.sleep(0.5)
    server = await far_side.serve(port)
    assert await creating
    await queue.close()
    await server.stop(None)


async def test_after_a_timeout_the_next_attempt_has_a_connection_of_its_own(
    far_side: tuple[FarSide, str],
) -> None:
    link = FaultyLink(far_side[1])
    await link.start()
    queue = CloudTasksQueue(QUEUE, URL, emulator_host=link.address)
    assert await queue.create(TASK)
    link.fall_silent()
    with pytest.raises(TasksUnavailableError):
        await queue.create(TASK.successor(), timeout_s=0.3)
    assert await queue.create(TASK.successor(), timeout_s=1)
    assert link.connections == 2
    await queue.close()
    await link.stop()


async def test_a_call_that_runs_is_not_cut_off_by_anothers_timeout(
    far_side: tuple[FarSide, str], queue: CloudTasksQueue
) -> None:
    assert await queue.create(TASK)
    far_side[0].hang_s = 0.6
    patient = asyncio.create_task(queue.create(TASK.successor(), timeout_s=5))
    hasty = [queue.create(TurnTask(TASK.event, "t", hop=10 + n), timeout_s=0.3) for n in range(5)]
    ended = await asyncio.gather(*hasty, return_exceptions=True)
    assert all(isinstance(e, TasksUnavailableError) for e in ended)
    assert await patient


async def test_googles_queue_is_reached_over_a_channel_with_the_same_options(mocker: MockerFixture) -> None:
    """What a local queue was seen to do above, Google's does only if its channel has these options, too."""
    local = mocker.spy(grpc.aio, "insecure_channel")
    google = mocker.spy(grpc.aio, "secure_channel")
    mocker.patch("google.auth.default", return_value=(AnonymousCredentials(), "p"))
    clients = [connect("127.0.0.1:1"), connect()]
    options = dict(local.call_args.kwargs["options"])
    assert options.items() <= dict(google.call_args.kwargs["options"]).items()
    assert "waitForReady" in options["grpc.service_config"]
    for client in clients:
        await client.transport.close()


async def test_closing_twice_or_before_the_first_task_is_fine() -> None:
    queue = CloudTasksQueue(QUEUE, URL, emulator_host="127.0.0.1:1")
    await queue.close()
    await queue.close()


async def test_what_waits_for_its_time_is_listed_by_name_and_time_page_by_page() -> None:
    async with CloudTasks() as cloud:
        cloud.create_queue(QUEUE)
        queue = CloudTasksQueue(QUEUE, URL, emulator_host=cloud.address)
        later = [replace(TASK, hop=hop) for hop in range(1_005)]
        before_ms = time.time() * 1000
        for task in later:
            await queue.create(task, delay_ms=60_000)
        found = await queue.scheduled()
        await queue.close()
    assert [task.name for task in found] == [task.name for task in later]
    assert all(task.due_ms - task.created_ms == pytest.approx(60_000, abs=2_000) for task in found)
    assert all(task.created_ms >= before_ms - 2 for task in found)


async def test_a_queue_that_may_not_be_listed_is_unavailable() -> None:
    queue = CloudTasksQueue(QUEUE, URL, emulator_host=f"127.0.0.1:{free_port()}")
    with pytest.raises(TasksUnavailableError):
        await queue.scheduled(timeout_s=0.5)
    await queue.close()
