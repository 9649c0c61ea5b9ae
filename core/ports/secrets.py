"""The secret store: small JSON objects by name, such as `line-{org_id}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SecretStore(Protocol):
    """Methods raise SecretsUnavailableError when the store does not answer."""

    async def get(self, name: str) -> Mapping[str, str] | None:
        """The newest value, or None if there is no such secret.

        Raises InvalidInputError, without showing the value, if it is none that fairlane wrote.
        """
        ...

    async def put(self, name: str, value: Mapping[str, str]) -> None:
        """Create the secret or add a version, also to one that can't be read; the same value adds nothing."""
        ...

    async def delete(self, name: str) -> bool:
        """Remove the secret, all versions of it; False if there was none."""
        ...

    async def close(self) -> None: ...
