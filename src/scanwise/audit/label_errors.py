"""Which labels are perhaps wrong: against the rest of the person, and against what other people of the class look like."""

import numpy as np

from scanwise import metrics
from scanwise.arrays import softmax
from scanwise.audit.evidence import AuditFinding, Evidence, ScanSheet, make_finding
from scanwise.audit.subject_statistics import classes_with_subjects, subject_folds, subject_indices
from scanwise.pooling import common_label, mean_by
from scanwise.records import BoolArray, FloatArray, IntArray, Severity

SHOWN = 12
COMPONENTS = 50
FIT = 4000
"""Scans that the components are learnt from."""
STRENGTHS = (0.001, 0.03, 1.0)
"""Inverse penalties of the logistic regression: the one that suits new people best is taken."""
FOLDS = 5
FEWEST = 5
"""People that a class needs to be judged: one a fold."""
ODD_ONE = 1 / 3
"""A label that less than this share of a person's scans carry is odd."""
USEFUL = 0.05
"""How far above chance the classifier must be to say anything at all (balanced accuracy)."""
TRUSTED = 0.9
"""Balanced accuracy from which its doubts are worth a warning."""


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Labels that differ from the rest of a person's, and labels that an out-of-fold classifier doubts."""
    found = [] if evidence.subject is None else _within(evidence)
    return [*found, _doubted(evidence)]


def minority_labels(labels: IntArray, people: IntArray, count: int) -> BoolArray:
    """(N,) whether few of the person's other scans carry this label."""
    cells = np.bincount(people * count + labels, minlength=(int(people.max()) + 1) * count).reshape(-1, count)
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    return np.asarray(share[people, labels] < ODD_ONE)


def confident_errors(probs: FloatArray, labels: IntArray) -> IntArray:
    """Rows whose label is probably wrong, the surest first (confident learning: Northcutt et al. 2021).

    A scan counts as of class j where p_j reaches what scans labelled j get on average; of several such classes the most
    probable one. It is suspected where that is ahead of its label, and ranked by how far.

    Args:
        probs: (N, C) of a classifier that never saw the scan's subject. labels: (N,), every class present.

    >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    >>> confident_errors(probs, np.array([0, 0, 1, 0, 1])).tolist()
    [3]
    """
    usual = np.array([probs[labels == index, index].mean() for index in range(probs.shape[1])])
    confident = np.where(probs >= usual, probs, -1.0)
    ahead = confident.max(axis=1) - probs[np.arange(len(labels)), labels]
    order = np.argsort(-ahead, kind="stable")
    return np.asarray(order[ahead[order] > 0])


def pool_by_subject_and_label(probs: FloatArray, people: IntArray, classes: IntArray) -> FloatArray:
    """(n, C) of each scan the mean log-probabilities of its subject's scans under the same label, as probabilities.

    A label is mostly given to a person; planted errors rank higher so than scan by scan: in twelve of twelve trials.
    """
    groups = people * probs.shape[1] + classes
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    logs = np.log(np.maximum(probs, np.finfo(float).tiny))
    return np.asarray(softmax(mean_by(logs, groups, np.bincount(groups)))[groups])


def out_of_fold_probs(evidence: Evidence, rows: IntArray, classes: IntArray, people: IntArray) -> FloatArray:
    """(n, C) probabilities of a logistic regression on principal components, which never saw the scan's subject."""
    from sklearn.linear_model import LogisticRegression

    features = _components(evidence.vectors, rows, evidence.seed)
    fold = subject_folds(people, classes, FOLDS, evidence.seed)
    tried = []
    for strength in STRENGTHS:
        probs = np.zeros((len(rows), int(classes.max()) + 1))
        for held in np.unique(fold):
            learnt, judged = fold != held, np.flatnonzero(fold == held)
            model = LogisticRegression(C=strength, max_iter=1000).fit(features[learnt], classes[learnt])
            probs[np.ix_(judged, model.classes_)] = model.predict_proba(features[judged])
        tried.append(probs)
    return min(tried, key=lambda probs: metrics.METRICS["nll"](probs, classes))


