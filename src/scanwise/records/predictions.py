"""Predictions for scans and for subjects."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from scanwise.errors import ShapeError
from scanwise.records.types import BoolArray, FloatArray, IntArray, StrArray, Unit


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for scans, or for subjects: the rows of `predictions.csv`.

    Attributes:
        scans: (N,) the path of each scan; "" where `unit` is "subject".
        subjects: (N,) the subject of each row; "" where none is known.
        classes: C names.
        probs: (N, C) calibrated probabilities.
        sets: (N, C) the prediction sets, or None where no guarantee is given.
        entropy: (N,) predictive entropy in nats.
        abstain: (N,) whether a person should review: the set does not name exactly one class, or `ood_flag`. False without
            sets.
        labels: (N,) the true class, or None where it is not known.
        groups: columns that results are broken down by, each (N,).
        unit: a row is a scan, or a subject.
        mutual_information: (N,) disagreement of the network's members, in nats: zero where its members agree, or it has but one.
        ood: (N,) out-of-distribution score, above 1 an alarm; None where there is no detector.
        ood_flag: (N,) whether it is unlike the training scans, so that no guarantee holds; or None.
        expected_cdr: (N,) mean Clinical Dementia Rating over the probabilities, where every class has one.
        cdr_sd: (N,) its standard deviation.
        deferred: (N,) of subjects, whether the uncertainty is above the threshold under which the error is bounded; None
            where no threshold qualifies.
        scan_counts: (N,) of subjects, the number of scans pooled; None of scans.
        attention: (N,) of scans, the weight of each in the answer for its subject; None where all weigh alike.
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
    scan_counts: IntArray | None = None
    attention: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.subjects)

    def take(self, rows: IntArray) -> Self:
        """The same predictions with only these rows, in this order."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        taken: dict[str, Any] = {name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)}
        return replace(self, **taken, groups={name: column[rows] for name, column in self.groups.items()})

    def has_rows_of(self, other: "Predictions") -> bool:
        """Whether both are about the same scans or subjects, in the same order."""
        return (
            len(self) == len(other)
            and np.array_equal(self.subjects, other.subjects)
            and np.array_equal(self.scans, other.scans)
            and np.array_equal(self.scan_counts, other.scan_counts)  # type: ignore[arg-type]
        )

    @property
    def predicted(self) -> IntArray:
        """(N,) the most probable class."""
        best: IntArray = self.probs.argmax(axis=1)
        return best

    @property
    def doubt(self) -> FloatArray:
        """(N,) one less the largest probability; the threshold for abstaining applies to it."""
        return np.asarray(1.0 - self.probs.max(axis=1))

    def rows(self) -> list[dict[str, object]]:
        """One dictionary a row: path, subject, <groups>, label, predicted, p_<class>…, set, entropy, abstain, correct,
        mutual_information, ood, ood_flag; where every class has a rating expected_cdr, cdr_sd; of subjects deferred; of
        scans that weigh differently attention.

        For subjects `path` gives way to `scans`, their number. A set is its class names joined by "|". An
        unknown value is "".
        """
        if self.unit == "subject" and self.scan_counts is None:
            raise ShapeError("Rows of subjects need the number of scans that each was pooled from.")
        predicted, names = self.predicted, np.array(self.classes)
        rows: list[dict[str, object]] = []
        for row in range(len(self)):
            label = None if self.labels is None else int(self.labels[row])
            rows.append(
                {
                    **self._first_cell(row),
                    "subject": str(self.subjects[row]),
                    **{name: str(values[row]) for name, values in self.groups.items()},
                    "label": "" if label is None else self.classes[label],
                    "predicted": self.classes[predicted[row]],
                    **{f"p_{name}": float(p) for name, p in zip(self.classes, self.probs[row], strict=True)},
                    "set": "" if self.sets is None else "|".join(names[self.sets[row]]),
                    "entropy": float(self.entropy[row]),
                    "abstain": bool(self.abstain[row]),
                    "correct": "" if label is None else bool(predicted[row] == label),
                    **{
                        name: "" if values is None else values[row].item()
                        for name, values in self._last_columns().items()
                    },
                }
            )
        return rows

    def _first_cell(self, row: int) -> dict[str, object]:
        if self.scan_counts is None:
            return {"path": str(self.scans[row])}
        return {"scans": int(self.scan_counts[row])}

    def _last_columns(self) -> dict[str, FloatArray | BoolArray | None]:
        """The columns that stand at the end of a row."""
        names = ["mutual_information", "ood", "ood_flag"]
        names += ["expected_cdr", "cdr_sd"] if self.expected_cdr is not None else []
        names += ["deferred"] if self.unit == "subject" else []
        names += ["attention"] if self.attention is not None else []
        return {name: getattr(self, name) for name in names}
