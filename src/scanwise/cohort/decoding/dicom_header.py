"""Values of a DICOM header, as they come: absent, empty, of the wrong type, or of one frame only.

pydicom reads a value when it is asked for, and raises whatever a damaged one leads it to.
"""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset


def of_frame(header: "Dataset", index: int, sequence: str) -> "Dataset":
    """The part of a header that holds a value of one frame: the frame's own, that of all frames, or the file's."""
    for groups, item in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        items = header.get(groups)
        if items and item < len(items) and items[item].get(sequence):
            frame: Dataset = items[item].get(sequence)[0]
            return frame
    return header


def text(header: "Dataset", keyword: str) -> str:
    """A value as text, without blanks around it; "" where it is not said or not readable."""
    try:
        value = header.get(keyword)
    except Exception:  # noqa: BLE001
        return ""
    return "" if value is None else str(value).strip(" \0")


def code(value: str) -> str:
    """A coded value; free text in its place may be a name, and is dropped."""
    return value if re.fullmatch(r"[A-Z0-9_]{1,16}", value) else ""


def numbers(header: "Dataset", keyword: str, count: int) -> list[float] | None:
    try:
        value = header.get(keyword)
        values = [float(part) for part in ([] if value is None else value)]
    except Exception:  # noqa: BLE001
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def number_of(header: "Dataset", keyword: str) -> float | None:
    """A number, of several the first; None where it is not said or not readable."""
    try:
        value: Any = header.get(keyword)
        first = value[0] if isinstance(value, list | tuple) or hasattr(value, "insert") else value
        number = float(first)
    except Exception:  # noqa: BLE001
        return None
    return number if math.isfinite(number) else None


def whole(header: "Dataset", keyword: str) -> int:
    """A whole number; 0 where it is not said or not readable."""
    return int(number_of(header, keyword) or 0)


def unreadable(header: "Dataset", keywords: Sequence[str]) -> list[str]:
    """Those of these numbers that the header does not hold."""
    return [keyword for keyword in keywords if number_of(header, keyword) is None]
