"""The values that travel between stages: frozen, saved as npz, parquet or JSON, never pickled.

Arrays are not copied on the way; treat them as read-only. Text arrays hold `""` where a value is missing.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from scanwise.errors import DataError, RunError, ShapeError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
StrArray = NDArray[np.str_]

SIDES = ("train", "validation", "calibration", "test")
Unit = Literal["scan", "subject"]
Severity = Literal["note", "warning", "leak"]


@dataclass(frozen=True, slots=True)
class Cohort:
    """The scans that can be used, one row a scan.

    Attributes:
        root: folder or URL that `path` is relative to.
        path: (N,) where each scan lies, with forward slashes.
        labels: (N,) index into `classes`.
        classes: class names, in clinical order where `ordered`.
        ordered: whether the order of `classes` means anything (stages of a disease).
        subject: (N,) the person; where `subject_source` is empty each distinct scan stands for itself.
        subject_source: how subjects became known ("column subject", "pattern …"); empty when they are not.
        sha256: (N,) hash of the file.
        pixels: (N,) hash of the decoded pixels; empty for a scan of one value, which equals any other such scan.
        groups: columns that results are broken down by, each (N,).
        text: (N,) words that belong to the scan, or None.
        given: (N,) the side that the data itself assigns ("train", "test", …; "" where it does not), or None.
    """

    root: str
    path: StrArray
    labels: IntArray
    classes: tuple[str, ...]
    ordered: bool
    subject: StrArray
    subject_source: str
    sha256: StrArray
    pixels: StrArray
    groups: Mapping[str, StrArray] = field(default_factory=dict)
    text: StrArray | None = None
    given: StrArray | None = None

    def __len__(self) -> int:
        return len(self.path)

    def __post_init__(self) -> None:
        columns = [self.labels, self.subject, self.sha256, self.pixels, *self.groups.values(), self.text, self.given]
        if any(column is not None and len(column) != len(self.path) for column in columns):
            raise ShapeError(f"Every column of a cohort has one value a scan; expected {len(self.path)} of each.")

    @property
    def subjects_known(self) -> bool:
        return bool(self.subject_source)

    def take(self, rows: IntArray | BoolArray) -> Self:
        """The same cohort with only these rows, in this order."""
        return replace(
            self,
            path=self.path[rows],
            labels=self.labels[rows],
            subject=self.subject[rows],
            sha256=self.sha256[rows],
            pixels=self.pixels[rows],
            groups={name: values[rows] for name, values in self.groups.items()},
            text=None if self.text is None else self.text[rows],
            given=None if self.given is None else self.given[rows],
        )

    def save(self, path: Path) -> None:
        """Write a parquet table, with what is not a column in its metadata."""
        columns: dict[str, Any] = {
            "path": self.path,
            "label": np.array(self.classes)[self.labels],
            "subject": self.subject,
            "split": self.given,
            **{f"group_{name}": values for name, values in self.groups.items()},
            "text": self.text,
            "sha256": self.sha256,
            "pixels": self.pixels,
        }
        about = {
            "root": self.root,
            "classes": self.classes,
            "ordered": self.ordered,
            "subject_source": self.subject_source,
        }
        _write_parquet({name: values for name, values in columns.items() if values is not None}, about, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        columns, about = _read_parquet(path)
        place = {name: index for index, name in enumerate(about["classes"])}
        return cls(
            root=about["root"],
            path=columns["path"],
            labels=np.array([place[name] for name in columns["label"]], dtype=np.int64),
            classes=tuple(about["classes"]),
            ordered=about["ordered"],
            subject=columns["subject"],
            subject_source=about["subject_source"],
            sha256=columns["sha256"],
            pixels=columns["pixels"],
            groups={name[6:]: values for name, values in columns.items() if name.startswith("group_")},
            text=columns.get("text"),
            given=columns.get("split"),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Who learns and who judges: a side for every scan of a cohort.

    Attributes:
        side: (N,) one of `SIDES`, or "" for a scan that this split leaves out.
        protocol: "honest" (no subject on two sides) or "published" (as the original project did it).
        fold: number of the fold, from 0.
        rule: in words, how the sides were chosen ("by subject, stratified"; "random by scan, 70/15/15").
        leaky: whether a subject, or the same pixels, stand on two sides.
        not_evaluable: classes kept in training alone, with the number of subjects that each has.
    """

    side: StrArray
    protocol: str
    fold: int
    rule: str
    leaky: bool
    not_evaluable: Mapping[str, int] = field(default_factory=dict)

    def rows(self, side: str) -> IntArray:
        """Indices of the scans on one side, in cohort order."""
        return np.flatnonzero(self.side == side)

    def save(self, path: Path) -> None:
        """Write a parquet table of one column."""
        about = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "side"}
        _write_parquet({"split": self.side}, about, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        columns, about = _read_parquet(path)
        return cls(side=columns["split"], **about)


@dataclass(frozen=True, slots=True)
class Logits:
    """What a network said of some scans, before normalisation.

    Attributes:
        logits: (N, T, C) float32, T members or dropout draws; log-probabilities are logits too.
        labels: (N,) index into `classes`.
        scans: (N,) the path of each scan.
        subjects: (N,) the subject of each scan.
        classes: C names.
        groups: columns that results are broken down by, each (N,).
        features: (N, D) penultimate features, or None.
        split: the side that these scans are on.
        protocol: the protocol of that split.
        fold: its fold.
        appearance: (N, P) what the scans look like without a network (`novelty.appearance`), or None.
    """

    logits: FloatArray
    labels: IntArray
    scans: StrArray
    subjects: StrArray
    classes: tuple[str, ...]
    groups: Mapping[str, StrArray] = field(default_factory=dict)
    features: FloatArray | None = None
    split: str = ""
    protocol: str = ""
    fold: int = 0
    appearance: FloatArray | None = None

    def __post_init__(self) -> None:
        count, _, num_classes = self.logits.shape if self.logits.ndim == 3 else (-1, 0, 0)
        if num_classes != len(self.classes):
            raise ShapeError(f"Logits must be (N, T, {len(self.classes)}) for {self.classes}, not {self.logits.shape}.")
        columns = [self.labels, self.scans, self.subjects, *self.groups.values(), self.features, self.appearance]
        if any(column is not None and len(column) != count for column in columns):
            raise ShapeError(f"Logits of {count} scans need {count} labels, scans, subjects, groups and features.")

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Write an npz of plain arrays."""
        arrays: dict[str, Any] = {
            **{name: getattr(self, name) for name in ("logits", "labels", "scans", "subjects", "classes")},
            **{f"group_{name}": values for name, values in self.groups.items()},
            **{name: getattr(self, name) for name in ("split", "protocol", "fold")},
        }
        optional = {"features": self.features, "appearance": self.appearance}
        arrays |= {name: values for name, values in optional.items() if values is not None}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an npz of logits (N, T, C) or (N, C), labels, scans, subjects, classes, and what else is there."""
        arrays = read_arrays(path)
        missing = {"logits", "labels", "scans", "subjects", "classes"} - arrays.keys()
        if missing:
            raise DataError(f"{path} lacks {sorted(missing)}; see Logits for what a file of logits holds.")
        return cls.of(arrays)

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Self:
        """The record of arrays that have the names that `save` gives them."""
        logits = arrays["logits"]
        return cls(
            logits=logits[:, None, :] if logits.ndim == 2 else logits,
            labels=arrays["labels"],
            scans=arrays["scans"].astype(str),
            subjects=arrays["subjects"].astype(str),
            classes=tuple(str(name) for name in arrays["classes"]),
            groups={name[6:]: values.astype(str) for name, values in arrays.items() if name.startswith("group_")},
            features=arrays.get("features"),
            split=str(arrays.get("split", "")),
            protocol=str(arrays.get("protocol", "")),
            fold=int(arrays.get("fold", 0)),
            appearance=arrays.get("appearance"),
        )


def read_arrays(path: Path) -> dict[str, Any]:
    """Every array of an npz, without pickle; a DataError if it is none, or is damaged."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a file of logits that can be read without pickle: {error}.") from error


@dataclass(frozen=True, slots=True)
class Predictions:
    """What is said of some scans, or of some subjects: the rows of `predictions.csv`.

    Attributes:
        scans: (N,) the path of each scan; where `unit` is "subject", the number of scans pooled, as text.
        subjects: (N,) the subject of each row; "" where none is known.
        classes: C names.
        probs: (N, C) calibrated probabilities.
        sets: (N, C) the prediction sets, or None where no guarantee is given.
        entropy: (N,) predictive entropy in nats.
        abstain: (N,) whether a person must look: the set does not name exactly one class, or `ood_flag`. False without
            sets.
        labels: (N,) the true class, or None where it is not known.
        groups: columns that results are broken down by, each (N,).
        unit: what a row is.
        mutual_information: (N,) doubt of the network, in nats: zero where its members agree, or it has but one.
        ood: (N,) how unlike the training scans, above 1 an alarm; None where that was not learnt.
        ood_flag: (N,) whether it is taken for a scan of another kind, for which no guarantee holds; or None.
        expected_cdr: (N,) mean Clinical Dementia Rating over the probabilities, where every class has one.
        cdr_sd: (N,) its standard deviation.
        deferred: (N,) of subjects, whether the doubt is above the threshold under which the error is bounded; None
            where no threshold qualifies.
    """

    scans: StrArray
    subjects: StrArray
    classes: tuple[str, ...]
    probs: FloatArray
    sets: BoolArray | None
    entropy: FloatArray
    abstain: BoolArray
    labels: IntArray | None = None
    groups: Mapping[str, StrArray] = field(default_factory=dict)
    unit: Unit = "scan"
    mutual_information: FloatArray | None = None
    ood: FloatArray | None = None
    ood_flag: BoolArray | None = None
    expected_cdr: FloatArray | None = None
    cdr_sd: FloatArray | None = None
    deferred: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.scans)

    @property
    def predicted(self) -> IntArray:
        """(N,) the most probable class."""
        best: IntArray = self.probs.argmax(axis=1)
        return best

    @property
    def doubt(self) -> FloatArray:
        """(N,) one less the largest probability: what decides who is answered."""
        return np.asarray(1.0 - self.probs.max(axis=1))

    def rows(self) -> list[dict[str, object]]:
        """One dictionary a row: path, subject, <groups>, label, predicted, p_<class>…, set, entropy, abstain, correct,
        mutual_information, ood, ood_flag; where every class has a rating expected_cdr, cdr_sd; of subjects deferred.

        For subjects `path` gives way to `scans`, their number. A set is its class names joined by "|". What is not
        known is "".
        """
        first = "path" if self.unit == "scan" else "scans"
        predicted, names = self.predicted, np.array(self.classes)
        found: list[dict[str, object]] = []
        for row in range(len(self)):
            known = None if self.labels is None else int(self.labels[row])
            found.append(
                {
                    first: str(self.scans[row]) if self.unit == "scan" else int(self.scans[row]),
                    "subject": str(self.subjects[row]),
                    **{name: str(values[row]) for name, values in self.groups.items()},
                    "label": "" if known is None else self.classes[known],
                    "predicted": self.classes[predicted[row]],
                    **{f"p_{name}": float(p) for name, p in zip(self.classes, self.probs[row], strict=True)},
                    "set": "" if self.sets is None else "|".join(names[self.sets[row]]),
                    "entropy": float(self.entropy[row]),
                    "abstain": bool(self.abstain[row]),
                    "correct": "" if known is None else bool(predicted[row] == known),
                    **{name: "" if values is None else values[row].item() for name, values in self._later().items()},
                }
            )
        return found

    def _later(self) -> dict[str, FloatArray | BoolArray | None]:
        """The columns that stand at the end of a row."""
        names = ["mutual_information", "ood", "ood_flag"]
        names += ["expected_cdr", "cdr_sd"] if self.expected_cdr is not None else []
        names += ["deferred"] if self.unit == "subject" else []
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with its interval, and what it is a number of.

    `low` and `high` are NaN where no interval can be had. `count` counts units. `group` is "" for everyone,
    `class=NAME` for a class, `COLUMN=VALUE` for a group. `model` is "network" or a rival's name; a paired
    difference has the name `METRIC difference` and the rival as its model (network minus rival).
    """

    name: str
    value: float
    low: float
    high: float
    unit: Unit
    count: int
    group: str = ""
    model: str = "network"
    protocol: str = ""
    fold: int = 0
    split: str = "test"


METRIC_COLUMNS = ("model", "protocol", "fold", "split", "unit", "group", "name", "value", "low", "high", "count")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check noticed: how grave, on which scans, and (in the message) what to do."""

    check: str
    severity: Severity
    message: str
    scans: tuple[str, ...] = ()
    figure: str = ""


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Which pixels of a scan speak for a class.

    Attributes:
        scan: its name.
        target: index of the class that is explained.
        values: (H, W) float32, at the size of the scan as the network sees it; 0 is nothing, and more is more.
        method: that made it.
        prob: what the network gives the target.
        passed: whether the method passed its checks on this network; None where none were made.
        reason: why it did not pass; empty where it did.
    """

    scan: str
    target: int
    values: FloatArray
    method: str
    prob: float
    passed: bool | None = None
    reason: str = ""


def save_metrics(metrics: Sequence[Metric], path: Path) -> None:
    """Write `metrics.json`: a list of objects with the keys of `METRIC_COLUMNS`; NaN is null."""
    rows = [{name: getattr(metric, name) for name in METRIC_COLUMNS} for metric in metrics]
    _write_json([{name: None if value != value else value for name, value in row.items()} for row in rows], path)


def load_metrics(path: Path) -> list[Metric]:
    """Read what `save_metrics` wrote."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    filled: list[dict[str, Any]] = [{k: float("nan") if v is None else v for k, v in row.items()} for row in rows]
    return [Metric(**row) for row in filled]


def save_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write `findings.json`: a list of objects with the fields of `Finding`."""
    _write_json([asdict(finding) for finding in findings], path)


def load_findings(path: Path) -> list[Finding]:
    """Read what `save_findings` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Finding(**{**row, "scans": tuple(row["scans"])}) for row in rows]


def _write_json(value: object, path: Path) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _write_parquet(columns: Mapping[str, StrArray], about: Mapping[str, object], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(values.astype(object), pa.string()) for name, values in columns.items()})
    pq.write_table(table.replace_schema_metadata({"scanwise": json.dumps(about)}), path)


def _read_parquet(path: Path) -> tuple[dict[str, StrArray], dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"scanwise"])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a table that scanwise wrote, or is damaged: {error}.") from error
    return {name: np.array(table[name].to_pylist(), dtype=np.str_) for name in table.column_names}, about
