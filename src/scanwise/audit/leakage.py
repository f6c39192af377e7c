"""What a split gives away: people on two sides, what that is worth in points of accuracy, and two probes that see it.

The learner of all probes is the nearest neighbour on thumbnails, which memorises and does nothing else. Under the given
split it finds the same person where it can; under a split by subject it cannot. The gap is what the split flatters by.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np

from scanwise.audit import nearest_scans
from scanwise.audit.evidence import AuditFinding, Evidence, Histogram, IntervalChart, make_finding
from scanwise.audit.subject_statistics import SubjectEstimate, subject_indices
from scanwise.pooling import common_label
from scanwise.records import SIDES, FloatArray, IntArray, Severity, Split

QUERIES = 4096
"""Scans asked for their neighbour, at most: more would make no figure finer than a point."""
PAIRS = 80_000_000
"""Comparisons for each question, at most: from 20,000 scans on, fewer are asked, and the time grows no more."""
OTHER_SUBJECTS = 16
"""Other people kept for each scan: that none of them learns has the probability 0.2 to the 16th where 80 % learn."""
PERMUTATIONS = 400
FEWEST = 5
"""People from which on labels are permuted between them."""
EFFECT = 0.05
"""What a split may flatter by without a warning, where nobody is known to stand on two sides."""
USUAL = 0.8
"""Share of the scans that learn, where no split says."""
UNKNOWN = "not judged, for who is who is not known; say it with --subject"


@dataclass(frozen=True, slots=True)
class NearestNeighbourSplit:
    """Who learns, who is judged, and who is nearest.

    Attributes:
        learnt: rows of the training side.
        judged: (Q,) rows of the side that is judged; a sample where they are many.
        near: (Q,) for each of them the learnt row that is most alike.
        name: of the judged side; empty where scans are dealt at random.
    """

    learnt: IntArray
    judged: IntArray
    near: IntArray
    name: str

    @classmethod
    def of(cls, evidence: Evidence, learnt: IntArray, judged: IntArray, name: str) -> Self:
        some = sample_queries(judged, len(learnt), evidence.seed)
        near = nearest_scans.nearest_scan(evidence.pixels, some, learnt)
        return cls(learnt, some, near, name)

    def right(self, labels: IntArray, people: IntArray) -> SubjectEstimate:
        """The share of judged scans that their nearest neighbour classifies right."""
        return SubjectEstimate.mean((labels[self.near] == labels[self.judged]).astype(np.float64), self.judged, people)

    def recognised(self, people: IntArray) -> SubjectEstimate:
        """The share of judged scans whose nearest neighbour is of the same subject."""
        return self.right(people, people)


@dataclass(frozen=True, slots=True)
class NearestOtherSubjects:
    """For some scans, the other people who are most alike.

    Attributes:
        asked: (Q,) rows, of all sides.
        others: (Q, K) of `nearest_scans.nearest_other_subjects`.
        share: of the people who learn under a split by subject.
    """

    asked: IntArray
    others: IntArray
    share: float

    @classmethod
    def of(cls, evidence: Evidence, people: IntArray) -> Self:
        used, share = _used(evidence)
        asked = sample_queries(used, len(used), evidence.seed)
        others = nearest_scans.nearest_other_subjects(
            evidence.pixels, asked, used, people, evidence.cohort.labels, OTHER_SUBJECTS
        )
        return cls(asked, others, share)

    def right(self, labels: IntArray, people: IntArray) -> SubjectEstimate:
        """The share that the nearest neighbour classifies right, over all splits by subject.

        Each other subject learns with probability `share`. The most alike one is then the neighbour with that
        probability, the next one where the first does not learn, and so on: the mean over all splits, drawing none.
        """
        who = np.where(self.others >= 0, people[self.others], -1)
        fresh = (who >= 0).astype(np.float64)
        for k in range(1, who.shape[1]):  # a subject who comes again learns or not as it did before
            fresh[:, k] *= ~(who[:, :k] == who[:, k : k + 1]).any(axis=1)
        weight = fresh * self.share * (1 - self.share) ** (np.cumsum(fresh, axis=1) - fresh)
        total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
        right = labels[self.others] == labels[self.asked][:, None]
        return SubjectEstimate.mean((weight * right).sum(axis=1) / total, self.asked, people)


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Shared subjects, leakage in points, permuted labels and identity; each says so where it could not judge."""
    people = subject_indices(evidence)
    given, random = _given(evidence), _random(evidence)
    if evidence.subject is None:
        return _without_people(evidence, people, given, random)
    found = [] if evidence.split is None else [_shared(evidence, evidence.split, people)]
    shared = any(noted.finding.severity == "leak" for noted in found)
    strangers = NearestOtherSubjects.of(evidence, people)
    found.append(_points(evidence, people, given, random, strangers, shared))
    found.append(_permuted(evidence, people, given, strangers))
    found.append(_identity(people, given, random))
    return found


