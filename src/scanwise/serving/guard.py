"""Callers that may ask, and one form for every refusal, before any route of a server."""

import hmac
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scanwise.errors import place_of
from scanwise.serving.problems import Problem, problem_response
from scanwise.serving.supervision import Fault

log = logging.getLogger("scanwise.serving")


LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Callers:
    """Callers that may ask a server.

    Attributes:
        hosts: names of the server that a request may use; none where it listens on all addresses, which takes a token.
        token: that a request must bear; "" for none.
        free: addresses that need no token, since they say nothing of a scan or the model.
    """

    hosts: tuple[str, ...]
    token: str = ""
    free: tuple[str, ...] = ()

    def check(self, request: Request) -> None:
        """Refuse another name of this server (a rebound DNS name), a page of another site, and a wrong token.

        Raises:
            Problem: 401, 403 or 421.
        """
        if self.hosts and _host_of(request.headers.get("host", "")) not in self.hosts:
            raise Problem(421, "Use the name or the address that this server was started with.")
        origin = request.headers.get("origin")
        if self.hosts and origin is not None and _host_of(origin.partition("://")[2]) not in self.hosts:
            raise Problem(403, "Pages of other sites may not ask this server.")
        if self.token and request.url.path not in self.free:
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            given, expected = token.strip().encode(), self.token.encode()
            if kind.lower() != "bearer" or not hmac.compare_digest(given, expected):
                bearer = {"WWW-Authenticate": "Bearer"}
                raise Problem(401, "Send the header Authorization: Bearer and the token.", bearer)


def names_of(host: str) -> tuple[str, ...]:
    """Names by which a server at this address may be called; none, for any, where it listens on all addresses."""
    return () if host in ("0.0.0.0", "::") else tuple(dict.fromkeys((*LOCAL, host.lower())))  # noqa: S104 - compared


def _host_of(text: str) -> str:
    """The host without its port."""
    host = text.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


class Guard:
    """Middleware that refuses callers that may not ask, numbers each request, and gives every refusal one form.

    Args:
        app: behind it.
        callers: that may ask.
        counted: is given the path and status of each answer.
    """

    def __init__(self, app: ASGIApp, callers: Callers, counted: Callable[[str, int], None]) -> None:
        self._app, self._callers, self._counted = app, callers, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as GET; what it says is left out where it is sent
            scope = {**scope, "method": "GET"}
        request = Request(scope, receive)
        number = request.state.request_id = uuid.uuid4().hex
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._counted(scope["path"], message["status"])
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = number
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        response: Response | None = None
        try:
            self._callers.check(request)
            await self._app(scope, receive, sending)
        except Problem as problem:
            response = problem_response(problem, number)
        except Exception as error:  # noqa: BLE001 - never a traceback to a client
            kind = str(error) if isinstance(error, Fault) else place_of(error)
            log.error("request %s: %s", number, kind)  # noqa: TRY400 - a traceback may hold names
            fault = Problem(500, "This is a fault of the server. Give the request id to those who run it.")
            response = problem_response(fault, number)
        if response is not None and not started:
            await response(scope, receive, sending)


async def problem_of(request: Request, error: Any) -> Response:
    """The answer of Starlette's own refusals, and of ours, in one form."""
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        error = Problem(error.status_code, "See the documentation for what this server answers.", headers)
    return problem_response(error, request.state.request_id)
