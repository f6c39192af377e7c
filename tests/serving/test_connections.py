"""A connection ends where no request begins in time, and a request that began gets its answer however long that takes."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs scanwise[serve]")

from uvicorn.server import ServerState

from scanwise.serving import connections
from scanwise.serving.connections import TimedConnection, open_socket, server_config

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LIMIT = 0.3


LONG = 30_000_000


async def slow_answer(scope: Any, _: Any, send: Any) -> None:
    await asyncio.sleep(2 * LIMIT)
    if scope["path"] == "/long":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LONG)]})
        await send({"type": "http.response.body", "body": bytes(LONG)})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Streams], Awaitable[None]]], None]:
    """Run a test with a connection to a server that takes longer to answer than a head may take."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", LIMIT)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", LIMIT)

    def run(test: Callable[[Streams], Awaitable[None]]) -> None:
        async def whole() -> None:
            config = server_config(slow_answer, 5.0)
            config.load()
            state = ServerState()
            with open_socket("127.0.0.1", 0) as opened:
                loop = asyncio.get_running_loop()
                server = await loop.create_server(lambda: TimedConnection(config, state, {}), sock=opened)
                streams = await asyncio.open_connection(*opened.getsockname())
                try:
                    async with asyncio.timeout(20):
                        await test(streams)
                finally:
                    streams[1].close()
                    server.close()

        asyncio.run(whole())

    return run


async def trickle(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Send a byte now and then, until it is done or the other side hangs up."""
    with contextlib.suppress(ConnectionError):
        for byte in content:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(LIMIT / 4)


async def read_answer(reader: asyncio.StreamReader) -> None:
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(4) == b"done"


def test_a_connection_that_sends_nothing_ends(connected: Callable[..., None]) -> None:
    async def test(streams: Streams) -> None:
        assert await streams[0].read() == b""

    connected(test)


@pytest.mark.extended
def test_a_head_that_trickles_in_ends_the_connection_also_behind_an_answer(connected: Callable[..., None]) -> None:
    async def test(streams: Streams) -> None:
        reader, writer = streams
        writer.write(HEAD)
        await read_answer(reader)
        writer.write(HEAD)  # a request at once is answered, though the limit of the first has passed
        await read_answer(reader)
        await asyncio.gather(trickle(writer, HEAD), reader.read())
        assert reader.at_eof()

    connected(test)


def test_a_body_that_nobody_reads_ends_with_the_answer(connected: Callable[..., None]) -> None:
    async def test(streams: Streams) -> None:
        reader, writer = streams
        writer.write(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 999\r\n\r\n"))
        await read_answer(reader)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(trickle(writer, bytes(100)), reader.read())

    connected(test)


def test_what_is_no_http_is_refused_in_the_form_of_every_refusal(connected: Callable[..., None]) -> None:
    async def test(streams: Streams) -> None:
        reader, writer = streams
        writer.write(HEAD.replace(b"Host: a", b"Host: a\r\nContent-Length: -1"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"content-type: application/problem+json" in head.lower()
        problem = json.loads(body)
        assert problem["status"] == 400
        assert f"x-request-id: {problem['request_id']}".encode() in head.lower()

    connected(test)


@pytest.mark.extended
def test_a_client_that_does_not_read_its_answer_loses_the_connection(connected: Callable[..., None]) -> None:
    async def test(streams: Streams) -> None:
        reader, writer = streams
        writer.write(HEAD.replace(b"/ ", b"/long ", 1))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(5 * LIMIT)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(LONG)
        writer.close()

    connected(test)


def test_a_long_answer_that_is_read_is_whole(connected: Callable[..., None]) -> None:
    async def test(streams: Streams) -> None:
        reader, writer = streams
        writer.write(HEAD.replace(b"/ ", b"/long ", 1))
        await reader.readuntil(b"\r\n\r\n")
        assert len(await reader.readexactly(LONG)) == LONG

    connected(test)
