"""Leakage of a split: subjects on several sides, the gain in accuracy that comes of it, and two probes of memorisation.

All probes use a nearest-neighbour classifier on thumbnails, which memorises and does nothing else. Under the given split it
finds the same person where it can; under a split by subject it cannot. The difference is the inflation of the split.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np

from scanwise.auditing import nearest_scans
from scanwise.auditing.evidence import AuditFinding, Evidence, Histogram, IntervalChart, make_finding
from scanwise.auditing.subject_statistics import SubjectEstimate, subject_indices
from scanwise.auditing.unknown_subjects import UNKNOWN
from scanwise.phrases import count_of
from scanwise.pooling import common_label
from scanwise.records import SIDES, FloatArray, IntArray, Severity, Split

QUERIES = 4096
"""Test scans, at most: more would make no figure finer than a point."""
PAIRS = 80_000_000
"""Comparisons for each probe, at most: from 20,000 scans on, fewer scans are tested, and the time grows no more."""
OTHER_SUBJECTS = 16
"""Other subjects kept for each scan: with 80 % of subjects in training, none of them is with probability 0.2 to the 16th."""
PERMUTATIONS = 400
FEWEST = 5
"""Subjects from which on labels are permuted between them."""
TOLERATED_GAP = 0.05
"""Inflation of accuracy without a warning, where no subject is known to be on two sides."""
CHANCE = 0.02
"""Share of splits by subject that may be as accurate as one that is warned of."""
TRAIN_SHARE = 0.8
"""Share of the scans in training, where there is no split."""


@dataclass(frozen=True, slots=True)
class NearestNeighbourSplit:
    """Two sides of a split, and for each test scan the most similar training scan.

    Attributes:
        train: rows of the training side.
        test: (Q,) rows of the tested side; a sample where they are many.
        nearest: (Q,) for each of them the row of the most similar training scan.
        name: of the tested side; empty under a random split by scan.
    """

    train: IntArray
    test: IntArray
    nearest: IntArray
    name: str

    @classmethod
    def of(cls, evidence: Evidence, train: IntArray, test: IntArray, name: str) -> Self:
        queries = sample_queries(test, len(train), evidence.seed)
        nearest = nearest_scans.nearest_scan(evidence.pixels, queries, train)
        return cls(train, queries, nearest, name)

    def accuracy(self, labels: IntArray, people: IntArray) -> SubjectEstimate:
        """Accuracy of the nearest neighbour on the test scans."""
        correct = (labels[self.nearest] == labels[self.test]).astype(np.float64)
        return SubjectEstimate.mean(correct, self.test, people)

    def same_subject_share(self, people: IntArray) -> SubjectEstimate:
        """Share of test scans whose nearest training scan is of the same subject."""
        return self.accuracy(people, people)


@dataclass(frozen=True, slots=True)
class NearestOtherSubjects:
    """The most similar other subjects of some scans.

    Attributes:
        queries: (Q,) rows, of all sides.
        others: (Q, K) of `nearest_scans.nearest_other_subjects`.
        share: of the subjects in training under a split by subject.
    """

    queries: IntArray
    others: IntArray
    share: float

    @classmethod
    def of(cls, evidence: Evidence, people: IntArray) -> Self:
        used, share = _used_rows(evidence)
        queries = sample_queries(used, len(used), evidence.seed)
        others = nearest_scans.nearest_other_subjects(
            evidence.pixels, queries, used, people, evidence.cohort.labels, OTHER_SUBJECTS
        )
        return cls(queries, others, share)

    def accuracy(self, labels: IntArray, people: IntArray) -> SubjectEstimate:
        """Accuracy of the nearest neighbour, the mean over all splits by subject.

        Each other subject is in training with probability `share`. The most similar one is then the neighbour with that
        probability, the next one where the first is not in training, and so on: the exact mean over all splits, none drawn.
        """
        other_people = np.where(self.others >= 0, people[self.others], -1)
        fresh = (other_people >= 0).astype(np.float64)
        for k in range(1, other_people.shape[1]):  # a subject listed again is in training or not as it was before
            fresh[:, k] *= ~(other_people[:, :k] == other_people[:, k : k + 1]).any(axis=1)
        weight = fresh * self.share * (1 - self.share) ** (np.cumsum(fresh, axis=1) - fresh)
        total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
        correct = labels[self.others] == labels[self.queries][:, None]
        return SubjectEstimate.mean((weight * correct).sum(axis=1) / total, self.queries, people)


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Shared subjects, inflation in points, permuted labels and recognition of people; each says where it was not checked."""
    people = subject_indices(evidence)
    given, at_random = _given_split(evidence), _random_split(evidence)
    if evidence.subject is None:
        return _subjects_unknown(evidence, people, given, at_random)
    findings = [] if evidence.split is None else [_shared_subjects(evidence, evidence.split, people)]
    shared = any(item.finding.severity == "leak" for item in findings)
    others = NearestOtherSubjects.of(evidence, people)
    findings.append(_inflation(evidence, people, given, at_random, others, shared))
    findings.append(_permuted_labels(evidence, people, given, others))
    findings.append(_recognition(people, given, at_random))
    return findings


