"""The secret store as one JSON file, for development: `{"line-{org_id}": {…}}`, mode 0600."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.domain.errors import InvalidInputError, SecretsUnavailableError


class FileSecrets:
    """Read anew whenever the file has changed; replaced atomically; created with the first secret."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._read_of: tuple[int, int] | None = None
        self._secrets: dict[str, Any] = {}

    async def get(self, name: str) -> Mapping[str, str] | None:
        """See the port."""
        value = self._load().get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise InvalidInputError(f"secrets file {self._path}: {name} is no object: apply its clinic again")
        return {key: str(field) for key, field in value.items()}

    async def put(self, name: str, value: Mapping[str, str]) -> None:
        """See the port."""
        with self._alone():
            secrets = self._load()
            if secrets.get(name) != value:
                self._replace({**secrets, name: dict(value)})

    async def delete(self, name: str) -> bool:
        """See the port."""
        with self._alone():
            secrets = self._load()
            if name not in secrets:
                return False
            self._replace({other: value for other, value in secrets.items() if other != name})
            return True

    async def close(self) -> None:
        """Nothing is open."""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that write at once would lose one of the secrets. Locks the folder, since the file
        is replaced; the lock ends with the process if not before."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)
        except OSError as exc:
            raise SecretsUnavailableError(f"secrets file {self._path}: {exc}") from exc

    def _replace(self, secrets: Mapping[str, Any]) -> None:
        text = json.dumps(secrets, ensure_ascii=False, indent=2, sort_keys=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp: mode 0600
            file.write(text + "\n")
        os.replace(temporary, self._path)  # noqa: PTH105  one rename, as fast as a call gets

    def _load(self) -> dict[str, Any]:
        try:
            stat = self._path.stat()
            if stat.st_mode & 0o077:  # made by hand, or copied: for its owner only, whatever stands in it
                with suppress(PermissionError):
                    self._path.chmod(0o600)
            if (stat.st_mtime_ns, stat.st_ino) != self._read_of:
                self._secrets = dict(json.loads(self._path.read_text("utf-8")).items())
                self._read_of = (stat.st_mtime_ns, stat.st_ino)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise SecretsUnavailableError(f"secrets file {self._path}: {exc}") from exc
        except (ValueError, AttributeError) as exc:
            raise SecretsUnavailableError(f"secrets file {self._path}: not a JSON object of secrets") from exc
        return self._secrets