def permuted_accuracies(
    evidence: Evidence, people: IntArray, given: NearestNeighbourSplit, strangers: NearestOtherSubjects
) -> tuple[FloatArray, FloatArray]:
    """(P,) accuracies under the given split and (P',) under splits by subject, with labels permuted between subjects.

    Each permutation comes with a split by subject of its own, of the same share, so that both kinds of chance show.
    """
    label_of = common_label(evidence.cohort.labels, people, len(evidence.cohort.classes))
    count = len(label_of)
    random = np.random.default_rng([evidence.seed, 2])
    who = np.where(strangers.others >= 0, people[strangers.others], count)  # one more, who never learns
    learning = min(max(1, round(strangers.share * count)), count - 1)
    under_given, by_subject = [], []
    for _ in range(PERMUTATIONS):
        shuffled = random.permutation(label_of)
        under_given.append((shuffled[people[given.near]] == shuffled[people[given.judged]]).mean())
        learns = np.zeros(count + 1, dtype=bool)
        learns[random.permutation(count)[:learning]] = True
        rows = np.flatnonzero(~learns[people[strangers.asked]])
        known = learns[who[rows]]
        rows, first = rows[known.any(axis=1)], known.argmax(axis=1)[known.any(axis=1)]
        if len(rows):
            by_subject.append((shuffled[who[rows, first]] == shuffled[people[strangers.asked[rows]]]).mean())
    return np.array(under_given), np.array(by_subject)