def permuted_accuracies(
    evidence: Evidence, people: IntArray, given: NearestNeighbourSplit, others: NearestOtherSubjects
) -> tuple[FloatArray, FloatArray]:
    """(P,) accuracies under the given split and (P',) under splits by subject, with labels permuted between subjects.

    Each permutation comes with a split by subject of its own, of the same share, so that both kinds of chance show.
    """
    label_of = common_label(evidence.cohort.labels, people, len(evidence.cohort.classes))
    count = len(label_of)
    random = np.random.default_rng([evidence.seed, 2])
    other_people = np.where(others.others >= 0, people[others.others], count)  # one more, never in training
    train_count = min(max(1, round(others.share * count)), count - 1)
    under_given, by_subject = [], []
    for _ in range(PERMUTATIONS):
        shuffled = random.permutation(label_of)
        under_given.append((shuffled[people[given.nearest]] == shuffled[people[given.test]]).mean())
        in_training = np.zeros(count + 1, dtype=bool)
        in_training[random.permutation(count)[:train_count]] = True
        rows = np.flatnonzero(~in_training[people[others.queries]])
        usable = in_training[other_people[rows]]
        rows, first = rows[usable.any(axis=1)], usable.argmax(axis=1)[usable.any(axis=1)]
        if len(rows):
            by_subject.append((shuffled[other_people[rows, first]] == shuffled[people[others.queries[rows]]]).mean())
    return np.array(under_given), np.array(by_subject)


