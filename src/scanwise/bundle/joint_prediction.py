"""The second half of a prediction: from network outputs to answers, for one request or several at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanwise.bundle.answers import BundlePredictions
from scanwise.bundle.predictors import Predictor, predict_scans_and_subjects
from scanwise.conformal import CrossSets
from scanwise.phrases import count_of
from scanwise.records import Logits, Predictions, ScanNovelty, Unit

_Rows = tuple[Predictions, Predictions | None]


@dataclass(frozen=True, slots=True)
class NetworkOutputs:
    """Network outputs for the scans of one request.

    Attributes:
        logits: a row for each scan that could be read; its subject is "" where none is known.
        hashes: of the content of each.
        novelty: distance of each from training, or None.
        quarantine: (name, reason) of the others.
    """

    logits: Logits
    hashes: Sequence[str]
    novelty: ScanNovelty | None
    quarantine: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def alone(self) -> int:
        """Number of scans whose subject is not known."""
        return int((self.logits.subjects == "").sum())


def predict_requests(
    predictors: Mapping[Unit, Predictor], requests: Sequence[NetworkOutputs]
) -> list[BundlePredictions]:
    """Answer each request as if it came alone; several together cost little more than one."""
    rows: dict[int, _Rows] = {}
    with_subjects = [request.alone < len(request) for request in requests]
    for kind in (False, True):
        numbers = [number for number, own in enumerate(with_subjects) if own == kind]
        predict = _predict_each if len(numbers) > 1 else _predict_one
        rows |= zip(numbers, predict(dict(predictors), [requests[number] for number in numbers]), strict=True)
    sets = [predictor.sets for predictor in predictors.values()]
    weaker = tuple(dict.fromkeys(own.warning for own in sets if isinstance(own, CrossSets)))
    return [
        BundlePredictions(*rows[number], request.quarantine, (*_remarks_on_subjects(request), *weaker))
        for number, request in enumerate(requests)
    ]


def _predict_one(predictors: dict[Unit, Predictor], requests: Sequence[NetworkOutputs]) -> list[_Rows]:
    return [_rows_of(predictors, request) for request in requests]


def _predict_each(predictors: dict[Unit, Predictor], requests: Sequence[NetworkOutputs]) -> list[_Rows]:
    """Rows of requests of one kind: some subjects are known in each, or none in any."""
    scans, people = _rows_of(predictors, _joined(requests))
    owners, names = _owners(people)
    each, start = [], 0
    for number, request in enumerate(requests):
        logits, own = request.logits, None
        if people is not None:
            rows = np.flatnonzero(owners == number)
            own = people.take(rows)
            own = replace(own, subjects=names[rows], groups={name: own.groups[name] for name in logits.groups})
        part = scans.take(np.arange(start, start + len(request)))
        each.append((replace(part, subjects=logits.subjects, groups=logits.groups), own))
        start += len(request)
    return each


def _rows_of(predictors: dict[Unit, Predictor], request: NetworkOutputs) -> _Rows:
    if request.alone == len(request):
        return predictors["scan"](request.logits, request.hashes, request.novelty), None
    return predict_scans_and_subjects(predictors, request.logits, request.hashes, request.novelty)


def _joined(requests: Sequence[NetworkOutputs]) -> NetworkOutputs:
    """All requests as one, in which each subject bears the number of its request, so that two share none."""
    each = [request.logits for request in requests]
    attention = [logits.attention for logits in each if logits.attention is not None]
    novelty = [request.novelty for request in requests if request.novelty is not None]
    names = [
        f"{number}\0{name}" if name else "" for number, logits in enumerate(each) for name in logits.subjects.tolist()
    ]
    columns = dict.fromkeys(name for logits in each for name in logits.groups)
    logits = Logits(
        np.concatenate([logits.logits for logits in each]),
        np.concatenate([logits.labels for logits in each]),
        np.concatenate([logits.scans for logits in each]),
        np.array(names, dtype=np.str_),
        each[0].classes,
        groups={
            name: np.concatenate([logits.groups.get(name, np.full(len(logits), "")) for logits in each])
            for name in columns
        },
        attention=np.concatenate(attention) if attention else None,
    )
    hashes = [content for request in requests for content in request.hashes]
    return NetworkOutputs(logits, hashes, ScanNovelty.join(novelty) if novelty else None)


def _owners(people: Predictions | None) -> tuple[np.ndarray, np.ndarray]:
    """Number of the request and name of each subject of `_joined`."""
    parts = [] if people is None else [name.partition("\0") for name in people.subjects.tolist()]
    return np.array([int(part[0]) for part in parts]), np.array([part[2] for part in parts], dtype=np.str_)


def _remarks_on_subjects(request: NetworkOutputs) -> tuple[str, ...]:
    alone, count = request.alone, len(request)
    if alone in (0, count):
        return ()
    return (
        f"{alone:,} of {count_of(count, 'scan')} {'has' if alone == 1 else 'have'} no subject: each is answered alone, and "
        "counts in no row of subjects.",
    )