def _components(vectors: FloatArray, rows: IntArray, seed: int) -> FloatArray:
    """(n, D) the first principal components, each of spread one."""
    from sklearn.utils.extmath import randomized_svd

    random = np.random.default_rng([seed, 5])
    some = np.sort(random.choice(rows, min(FIT, len(rows)), replace=False))
    mean = vectors[some].mean(axis=0)
    count = min(COMPONENTS, len(some) - 1, vectors.shape[1])
    _, _, axes = randomized_svd(vectors[some] - mean, count, n_iter=2, random_state=seed)
    found = (vectors @ axes.T)[rows] - mean @ axes.T  # in this order, for a copy of 40,000 descriptors is 430 MB
    spread = found.std(axis=0)
    return np.asarray(found / np.where(spread > 0, spread, 1), dtype=np.float64)


def _within(evidence: Evidence) -> list[AuditFinding]:
    cohort, people = evidence.cohort, subject_indices(evidence)
    odd = np.flatnonzero(minority_labels(cohort.labels, people, len(cohort.classes)))
    if not len(odd):
        return []
    rest = common_label(cohort.labels, people, len(cohort.classes))[people]
    captions = tuple(f"{cohort.classes[cohort.labels[r]]}; the rest is {cohort.classes[rest[r]]}" for r in odd[:SHOWN])
    message = (
        f"{len(odd)} scans of {len(np.unique(people[odd]))} subjects carry another label than most scans of their subject. "
        "Unless the disease changed between two visits, one of the two is wrong."
    )
    return [
        make_finding("quality.labels.subject", "warning", message, cohort.path[odd], ScanSheet(odd[:SHOWN], captions))
    ]


def _doubted(evidence: Evidence) -> AuditFinding:
    check, cohort, everyone = "quality.labels", evidence.cohort, subject_indices(evidence)
    kept = classes_with_subjects(everyone, cohort.labels, len(cohort.classes), FEWEST)
    if len(kept) < 2:
        few = f"not judged, for fewer than two classes have {FEWEST} subjects"
        return make_finding(check, "note", f"Wrong labels: {few}.")
    rows = np.flatnonzero(np.isin(cohort.labels, kept))
    classes = np.searchsorted(kept, cohort.labels[rows])
    people = np.unique(everyone[rows], return_inverse=True)[1].reshape(-1)
    probs = pool_by_subject_and_label(out_of_fold_probs(evidence, rows, classes, people), people, classes)
    right = probs.argmax(axis=1) == classes
    balanced = float(np.mean([right[classes == index].mean() for index in range(len(kept))]))
    told = f"a simple classifier, tried on {'people' if evidence.subject is not None else 'scans'} that it did not learn from, is right for {100 * balanced:.0f} % (mean over classes)"
    if balanced < 1 / len(kept) + USEFUL:
        return make_finding(check, "note", f"Wrong labels: not judged, for {told}, which is too near to chance.")
    own = probs[np.arange(len(rows)), classes]
    doubted = np.flatnonzero(probs.max(axis=1) > own)
    sure = confident_errors(probs, classes)
    unsure = np.setdiff1d(doubted, sure)
    suspected = np.concatenate([sure, unsure[np.argsort((own - probs.max(axis=1))[unsure], kind="stable")]])
    if not len(suspected):
        return make_finding(check, "note", f"No label is doubted; {told}.")
    shown = suspected[np.sort(np.unique(people[suspected], return_index=True)[1])][:SHOWN]  # a person once
    captions = tuple(
        f"{cohort.classes[kept[classes[row]]]}? looks {cohort.classes[kept[probs[row].argmax()]]}" for row in shown
    )
    severity: Severity = "warning" if balanced >= TRUSTED else "note"
    of_whom = "" if evidence.subject is None else f" of {len(np.unique(people[suspected]))} subjects"
    message = (
        f"{len(suspected)} scans{of_whom} look more like another class, {len(sure)} of them as much as its own do on average; {told}. "
        "Listed with the surest first: let someone who can read scans look at these; most further down are hard, not wrong."
    )
    picture = ScanSheet(rows[shown], captions)
    return make_finding(check, severity, message, cohort.path[rows[suspected]], picture)
