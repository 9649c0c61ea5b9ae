"""Secret Manager's gRPC API as far as secrets are read and written, for the far side of a socket."""

from __future__ import annotations

from typing import Any

import grpc
from google.cloud.secretmanager_v1 import (
    AccessSecretVersionRequest,
    AccessSecretVersionResponse,
    AddSecretVersionRequest,
    CreateSecretRequest,
    DeleteSecretRequest,
    Secret,
    SecretVersion,
)
from google.protobuf.empty_pb2 import Empty

METHODS: dict[str, tuple[Any, Any]] = {
    "AccessSecretVersion": (AccessSecretVersionRequest, AccessSecretVersionResponse),
    "CreateSecret": (CreateSecretRequest, Secret),
    "AddSecretVersion": (AddSecretVersionRequest, SecretVersion),
    "DeleteSecret": (DeleteSecretRequest, None),
}


class SecretManagerServer:
    """`secrets`: versions by name. `denied`: methods that the caller may not use. `called`: what was.
    `disabled`: the newest version is, until another one comes."""

    def __init__(self) -> None:
        self.secrets: dict[str, list[bytes]] = {}
        self.created: list[Any] = []
        self.denied: set[str] = set()
        self.called: list[str] = []
        self.disabled = False
        self._server = grpc.aio.server()
        self.address = ""

    async def start(self) -> None:
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._method(name),
                request_deserializer=request.pb().FromString,
                response_serializer=response.pb().SerializeToString if response else Empty.SerializeToString,
            )
            for name, (request, response) in METHODS.items()
        }
        service = "google.cloud.secretmanager.v1.SecretManagerService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def _method(self, name: str) -> Any:
        async def call(request: Any, context: Any) -> Any:
            self.called.append(name)
            if name in self.denied:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "as asked")
            status, answer = getattr(self, f"_{name}")(request)
            if status:
                await context.abort(status, name)
            return answer

        return call

    def _AccessSecretVersion(self, request: Any) -> Any:  # noqa: N802  the API's name
        name = request.name.removesuffix("/versions/latest")
        if not self.secrets.get(name):
            return grpc.StatusCode.NOT_FOUND, None
        if self.disabled:
            return grpc.StatusCode.FAILED_PRECONDITION, None
        payload = {"data": self.secrets[name][-1]}
        return None, AccessSecretVersionResponse.pb(AccessSecretVersionResponse(name=name, payload=payload))

    def _CreateSecret(self, request: Any) -> Any:  # noqa: N802
        name = f"{request.parent}/secrets/{request.secret_id}"
        if name in self.secrets:
            return grpc.StatusCode.ALREADY_EXISTS, None
        self.secrets[name] = []
        self.created.append(request.secret)
        return None, Secret.pb(Secret(name=name))

    def _AddSecretVersion(self, request: Any) -> Any:  # noqa: N802
        if request.parent not in self.secrets:
            return grpc.StatusCode.NOT_FOUND, None
        self.secrets[request.parent].append(request.payload.data)
        self.disabled = False
        version = f"{request.parent}/versions/{len(self.secrets[request.parent])}"
        return None, SecretVersion.pb(SecretVersion(name=version))

    def _DeleteSecret(self, request: Any) -> Any:  # noqa: N802
        return (
            None if self.secrets.pop(request.name, None) is not None else grpc.StatusCode.NOT_FOUND
        ), Empty()
