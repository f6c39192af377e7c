"""A trained classifier in Python: predictions and heatmaps of scans, whatever holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from scanwise.api.display import Shown, row_frame
from scanwise.api.inputs import is_table, scan_list, table_manifest, write_scan_files, write_scan_table
from scanwise.api.progress import showing_progress
from scanwise.bundle import Bundle, BundlePredictions
from scanwise.bundle import load as load_bundle
from scanwise.errors import DataError
from scanwise.phrases import count_of

if TYPE_CHECKING:
    import pandas as pd

    from scanwise.dicom_results import ResultWriter
    from scanwise.records import Heatmap


@dataclass(frozen=True, slots=True, repr=False)
class ScanPredictions(Shown):
    """Predictions of new scans.

    Attributes:
        scans: a row a scan: path, subject, predicted, p_<class>…, set, entropy, abstain, mutual_information, ood, ood_flag, …
        subjects: a row a subject, all scans together; None where no subject is known.
        quarantine: path and reason of what cannot be read.
        remarks: what a reader must know of these predictions.
        dicom: folders of DICOM results, one a study, if they were asked for.
    """

    scans: "pd.DataFrame"
    subjects: "pd.DataFrame | None"
    quarantine: "pd.DataFrame"
    remarks: tuple[str, ...] = ()
    dicom: tuple[Path, ...] = ()

    @classmethod
    def of(cls, predictions: BundlePredictions, names: Mapping[str, str], dicom: Sequence[Path] = ()) -> Self:
        """The tables of predictions.

        Args:
            predictions: of a bundle.
            names: of files as they were given, by their absolute paths.
            dicom: folders of results.
        """

        def as_given(path: object) -> str:
            file, mark, index = str(path).partition("#")
            return names.get(str(path), names.get(file, file) + mark + index)

        unread = [{"path": as_given(path), "reason": reason} for path, reason in predictions.quarantine]
        return cls(
            row_frame({**row, "path": as_given(row["path"])} for row in predictions.scans.rows()),
            None if predictions.subjects is None else row_frame(predictions.subjects.rows()),
            row_frame(unread, ("path", "reason")),
            predictions.remarks,
            tuple(dicom),
        )

    @property
    def summary(self) -> str:
        rows, unit = (self.scans, "scan") if self.subjects is None else (self.subjects, "subject")
        counts = ", ".join(f"{name} {count:,}" for name, count in rows["predicted"].value_counts().items())
        unread = f"; {count_of(len(self.quarantine), 'file')} not read" if len(self.quarantine) else ""
        return f"{count_of(len(rows), unit)}: {counts}{unread}"

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        named = {"By subject": self.subjects, "By scan": self.scans, "Not read": self.quarantine}
        return {title: frame for title, frame in named.items() if frame is not None and len(frame)}


@dataclass(frozen=True, slots=True, repr=False)
class Heatmaps(Shown):
    """Heatmaps of new scans.

    Attributes:
        maps: one a scan and target: `values` are (H, W) float, `passed` the verdict of the method's checks on its run.
        pictures: name to PNG.
        quarantine: path and reason of what cannot be read.
        path: the folder of pictures, arrays and tables, if one was named.
    """

    maps: "tuple[Heatmap, ...]"
    pictures: Mapping[str, bytes]
    quarantine: "pd.DataFrame"
    path: Path | None = None

    @property
    def summary(self) -> str:
        failed = next((heatmap for heatmap in self.maps if heatmap.passed is False), None)
        checks = "passed their checks" if failed is None else f"did not pass their checks: {failed.reason}"
        if failed is None and any(heatmap.passed is None for heatmap in self.maps):
            checks = "were not checked on this run"
        return f"{count_of(len(self.maps), 'heatmap')} of {self.maps[0].method} {checks}"

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        return {}


@dataclass(frozen=True, slots=True, repr=False)
class Classifier(Shown):
    """A trained classifier.

    Attributes:
        path: of the run or bundle.
        bundle: network, calibration, prediction sets and novelty.
    """

    path: Path
    bundle: Bundle

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls(path, load_bundle(path))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.bundle.classes

    @property
    def summary(self) -> str:
        return f"{self.bundle.recipe.name} from {self.path}: {', '.join(self.classes)}"

    def tables(self) -> "Mapping[str, pd.DataFrame]":
        return {}

    def predict(
        self,
        scans: Any,
        *,
        subjects: Sequence[str] | None = None,
        words: Sequence[str] | None = None,
        groups: Mapping[str, Sequence[Any]] | None = None,
        dicom_out: str | Path | None = None,
        codes: str | Path | None = None,
        parametric_map: bool = False,
        device: str = "auto",
        threads: int = 0,
        progress: bool | None = None,
    ) -> ScanPredictions:
        """Class, probabilities, prediction set and entropy of scans.

        Args:
            scans: one or a list of: path of a file or folder, array (H, W) or (H, W, C), PIL image, pydicom dataset; an array
                (N, H, W) or (N, H, W, C); or a DataFrame with `path` or `image`, and optionally `subject`, `text`, groups.
            subjects: the subject of each scan, to pool by.
            words: the text beside each scan, for a network that reads it; "" where there is none.
            groups: further columns, such as covariates, of one value a scan.
            dicom_out: folder for DICOM and FHIR results, one for each study; scans are then DICOM files or datasets.
            codes: YAML with the codes of the classes, for these results.
            parametric_map: give heatmaps as parametric maps too, among these results.
            device, threads, progress: as in `fit`.

        Raises:
            DataError: for what is no scan, if none can be read, or if none has a place for the results that were asked for.
        """
        from scanwise.pipeline.commands.predict_files import predict_files

        if dicom_out is None and (codes is not None or parametric_map):
            raise DataError("codes and parametric_map are of DICOM results; give dicom_out too.")
        writer = None if dicom_out is None else self._result_writer(codes, maps=parametric_map)
        columns = {"subject": subjects, "text": words, **(groups or {})}
        with TemporaryDirectory() as temporary, showing_progress(progress) as bars:
            files = _files(scans, columns, Path(temporary))
            predictions = predict_files(self.bundle, **files, device=device, threads=threads, progress=bars)
            names = _given_names(scans) | {str(file): file.name for file in Path(temporary).iterdir()}
            if writer is None or dicom_out is None:
                return ScanPredictions.of(predictions, names)
            results, refused = writer.write(predictions, Path(dicom_out))
        notes = [note for result in results for note in result.notes]
        notes += [f"No DICOM result for {names.get(name, name)}: {reason}." for name, reason in refused]
        predictions = replace(predictions, remarks=(*predictions.remarks, *notes))
        return ScanPredictions.of(predictions, names, [result.folder for result in results])

    def _result_writer(self, codes: str | Path | None, *, maps: bool) -> "ResultWriter":
        from scanwise.bundle.contents import digest_of_model
        from scanwise.dicom_results import ResultWriter
        from scanwise.dicom_results.codes import read_codes

        own = None if codes is None else read_codes(Path(codes))
        return ResultWriter.of(self.bundle, digest_of_model(self.path), own, maps=maps)

    def explain(
        self,
        scans: Any,
        *,
        method: str = "",
        target: str | Sequence[str] = "predicted",
        out: str | Path | None = None,
        words: Sequence[str] | None = None,
        device: str = "auto",
        threads: int = 0,
        progress: bool | None = None,
        **options: Any,
    ) -> Heatmaps:
        """Heatmaps of scans.

        Args:
            scans, words, device, threads, progress: as in `predict`.
            method: of explanation, such as grad_cam; default: the recipe's.
            target: a class by name or number, `predicted`, or `all`; or several.
            out: a folder for pictures, arrays and tables; none is kept without it.
            options: `layer`, `opacity`, `uncertainty`, as the command line has them.
        """
        from scanwise.pipeline.commands.explain_scans import explain_files

        targets = (target,) if isinstance(target, str) else tuple(target)
        with TemporaryDirectory() as temporary, showing_progress(progress) as bars:
            inputs, folder = Path(temporary) / "scans", Path(temporary) / "maps" if out is None else Path(out)
            inputs.mkdir()
            files = _files(scans, {"text": words}, inputs)
            maps, written, unread = explain_files(
                self.path, files["scans"], folder, manifest=files.get("manifest"), method=method, target=targets,
                device=device, threads=threads, progress=bars, **options,
            )  # fmt: skip
            pictures = {file.name: file.read_bytes() for file in written if file.suffix == ".png"}
        quarantine = row_frame([{"path": path, "reason": reason} for path, reason in unread], ("path", "reason"))
        return Heatmaps(maps, pictures, quarantine, None if out is None else Path(out))


def _given_names(scans: Any) -> dict[str, str]:
    """Absolute path to path as given, of the scans that are paths."""
    given = scans.get("path", ()) if is_table(scans) else scan_list(scans)
    return {str(Path(path).absolute()): str(path) for path in given if isinstance(path, str | Path)}


def _files(scans: Any, columns: Mapping[str, Sequence[Any] | None], folder: Path) -> dict[str, Any]:
    """The arguments `scans` and `manifest` of the stages: files, or a table where more is known of them."""
    if is_table(scans):
        return {"scans": (), "manifest": table_manifest(scans, folder)}
    every = scan_list(scans)
    paths, given = (
        write_scan_files(every, folder),
        {name: list(values) for name, values in columns.items() if values is not None},
    )
    if not given and all(isinstance(scan, str | Path) for scan in every):
        return {"scans": tuple(paths)}
    return {
        "scans": (),
        "manifest": write_scan_table(
            [path if path.parent == folder else path.absolute() for path in paths], given, folder
        ),
    }
