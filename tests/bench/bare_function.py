"""What the webhook is measured against: a function that only creates the task, as the client's pages show."""

from __future__ import annotations

import hashlib
import os

import functions_framework.aio
import grpc.aio
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from starlette.requests import Request
from starlette.responses import Response

CLIENTS: list[tasks_v2.CloudTasksAsyncClient] = []


@functions_framework.aio.http
async def bare(request: Request) -> Response:
    if not CLIENTS:
        channel = grpc.aio.insecure_channel(os.environ["CLOUD_TASKS_EMULATOR_HOST"])
        CLIENTS.append(
            tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        )
    body, queue = await request.body(), os.environ["TASKS_QUEUE"]
    task = tasks_v2.Task(
        name=f"{queue}/tasks/{hashlib.sha256(body).hexdigest()}",
        http_request=tasks_v2.HttpRequest(
            http_method=tasks_v2.HttpMethod.POST,
            url=os.environ["TURN_URL"],
            headers={"Content-Type": "application/json"},
            body=body,
        ),
    )
    await CLIENTS[0].create_task(parent=queue, task=task)
    return Response(status_code=200)
