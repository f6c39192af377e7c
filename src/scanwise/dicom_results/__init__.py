"""Results as DICOM objects in the study of the scans, and as FHIR R4. Research use only.

OUT/KEY/report.dcm      TID 1500, for machines; KEY names study, scans, model and codes without naming a person
OUT/KEY/page-N.dcm      secondary captures, for people
OUT/KEY/map-N.dcm       parametric maps, where they are wished: the heatmap of page N + 1 as numbers
OUT/KEY/fhir.json       DiagnosticReport and Observations

The identifiers are derived from the scans, the model and the codes: the same scans asked again make no second result.
"""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanwise.bundle import Bundle, BundlePredictions
from scanwise.cohort.decoding.pixels import hush
from scanwise.dicom_results.codes import CodeBook, CodesFile
from scanwise.dicom_results.headers import Placement, carried_headers
from scanwise.dicom_results.pictures import picture_scans
from scanwise.dicom_results.sources import SourceScan, SourceStudy, derive_uid, group_by_study
from scanwise.dicom_results.statements import Statement, add_unread, state_person, state_scans
from scanwise.errors import DataError, RunError, ScanwiseError, place_of
from scanwise.run import writing

if TYPE_CHECKING:
    from pydicom import Dataset

    from scanwise.dicom_results.captures import ScanPicture
    from scanwise.dicom_results.structured_report import ModelIdentity

