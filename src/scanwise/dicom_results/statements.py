"""Statements of a result, in the words that the report, the picture and FHIR share: the decision first, then why.

A model without a guarantee leaves every case to a person.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scanwise.bundle import Bundle, BundlePredictions
from scanwise.phrases import count_of
from scanwise.records import Predictions

INTENDED_USE = "Research use only; not a medical device. Preliminary and unverified."


@dataclass(frozen=True, slots=True)
class Statement:
    """An answer for one scan, or for the person of a study.

    Attributes:
        about: what it is about, such as "scan 3 of 20".
        row: of the scans, or of the subjects, in the answer.
        reasons: why it is left to a person; empty where an answer is given.
        predicted: the most probable class.
        probs: probability by class.
        prediction_set: its classes; None where no guarantee is given.
        novelty: out-of-distribution score, above 1 an alarm; None where there is no detector.
        unlike_training: whether the detector flags it.
        guarantee: the coverage of the set, and the unit that it holds for.
    """

    about: str
    row: int
    reasons: tuple[str, ...]
    predicted: str
    probs: dict[str, float]
    prediction_set: tuple[str, ...] | None
    novelty: float | None
    unlike_training: bool | None
    guarantee: str

    @property
    def review(self) -> bool:
        """Whether a person should decide."""
        return bool(self.reasons)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.review:
            return f"Review by a person: {'; '.join(self.reasons)}."
        return f"{self.predicted}, probability {self.probs[self.predicted]:.3f}."

    @property
    def set_in_words(self) -> str:
        """The prediction set as a text."""
        return "none" if self.prediction_set is None else ", ".join(self.prediction_set) or "empty"


def state_scans(bundle: Bundle, answer: BundlePredictions, rows: Iterable[int]) -> list[Statement]:
    """Statements on scans, in the order of these rows."""
    chosen = list(rows)
    return [
        _state(bundle, answer.scans, row, f"scan {number} of {len(chosen)}") for number, row in enumerate(chosen, 1)
    ]


def state_person(bundle: Bundle, answer: BundlePredictions, rows: Iterable[int]) -> Statement | None:
    """The statement on the person of these scans; None where it is not known whose they are."""
    subjects = {str(answer.scans.subjects[row]) for row in rows}
    if answer.subjects is None or len(subjects) != 1 or "" in subjects:
        return None
    row = answer.subjects.subjects.tolist().index(subjects.pop())
    counts = answer.subjects.scan_counts
    pooled = "" if counts is None else f", {count_of(int(counts[row]), 'scan')} pooled"
    return _state(bundle, answer.subjects, row, f"person{pooled}")


def add_unread(statement: Statement, read: int, unread: int) -> Statement:
    """A statement on scans of which some could not be read: a person must look at those."""
    reason = f"{unread} of {count_of(read + unread, 'scan')} could not be read"
    return replace(statement, reasons=(*statement.reasons, reason))


def _state(bundle: Bundle, answer: Predictions, row: int, about: str) -> Statement:
    sets = bundle.predictors[answer.unit].sets
    names = (
        None if answer.sets is None else [n for n, kept in zip(answer.classes, answer.sets[row], strict=True) if kept]
    )
    unlike = None if answer.ood_flag is None else bool(answer.ood_flag[row])
    reasons = []
    if names is None:
        reasons.append("this model has no coverage guarantee")
    elif len(names) != 1:
        reasons.append(f"{len(names)} classes cannot be ruled out" if names else "no class fits")
    if unlike:
        reasons.append("unlike the training scans")
    if answer.deferred is not None and bool(answer.deferred[row]):
        reasons.append("too uncertain for the error allowed")
    guarantee = "No coverage guarantee."
    if sets is not None:
        guarantee = (
            f"The prediction set holds the true class of {_articled(sets.guarantee)} with a probability of at least "
            f"{1 - sets.alpha:.0%}."
        )
        if sets.warning:
            guarantee = f"{guarantee} {sets.warning}"
        if unlike:
            guarantee = f"{guarantee} Not here: unlike the training scans."
    return Statement(
        about=about,
        row=row,
        reasons=tuple(reasons),
        predicted=answer.classes[int(answer.probs[row].argmax())],
        probs={name: float(p) for name, p in zip(answer.classes, answer.probs[row], strict=True)},
        prediction_set=None if names is None else tuple(names),
        novelty=None if answer.ood is None else float(answer.ood[row]),
        unlike_training=unlike,
        guarantee=guarantee,
    )


def _articled(unit: str) -> str:
    return unit if unit.startswith("all ") else f"a {unit}"