def sample_queries(rows: IntArray, references: int, seed: int) -> IntArray:
    """At most `QUERIES` of these rows, at random; fewer where each is compared with very many references."""
    most = max(1, min(QUERIES, PAIRS // references))
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng([seed, 3]).choice(rows, most, replace=False))


def _given_split(evidence: Evidence) -> NearestNeighbourSplit | None:
    """Training against test (or else calibration, or validation); None where one of the two is empty."""
    split = evidence.split
    if split is None:
        return None
    tested = next((side for side in SIDES[:0:-1] if len(split.rows(side))), "")
    train = split.rows("train")
    return NearestNeighbourSplit.of(evidence, train, split.rows(tested), tested) if tested and len(train) else None


def _random_split(evidence: Evidence) -> NearestNeighbourSplit:
    """A random split by scan, with the shares of the given split."""
    used, share = _used_rows(evidence)
    shuffled = np.random.default_rng([evidence.seed, 1]).permutation(used)
    count = min(max(1, round(share * len(shuffled))), len(shuffled) - 1)
    return NearestNeighbourSplit.of(evidence, shuffled[:count], shuffled[count:], "")


def _used_rows(evidence: Evidence) -> tuple[IntArray, float]:
    """Rows on any side of the split, and the share of them in training; without a split all rows and `TRAIN_SHARE`."""
    if evidence.split is None:
        return np.arange(len(evidence)), TRAIN_SHARE
    used = np.flatnonzero(evidence.split.side != "")
    in_training = evidence.split.side[used] == "train"
    if len(used) < 2 or in_training.all() or not in_training.any():
        return np.arange(len(evidence)), TRAIN_SHARE
    return used, float(in_training.mean())


def _subjects_unknown(
    evidence: Evidence, people: IntArray, given: NearestNeighbourSplit | None, at_random: NearestNeighbourSplit
) -> list[AuditFinding]:
    """The accuracies that can be measured, and notes that the rest was not checked."""
    labels = evidence.cohort.labels
    accuracies = f"{at_random.accuracy(labels, people).percent()} under a random split by scan"
    if given is not None:
        accuracies += f", {given.accuracy(labels, people).percent()} under this split"
    points = (
        f"Accuracy of a nearest-neighbour classifier: {accuracies}. How much of it is recognition of subjects: {UNKNOWN}. Until "
        "then these intervals are too narrow."
    )
    return [
        make_finding("leakage.points", "note", points),
        make_finding(
            "leakage.subjects", "note", f"Subjects on several sides: {UNKNOWN}.", unchecked="subjects on several sides"
        ),
        make_finding("leakage.permuted", "note", f"Shuffled labels: {UNKNOWN}.", unchecked="shuffled labels"),
        make_finding(
            "leakage.identity",
            "note",
            f"Recognition of subjects from the images: {UNKNOWN}.",
            unchecked="recognition of subjects from the images",
        ),
    ]


def _shared_subjects(evidence: Evidence, split: Split, people: IntArray) -> AuditFinding:
    """Subjects on several sides, for every pair of sides."""
    on = {side: np.unique(people[split.rows(side)]) for side in SIDES if len(split.rows(side))}
    overlaps, shared = [], set[int]()
    for side, other in combinations(on, 2):
        both = np.intersect1d(on[side], on[other])
        if len(both):
            overlaps.append(f"{side} and {other} share {len(both)} of {len(np.union1d(on[side], on[other]))} subjects")
            shared |= set(both.tolist())
    if not overlaps:
        return make_finding("leakage.subjects", "note", "No subject is on two sides of the split.")
    rows = np.flatnonzero(np.isin(people, sorted(shared)) & (split.side != ""))
    overlaps[0] = overlaps[0][0].upper() + overlaps[0][1:]
    message = (
        f"{'; '.join(overlaps)}. Results of such a split are about subjects that the classifier has seen in training. Put "
        "every subject on one side, or let scanwise split."
    )
    return make_finding("leakage.subjects", "leak", message, evidence.cohort.path[rows])


def _inflation(
    evidence: Evidence,
    people: IntArray,
    given: NearestNeighbourSplit | None,
    at_random: NearestNeighbourSplit,
    others: NearestOtherSubjects,
    shared: bool,
) -> AuditFinding:
    """Accuracy of the same classifier under the given split, by subject and by scan, and the difference in points."""
    labels = evidence.cohort.labels
    by_subject, by_scan = others.accuracy(labels, people), at_random.accuracy(labels, people)
    accuracies = {"split by subject": by_subject, "random split by scan": by_scan}
    severity: Severity = "note"
    if given is None:
        gap = by_scan.minus(by_subject, people)
        verdict = f"There is no split to check yet; a random split by scan would inflate accuracy by {_in_points(gap)}."
    else:
        under_given = given.accuracy(labels, people)
        accuracies = {"this split": under_given, **accuracies}
        gap = under_given.minus(by_subject, people)
        verb = "inflates accuracy by" if gap.value > 0 else "does not inflate accuracy:"
        verdict = f"This split {verb} {_in_points(gap)}."
        if shared and gap.low > 0:
            severity = "leak"
        elif _more_than_by_chance(evidence, people, under_given, by_subject, others):
            severity = "warning"
            verdict += " No known subject is on two sides: look for copies, and for subjects under two names."
    listed = ", ".join(f"{name} {estimate.percent()}" for name, estimate in accuracies.items())
    message = f"{verdict} Accuracy of a nearest-neighbour classifier, 95 % intervals over subjects: {listed}."
    chart = _accuracy_chart(accuracies, np.bincount(labels).max() / len(labels))
    return make_finding("leakage.points", severity, message, picture=chart)


def _more_than_by_chance(
    evidence: Evidence,
    people: IntArray,
    under_given: SubjectEstimate,
    by_subject: SubjectEstimate,
    others: NearestOtherSubjects,
) -> bool:
    """Whether the given split is more accurate than splits by subject, also than their spread lets single ones be.

    An interval over subjects knows too little of that spread where few are tested: two of two may be right by luck.
    """
    if not under_given.minus(by_subject, people, 0.999).low > TOLERATED_GAP:
        return False
    accuracies = clean_accuracies(evidence, people, others)
    as_good = int((accuracies >= under_given.value - 1e-9).sum())
    return (1 + as_good) / (1 + len(accuracies)) <= CHANCE


def clean_accuracies(evidence: Evidence, people: IntArray, others: NearestOtherSubjects) -> FloatArray:
    """(P,) accuracies under random splits by subject, with as many subjects of each class on each side as the given one.

    If the given split is a split by subject, it is one of these as good as any other.
    """
    split, labels = evidence.split, evidence.cohort.labels
    if split is None:
        return np.empty(0)
    label_of, count = common_label(labels, people, len(evidence.cohort.classes)), int(people.max()) + 1
    in_training = np.isin(np.arange(count), people[split.rows("train")])
    tested = np.isin(np.arange(count), people[others.queries]) & ~in_training
    other_people = np.where(others.others >= 0, people[others.others], count)  # one more, never in training
    owners, correct = people[others.queries], labels[others.others] == labels[others.queries][:, None]
    random, accuracies = np.random.default_rng([evidence.seed, 4]), []
    for _ in range(PERMUTATIONS):
        exchanged = np.arange(count)
        for index in np.unique(label_of):
            members = np.flatnonzero(label_of == index)
            exchanged[members] = random.permutation(members)
        training = np.append(in_training[exchanged], False)
        rows = np.flatnonzero(tested[exchanged][owners])
        usable = training[other_people[rows]]
        usable, rows = usable[usable.any(axis=1)], rows[usable.any(axis=1)]
        if len(rows):
            accuracies.append(correct[rows, usable.argmax(axis=1)].mean())
    return np.array(accuracies)


def _in_points(gap: SubjectEstimate) -> str:
    """A difference in points, with its interval where there is one: of no difference in any scan there is none."""
    interval = "" if np.isnan(gap.low) else f" ({100 * gap.low:.1f} to {100 * gap.high:.1f})"
    return f"{100 * gap.value:.1f} points{interval}"


def _accuracy_chart(accuracies: dict[str, SubjectEstimate], majority: float) -> IntervalChart:
    estimates = accuracies.values()
    values, low, high = (np.array([getattr(each, end) for each in estimates]) for end in ("value", "low", "high"))
    axis = "accuracy of a nearest-neighbour classifier (line: the majority class)"
    return IntervalChart(tuple(accuracies), values, low, high, axis, float(majority))


def _permuted_labels(
    evidence: Evidence, people: IntArray, given: NearestNeighbourSplit | None, others: NearestOtherSubjects
) -> AuditFinding:
    """Accuracy with labels shuffled between subjects: above chance only by memorising people."""
    count = int(people.max()) + 1
    if given is None:
        return _not_permuted("no split is given")
    if count < FEWEST:
        return _not_permuted(f"there are only {count_of(count, 'subject')} ({FEWEST} needed)")
    under_given, by_subject = permuted_accuracies(evidence, people, given, others)
    if not len(by_subject):
        return _not_permuted("no split by subject can be made")
    mean, bound = float(under_given.mean()), float(np.quantile(by_subject, 0.975))
    low, high = np.quantile(under_given, [0.025, 0.975]).tolist()
    message = (
        f"With labels shuffled between subjects, {len(under_given)} times, a nearest-neighbour classifier has an accuracy of "
        f"{100 * mean:.1f} % under this split (95 % of the shuffles: {100 * low:.1f}–{100 * high:.1f}), and of "
        f"{100 * by_subject.mean():.1f} % under splits by subject (97.5th percentile {100 * bound:.1f} %). "
    )
    message += "It knows the subjects, not the classes." if mean > bound else "No sign that it recognises subjects."
    picture = Histogram(
        {"this split": under_given, "splits by subject": by_subject}, "accuracy with shuffled labels", bound
    )
    return make_finding("leakage.permuted", "leak" if mean > bound else "note", message, picture=picture)


def _not_permuted(reason: str) -> AuditFinding:
    return make_finding("leakage.permuted", "note", f"Shuffled labels: not checked, because {reason}.")


def _recognition(
    people: IntArray, given: NearestNeighbourSplit | None, at_random: NearestNeighbourSplit
) -> AuditFinding:
    """Frequency at which the most similar training scan is of the same person."""
    by_scan = at_random.same_subject_share(people)
    if given is None:
        advice = " Images identify the subject, so split by subject." if by_scan.low > 0.5 else ""
        message = (
            f"Under a random split by scan, for {by_scan.percent()} of test scans the most similar training scan is of the "
            f"same subject (95 % interval over subjects).{advice}"
        )
        return make_finding("leakage.identity", "note", message)
    under_given = given.same_subject_share(people)
    message = (
        f"For {under_given.percent()} of {given.name} scans the most similar training scan is of the same subject; under a "
        f"random split by scan, for {by_scan.percent()} (95 % intervals over subjects)."
    )
    return make_finding("leakage.identity", "leak" if under_given.low > 0 else "note", message)
