"""Calibration: logits to probabilities that match observed frequencies.

A calibrator is fitted on validation subjects and holds its fitted numbers alone. Temperature (Guo et al. 2017) is the
default: it changes neither the most probable class of a network nor its binary AUROC. Vector scaling and isotonic
regression may change both; they are for comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from scanwise.arrays import check_labels, check_logits, log_softmax, number_from, softmax
from scanwise.errors import DataError, ShapeError, lookup
from scanwise.metrics import METRICS
from scanwise.pooling import common_label, subject_codes
from scanwise.records import FloatArray, IntArray, StrArray

COLDEST, HOTTEST = 0.05, 100.0
"""Bounds of the temperature, in units of the spread of the logits: beyond them lie separable and inverted logits, where
likelihood alone diverges."""

PRIOR = 0.5
"""The weight, in subjects, of the prior that the log-temperature is near zero, or near the bound that is nearest to zero: it
decides where the data do not."""

FOLDS = 5


class Calibrator(Protocol):
    """The interface of every calibrator."""

    def __call__(self, logits: FloatArray) -> FloatArray: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divide logits by one number; softmax each member, then average the members.

    Attributes:
        temperature: above one softens, below one sharpens; `Temperature(1.0)` is the plain softmax.
        refused: why fitting kept the identity; empty where it did not.
        reached: which bound of the temperature it is at, and what that means; empty where it is at none.

    >>> Temperature(2.0)(np.array([[2.0, 0.0]])).round(3)
    array([[0.731, 0.269]])
    """

    temperature: float
    refused: str = ""
    reached: str = ""
    method: ClassVar[str] = "temperature"

    @classmethod
    def fit(cls, logits: FloatArray, labels: IntArray, subjects: StrArray) -> Self:
        """Fit the temperature by penalised likelihood; keep the identity where that does not help subjects held out.

        Each row weighs the same, the rows together as much as there are subjects, and a normal prior on the
        log-temperature as much as half a subject. The identity is kept, with the reason in `refused`, where the mean
        NLL over folds of subjects held out is not lower than without a temperature.

        Args:
            logits: (N, C) or (N, T, C).
            labels: (N,) class indices.
            subjects: (N,) the subject of each row.

        Raises:
            DataError: if rows are not finite, labels out of range, or a row has no subject.
            ShapeError: if the three disagree in N.
        """
        given = CalibrationRows.of(logits, labels, subjects)
        why = _reason_against(cls.method, given)
        return cls(1.0, why) if why else cls.solve(given)

    @classmethod
    def solve(cls, given: "CalibrationRows") -> Self:
        """Fit on these rows, whether or not it helps."""
        temperature, reached = _solve_temperature(given)
        return cls(temperature, "", reached)

    def __call__(self, logits: FloatArray) -> FloatArray:
        """(N, C) probabilities from logits (N, C) or (N, T, C)."""
        return _mean_of_members(check_logits(logits) / self.temperature)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; `from_dict` reads them."""
        return {"method": self.method, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        temperature = number_from(values, "temperature", 1e-12, 1e12)
        return cls(temperature, str(values.get("refused", "")), str(values.get("reached", "")))


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """A factor and a shift for each class's logit (Guo et al. 2017). May change the most probable class and AUROC.

    Attributes:
        factors: (C,) factor of each class's logit.
        shifts: (C,) shift of each class's logit; they sum to zero.
        refused: why fitting kept the identity; empty where it did not.
    """

    factors: tuple[float, ...]
    shifts: tuple[float, ...]
    refused: str = ""
    method: ClassVar[str] = "vector"

    @classmethod
    def fit(cls, logits: FloatArray, labels: IntArray, subjects: StrArray) -> Self:
        """Fit by penalised likelihood, drawn towards the identity; the identity is kept as in `Temperature.fit`."""
        given = CalibrationRows.of(logits, labels, subjects)
        ones, zeros = (1.0,) * given.num_classes, (0.0,) * given.num_classes
        why = _reason_against(cls.method, given)
        return cls(ones, zeros, why) if why else cls.solve(given)

    @classmethod
    def solve(cls, given: "CalibrationRows") -> Self:
        """Fit on these rows, whether or not it helps."""
        return cls(*_solve_vector(given))

    def __call__(self, logits: FloatArray) -> FloatArray:
        """(N, C) probabilities from logits (N, C) or (N, T, C)."""
        logits = _check_classes(logits, len(self.factors))
        return _mean_of_members(logits * np.array(self.factors) + np.array(self.shifts))

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; `from_dict` reads them."""
        return {"method": self.method, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        factors, shifts = (_numbers(values.get(name)) for name in ("factors", "shifts"))
        if len(factors) != len(shifts):
            raise DataError("'factors' and 'shifts' must be as many numbers each. Was the file changed?")
        return cls(factors, shifts, str(values.get("refused", "")))


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A monotone map for each class's probability against the rest, then divided by their sum (Zadrozny 2002).

    May change the most probable class and AUROC: where it is flat, it ties.

    Attributes:
        inputs: for each class the probabilities where its map bends.
        outputs: for each class the value there.
        refused: why fitting kept the identity; empty where it did not.
    """

    inputs: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]
    refused: str = ""
    method: ClassVar[str] = "isotonic"

    @classmethod
    def fit(cls, logits: FloatArray, labels: IntArray, subjects: StrArray) -> Self:
        """Fit each class's map by pooling adjacent violators; the identity is kept as in `Temperature.fit`."""
        given = CalibrationRows.of(logits, labels, subjects)
        straight = ((0.0, 1.0),) * given.num_classes
        why = _reason_against(cls.method, given)
        return cls(straight, straight, why) if why else cls.solve(given)

    @classmethod
    def solve(cls, given: "CalibrationRows") -> Self:
        """Fit on these rows, whether or not it helps."""
        return cls(*_solve_isotonic(given))

    def __call__(self, logits: FloatArray) -> FloatArray:
        """(N, C) probabilities from logits (N, C) or (N, T, C)."""
        probs = _mean_of_members(_check_classes(logits, len(self.inputs)))
        maps = zip(self.inputs, self.outputs, strict=True)
        mapped = np.stack([np.interp(probs[:, c], x, y) for c, (x, y) in enumerate(maps)], axis=1)
        mapped = mapped.clip(1e-6, None)  # a class never seen at such a probability is not impossible
        divided: FloatArray = mapped / mapped.sum(axis=1, keepdims=True)
        return divided

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; `from_dict` reads them."""
        return {"method": self.method, "said": self.inputs, "seen": self.outputs, "refused": self.refused}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        x, y = (tuple(map(_numbers, _list(values.get(name)))) for name in ("said", "seen"))
        if len(x) < 2 or [len(row) for row in x] != [len(row) for row in y] or any(map(_falls, x)):
            raise DataError("'said' and 'seen' must hold as many numbers each, the first rising. Was the file changed?")
        return cls(x, y, str(values.get("refused", "")))


CALIBRATORS: dict[str, type[Temperature] | type[VectorScaling] | type[Isotonic]] = {
    "temperature": Temperature,
    "vector": VectorScaling,
    "isotonic": Isotonic,
}


def calibrator_from_dict(values: Mapping[str, Any]) -> Calibrator:
    """Any calibrator from the values of its `to_dict`.

    >>> calibrator_from_dict(Temperature(1.5).to_dict())
    Temperature(temperature=1.5, refused='', reached='')
    """
    calibrator: Calibrator = lookup(CALIBRATORS, str(values.get("method")), "calibrator").from_dict(values)
    return calibrator


def held_out_probs(method: str, logits: FloatArray, labels: IntArray, subjects: StrArray) -> FloatArray:
    """(N, C) probabilities of each row by a calibrator fitted on the subjects of the other folds.

    Its result on the rows that it was fitted on is optimistic; this is its result on others. The log loss of these very
    probabilities decides whether `fit` keeps the identity.

    Raises:
        DataError: if there are fewer than two subjects.
    """
    lookup(CALIBRATORS, method, "calibrator")
    return _held_out(method, CalibrationRows.of(logits, labels, subjects))


def _held_out(method: str, given: "CalibrationRows") -> FloatArray:
    if given.num_subjects < 2:
        raise DataError("All rows are of one subject, so none can be held out. Give the logits of more subjects.")
    folds = _folds(given)
    probs = np.empty((len(given.labels), given.num_classes))
    for fold in np.unique(folds):
        probs[folds == fold] = CALIBRATORS[method].solve(given.take(folds != fold))(given.logits[folds == fold])
    return probs


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Checked rows to fit on.

    Attributes:
        logits: (N, T, C).
        labels: (N,).
        of_subject: (N,) the index of each row's subject.
    """

    logits: FloatArray
    labels: IntArray
    of_subject: IntArray

    @classmethod
    def of(cls, logits: FloatArray, labels: IntArray, subjects: StrArray) -> Self:
        logits = check_logits(logits).astype(np.float64)
        logits = logits[:, None, :] if logits.ndim == 2 else logits
        return cls(logits, check_labels(labels, logits.shape[-1], len(logits)), subject_codes(subjects, len(logits))[0])

    def take(self, rows: Any) -> Self:
        return type(self)(self.logits[rows], self.labels[rows], self.of_subject[rows])

    @property
    def num_classes(self) -> int:
        return int(self.logits.shape[-1])

    @property
    def num_subjects(self) -> int:
        return len(np.unique(self.of_subject))


LARGE = 1e300
"""Numbers of a file are smaller; whole ones of JSON may have thousands of digits."""


def _numbers(values: Any) -> tuple[float, ...]:
    """Finite numbers from a saved list, or a DataError."""
    numeric = isinstance(values, list | tuple) and all(
        type(value) in (int, float) and abs(value) < LARGE for value in values
    )
    if not numeric or not values:
        raise DataError(f"A calibrator is saved as lists of finite numbers; found {values!s:.60}. Was it changed?")
    return tuple(map(float, values))


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _falls(values: tuple[float, ...]) -> bool:
    return bool((np.diff(values) < 0).any())


def _check_classes(logits: FloatArray, num_classes: int) -> FloatArray:
    logits = check_logits(logits)
    if logits.shape[-1] != num_classes:
        raise ShapeError(f"This calibrator was fitted on {num_classes} classes; these logits have {logits.shape[-1]}.")
    return logits


def _mean_of_members(logits: FloatArray) -> FloatArray:
    probs = softmax(logits)
    return probs if probs.ndim == 2 else np.asarray(probs.mean(axis=1))


def _reason_against(method: str, given: CalibrationRows) -> str:
    """Reason to keep the identity; empty where a calibrator lowers the log loss of subjects held out."""
    if given.num_subjects < 4:
        return f"{given.num_subjects} validation subjects are too few to check a calibrator on held-out ones"
    before = float(METRICS["nll"](_mean_of_members(given.logits), given.labels))
    after = float(METRICS["nll"](_held_out(method, given), given.labels))
    if not after < before:
        return f"it does not help subjects held out: NLL {before:.4f} without, {after:.4f} with"
    return ""


def _folds(given: CalibrationRows) -> IntArray:
    """(N,) a fold for each row: subjects in turn, class by class, so that each fold has its share of every class."""
    label = common_label(given.labels, given.of_subject, given.num_classes)
    turn = np.empty(len(label), dtype=np.int64)
    turn[np.argsort(label, kind="stable")] = np.arange(len(label)) % FOLDS
    return turn[given.of_subject]


def _solve_temperature(given: CalibrationRows) -> tuple[float, str]:
    """Temperature of least penalised NLL, and the bound that it is at, if it is: the best of a grid, then Brent's method."""
    from scipy.optimize import minimize_scalar

    spread = float(given.logits.std(axis=-1).mean())
    if not spread > 0:
        return 1.0, ""  # all classes are alike, at every temperature
    grid = np.linspace(np.log(COLDEST * spread), np.log(HOTTEST * spread), 20)
    centre = float(np.clip(0.0, grid[0], grid[-1]))

    def cost(log_temperature: float) -> float:
        probs = _mean_of_members(given.logits / np.exp(log_temperature))
        prior = PRIOR * (log_temperature - centre) ** 2 / given.num_subjects
        return float(METRICS["nll"](probs, given.labels)) + prior

    best = int(np.argmin([cost(value) for value in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    solution = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    if not solution.success or not np.isfinite(solution.x):
        raise DataError(
            f"The temperature did not converge: {solution.message}. Look at the logits of the validation side."
        )
    return float(np.exp(solution.x)), _reached(float(solution.x), float(grid[0]), float(grid[-1]))


def _reached(log_temperature: float, low: float, high: float) -> str:
    """Words for a temperature at one of its bounds; empty for one between them."""
    if log_temperature < low + 0.01:
        return "at its lower bound: the logits separate these classes, so that their confidence cannot be learnt here"
    if log_temperature > high - 0.01:
        return "at its upper bound: the logits say nothing about these classes, or the opposite of the truth"
    return ""


def _solve_vector(given: CalibrationRows) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Factors and shifts of least penalised NLL by L-BFGS."""
    from scipy.optimize import minimize

    count, num_classes = len(given.labels), given.num_classes
    truth = np.eye(num_classes)[given.labels][:, None, :]

    def cost(values: FloatArray) -> tuple[float, FloatArray]:
        factors, shifts = values[:num_classes], values[num_classes:]
        log_probs = log_softmax(given.logits * factors + shifts)
        of_label = (log_probs * truth).sum(axis=-1)
        top = of_label.max(axis=1, keepdims=True)
        share = np.exp(of_label - top)
        loss = -(np.log(share.mean(axis=1)) + top[:, 0]).mean()
        share /= share.sum(axis=1, keepdims=True)  # of each member in the likelihood of its row
        slope = share[:, :, None] * (np.exp(log_probs) - truth) / count
        away = np.concatenate([factors - 1, shifts])
        gradient = np.concatenate([(slope * given.logits).sum(axis=(0, 1)), slope.sum(axis=(0, 1))])
        weight = PRIOR / given.num_subjects
        return loss + weight * float(away @ away), gradient + 2 * weight * away

    start = np.concatenate([np.ones(num_classes), np.zeros(num_classes)])
    solution = minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=[(0, 20)] * num_classes + [(-20, 20)] * num_classes
    )
    shifts = solution.x[num_classes:] - solution.x[num_classes:].mean()
    return tuple(solution.x[:num_classes].tolist()), tuple(shifts.tolist())


def _solve_isotonic(given: CalibrationRows) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
    """The bends of each class's isotonic map."""
    from sklearn.isotonic import IsotonicRegression

    probs = _mean_of_members(given.logits)
    x, y = [], []
    for index in range(given.num_classes):
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(probs[:, index], given.labels == index)
        x.append(tuple(fitted.X_thresholds_.tolist()))
        y.append(tuple(fitted.y_thresholds_.tolist()))
    return tuple(x), tuple(y)
