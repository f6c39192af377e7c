"""Refusals of a server, as problem details (RFC 9457), without a traceback, a name of a file or the value of a header."""

from typing import Any

from fastapi.responses import JSONResponse

TITLES = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "Not from here",
    404: "There is nothing at this address",
    405: "Not with this method",
    406: "Not in this form",
    409: "This model cannot do that",
    408: "The request took too long to arrive",
    413: "The request is too large",
    415: "Not content of this kind",
    421: "Not the name of this server",
    422: "The scans cannot be answered",
    429: "Too many scans are waiting",
    500: "A fault of the server",
    503: "The model does not answer",
    504: "The answer took too long",
}


class Problem(Exception):  # noqa: N818 - it is an answer
    """A refusal.

    Args:
        status: of HTTP.
        detail: what to do, in one sentence.
        headers: of the response.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def problem_response(problem: Problem, request_id: str) -> JSONResponse:
    """A problem as `application/problem+json`."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(problem.status, "The request is refused"),
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
    }
    return JSONResponse(
        content, problem.status, {**problem.headers, "X-Request-ID": request_id}, "application/problem+json"
    )
