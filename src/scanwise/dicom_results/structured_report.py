"""The result as a DICOM structured report (TID 1500) for machines: one measurement group a person, and one a scan.

Each group says first whether a person should decide and why; then class, probabilities, prediction set, novelty and the guarantee.
It is PRELIMINARY and UNVERIFIED, for that is up to a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scanwise.dicom_results import codes
from scanwise.dicom_results.codes import CodeBook, CodedTerm
from scanwise.dicom_results.headers import VERSION, Placement, describe_equipment
from scanwise.dicom_results.sources import SourceScan, derive_uid
from scanwise.dicom_results.statements import INTENDED_USE, Statement

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept, MeasurementsAndQualitativeEvaluations
    from pydicom import Dataset

SERIES_NUMBER = 9801
_NO_UNIT = CodedTerm(code="1", scheme="UCUM", meaning="no units")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model behind a result.

    Attributes:
        name: of its recipe.
        digest: SHA-256 of its list of hashes.
    """

    name: str
    digest: str

    @property
    def line(self) -> str:
        """One line for people."""
        return f"Model {self.name}, sha256 {self.digest}; scanwise {VERSION}."


def build_structured_report(
    placement: Placement,
    model: ModelIdentity,
    book: CodeBook,
    groups: "Sequence[tuple[Statement, Sequence[SourceScan]]]",
    previous: "Sequence[Dataset]" = (),
) -> "Dataset":
    """A structured report.

    Args:
        placement: study, series and instance.
        model: that has answered.
        book: codes of its classes.
        groups: statements with their scans, the person first.
        previous: reports that this one replaces.
    """
    from highdicom import sr
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from pydicom.sr.codedict import codes as dicom_codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", model.digest),
        name="scanwise",
        manufacturer_name="Scanwise",
        model_name=model.name[:64],
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(dicom_codes.DCM.Device, device)
        ),
        procedure_reported=_concept(book.procedure),
        title=dicom_codes.DCM.ImagingMeasurementReport,
        imaging_measurements=[_group(placement.uid, model, book, statement, scans) for statement, scans in groups],
    )
    schemes = [
        CodingSchemeIdentificationItem(
            designator=scheme.designator, uid=scheme.uid, name=scheme.name, responsible_organization=scheme.responsible
        )
        for scheme in book.schemes
    ]
    built: Dataset = sr.ComprehensiveSR(
        evidence=placement.headers,
        content=report,
        series_instance_uid=placement.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=placement.uid,
        instance_number=placement.number,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=list(previous) or None,
        coding_schemes=schemes,
        series_description="Scanwise result (research use only)",
        **describe_equipment(model.name),
    )
    return built


def _group(
    uid: str, model: ModelIdentity, book: CodeBook, statement: Statement, scans: Sequence[SourceScan]
) -> "MeasurementsAndQualitativeEvaluations":
    """The measurement group (TID 1501) of one statement, the decision first."""
    from highdicom import sr

    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=derive_uid("tracking", uid, statement.about), identifier=statement.about
        ),
        algorithm_id=sr.AlgorithmIdentification(
            name=f"scanwise: {model.name}", version=VERSION, parameters=[f"model sha256:{model.digest}"]
        ),
        source_images=[
            sr.SourceImageForMeasurementGroup(
                scan.header.SOPClassUID, scan.uid, None if scan.frame is None else [scan.frame]
            )
            for scan in scans
        ],
    )
    content = group[0].ContentSequence
    tracked = [item for item in content if item.RelationshipType == "HAS OBS CONTEXT"]
    rest = [item for item in content if item.RelationshipType != "HAS OBS CONTEXT"]
    group[0].ContentSequence = sr.ContentSequence([*tracked, *_items(book, statement), *rest])
    return group


def _items(book: CodeBook, statement: Statement) -> list[Any]:
    """Items of a statement: codes, numbers and texts."""
    items = [_code(codes.DECISION, codes.REVIEW if statement.review else codes.ANSWERED)]
    if statement.review:
        items.append(_text(codes.REASONS, "; ".join(statement.reasons)))
    items.append(_code(codes.MOST_PROBABLE, book.classes[statement.predicted]))
    items += [_number(book.probabilities[name], p) for name, p in statement.probs.items()]
    if statement.prediction_set is None:
        items.append(_code(codes.IN_SET, codes.NO_SET))
    else:
        inside = [book.classes[name] for name in statement.prediction_set] or [codes.NO_CLASS]
        items += [_code(codes.IN_SET, term) for term in inside]
    if statement.unlike_training is not None:
        items.append(_code(codes.UNLIKE_TRAINING, codes.YES if statement.unlike_training else codes.NO))
    if statement.novelty is not None:
        items.append(_number(codes.NOVELTY_SCORE, statement.novelty))
    return [*items, _text(codes.GUARANTEE_TERM, statement.guarantee), _text(codes.USE, INTENDED_USE)]


def _concept(term: CodedTerm) -> "CodedConcept":
    from highdicom.sr import CodedConcept

    return CodedConcept(value=term.code, scheme_designator=term.scheme, meaning=term.meaning)


def _code(name: CodedTerm, value: CodedTerm) -> Any:
    from highdicom import sr

    return sr.CodeContentItem(_concept(name), _concept(value), sr.RelationshipTypeValues.CONTAINS)


def _text(name: CodedTerm, value: str) -> Any:
    from highdicom import sr

    return sr.TextContentItem(_concept(name), value, sr.RelationshipTypeValues.CONTAINS)


def _number(name: CodedTerm, value: float) -> Any:
    from highdicom import sr

    return sr.NumContentItem(
        _concept(name), value, _concept(_NO_UNIT), relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
