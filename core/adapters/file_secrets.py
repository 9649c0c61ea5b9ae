"""The secret store as one JSON file, for development: `{"line-{org_id}": {…}}`, mode 0600."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from core.domain.errors import SecretsUnavailableError


class FileSecrets:
    """Read anew whenever the file has changed; replaced atomically; created with the first secret."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._read_of: tuple[int, int] | None = None
        self._secrets: dict[str, dict[str, str]] = {}

    async def get(self, name: str) -> Mapping[str, str] | None:
        """See the port."""
        return self._load().get(name)

    async def put(self, name: str, value: Mapping[str, str]) -> None:
        """See the port."""
        secrets = self._load()
        if secrets.get(name) == value:
            return
        text = json.dumps({**secrets, name: dict(value)}, ensure_ascii=False, indent=2, sort_keys=True)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp: mode 0600
                file.write(text + "\n")
            os.replace(temporary, self._path)  # noqa: PTH105  one rename, as fast as a call gets
        except OSError as exc:
            raise SecretsUnavailableError(f"secrets file {self._path}: {exc}") from exc

    async def close(self) -> None:
        """Nothing is open."""

    def _load(self) -> dict[str, dict[str, str]]:
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._read_of:
                self._secrets = json.loads(self._path.read_text("utf-8"))
                self._read_of = (stat.st_mtime_ns, stat.st_ino)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise SecretsUnavailableError(f"secrets file {self._path}: {exc}") from exc
        return self._secrets
