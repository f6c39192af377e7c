"""Routes of the server. An answer is what `scanwise predict --format json` writes, byte for byte, inside an envelope."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from scanwise import __version__
from scanwise.serving.guard import Callers, Guard, problem_of
from scanwise.serving.jobs import JobQueue
from scanwise.serving.measures import ServerMeasures
from scanwise.serving.messages import Header, Message
from scanwise.serving.page import build_page
from scanwise.serving.problems import Problem
from scanwise.serving.service import Service
from scanwise.serving.settings import ServerLimits
from scanwise.serving.uploads import ScanUpload, declared_length, read_upload

ROUTES = (
    "/", "/v1/health/live", "/v1/health/ready", "/v1/model", "/v1/predict", "/v1/explain", "/v1/jobs", "/metrics", "/openapi.json",
)  # fmt: skip
FREE = ("/", "/v1/health/live", "/v1/health/ready")
"""Routes that say nothing of a scan or the model, and need no token."""
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["scans"],
                    "properties": {
                        "scans": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "about": {"type": "string", "description": "JSON: subjects, words, target"},
                    },
                }
            }
        },
    }
}


def build_application(service: Service) -> FastAPI:
    """The application of a model."""
    measures = ServerMeasures(service)

    async def answer_job(header: Header, contents: list[bytes]) -> bytes:
        start = time.perf_counter()
        answered, (answer,) = _require_answer(*await service.model.ask(header, contents))
        measures.count_answer(answered["counts"], time.perf_counter() - start)
        return answer

    jobs = JobQueue(answer_job, service.limits, service.folder)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.model.start()
        except Exception as error:
            service.refusal = error
            raise
        service.opened()
        yield
        service.lost = jobs.unfinished
        await jobs.close()
        await service.model.close()

    app = FastAPI(title="scanwise", version=__version__, lifespan=living, docs_url=None, redoc_url=None)
    _guard(app, service, measures)

    @app.get("/v1/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/v1/health/ready")
    async def ready() -> dict[str, str]:
        _require_ready(service)
        return {"status": "ready"}

    @app.get("/v1/model")
    async def about() -> dict[str, Any]:
        limits = asdict(service.limits)
        return {**service.model.about, "limits": limits, "intended_use": "research use only; not a medical device"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(measures.to_text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        text, policy = build_page()
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    @app.post("/v1/predict", openapi_extra=FORM)
    async def predict(request: Request) -> Response:
        start = time.perf_counter()
        async with _upload(request, service, service.limits) as upload:
            header, (answer,) = await _ask(service, "predict", upload)
        measures.count_answer(header["counts"], time.perf_counter() - start)
        return _enveloped(request, service, b'"answer": ' + answer.rstrip())

    @app.post("/v1/explain", openapi_extra=FORM)
    async def explain(request: Request) -> Response:
        if not service.model.about["explains"]:
            raise Problem(409, "An exported model explains nothing. Serve the run that it was exported from.")
        async with _upload(request, service, service.limits) as upload:
            header, contents = await _ask(service, "explain", upload)
        pictures = (base64.b64encode(content).decode() for content in contents)
        for explained in header["explanations"]:
            explained |= {"scan_png": next(pictures), "png": next(pictures)}
        return _enveloped(request, service, json.dumps(header).encode()[1:-1])

    _add_jobs(app, service, jobs)
    return app


def _add_jobs(app: FastAPI, service: Service, jobs: JobQueue) -> None:
    @app.post("/v1/jobs", status_code=202, openapi_extra=FORM)
    async def add_job(request: Request) -> Response:
        async with _upload(request, service, service.limits.of_a_job()) as upload:
            job = await jobs.add(upload)
        body = _enveloped(request, service, json.dumps(job.about()).encode()[1:-1])
        return Response(body.body, 202, {"Location": f"/v1/jobs/{job.key}"}, "application/json")

    @app.get("/v1/jobs/{key}")
    async def get_job(request: Request, key: str) -> Response:
        job = jobs.find(key)
        answer = b', "answer": ' + job.answer.rstrip() if job.status == "done" else b""
        return _enveloped(request, service, json.dumps(job.about()).encode()[1:-1] + answer)

    @app.delete("/v1/jobs/{key}", status_code=204)
    async def delete_job(key: str) -> Response:
        jobs.delete(key)
        return Response(status_code=204)


def _guard(app: FastAPI, service: Service, measures: ServerMeasures) -> None:
    """Refuse callers that may not ask, and give every refusal one form."""

    def counted(path: str, status: int) -> None:
        route = "/v1/jobs" if path.startswith("/v1/jobs/") else path
        measures.count_request(route if route in ROUTES else "other", status)

    app.add_middleware(Guard, callers=Callers(service.hosts, service.token, FREE), counted=counted)
    for kind in (Problem, HTTPException):
        app.add_exception_handler(kind, problem_of)


def _require_ready(service: Service) -> None:
    if not service.model.ready:
        detail = "The model has not answered its golden cases as it should yet, is started again, or is stopping."
        raise Problem(503, detail, {"Retry-After": "5"})


@asynccontextmanager
async def _upload(request: Request, service: Service, limits: ServerLimits) -> AsyncIterator[ScanUpload]:
    """The scans of a request while there is room for its bytes beside those of others."""
    _require_ready(service)
    length = declared_length(request, limits)
    if service.held + length > service.limits.held:
        raise _busy()
    service.held += length
    try:
        yield await read_upload(request, limits)
    finally:
        service.held -= length


def _busy() -> Problem:
    return Problem(429, "Ask again later, or send fewer scans at once.", {"Retry-After": "2"})


async def _ask(service: Service, kind: str, upload: ScanUpload) -> Message:
    """The answer when there is room; scans that nobody waits for any more still count until they are answered."""
    count = len(upload.names)
    if service.waiting + count > service.limits.waiting:
        raise _busy()
    service.waiting += count
    question = asyncio.ensure_future(service.model.ask(upload.question(kind, service.limits), upload.contents))

    def finished(done: asyncio.Future[Message]) -> None:
        service.waiting -= count
        if not done.cancelled():
            done.exception()  # looked at, or asyncio prints a traceback where nobody waits any more

    question.add_done_callback(finished)
    seconds = service.limits.answer_seconds
    try:
        answered, contents = await asyncio.wait_for(asyncio.shield(question), seconds)
    except TimeoutError:
        raise Problem(504, f"The answer took longer than {seconds:g} seconds. Send fewer scans at once.") from None
    return _require_answer(answered, contents)


def _require_answer(header: Header, contents: list[bytes]) -> Message:
    if "problem" in header:
        raise Problem(header["problem"], header["detail"])
    return header, contents


def _enveloped(request: Request, service: Service, answer: bytes) -> Response:
    """An answer of the model, whose bytes stay as they are, with the request and the model beside it."""
    head = json.dumps({"request_id": request.state.request_id, "model": service.model.about["digest"]}).encode()
    return Response(head[:-1] + b", " + answer + b"}\n", media_type="application/json")
