"""Store Instances Response (PS3.18, annex I): the outcome of every object that came by STOW-RS, as JSON or XML, written and read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scanwise.receiving.dicom_xml import from_xml, to_xml
from scanwise.receiving.storage import StoredImage

JSON, XML = "application/dicom+json", "application/dicom+xml"
_ALSO = {JSON: ("application/json",), XML: ("application/xml", "text/xml")}
"""Other names that programs call them by."""
_RETRIEVE_URL, _REFERENCED, _FAILED, _UNNAMED = "00081190", "00081199", "00081198", "0008119A"
_FAILURE, _WARNING = "00081197", "00081196"


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """The outcome of a request that stored objects, as the other side says it.

    Attributes:
        failures: status of each object that was not kept.
        warnings: status of each object that was kept with a warning.
    """

    failures: tuple[int, ...] = ()
    warnings: tuple[int, ...] = ()


def choose_media_type(accept: str) -> str | None:
    """The media type of an answer for a header `Accept`, JSON where both are welcome; None where neither is.

    >>> choose_media_type("application/dicom+xml, application/dicom+json;q=0.5")
    'application/dicom+xml'
    """
    preferences = {offered: _preference(accept, offered) for offered in (JSON, XML)}
    best = max(preferences, key=lambda offered: preferences[offered])
    return best if preferences[best] > 0 else None


def _preference(accept: str, offered: str) -> float:
    """Quality value of a media type (RFC 9110, 12.5.1), from the entry that names it most closely."""
    closest, preference = 0, 0.0
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        names = ("*/*", "application/*", *_ALSO[offered], offered)
        if kind in names and names.index(kind) >= closest:
            closest, preference = names.index(kind), _quality(parameters)
    return preference


def _quality(parameters: Sequence[str]) -> float:
    given = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    try:
        return float(given[0]) if given else 1.0
    except ValueError:
        return 0.0


def write_response(images: Sequence[StoredImage], media_type: str) -> bytes:
    """The outcome of each image, in one of the two media types."""
    kept = [_reference(image, _WARNING if image.status else "") for image in images if image.is_kept]
    failed = [_reference(image, _FAILURE) for image in images if not image.is_kept and image.name]
    unnamed = [{_FAILURE: _element("US", image.status)} for image in images if not image.is_kept and not image.name]
    sequences = {_FAILED: failed, _REFERENCED: kept, _UNNAMED: unnamed}
    described: dict[str, Any] = {_RETRIEVE_URL: {"vr": "UR"}}  # nothing can be retrieved here
    described |= {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    return to_xml(described) if media_type == XML else json.dumps(described).encode()


def read_response(content: bytes, media_type: str) -> StoreOutcome:
    """The outcome in a response; one without content says nothing of failures.

    Args:
        content: of the response.
        media_type: with or without parameters.

    Raises:
        ValueError: if it is no store response.
    """
    if not content.strip():
        return StoreOutcome()
    kind = media_type.partition(";")[0].strip().lower()
    if kind == XML or kind in _ALSO[XML]:
        described = [from_xml(content)]
    elif kind == JSON or kind in _ALSO[JSON]:
        read = json.loads(content)
        described = read if isinstance(read, list) else [read]
    else:
        raise ValueError("neither JSON nor XML")
    try:
        return StoreOutcome(
            tuple(status for tag in (_FAILED, _UNNAMED) for status in _statuses(described, tag, _FAILURE, 0)),
            tuple(status for status in _statuses(described, _REFERENCED, _WARNING, None)),
        )
    except (AttributeError, TypeError) as error:
        raise ValueError("no DICOM JSON") from error


def _statuses(described: list[dict[str, Any]], sequence: str, reason: str, without: int | None) -> list[int]:
    """Status of each item of a sequence; that of an item without one is `without`, and None leaves it out."""
    items = [item for own in described for item in own.get(sequence, {}).get("Value", [])]
    values = [next(iter(item.get(reason, {}).get("Value", [])), without) for item in items]
    return [int(value) for value in values if value is not None]


def _reference(image: StoredImage, reason: str) -> dict[str, Any]:
    reference = {"00081150": _element("UI", image.kind), "00081155": _element("UI", image.name)}
    return reference | ({reason: _element("US", image.status)} if reason else {})


def _element(kind: str, value: str | int) -> dict[str, Any]:
    return {"vr": kind, "Value": [value]}
