"""Likely label errors: labels unlike the rest of a subject, and labels that a classifier trained on other subjects contradicts."""

import numpy as np

from scanwise import metrics
from scanwise.arrays import softmax
from scanwise.auditing.evidence import AuditFinding, Evidence, ScanSheet, make_finding
from scanwise.auditing.subject_statistics import classes_with_subjects, subject_folds, subject_indices
from scanwise.phrases import count_of
from scanwise.pooling import common_label, mean_by
from scanwise.records import BoolArray, FloatArray, IntArray, Severity

SHOWN = 12
COMPONENTS = 50
FIT_SCANS = 4000
"""Scans that the components are fitted on."""
STRENGTHS = (0.001, 0.03, 1.0)
"""Inverse penalties of the logistic regression, chosen by log loss on held-out subjects."""
FOLDS = 5
FEWEST = 5
"""Subjects that a class needs to be checked: one a fold."""
MINORITY = 1 / 3
"""A label is reported where it is on less than this share of its subject's scans."""
MARGIN = 0.05
"""Excess of balanced accuracy over chance that the classifier needs to be used at all."""
TRUSTED = 0.9
"""Balanced accuracy from which suspected labels are a warning."""


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Labels unlike the rest of their subject, and labels that an out-of-fold classifier contradicts."""
    within = [] if evidence.subject is None else _unlike_subject(evidence)
    return [*within, _suspected_labels(evidence)]


def minority_labels(labels: IntArray, people: IntArray, count: int) -> BoolArray:
    """(N,) whether few scans of the same subject carry this label."""
    cells = np.bincount(people * count + labels, minlength=(int(people.max()) + 1) * count).reshape(-1, count)
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    return np.asarray(share[people, labels] < MINORITY)


def confident_errors(probs: FloatArray, labels: IntArray) -> IntArray:
    """Rows whose label is probably wrong, the most certain first (confident learning: Northcutt et al. 2021).

    A scan counts as class j where p_j reaches the mean p_j of scans labelled j; of several such classes as the most probable
    one. Its label is suspected where that class is more probable than the label, and ranked by the difference.

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
    """(n, C) the mean log-probabilities of all scans of the same subject and label, as probabilities.

    Labels are mostly given by person; planted errors ranked higher so than scan by scan in twelve of twelve trials.
    """
    groups = people * probs.shape[1] + classes
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    logs = np.log(np.maximum(probs, np.finfo(float).tiny))
    return np.asarray(softmax(mean_by(logs, groups, np.bincount(groups)))[groups])


def out_of_fold_probs(evidence: Evidence, rows: IntArray, classes: IntArray, people: IntArray) -> FloatArray:
    """(n, C) out-of-fold probabilities of a logistic regression on principal components; folds keep subjects whole."""
    from sklearn.linear_model import LogisticRegression

    features = _principal_components(evidence.vectors, rows, evidence.seed)
    fold = subject_folds(people, classes, FOLDS, evidence.seed)
    candidates = []
    for strength in STRENGTHS:
        probs = np.zeros((len(rows), int(classes.max()) + 1))
        for held_out in np.unique(fold):
            train, test = fold != held_out, np.flatnonzero(fold == held_out)
            model = LogisticRegression(C=strength, max_iter=1000).fit(features[train], classes[train])
            probs[np.ix_(test, model.classes_)] = model.predict_proba(features[test])
        candidates.append(probs)
    return min(candidates, key=lambda probs: metrics.METRICS["nll"](probs, classes))


def _principal_components(vectors: FloatArray, rows: IntArray, seed: int) -> FloatArray:
    """(n, D) the first principal components, each scaled to unit standard deviation."""
    from sklearn.utils.extmath import randomized_svd

    random = np.random.default_rng([seed, 5])
    some = np.sort(random.choice(rows, min(FIT_SCANS, len(rows)), replace=False))
    mean = vectors[some].mean(axis=0)
    count = min(COMPONENTS, len(some) - 1, vectors.shape[1])
    _, _, axes = randomized_svd(vectors[some] - mean, count, n_iter=2, random_state=seed)
    scores = (vectors @ axes.T)[rows] - mean @ axes.T  # in this order, because a copy of 40,000 descriptors is 430 MB
    spread = scores.std(axis=0)
    return np.asarray(scores / np.where(spread > 0, spread, 1), dtype=np.float64)


