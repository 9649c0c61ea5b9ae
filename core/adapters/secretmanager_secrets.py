"""The secret store in Secret Manager: one secret a clinic, its newest version counts.

Reading takes secretmanager.secretAccessor and nothing else, which is what the functions have; writing, for
operators, also secretmanager.admin (or the rights to create secrets and to add versions).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import TypeVar

from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    NotFound,
    PermissionDenied,
    RetryError,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud.secretmanager_v1 import (
    Replication,
    Secret,
    SecretManagerServiceAsyncClient,
    SecretPayload,
)

from core.adapters import google_credentials
from core.domain.errors import InvalidInputError, SecretsUnavailableError

T = TypeVar("T")


class SecretManagerSecrets:
    """`prefix`: begins the name of every secret, so that several deployments can share a project. `region`:
    where new secrets are kept; "": wherever Google likes. `timeout_s` bounds each call.
    `client`: for tests; otherwise made on first use, since gRPC does not survive the server's fork."""

    def __init__(
        self,
        project: str,
        *,
        prefix: str = "",
        region: str = "",
        timeout_s: float = 5.0,
        client: SecretManagerServiceAsyncClient | None = None,
    ) -> None:
        self._project = project
        self._prefix = prefix
        self._region = region
        self._timeout_s = timeout_s
        self._made = client

    async def get(self, name: str) -> Mapping[str, str] | None:
        """See the port."""
        try:
            version = await self._call(
                self._client.access_secret_version(name=f"{self._path(name)}/versions/latest")
            )
        except NotFound:
            return None
        except FailedPrecondition as exc:
            raise InvalidInputError(
                f"secret {name}: its newest version is disabled: enable it, or apply its clinic again"
            ) from exc
        try:
            value = json.loads(version.payload.data)
            return {str(key): str(field) for key, field in value.items()}
        except (ValueError, AttributeError):  # not chained: the cause quotes the value
            raise InvalidInputError(f"secret {name} is not a JSON object: apply its clinic again") from None

    async def put(self, name: str, value: Mapping[str, str]) -> None:
        """See the port."""
        with suppress(InvalidInputError):  # a version that can't be read is followed by a good one
            if await self.get(name) == value:
                return
        replicas = [Replication.UserManaged.Replica(location=self._region)]
        replication = (
            Replication(user_managed=Replication.UserManaged(replicas=replicas))
            if self._region
            else Replication(automatic=Replication.Automatic())
        )
        secret = Secret(replication=replication, labels={"managed-by": "fairlane"})
        with suppress(AlreadyExists):
            await self._call(
                self._client.create_secret(
                    parent=f"projects/{self._project}", secret_id=f"{self._prefix}{name}", secret=secret
                )
            )
        payload = SecretPayload(data=json.dumps(dict(value), sort_keys=True).encode())
        await self._call(self._client.add_secret_version(parent=self._path(name), payload=payload))

    async def delete(self, name: str) -> bool:
        """See the port."""
        try:
            await self._call(self._client.delete_secret(name=self._path(name)))
        except NotFound:
            return False
        return True

    async def close(self) -> None:
        if self._made is not None:
            await self._made.transport.close()
            self._made = None

    @property
    def _client(self) -> SecretManagerServiceAsyncClient:
        if self._made is None:
            try:
                self._made = SecretManagerServiceAsyncClient()
            except GoogleAuthError as exc:
                raise SecretsUnavailableError(f"Secret Manager: {google_credentials.missing(exc)}") from exc
        return self._made

    def _path(self, name: str) -> str:
        return f"projects/{self._project}/secrets/{self._prefix}{name}"

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except (NotFound, AlreadyExists, FailedPrecondition):
            raise
        except PermissionDenied as exc:
            raise SecretsUnavailableError(
                "Secret Manager: permission denied: reading needs roles/secretmanager.secretAccessor, "
                "writing roles/secretmanager.admin"
            ) from exc
        except (GoogleAPICallError, RetryError, GoogleAuthError, TimeoutError) as exc:
            raise SecretsUnavailableError(f"Secret Manager: {type(exc).__name__}") from exc