def sample_queries(rows: IntArray, references: int, seed: int) -> IntArray:
    """At most `QUERIES` of these rows, at random; fewer where each is compared with very many references."""
    most = max(1, min(QUERIES, PAIRS // references))
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng([seed, 3]).choice(rows, most, replace=False))


def _given(evidence: Evidence) -> NearestNeighbourSplit | None:
    """Training against test (or else calibration, or validation); None where one of the two is empty."""
    split = evidence.split
    if split is None:
        return None
    judged = next((side for side in SIDES[:0:-1] if len(split.rows(side))), "")
    learnt = split.rows("train")
    return NearestNeighbourSplit.of(evidence, learnt, split.rows(judged), judged) if judged and len(learnt) else None


def _random(evidence: Evidence) -> NearestNeighbourSplit:
    """Scans dealt at random, whoever they are of, with the shares of the given split."""
    used, share = _used(evidence)
    mixed = np.random.default_rng([evidence.seed, 1]).permutation(used)
    cut = min(max(1, round(share * len(mixed))), len(mixed) - 1)
    return NearestNeighbourSplit.of(evidence, mixed[:cut], mixed[cut:], "")


def _used(evidence: Evidence) -> tuple[IntArray, float]:
    """Rows on any side of the split, and the share of them that learns; without a split all, and the usual share."""
    if evidence.split is None:
        return np.arange(len(evidence)), USUAL
    used = np.flatnonzero(evidence.split.side != "")
    learns = evidence.split.side[used] == "train"
    if len(used) < 2 or learns.all() or not learns.any():
        return np.arange(len(evidence)), USUAL
    return used, float(learns.mean())


def _without_people(
    evidence: Evidence, people: IntArray, given: NearestNeighbourSplit | None, random: NearestNeighbourSplit
) -> list[AuditFinding]:
    labels = evidence.cohort.labels
    said = (
        f"A nearest neighbour classifies {random.right(labels, people).percent()} right where scans are dealt at random"
    )
    if given is not None:
        said += f", and {given.right(labels, people).percent()} under the given split"
    said += f". What of it is the person and not the class: {UNKNOWN}. Without it these intervals are too narrow."
    return [
        make_finding("leakage.points", "note", said),
        make_finding("leakage.subjects", "note", f"Whether subjects stand on two sides: {UNKNOWN}."),
        make_finding("leakage.permuted", "note", f"Shuffled labels: {UNKNOWN}."),
        make_finding("leakage.identity", "note", f"Whether pixels give the person away: {UNKNOWN}."),
    ]


def _shared(evidence: Evidence, split: Split, people: IntArray) -> AuditFinding:
    """Subjects on several sides, for every pair of sides."""
    on = {side: np.unique(people[split.rows(side)]) for side in SIDES if len(split.rows(side))}
    told, concerned = [], set[int]()
    for one, other in combinations(on, 2):
        both = np.intersect1d(on[one], on[other])
        if len(both):
            told.append(f"{one} and {other} share {len(both)} of {len(np.union1d(on[one], on[other]))} subjects")
            concerned |= set(both.tolist())
    if not told:
        return make_finding("leakage.subjects", "note", "No subject stands on two sides of the split.")
    rows = np.flatnonzero(np.isin(people, sorted(concerned)) & (split.side != ""))
    told[0] = told[0][0].upper() + told[0][1:]
    message = (
        f"{'; '.join(told)}. Figures of such a split are about people whom the classifier has seen. Give every subject "
        "one side, or let scanwise split."
    )
    return make_finding("leakage.subjects", "leak", message, evidence.cohort.path[rows])


def _points(
    evidence: Evidence,
    people: IntArray,
    given: NearestNeighbourSplit | None,
    random: NearestNeighbourSplit,
    strangers: NearestOtherSubjects,
    shared: bool,
) -> AuditFinding:
    """The same learner under the given split, by subject and at random, and the gap in points."""
    labels = evidence.cohort.labels
    honest, at_random = strangers.right(labels, people), random.right(labels, people)
    shown = {"split by subject": honest, "scans at random": at_random}
    severity: Severity = "note"
    if given is None:
        gap = at_random.less(honest, people)
        told = f"There is no split to judge yet; one at random by scan would flatter by {_points_of(gap)}"
    else:
        here = given.right(labels, people)
        shown = {"the given split": here, **shown}
        gap = here.less(honest, people)
        told = f"The given split flatters by {_points_of(gap)}"
        if shared and gap.low > 0:
            severity = "leak"
        elif here.less(honest, people, 0.999).low > EFFECT:
            severity = "warning"
            told += ", though no known subject stands on two sides: look for copies, and for people with two names"
    figures = ", ".join(f"{name} {estimate.percent()}" for name, estimate in shown.items())
    message = f"Accuracy of a nearest neighbour, with 95 % intervals over subjects: {figures}. {told}."
    return make_finding(
        "leakage.points", severity, message, picture=_bars(shown, np.bincount(labels).max() / len(labels))
    )


def _points_of(gap: SubjectEstimate) -> str:
    return f"{100 * gap.value:.1f} points ({100 * gap.low:.1f} to {100 * gap.high:.1f})"


def _bars(shown: dict[str, SubjectEstimate], commonest: float) -> IntervalChart:
    values, low, high = (np.array([getattr(e, name) for e in shown.values()]) for name in ("value", "low", "high"))
    axis = "accuracy of a nearest neighbour (line: always the most frequent class)"
    return IntervalChart(tuple(shown), values, low, high, axis, float(commonest))


def _permuted(
    evidence: Evidence, people: IntArray, given: NearestNeighbourSplit | None, strangers: NearestOtherSubjects
) -> AuditFinding:
    """Labels shuffled between people: who still does well has memorised people."""
    if given is None:
        return make_finding("leakage.permuted", "note", "Shuffled labels: not judged, for no split is given.")
    count = int(people.max()) + 1
    if count < FEWEST:
        return make_finding(
            "leakage.permuted", "note", f"Shuffled labels: not judged, for {count} subjects are too few."
        )
    here, honest = permuted_accuracies(evidence, people, given, strangers)
    if not len(honest):
        return make_finding(
            "leakage.permuted", "note", "Shuffled labels: not judged, for no split by subject can be made."
        )
    mean, bound = float(here.mean()), float(np.quantile(honest, 0.975))
    low, high = np.quantile(here, [0.025, 0.975]).tolist()
    message = (
        f"With labels shuffled between subjects, {len(here)} times, a nearest neighbour classifies {100 * mean:.1f} % "
        f"right under the given split (95 % of the shuffles: {100 * low:.1f}–{100 * high:.1f}). Under splits by subject "
        f"it gets {100 * honest.mean():.1f} %, and more than {100 * bound:.1f} % once in forty. "
    )
    message += "It knows the people, not their disease." if mean > bound else "So it does not live on knowing people."
    values = {"the given split": here, "splits by subject": honest}
    picture = Histogram(values, "accuracy with shuffled labels", bound)
    return make_finding("leakage.permuted", "leak" if mean > bound else "note", message, picture=picture)


def _identity(people: IntArray, given: NearestNeighbourSplit | None, random: NearestNeighbourSplit) -> AuditFinding:
    """How often pixels alone find the person across the sides."""
    at_random = random.recognised(people)
    told = f"where scans are dealt at random, for {at_random.percent()}"
    if given is None:
        advice = " Pixels give the person away, so split by subject." if at_random.low > 0.5 else ""
        message = f"The learnt scan that is most alike is of the same subject, {told} (95 % interval).{advice}"
        return make_finding("leakage.identity", "note", message)
    here = given.recognised(people)
    message = (
        f"The learnt scan that is most alike is of the same subject for {here.percent()} of the {given.name} scans, and "
        f"{told} (95 % intervals over subjects)."
    )
    return make_finding("leakage.identity", "leak" if here.low > 0 else "note", message)