REPORT, FHIR = "report.dcm", "fhir.json"


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Files of one study.

    Attributes:
        folder: of the result.
        uid: SOP Instance UID of its report.
        objects: DICOM files, the report first.
        verdict: of the person, or of the first scan.
        notes: why a scan has no parametric map that was wished.
    """

    folder: Path
    uid: str
    objects: tuple[Path, ...]
    verdict: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """A writer of results.

    Attributes:
        bundle: that has answered.
        model: its name and digest.
        book: codes of its classes.
        pages: scans of a study that get a page with a heatmap, those first that speak most for the class of the person.
        maps: whether these get a parametric map too.
    """

    bundle: Bundle
    model: "ModelIdentity"
    book: CodeBook
    pages: int = 3
    maps: bool = False

    @classmethod
    def of(
        cls, bundle: Bundle, digest: str, codes: CodesFile | None = None, pages: int = 3, *, maps: bool = False
    ) -> "ResultWriter":
        """A writer for a model.

        Raises:
            RunError: if the packages are not installed.
            DataError: if codes are given for classes that the model has not.
        """
        require_packages()
        from scanwise.dicom_results.structured_report import ModelIdentity

        hush("highdicom")
        hush("pydicom")
        book = CodeBook.for_classes(bundle.classes, codes)
        return cls(bundle, ModelIdentity(bundle.recipe.name, digest), book, pages, maps)

    def write(
        self, answer: BundlePredictions, out: Path, previous: "Sequence[Dataset]" = ()
    ) -> tuple[list[StudyResult], list[tuple[str, str]]]:
        """Write a result for each study among the scans of an answer.

        Args:
            answer: whose scans are named by path below its root, or `path#slice`.
            out: the folder.
            previous: reports that these replace.

        Returns:
            the results, and (name, reason) of scans or studies that got none.

        Raises:
            DataError: if no scan gets a result.
        """
        studies, refused = group_by_study(
            [str(answer.root / str(name)) for name in answer.scans.scans],
            [str(answer.root / name) for name, _ in answer.quarantine],
        )
        if not studies:
            raise DataError(_nowhere(refused))
        seeds: dict[str, list[str]] = defaultdict(list)
        for study in studies:
            seeds[_subject_of(answer, study)].append(study.seed)
        results = []
        for study in studies:
            others = seeds[_subject_of(answer, study)] if _subject_of(answer, study) else [study.seed]
            uid = derive_uid("report", self.model.digest, self.book.seed, study.seed, *sorted(others))
            try:
                results.append(self._write_study(answer, study, uid, out, previous))
            except (ScanwiseError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - of a header; the other studies get theirs
                refused.append((str(answer.scans.scans[study.scans[0].row]), _unusable(error)))
        if not results:
            raise DataError(_nowhere(refused))
        return results, refused

    def _write_study(
        self, answer: BundlePredictions, study: SourceStudy, uid: str, out: Path, previous: "Sequence[Dataset]"
    ) -> StudyResult:
        rows = [scan.row for scan in study.scans]
        statements, person = state_scans(self.bundle, answer, rows), state_person(self.bundle, answer, rows)
        if study.unread:
            counts = len(study.scans), len(study.unread)
            if person is None:
                statements = [add_unread(statement, *counts) for statement in statements]
            else:
                person = add_unread(person, *counts)
        verdict = (person or statements[0]).verdict
        folder = out / uid.removeprefix("2.25.")
        if not (folder / REPORT).is_file():  # what is there was made from the same scans by the same model
            with writing(folder) as temporary:
                temporary.mkdir(mode=0o700)
                self._write_objects(temporary, study, uid, statements, person, previous)
        notes = self._write_maps(folder, study, uid, statements, person) if self.maps else []
        return StudyResult(folder, uid, tuple(result_objects(folder)), verdict, tuple(notes))

    def _write_maps(
        self, folder: Path, study: SourceStudy, uid: str, statements: Sequence[Statement], person: Statement | None
    ) -> list[str]:
        """Write the maps that are not there yet; why others are not."""
        from scanwise.dicom_results.maps import build_map, refuse_map

        shown = enumerate(_telling(statements, person, self.pages), 1)
        missing = [(folder / f"map-{number}.dcm", number, row) for number, row in shown]
        missing = [entry for entry in missing if not entry[0].is_file()]
        pictures = self._picture(study, statements, [row for _, _, row in missing])
        notes = []
        for (file, number, row), picture in zip(missing, pictures, strict=True):
            source, settings = study.scans[row], self.bundle.recipe.data
            if picture is None or (heatmap := picture.heatmap) is None:
                notes.append(f"{statements[row].about} has no parametric map, for it has no heatmap")
                continue
            from scanwise.explanation.voxel_grid import read_voxel_grid  # with torch, which an exported model has not

            placement = Placement(
                carried_headers([source.header]), derive_uid("maps", uid), derive_uid("map", uid, f"{number}"), number
            )
            meaning = self.book.classes[self.bundle.classes[heatmap.target]].meaning
            try:
                grid = read_voxel_grid(source.source, settings)
                if reason := refuse_map(heatmap, source, grid):
                    notes.append(f"{statements[row].about} has no parametric map: {reason}")
                    continue
                built = build_map(placement, self.model, meaning, heatmap, grid, grid.align(heatmap.values, settings))
            except Exception as error:  # noqa: BLE001 - of a header; the report has what counts
                notes.append(f"{statements[row].about} has no parametric map: {_unusable(error)}")
                continue
            with writing(file) as temporary:
                save_object(built, temporary)
        return notes

    def _picture(
        self, study: SourceStudy, statements: Sequence[Statement], rows: Sequence[int]
    ) -> "list[ScanPicture | None]":
        """Pictures of scans, each with the map of its own class."""
        classes = [statements[row].predicted for row in rows]
        return picture_scans(self.bundle, [study.scans[row] for row in rows], classes)

    def _write_objects(
        self,
        folder: Path,
        study: SourceStudy,
        uid: str,
        statements: Sequence[Statement],
        person: Statement | None,
        previous: "Sequence[Dataset]",
    ) -> None:
        from scanwise.dicom_results.captures import build_capture, draw_scan_page, draw_summary
        from scanwise.dicom_results.fhir import build_fhir
        from scanwise.dicom_results.structured_report import build_structured_report

        headers = carried_headers(study.headers)
        groups: list[tuple[Statement, Sequence[SourceScan]]] = [] if person is None else [(person, study.scans)]
        groups += [(statement, (scan,)) for statement, scan in zip(statements, study.scans, strict=True)]
        report = build_structured_report(
            Placement(headers, derive_uid("series", uid), uid), self.model, self.book, groups, previous
        )
        save_object(report, folder / REPORT)
        pages = [(draw_summary(person, statements, self.model), study.scans[0])]
        shown = _telling(statements, person, self.pages)
        pictures = self._picture(study, statements, shown)
        pages += [
            (draw_scan_page(statements[row], picture, self.model), study.scans[row])
            for row, picture in zip(shown, pictures, strict=True)
        ]
        for number, (pixels, source) in enumerate(pages, 1):
            placement = Placement(headers, derive_uid("pages", uid), derive_uid("page", uid, f"{number}"), number)
            save_object(build_capture(placement, self.model, pixels, source), folder / f"page-{number}.dcm")
        collection = build_fhir(uid, headers[0], self.model, self.book, groups)
        _write_private(folder / FHIR, (json.dumps(collection, indent=1, ensure_ascii=False) + "\n").encode())


def result_objects(folder: Path) -> list[Path]:
    """The DICOM files of a result, the report first."""
    return [folder / REPORT, *sorted(folder.glob("page-*.dcm")), *sorted(folder.glob("map-*.dcm"))]


def require_packages() -> None:
    """Raise a `RunError` where the packages of results are not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise RunError("DICOM results need more packages: pip install 'scanwise[dicom]'.") from error


def save_object(built: "Dataset", file: Path) -> None:
    """Write a DICOM file that its owner alone can read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        built.save_as(stream, enforce_file_format=True)


def _write_private(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def _nowhere(refused: Sequence[tuple[str, str]]) -> str:
    name, reason = refused[0]
    return f"No result can be placed in a study; {name}: {reason}. Results go beside DICOM files alone."


def _unusable(error: Exception) -> str:
    """A reason that quotes no header."""
    return f"no result can be made with its header ({place_of(error)})"


def _subject_of(answer: BundlePredictions, study: SourceStudy) -> str:
    return str(answer.scans.subjects[study.scans[0].row])


def _telling(statements: Sequence[Statement], person: Statement | None, most: int) -> list[int]:
    """Rows of the scans that speak most for the class of the person, or most clearly for their own."""
    target = None if person is None else person.predicted
    weight = [statement.probs[target or statement.predicted] for statement in statements]
    return sorted(sorted(range(len(statements)), key=lambda row: -weight[row])[:most])
