"""A form of scans as it arrives: every limit holds while it streams, and names are labels."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request

from scanwise.phrases import count_of
from scanwise.serving.messages import Header
from scanwise.serving.parts import BodyPart, PartReader, read_options
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
    kind, options = read_options(request.headers.get("content-type", ""))
    if kind != "multipart/form-data":
        raise Problem(415, "Send multipart/form-data with one part scans for each file.")
    form = _FormOfScans(limits)
    reader = PartReader(options.get("boundary", ""), form.admit, form.too_many())
    async with aclosing(read_parts(request, reader, limits.body, limits.read_seconds)) as parts:
        async for part in parts:
            form.add(part)
    return form.whole()


async def read_parts(request: Request, reader: PartReader, most: int, seconds: float) -> AsyncGenerator[BodyPart, None]:
    """The parts of a body as they arrive; close it (`aclosing`), or its time goes on.

    Args:
        request: whose body it is.
        reader: of it.
        most: bytes of the body, whatever its length claims.
        seconds: until it must be there.

    Raises:
        Problem: 400, 408 or 413, and those of the reader.
    """
    received, ends = 0, asyncio.get_running_loop().time() + seconds
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout_at(ends):  # not around the reader of the parts, which would be broken off
                chunk = await anext(stream, None)
            if chunk is None:
                break
            received += len(chunk)
            if received > most:
                raise _too_long(most)
            for part in reader.feed(chunk):
                yield part
    except TimeoutError:
        raise Problem(408, f"Send the whole request within {seconds:g} seconds.") from None
    except ClientDisconnect:
        raise Problem(400, "The request ended before its length.") from None
    reader.finish()


def declared_length(request: Request, limits: ServerLimits) -> int:
    """Bytes that a request says it has, or as many as it may have.

    Raises:
        Problem: 413 where it has too many.
    """
    length = request.headers.get("content-length", str(limits.body))
    if not length.isdigit() or int(length) > limits.body:
        raise _too_long(limits.body)
    return int(length)


def _too_long(most: int) -> Problem:
    return Problem(413, f"Send at most {most:,} bytes in one request.")


class _FormOfScans:
    """The files and the field of a form, as they arrive."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits, self._begun = limits, {"scans": 0, "about": 0}
        self._names: list[str] = []
        self._contents: list[bytes] = []
        self._about = AboutScans()

    def admit(self, part: BodyPart) -> int:
        """Bytes that a part may have; the others of the form are refused before they arrive."""
        kind = self._kind_of(part)
        self._begun[kind] += 1
        if self._begun["scans"] > self._limits.scans or self._begun["about"] > 1:
            raise self.too_many()
        return self._limits.body if kind == "scans" else self._limits.fields

    def add(self, part: BodyPart) -> None:
        """Take a part."""
        if self._kind_of(part) == "scans":
            self._names.append(_label(part.options("content-disposition")[1].get("filename")))
            self._contents.append(part.content.getvalue())
        else:
            self._about = _read_about(part.content.getvalue())

    def whole(self) -> ScanUpload:
        """The whole form."""
        count = len(self._names)
        if not count:
            raise Problem(422, "Send at least one file in a part called scans.")
        for kind, values in (("subjects", self._about.subjects), ("words", self._about.words)):
            if values is not None and len(values) != count:
                files = count_of(count, "file")
                raise Problem(422, f"The field about lists {len(values)} {kind} for {files}; give one for each file.")
        return ScanUpload(tuple(self._names), tuple(self._contents), self._about)

    def too_many(self) -> Problem:
        """The refusal of more files or fields than a request may have."""
        limits = self._limits
        return Problem(413, f"Send at most {limits.scans} files, one field, and {limits.fields:,} bytes in it.")

    @staticmethod
    def _kind_of(part: BodyPart) -> str:
        options = part.options("content-disposition")[1]
        kind = options.get("name", "")
        if (kind, "filename" in options) not in (("scans", True), ("about", False)):
            raise Problem(422, "A part is neither a file called scans nor the field called about.")
        return kind


def _label(name: str | None) -> str:
    label = name or "scan"
    if len(label) > MOST_NAME or not label.isprintable():
        raise Problem(422, f"The name of a file must be printable text of at most {MOST_NAME} characters.")
    return label


def _read_about(content: bytes) -> AboutScans:
    try:
        return AboutScans.model_validate(parse_json(content.decode()))
    except (ValueError, ValidationError):
        raise Problem(
            422, "The field about must be JSON with the lists subjects and words, of text, each as long as the files."
        ) from None
