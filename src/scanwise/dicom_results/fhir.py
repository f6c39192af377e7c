"""The result as FHIR R4: a collection of one DiagnosticReport and an Observation a statement, checked before it is written.

The check is our own: required elements, value sets of codes, forms of dates and identifiers, and that every reference leads somewhere.
"""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scanwise.cohort.decoding.dicom_header import text
from scanwise.dicom_results import codes
from scanwise.dicom_results.codes import CodeBook, CodedTerm
from scanwise.dicom_results.sources import SourceScan
from scanwise.dicom_results.statements import INTENDED_USE, Statement
from scanwise.dicom_results.structured_report import ModelIdentity
from scanwise.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

Resource = dict[str, Any]
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
}
REPORT_STATUS = (
    "registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled", "entered-in-error", "unknown",
)  # fmt: skip
OBSERVATION_STATUS = (
    "registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown",
)  # fmt: skip
BUNDLE_TYPE = (
    "document", "message", "transaction", "transaction-response", "batch", "batch-response", "history", "searchset", "collection",
)  # fmt: skip
CATEGORY_SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-category"
CATEGORIES = (
    "social-history", "vital-signs", "imaging", "laboratory", "procedure", "survey", "exam", "therapy", "activity",
)  # fmt: skip
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_URN = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def build_fhir(
    uid: str,
    header: "Dataset",
    model: ModelIdentity,
    book: CodeBook,
    groups: "Sequence[tuple[Statement, Sequence[SourceScan]]]",
    issued: datetime | None = None,
) -> Resource:
    """A checked collection.

    Args:
        uid: of the structured report, from which all identifiers are derived.
        header: of an image of the study.
        model: that has answered.
        book: codes of its classes.
        groups: statements with their scans, the person first.
        issued: the time; default: now.

    Raises:
        DataError: if the check fails.
    """
    moment = (issued or datetime.now(UTC)).isoformat(timespec="seconds")
    subject = {"identifier": {"value": text(header, "PatientID") or "unknown"}, "type": "Patient"}
    study = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{text(header, 'StudyInstanceUID')}"}}
    shared = {"status": "preliminary", "subject": subject, "issued": moment}
    observations = [
        (_urn(uid, statement.about), _observation(book, model, statement, scans, shared, study))
        for statement, scans in groups
    ]
    report = {
        "resourceType": "DiagnosticReport",
        **shared,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "category": [
            {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"}
                ]
            }
        ],
        "code": {"coding": [_coding(codes.DEPLOYED_MODEL, book)], "text": codes.DEPLOYED_MODEL.meaning},
        "imagingStudy": [{**study, "type": "ImagingStudy"}],
        "result": [{"reference": name} for name, _ in observations],
        "conclusion": f"{groups[0][0].about}: {groups[0][0].verdict} {INTENDED_USE}",
    }
    collection = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": moment,
        "entry": [
            {"fullUrl": name, "resource": resource} for name, resource in [(_urn(uid, "report"), report), *observations]
        ],
    }
    check_fhir(collection)
    return collection


