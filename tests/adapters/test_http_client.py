"""The client of LINE and the provider: what it says where there is no answer, which connections it keeps."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.adapters.http_client import HttpClient, HttpResponse, NotSentError
from core.local.processes import free_port

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers each request with the next of `answers`; None ends the connection instead."""

    def __init__(self, *answers: bytes | None, closes: bool = False) -> None:
        self.answers, self.closes = list(answers), closes
        self.connections = 0
        self.heads: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if self.closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


Get = Callable[..., Awaitable[HttpResponse]]


@asynccontextmanager
async def served(
    server: Server, *, max_idle_s: float = 30.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Get]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    client = HttpClient(connect_s=2.0, max_idle_s=max_idle_s)
    scheme = "https" if tls else "http"

    async def get(**more: object) -> HttpResponse:
        async with asyncio.timeout(5):
            return await client.request("POST", f"{scheme}://localhost:{port}/path?q=1", **more)  # type: ignore[arg-type]

    try:
        yield get
    finally:
        await client.close()
        listening.close()
        await asyncio.sleep(0.01)


async def test_a_connection_is_used_again() -> None:
    server = Server(OK, OK, OK)
    async with served(server) as get:
        for _ in range(3):
            assert (await get(body=b"x", headers={"A": "b"})).body == b"ok"
    assert server.connections == 1
    assert server.heads[0].startswith(b"POST /path?q=1 HTTP/1.1\r\nhost: localhost:")
    assert b"\r\nA: b\r\n" in server.heads[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    ],
)
async def test_a_connection_that_the_server_ends_or_spoils_is_not_used_again(answer: bytes) -> None:
    server = Server(answer, OK)
    async with served(server) as get:
        assert [(await get()).body for _ in range(2)] == [b"ok", b"ok"]
    assert server.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used_again() -> None:
    server = Server(OK, OK)
    async with served(server, max_idle_s=0.0) as get:
        await get()
        await get()
    assert server.connections == 2


async def test_one_that_the_server_closed_unheard_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.adapters.http_client._CHECKED_FROM_S", 0.0)
    server = Server(OK, OK)
    async with served(server) as get:
        await get()
        server.writers[0].write(b"as good as the end")  # in the socket, and nobody has looked yet
        assert (await get()).body == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nay!\r\n0\r\n\r\n", b"okay!"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n\r\n<p>gone</p>", b"<p>gone</p>"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
async def test_an_answer_is_read_however_it_is_framed(answer: bytes, body: bytes) -> None:
    async with served(Server(answer, closes=True)) as get:
        assert (await get()).body == body


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ],
)
async def test_half_an_answer_is_an_error_after_sending(answer: bytes | None) -> None:
    async with served(Server(answer, closes=True)) as get:
        with pytest.raises(ConnectionError) as caught:
            await get()
    assert not isinstance(caught.value, NotSentError)


async def test_without_a_connection_nothing_was_sent() -> None:
    with pytest.raises(NotSentError):
        await HttpClient().request("GET", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NotSentError):
        await HttpClient(connect_s=1.0).request("GET", "http://nowhere.invalid")


async def test_a_header_is_one_line() -> None:
    server = Server(OK)
    async with served(server) as get:
        for spoiled in ("a\r\nX-Admin: 1", "a\nb", "a\rb"):
            with pytest.raises(ValueError, match="line break"):
                await get(headers={"A": spoiled})
    assert server.connections == 0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Nobody vouches for it. And its key."""
    made = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    kind = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-out", made[0], "-keyout", made[1]]
    subprocess.run(["openssl", "req", *kind.split(), *more], check=True, capture_output=True)
    return made


async def test_whoever_is_not_trusted_is_sent_nothing(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    server = Server(OK, OK)
    async with served(server, tls=tls) as get:
        with pytest.raises(NotSentError, match="SSLCertVerificationError"):
            await get()
    assert not server.heads
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    async with served(server, tls=tls) as get:
        assert [(await get()).body for _ in range(2)] == [b"ok", b"ok"]
