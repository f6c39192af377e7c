"""A form of scans as it arrives: every limit holds while it streams, and names are labels."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from scanwise.serving.messages import Header
from scanwise.serving.problems import Problem
from scanwise.serving.settings import ServerLimits
from scanwise.untrusted import parse_json

MOST_NAME = 200
Text = Annotated[str, Field(max_length=10_000)]
Label = Annotated[str, Field(max_length=MOST_NAME)]


class AboutScans(BaseModel):
    """The JSON beside the files: of each file its subject and its words, in the order of the files; the class to explain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: tuple[Label, ...] | None = None
    words: tuple[Text, ...] | None = None
    target: Label | None = None


@dataclass(frozen=True, slots=True)
class ScanUpload:
    """The content of a request.

    Attributes:
        names: of the files, which are labels and never paths.
        contents: of the files.
        about: what is said of them.
    """

    names: tuple[str, ...]
    contents: tuple[bytes, ...]
    about: AboutScans

    def question(self, kind: str, limits: ServerLimits) -> Header:
        """Header of a question about them."""
        totals = {"most_scans": limits.scans, "most_pixels": limits.pixels, "most_explained": limits.explained}
        return {"kind": kind, "names": self.names, **self.about.model_dump(), **totals}


async def read_upload(request: Request, limits: ServerLimits) -> ScanUpload:
    """The files `scans` and the field `about` of a multipart form.

    Raises:
        Problem: 400, 408, 413, 415 or 422.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Problem(415, "Send multipart/form-data with one part scans for each file.")
    counted = Request(request.scope, _counting(request, limits))
    parser = MultiPartParser(
        request.headers, counted.stream(), max_files=limits.scans, max_fields=1, max_part_size=limits.fields
    )
    parser.spool_max_size = limits.body  # in memory, and in no temporary file
    try:
        async with asyncio.timeout(limits.read_seconds):
            form = await parser.parse()
            try:
                return await _parse(form, limits)
            finally:
                await form.close()
    except TimeoutError:
        raise Problem(408, f"Send the whole request within {limits.read_seconds:g} seconds.") from None
    except ClientDisconnect:
        raise Problem(400, "The request ended before its length.") from None
    except (MultiPartException, KeyError) as error:  # KeyError: no boundary
        if "Too many" in str(error) or "exceeded" in str(error):
            most = f"{limits.scans} files, one field, and {limits.fields:,} bytes in it"
            raise Problem(413, f"Send at most {most}.") from None
        raise Problem(400, "The form cannot be read: see that its boundary and its parts are whole.") from None


def declared_length(request: Request, limits: ServerLimits) -> int:
    """Bytes that a request says it has, or as many as it may have.

    Raises:
        Problem: 413 where it has too many.
    """
    length = request.headers.get("content-length", str(limits.body))
    if not length.isdigit() or int(length) > limits.body:
        raise Problem(413, f"Send at most {limits.body:,} bytes in one request.")
    return int(length)


def _counting(request: Request, limits: ServerLimits) -> Any:
    """The messages of a request, refused when they are longer than allowed, whatever their length claims."""
    received = 0

    async def receive() -> Any:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limits.body:
            raise Problem(413, f"Send at most {limits.body:,} bytes in one request.")
        return message

    return receive


async def _parse(form: Any, limits: ServerLimits) -> ScanUpload:
    names: list[str] = []
    contents: list[bytes] = []
    about = AboutScans()
    for key, value in form.multi_items():
        if key == "scans" and isinstance(value, UploadFile):
            names.append(_label(value.filename))
            contents.append(await value.read())
        elif key == "about" and isinstance(value, str):
            about = _read_about(value)
        else:
            raise Problem(422, "A part is neither a file called scans nor the field called about.")
    if not names:
        raise Problem(422, "Send at least one file in a part called scans.")
    for kind, values in (("subjects", about.subjects), ("words", about.words)):
        if values is not None and len(values) != len(names):
            raise Problem(422, f"{len(names)} files need as many {kind}, not {len(values)}.")
    return ScanUpload(tuple(names), tuple(contents), about)


def _label(name: str | None) -> str:
    label = name or "scan"
    if len(label) > MOST_NAME or not label.isprintable():
        raise Problem(422, f"The name of a file must be printable text of at most {MOST_NAME} characters.")
    return label


def _read_about(text: str) -> AboutScans:
    try:
        return AboutScans.model_validate(parse_json(text))
    except (ValueError, ValidationError):
        raise Problem(
            422, "The field about must be JSON with the lists subjects and words, of text, each as long as the files."
        ) from None
