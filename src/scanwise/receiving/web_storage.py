"""The STOW-RS service: images alone, from senders with a token, acknowledged when they are on the disk (PS3.18, 10.5).

200 all are kept      202 some are, or with a warning      409 none is      507 none is, for the disk is full

An answer lists each image with the status that C-STORE would give it (`storage`), and what cannot be named apart.
"""

import asyncio
import io
import threading
from collections.abc import Sequence
from contextlib import aclosing

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scanwise.receiving.storage import DIFFERENT, FULL, KEPT, UNREADABLE, ImageIntake, StoredImage, WebAddress
from scanwise.receiving.store_response import JSON, XML, choose_media_type, write_response
from scanwise.serving.connections import open_socket, server_config
from scanwise.serving.guard import Callers, Guard, names_of, problem_of
from scanwise.serving.parts import BodyPart, PartReader, read_options
from scanwise.serving.problems import Problem
from scanwise.serving.settings import read_token
from scanwise.serving.uploads import read_parts

STUDIES = "/dicom-web/studies"
READ_SECONDS = 600.0
"""Time in which a request arrives, all its images included."""
GRACE_SECONDS = 30.0
"""Time that requests under way have once the service is to end."""
MOST_REQUESTS = 16
"""Requests at once, of each of which one object is in memory."""
MOST_OBJECTS = 1000
"""Images of a request; and times the size of the largest one that it may have in all."""


class WebStorageService:
    """A STOW-RS service, in a thread of its own.

    Args:
        intake: that takes the images.
        address: of the service.

    Raises:
        DataError: if the port is in use, or the token cannot be used.
    """

    def __init__(self, intake: ImageIntake, address: WebAddress) -> None:
        context = None if address.encryption is None else address.encryption.for_receiving()
        token = read_token(address.token_file)
        self._socket = open_socket(address.host, address.port, "--web-port")
        config = server_config(
            build_web_storage(intake, Callers(names_of(address.host), token), address.most_bytes), GRACE_SECONDS
        )
        config.load()
        config.ssl = context
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        shown = f"[{address.host}]" if ":" in address.host else address.host
        self.url = f"http{'s' * (context is not None)}://{shown}:{self._socket.getsockname()[1]}{STUDIES}"
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more; what is on its way may end."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def build_web_storage(intake: ImageIntake, callers: Callers, most_bytes: int) -> Starlette:
    """The application of a STOW-RS service.

    Args:
        intake: that takes the images.
        callers: that may send.
        most_bytes: of one object.
    """
    room = asyncio.Semaphore(MOST_REQUESTS)

    async def store(request: Request) -> Response:
        study = request.path_params.get("study", "")
        boundary, media_type = _boundary_of(request), _media_type_of(request)
        if room.locked():
            raise Problem(429, "Ask again later.", {"Retry-After": "5"})
        reader = PartReader(boundary, lambda part: _admit(part, most_bytes), _too_large(most_bytes))
        images: list[StoredImage] = []
        async with (
            room,
            aclosing(read_parts(request, reader, MOST_OBJECTS * most_bytes, READ_SECONDS)) as parts,
        ):
            async for part in parts:  # one after another: each is on the disk before the next is read
                taken = await asyncio.to_thread(_take, intake, part.content, study)
                images.append(taken)
                if len(images) > MOST_OBJECTS:
                    raise Problem(413, f"Send at most {MOST_OBJECTS:,} images in one request. Those before were taken.")
        if not images:
            raise Problem(400, "Send at least one part with an image.")
        return Response(write_response(images, media_type), _status_of(images), media_type=media_type)

    routes = [Route(path, store, methods=["POST"]) for path in (STUDIES, f"{STUDIES}/{{study}}")]
    app = Starlette(routes=routes, exception_handlers={Problem: problem_of, HTTPException: problem_of})
    app.add_middleware(Guard, callers=callers, counted=lambda _path, _status: None)
    return app


def _boundary_of(request: Request) -> str:
    kind, options = read_options(request.headers.get("content-type", ""))
    root = (
        options.get("type", "application/dicom").partition(";")[0].strip().lower()
    )  # some name no type, or an encoding
    if (kind, root) != ("multipart/related", "application/dicom"):
        raise Problem(
            415,
            'Send multipart/related; type="application/dicom" with one part for each image, a whole DICOM file; metadata and bulk data '
            "apart are not taken.",
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Send the body as it is, without Content-Encoding.")
    return options.get("boundary", "")


def _media_type_of(request: Request) -> str:
    media_type = choose_media_type(",".join(request.headers.getlist("accept")) or "*/*")
    if media_type is None:
        raise Problem(406, f"The answer is {JSON} or {XML}: name one of them in Accept, or */*.")
    return media_type


def _admit(part: BodyPart, most: int) -> int:
    if part.options("content-type")[0] not in ("", "application/dicom"):
        raise Problem(415, "Each part must be application/dicom.")
    return most


def _too_large(most: int) -> Problem:
    return Problem(413, f"Send at most {most:,} bytes in one image. Those before it were taken.")


def _take(intake: ImageIntake, content: io.BytesIO, study: str) -> StoredImage:
    """Take one file of PS3.10, which names its own class, identifier and encoding."""
    from pydicom.filereader import read_dataset, read_preamble

    try:
        content.seek(0)
        read_preamble(content, force=False)
        meta = read_dataset(content, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
        names = str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID)
        syntax = meta.TransferSyntaxUID
    except Exception:  # noqa: BLE001 - whatever a decoder of damaged files raises
        return StoredImage("", "", UNREADABLE)
    return intake.take(*names, syntax, content, study)


def _status_of(images: Sequence[StoredImage]) -> int:
    statuses = {image.status for image in images}
    if statuses == {KEPT}:
        return 200
    if statuses & {KEPT, DIFFERENT}:
        return 202
    return 507 if FULL in statuses else 409
