"""Native DICOM Model XML (PS3.19, annex A) of small data sets, from and to DICOM JSON: sequences and plain values, no names and no bulk data."""

from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, TreeBuilder, XMLParser, tostring

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"


def to_xml(described: dict[str, Any]) -> bytes:
    """XML of a data set in DICOM JSON (PS3.18, annex F).

    >>> to_xml({"00081197": {"vr": "US", "Value": [42752]}}).decode().partition("preserve")[2]
    '"><DicomAttribute tag="00081197" vr="US" keyword="FailureReason"><Value number="1">42752</Value></DicomAttribute></NativeDicomModel>'
    """
    root = Element("NativeDicomModel", {"xmlns": NAMESPACE, "xml:space": "preserve"})
    _add_attributes(root, described)
    return bytes(tostring(root, "utf-8", xml_declaration=True))


def from_xml(content: bytes) -> dict[str, Any]:
    """DICOM JSON of a data set in XML; the values stay text.

    Raises:
        ValueError: if it is none, or brings definitions of its own.
    """
    parser = XMLParser(target=_NoDefinitions())  # noqa: S314 - entities, of which a few stand for gigabytes, are refused
    try:
        parser.feed(content)
        root = parser.close()
    except ParseError as error:
        raise ValueError("no XML") from error
    if _local(root) != "NativeDicomModel":
        raise ValueError("no Native DICOM Model")
    return _read_attributes(root)


class _NoDefinitions(TreeBuilder):
    def doctype(self, *_: str | None) -> None:
        raise ValueError("definitions in XML")


def _add_attributes(parent: Element, described: dict[str, Any]) -> None:
    from pydicom.datadict import keyword_for_tag

    for tag, element in described.items():
        kind = element["vr"]
        names = {"tag": tag, "vr": kind, "keyword": keyword_for_tag(int(tag, 16))}
        attribute = SubElement(parent, "DicomAttribute", names)
        for number, value in enumerate(element.get("Value", []), 1):
            child = SubElement(attribute, "Item" if kind == "SQ" else "Value", number=str(number))
            if kind == "SQ":
                _add_attributes(child, value)
            else:
                child.text = str(value)


def _read_attributes(attributes: Iterable[Element]) -> dict[str, Any]:
    described = {}
    for attribute in attributes:
        kind = attribute.get("vr", "")
        values = [_read_attributes(child) if kind == "SQ" else (child.text or "").strip() for child in attribute]
        described[attribute.get("tag", "").upper()] = {"vr": kind, "Value": values}
    return described


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]
