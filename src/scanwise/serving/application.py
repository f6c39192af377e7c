"""Routes of the server. An answer is what `scanwise predict --format json` writes, byte for byte, inside an envelope."""

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from scanwise import __version__
from scanwise.bundle import Bundle, BundlePredictions
from scanwise.errors import ScanwiseError
from scanwise.serving.measures import ServerMeasures
from scanwise.serving.problems import Problem, problem_response
from scanwise.serving.settings import ServerLimits
from scanwise.serving.uploads import ScanUpload, read_upload

log = logging.getLogger("scanwise.serving")
Next = Callable[[Request], Awaitable[Response]]
ROUTES = ("/v1/health/live", "/v1/health/ready", "/v1/model", "/v1/predict", "/metrics", "/openapi.json")


@dataclass(slots=True)
class ServedModel:
    """A model, and what it is doing.

    Attributes:
        bundle: the model.
        digest: hash of its list of hashes.
        check: asks it about cases whose answers are known; raises where it does not answer as it should.
        limits: on requests.
        hosts: names of this server that a request may use.
        token: that a request must bear; "" for none.
        cores: requests that are answered at once.
        waiting: scans that are answered or wait.
    """

    bundle: Bundle
    digest: str
    check: Callable[[], object]
    limits: ServerLimits
    hosts: tuple[str, ...]
    token: str = ""
    cores: int = 1
    waiting: int = 0
    ready: bool = field(default=False)


def build_application(model: ServedModel) -> FastAPI:
    """The application of a model."""
    measures = ServerMeasures(model.digest, lambda: model.waiting)
    pool = ThreadPoolExecutor(model.cores, thread_name_prefix="answer")

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.get_running_loop().run_in_executor(pool, model.check)
            model.ready = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the server says that it is not ready
            log.error(  # noqa: TRY400 - a traceback may hold names
                "the model does not answer its golden cases (%s)", type(error).__name__
            )
        yield
        model.ready = False
        pool.shutdown(wait=True)

    app = FastAPI(title="scanwise", version=__version__, lifespan=living, docs_url=None, redoc_url=None)
    _guard(app, model, measures)

    @app.get("/v1/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/v1/health/ready")
    async def ready() -> dict[str, str]:
        _require_ready(model)
        return {"status": "ready"}

    @app.get("/v1/model")
    async def about() -> dict[str, Any]:
        return _about(model)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(measures.to_text(), media_type="text/plain; version=0.0.4")

    @app.post("/v1/predict")
    async def predict(request: Request) -> Response:
        _require_ready(model)
        upload = await read_upload(request, model.limits)
        start = time.perf_counter()
        answer = await _answer(model, pool, upload)
        measures.count_answer(answer, time.perf_counter() - start)
        head = json.dumps({"request_id": request.state.request_id, "model": model.digest})
        body = f'{head[:-1]}, "answer": {answer.to_json().rstrip()}}}\n'
        return Response(body, media_type="application/json")

    return app


def _guard(app: FastAPI, model: ServedModel, measures: ServerMeasures) -> None:
    """Refuse callers that may not ask, and give every refusal one form."""

    @app.middleware("http")
    async def guarded(request: Request, following: Next) -> Response:
        request.state.request_id = uuid.uuid4().hex
        route = request.url.path if request.url.path in ROUTES else "other"
        try:
            _check_caller(request, model)
            response = await following(request)
        except Problem as problem:
            response = problem_response(problem, request.state.request_id)
        except Exception as error:  # noqa: BLE001 - never a traceback to a client
            log.error("request %s: %s", request.state.request_id, type(error).__name__)  # noqa: TRY400 - as above
            fault = Problem(500, "This is a fault of the server. Give the request id to those who run it.")
            response = problem_response(fault, request.state.request_id)
        measures.count_request(route, response.status_code)
        response.headers["X-Request-ID"] = request.state.request_id
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.exception_handler(Problem)
    async def refused(request: Request, problem: Problem) -> Response:
        return problem_response(problem, request.state.request_id)

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        problem = Problem(
            error.status_code, "See /openapi.json for what this server answers.", dict(error.headers or {})
        )
        return problem_response(problem, request.state.request_id)


def _check_caller(request: Request, model: ServedModel) -> None:
    """Refuse another name of this server (a rebound DNS name), a page of another site, and a wrong token."""
    if _host_of(request.headers.get("host", "")) not in model.hosts:
        raise Problem(421, "Use the name or the address that this server was started with.")
    origin = request.headers.get("origin")
    if origin is not None and _host_of(origin.partition("://")[2]) not in model.hosts:
        raise Problem(403, "Pages of other sites may not ask this server.")
    if model.token and request.url.path not in ("/v1/health/live", "/v1/health/ready"):
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        given, expected = token.strip().encode(), model.token.encode()
        if kind.lower() != "bearer" or not hmac.compare_digest(given, expected):
            raise Problem(401, "Send the header Authorization: Bearer and the token.", {"WWW-Authenticate": "Bearer"})


def _host_of(text: str) -> str:
    """The host without its port."""
    host = text.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _require_ready(model: ServedModel) -> None:
    if not model.ready:
        raise Problem(503, "The model has not answered its golden cases as it should, or the server is stopping.")


def _about(model: ServedModel) -> dict[str, Any]:
    sets = {unit: predictor.sets for unit, predictor in model.bundle.predictors.items()}
    return {
        "name": model.bundle.recipe.name,
        "classes": list(model.bundle.classes),
        "scanwise": __version__,
        "digest": model.digest,
        "guarantee": {
            unit: None
            if own is None
            else {"coverage": round(1 - own.alpha, 6), "for": own.guarantee, "warning": own.warning}
            for unit, own in sets.items()
        },
        "reads_words": model.bundle.recipe.model.reads_words,
        "limits": asdict(model.limits),
        "intended_use": "research use only; not a medical device",
    }


async def _answer(model: ServedModel, pool: ThreadPoolExecutor, upload: ScanUpload) -> BundlePredictions:
    """Answer when there is room; scans that nobody waits for any more still count until they are answered."""
    count = len(upload.scans)
    if model.waiting + count > model.limits.waiting:
        raise Problem(429, "Ask again later, or send fewer scans at once.", {"Retry-After": "2"})
    model.waiting += count
    future = pool.submit(_predict, model.bundle, upload)
    loop = asyncio.get_running_loop()

    def finished(_: object) -> None:
        loop.call_soon_threadsafe(_release, model, count)

    future.add_done_callback(finished)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), model.limits.answer_seconds)
    except TimeoutError:
        raise Problem(
            504, f"The answer took longer than {model.limits.answer_seconds:g} seconds. Send fewer scans at once."
        ) from None
    except ScanwiseError as error:
        raise Problem(422, _without_names(error, upload)) from None


def _release(model: ServedModel, count: int) -> None:
    model.waiting -= count


def _predict(bundle: Bundle, upload: ScanUpload) -> BundlePredictions:
    subjects = None if upload.about.subjects is None else list(upload.about.subjects)
    words = None if upload.about.words is None else list(upload.about.words)
    return bundle.predict(upload.scans, subjects, words=words)


def _without_names(error: ScanwiseError, upload: ScanUpload) -> str:
    """The message of an error with numbers in place of names."""
    message = str(error)
    names = sorted({(scan.name, number) for number, scan in enumerate(upload.scans, 1)}, key=lambda pair: -len(pair[0]))
    for name, number in names:
        message = message.replace(name, f"file {number}")
    return message