def _observation(
    book: CodeBook,
    model: ModelIdentity,
    statement: Statement,
    scans: Sequence[SourceScan],
    shared: Resource,
    study: Resource,
) -> Resource:
    """The observation of one statement; the decision is its first component."""
    parts: list[Resource] = [
        _component(codes.DECISION, book, coded=codes.REVIEW if statement.review else codes.ANSWERED)
    ]
    if statement.review:
        parts.append(_component(codes.REASONS, book, words="; ".join(statement.reasons)))
    parts += [_component(book.probabilities[name], book, number=p) for name, p in statement.probs.items()]
    if statement.prediction_set is None:
        parts.append(_component(codes.IN_SET, book, coded=codes.NO_SET))
    else:
        inside = [book.classes[name] for name in statement.prediction_set] or [codes.NO_CLASS]
        parts += [_component(codes.IN_SET, book, coded=term) for term in inside]
    if statement.novelty is not None:
        parts.append(_component(codes.NOVELTY_SCORE, book, number=statement.novelty))
    if statement.unlike_training is not None:
        parts.append(
            _component(codes.UNLIKE_TRAINING, book, coded=codes.YES if statement.unlike_training else codes.NO)
        )
    parts.append(_component(codes.GUARANTEE_TERM, book, words=statement.guarantee))
    images = [
        {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{scan.uid}"}, "type": "Media"} for scan in scans
    ]
    return {
        "resourceType": "Observation",
        **shared,
        "category": [{"coding": [{"system": CATEGORY_SYSTEM, "code": "imaging"}]}],
        "code": {
            "coding": [_coding(codes.DEPLOYED_MODEL, book)],
            "text": f"{codes.DEPLOYED_MODEL.meaning}: {statement.about}",
        },
        "partOf": [{**study, "type": "ImagingStudy"}],
        "derivedFrom": images,
        "device": {"display": model.line},
        "valueCodeableConcept": _concept(book.classes[statement.predicted], book),
        "note": [{"text": INTENDED_USE}],
        "component": parts,
    }


def check_fhir(collection: Resource) -> None:
    """Check a collection.

    Raises:
        DataError: naming the element that is wrong.
    """
    faults = list(_faults(collection))
    if faults:
        raise DataError(f"The FHIR result is not valid, and was not written: {'; '.join(faults[:3])}.")


def _faults(collection: Resource) -> "list[str]":
    faults: list[str] = []
    _require(faults, collection.get("resourceType") == "Bundle", "Bundle.resourceType")
    _require(faults, collection.get("type") in BUNDLE_TYPE, "Bundle.type")
    names = [entry.get("fullUrl", "") for entry in collection.get("entry", [])]
    _require(faults, len(set(names)) == len(names) > 0, "Bundle.entry.fullUrl")
    for name, entry in zip(names, collection.get("entry", []), strict=True):
        _require(faults, _URN.fullmatch(name) is not None, "Bundle.entry.fullUrl")
        resource = entry.get("resource", {})
        kind = resource.get("resourceType")
        statuses = {"DiagnosticReport": REPORT_STATUS, "Observation": OBSERVATION_STATUS}.get(kind)
        if statuses is None:
            faults.append(f"a resource {kind!r}")
            continue
        _require(faults, resource.get("status") in statuses, f"{kind}.status")
        _require(faults, _is_concept(resource.get("code")), f"{kind}.code")
        _require(faults, _INSTANT.fullmatch(str(resource.get("issued"))) is not None, f"{kind}.issued")
        _require(faults, all(link["reference"] in names for link in resource.get("result", [])), f"{kind}.result")
        if kind == "Observation":
            _check_observation(faults, resource)
    return faults


def _check_observation(faults: list[str], resource: Resource) -> None:
    coded = [coding.get("code") for group in resource.get("category", []) for coding in group.get("coding", [])]
    _require(faults, bool(coded) and all(code in CATEGORIES for code in coded), "Observation.category")
    for part in resource.get("component", []):
        values = [name for name in part if name.startswith("value")]
        _require(faults, _is_concept(part.get("code")), "Observation.component.code")
        _require(faults, len(values) == 1, "Observation.component.value[x]")
        if "valueQuantity" in part:
            number = part["valueQuantity"].get("value")
            _require(
                faults, isinstance(number, float) and number == number and abs(number) < 1e300, "valueQuantity.value"
            )
        if "valueCodeableConcept" in part:
            _require(faults, _is_concept(part["valueCodeableConcept"]), "valueCodeableConcept")


def _require(faults: list[str], holds: bool, name: str) -> None:
    if not holds:
        faults.append(name)


def _is_concept(value: Any) -> bool:
    """Whether a value is a concept whose codes have a system that is a URI, and no blanks around them."""
    codings = value.get("coding", []) if isinstance(value, dict) else []
    return bool(codings) and all(
        re.fullmatch(r"(https?://|urn:oid:)\S+", coding.get("system", ""))
        and re.fullmatch(r"\S+( \S+)*", coding.get("code", ""))
        for coding in codings
    )


def _component(
    name: CodedTerm, book: CodeBook, *, coded: CodedTerm | None = None, words: str = "", number: float | None = None
) -> Resource:
    value: Resource = {"valueString": words}
    if coded is not None:
        value = {"valueCodeableConcept": _concept(coded, book)}
    elif number is not None:
        value = {"valueQuantity": {"value": number, "system": "http://unitsofmeasure.org", "code": "1"}}
    return {"code": _concept(name, book), **value}


def _concept(term: CodedTerm, book: CodeBook) -> Resource:
    return {"coding": [_coding(term, book)], "text": term.meaning}


def _coding(term: CodedTerm, book: CodeBook) -> Resource:
    private = {scheme.designator: f"urn:oid:{scheme.uid}" for scheme in book.schemes}
    system = (
        private.get(term.scheme) or SYSTEMS.get(term.scheme) or f"http://terminology.hl7.org/CodeSystem/{term.scheme}"
    )
    return {"system": system, "code": term.code, "display": term.meaning}


def _urn(uid: str, about: str) -> str:
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'{uid} {about}')}"
