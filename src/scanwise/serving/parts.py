"""Parts of a multipart body while it arrives, each within the bytes that it may have."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from scanwise.serving.problems import Problem


@dataclass(slots=True)
class BodyPart:
    """A part of a body.

    Attributes:
        headers: by lower-case name.
        content: as far as it has arrived.
        most: bytes that it may have.
    """

    headers: dict[str, str] = field(default_factory=dict)
    content: io.BytesIO = field(default_factory=io.BytesIO)
    most: int = 0

    def options(self, name: str) -> tuple[str, dict[str, str]]:
        """Value and options of a header, such as a name and a file name."""
        return read_options(self.headers.get(name, ""))


def read_options(header: str) -> tuple[str, dict[str, str]]:
    """The value of a header in lower case, and its options.

    >>> read_options('Multipart/Related; type="application/dicom"; boundary=b')
    ('multipart/related', {'type': 'application/dicom', 'boundary': 'b'})
    """
    value, options = parse_options_header(header)
    return value.decode("latin-1"), {
        name.decode("latin-1"): text.decode("utf-8", "replace") for name, text in options.items()
    }


class PartReader:
    """A reader of a multipart body.

    Args:
        boundary: between the parts.
        admit: is given each part when its headers are there, and says how many bytes it may have, or raises.
        refusal: of a part that has more.
    """

    def __init__(self, boundary: str, admit: Callable[[BodyPart], int], refusal: Problem) -> None:
        self._admit, self._refusal = admit, refusal
        self._part = BodyPart()
        self._name, self._value = bytearray(), bytearray()
        self._finished: list[BodyPart] = []
        self.ended = False
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._extend,
            "on_part_end": lambda: self._finished.append(self._part),
            "on_end": self._end,
        }
        if not boundary:
            raise _unreadable()
        try:
            self._parser = MultipartParser(boundary.encode("latin-1"), callbacks)  # type: ignore[arg-type]
        except (FormParserError, UnicodeEncodeError):
            raise _unreadable() from None

    def feed(self, content: bytes) -> list[BodyPart]:
        """The parts that end within more of the body.

        Raises:
            Problem: 400 if it cannot be read, and what `admit` and `refusal` say.
        """
        try:
            self._parser.write(content)
        except FormParserError:
            raise _unreadable() from None
        finished, self._finished = self._finished, []
        return finished

    def finish(self) -> None:
        """Nothing more comes.

        Raises:
            Problem: 400 if the body is not whole.
        """
        if not self.ended:
            raise _unreadable()

    def _begin(self) -> None:
        self._part = BodyPart()

    def _end_header(self) -> None:
        self._part.headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        self._part.most = self._admit(self._part)

    def _extend(self, data: bytes, start: int, end: int) -> None:
        if self._part.content.tell() + end - start > self._part.most:
            raise self._refusal
        self._part.content.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self.ended = True


def _unreadable() -> Problem:
    return Problem(400, "The form cannot be read: see that its boundary and its parts are whole.")
