"""Connections of a server: the socket that it listens at, and an end to those that send nothing, or their head too slowly."""

import asyncio
import logging
import socket
import uuid
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from scanwise.errors import DataError
from scanwise.serving.problems import Problem, problem_response

HEAD_SECONDS = 10.0
"""Time in which the head of a request arrives, from the start of the connection or the end of the answer before."""
UNREAD_SECONDS = 60.0
"""Time in which a client that has not read all of its answer must have read more of it."""
MOST_HEAD = 16384
"""Bytes of the head of a request."""
MOST_CONNECTIONS = 128
"""Connections that wait to be accepted."""


class TimedConnection(H11Protocol):
    """A connection that is closed where no request begins in time, whether bytes trickle in or none come at all, or where an
    answer is not read.
    """

    _waiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        self._cancel_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        self._watch_unread(None)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads."""
        self._cancel_unread()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait_no_more()
        if not self.transport.is_closing():
            self._wait()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP in the form of every refusal; `msg` is not sent on."""
        number = uuid.uuid4().hex
        refusal = problem_response(Problem(400, "This is not HTTP, or a header of it is wrong."), number)
        headers = [*refusal.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(refusal.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._end_without_request, self.cycle)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _watch_unread(self, before: int | None) -> None:
        """Break off unless fewer bytes are left than `before`."""
        left = self.transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(UNREAD_SECONDS, self._watch_unread, left)

    def _cancel_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end_without_request(self, before: Any) -> None:
        """Close the connection unless another request than the one `before` has begun."""
        if self.cycle is before:
            self.transport.close()


def open_socket(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens; port 0 takes any that is free; `option` is the one that names it.

    Raises:
        DataError: if the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or asyncio leaves small packets waiting for one another, 40 ms each.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(MOST_CONNECTIONS)
    except OSError as error:
        opened.close()
        raise DataError(
            f"Cannot listen at {host}:{port}: {error.strerror}. Choose another {option}, or end the program that uses it."
        ) from error
    return opened


def server_config(application: Any, answer_seconds: float) -> uvicorn.Config:
    """Settings of uvicorn, which like the reader of forms says nothing of what it serves; h11 alone holds the head of a request
    to a size.
    """
    for name in ("uvicorn", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return uvicorn.Config(
        application, http=TimedConnection, log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=5, timeout_graceful_shutdown=int(answer_seconds) + 1, h11_max_incomplete_event_size=MOST_HEAD,
        backlog=MOST_CONNECTIONS, lifespan="on",
    )  # fmt: skip