def _unlike_subject(evidence: Evidence) -> list[AuditFinding]:
    """Scans labelled unlike most scans of their subject."""
    cohort, people = evidence.cohort, subject_indices(evidence)
    odd = np.flatnonzero(minority_labels(cohort.labels, people, len(cohort.classes)))
    if not len(odd):
        return []
    rest = common_label(cohort.labels, people, len(cohort.classes))[people]
    captions = tuple(f"{cohort.classes[cohort.labels[r]]}; the rest is {cohort.classes[rest[r]]}" for r in odd[:SHOWN])
    subjects = len(np.unique(people[odd]))
    message = (
        f"Labelled unlike most scans of the same subject: {count_of(len(odd), 'scan')} of {count_of(subjects, 'subject')}. "
        "Unless the disease changed between two visits, one of the labels is wrong."
    )
    sheet = ScanSheet(odd[:SHOWN], captions)
    return [make_finding("quality.labels.subject", "warning", message, cohort.path[odd], sheet)]


def _suspected_labels(evidence: Evidence) -> AuditFinding:
    """Scans that look more like another class to a classifier of other subjects."""
    check, cohort, everyone = "quality.labels", evidence.cohort, subject_indices(evidence)
    kept = classes_with_subjects(everyone, cohort.labels, len(cohort.classes), FEWEST)
    if len(kept) < 2:
        reason = f"fewer than two classes have {FEWEST} subjects"
        return make_finding(check, "note", f"Label errors: not checked, because {reason}.")
    rows = np.flatnonzero(np.isin(cohort.labels, kept))
    classes = np.searchsorted(kept, cohort.labels[rows])
    people = np.unique(everyone[rows], return_inverse=True)[1].reshape(-1)
    probs = pool_by_subject_and_label(out_of_fold_probs(evidence, rows, classes, people), people, classes)
    correct = probs.argmax(axis=1) == classes
    balanced = float(np.mean([correct[classes == index].mean() for index in range(len(kept))]))
    unit = "subjects" if evidence.subject is not None else "scans"
    accuracy = f"a simple classifier has a balanced accuracy of {100 * balanced:.0f} % on held-out {unit}"
    if balanced < 1 / len(kept) + MARGIN:
        return make_finding(check, "note", f"Label errors: not checked, because {accuracy}, too close to chance.")
    own = probs[np.arange(len(rows)), classes]
    contradicted = np.flatnonzero(probs.max(axis=1) > own)
    confident = confident_errors(probs, classes)
    others = np.setdiff1d(contradicted, confident)
    suspected = np.concatenate([confident, others[np.argsort((own - probs.max(axis=1))[others], kind="stable")]])
    if not len(suspected):
        return make_finding(check, "note", f"No label is suspected; {accuracy}.")
    shown = suspected[np.sort(np.unique(people[suspected], return_index=True)[1])][:SHOWN]  # each subject once
    captions = tuple(
        f"{cohort.classes[kept[classes[row]]]}? looks {cohort.classes[kept[probs[row].argmax()]]}" for row in shown
    )
    severity: Severity = "warning" if balanced >= TRUSTED else "note"
    of_subjects = "" if evidence.subject is None else f" of {count_of(len(np.unique(people[suspected])), 'subject')}"
    several = len(suspected) > 1
    typical = f"{len(confident) or 'none'} of them" if several else "even" if len(confident) else "not"
    them = "them from the top of the list; most further down are" if several else "it; it may be"
    message = (
        f"{count_of(len(suspected), 'scan')}{of_subjects} may be labelled wrong: more like another class, {typical} as much as "
        f"an average scan of that class. A reader should review {them} difficult, not wrong. Basis: {accuracy}."
    )
    return make_finding(check, severity, message, cohort.path[rows[suspected]], ScanSheet(rows[shown], captions))
