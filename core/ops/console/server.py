"""The console's socket: this machine alone, HTTP/1.1 by uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from core.domain.errors import InvalidInputError
from core.ops.console.access import Access

HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """Ctrl-C is the command's business: it ends the whole loop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ConsoleServer:
    """Its port is taken as soon as it is made, so that the URL can be printed; `port` 0: a free one.

    Raises InvalidInputError if the port is taken."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError as exc:
            self._socket.close()
            raise InvalidInputError(f"--port {port}: {exc.strerror}") from exc
        self.port: int = self._socket.getsockname()[1]
        self.access = Access(f"{HOST}:{self.port}")

    @property
    def url(self) -> str:
        """Good once."""
        return f"http://{HOST}:{self.port}/?token={self.access.token}"

    async def serve(self, app: ASGIApp) -> None:
        """Until it is cancelled."""
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, ws="none"
        )
        server = _Server(config)
        try:
            await server.serve([self._socket])
        except asyncio.CancelledError:
            await server.shutdown([self._socket])
            raise
        finally:
            self._socket.close()
