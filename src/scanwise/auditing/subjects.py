"""Recovery of subjects from the images alone, its confidence, and its comparison with given subjects and file names."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scanwise.auditing import filename_patterns
from scanwise.auditing.evidence import (
    CONFIDENT,
    AuditFinding,
    Evidence,
    Histogram,
    PairSheet,
    RecoveredSubjects,
    make_finding,
)
from scanwise.auditing.subject_clustering import SpanningForest, TwoComponentMixture, connected_scans
from scanwise.records import BoolArray, FloatArray, IntArray, StrArray
from scanwise.registration import whiten

COMPONENTS = 400
"""Components of the whitened vectors; a fifth of the scans where that is less, because more would amplify noise."""
MIN_SCANS = 60
"""Scans that a recovery needs."""
SEPARATION = 2.0
"""Ashman's D from which within-subject and between-subject similarity count as separate."""
MIN_STRONG_SHARE = 0.1
"""Least share of strong edges: fewer may be duplicates, or the tail of one distribution."""
MIN_CONFIDENCE = 0.5
"""Confidence below which no subjects are returned."""
MAX_CROSSING = 0.05
"""Rate, as a share of the chance rate, at which strong edges may cross labels where each subject has one label."""
CONFIDENCE_SCANS = 8_000
"""Scans, in whole subjects, on which the confidence is measured."""
SHOWN = 24
"""Pairs in a picture."""
MERGED_SUBJECTS = 3
"""Subjects merged whole with another one from which it is a warning: a few may really resemble each other."""
TORN_SHARE = 0.1
"""Share of the recovered people under several given names from which, at full confidence, the given subjects are no people."""
MISMATCHED_SHARE = 0.01
"""Share of the scans recovered under another subject than the given one from which it is a warning."""


def recover_subjects(
    pixels: NDArray[np.uint8], vectors: FloatArray, labels: IntArray | None = None, same: IntArray | None = None
) -> RecoveredSubjects:
    """Cluster scans into subjects: scans joined by strong edges of a spanning forest are one subject.

    The threshold of strength comes from the edges themselves: those within a subject and those between subjects must form
    two separate distributions. Where they do not, the recovery fails. Labels, if given, are used only where strong edges hardly
    ever cross them: then each subject has one label, and scans of two labels are never joined.

    Args:
        pixels: (N, S, S) thumbnails.
        vectors: (N, D) of `registration.descriptors(pixels)`; blank scans take no part.
        labels: (N,) class indices.
        same: (P, 2) rows that are known to show the same scan, such as copies: they are one subject, but no evidence that
            subjects can be told apart.
    """
    shown = np.flatnonzero(vectors.any(axis=1))
    if len(shown) < MIN_SCANS:
        return _not_recovered(len(pixels), f"{len(shown)} scans are too few ({MIN_SCANS} needed)")
    index = np.full(len(pixels), -1)
    index[shown] = np.arange(len(shown))
    kept = None if same is None else index[same][(index[same] >= 0).all(axis=1)]
    whitened = whiten(vectors if len(shown) == len(vectors) else vectors[shown], min(COMPONENTS, len(shown) // 5))
    part, people = _cluster(whitened, None if labels is None else labels[shown], kept)
    everyone = np.arange(len(pixels))
    everyone[shown] = shown[np.unique(people, return_index=True)[1][people]]
    return replace(part, subject=_subject_names(everyone), pairs=shown[part.pairs])


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Recovered subjects beside the given ones; where none are given, beside those that file names suggest."""
    cohort = evidence.cohort
    given = cohort.subjects_known and not cohort.subject_source.startswith("recovered")
    recovered = evidence.recovered or _recover_from(evidence)
    if given:
        return [_compare_with_given(evidence, recovered)]
    return [_report_recovery(recovered), *_suggest_patterns(evidence, recovered)]


def with_recovered(evidence: Evidence) -> Evidence:
    """The evidence with the subjects that the images show."""
    if evidence.recovered is not None:
        return evidence
    return replace(evidence, recovered=_recover_from(evidence))


def _recover_from(evidence: Evidence) -> RecoveredSubjects:
    copies = None if evidence.copies is None else evidence.copies.rows
    return recover_subjects(evidence.pixels, evidence.vectors, evidence.cohort.labels, copies)


def torn_people(given: StrArray, recovered: StrArray, side: StrArray | None) -> IntArray:
    """Scans of recovered people that have several given subjects and, where there is a split, stand on several sides."""
    torn = _several(recovered, given)
    return np.flatnonzero(torn if side is None else torn & _several(recovered, side))


def _several(people: StrArray, values: StrArray) -> BoolArray:
    """(N,) whether the person of a scan has several values; "" is none."""
    code = np.unique(people, return_inverse=True)[1].reshape(-1)
    pairs = np.unique(np.stack([code, np.unique(values, return_inverse=True)[1].reshape(-1)])[:, values != ""], axis=1)
    return np.bincount(pairs[0], minlength=int(code.max()) + 1)[code] > 1


def labels_follow_subjects(forest: SpanningForest, mixture: TwoComponentMixture, labels: IntArray) -> bool:
    """Whether the stronger half of the strong edges crosses labels far less often than by chance."""
    strong = forest.rows[np.isfinite(forest.values) & (forest.values >= mixture.mean[1])]
    share = np.bincount(labels) / len(labels)
    chance = 1 - float((share**2).sum())
    if not len(strong) or chance == 0:
        return False
    crossing = float((labels[strong[:, 0]] != labels[strong[:, 1]]).mean())
    return crossing <= MAX_CROSSING * chance


def _not_recovered(count: int, reason: str) -> RecoveredSubjects:
    """A failed recovery: every scan is a subject of its own."""
    no_pairs = np.empty((0, 2), dtype=np.int64)
    return RecoveredSubjects(_subject_names(np.arange(count)), 0.0, float("nan"), False, reason, np.empty(0), no_pairs)


def _cluster(
    whitened: FloatArray, labels: IntArray | None, same: IntArray | None
) -> tuple[RecoveredSubjects, IntArray]:
    """The recovery from whitened vectors (N, D), and (N,) the index of each scan's subject."""
    forest, mixture = _fit_forest(whitened, labels, same)
    count = len(whitened)
    similar = np.isfinite(forest.values) & (forest.values >= np.median(forest.measured))
    recovery = replace(
        _not_recovered(count, ""), threshold=mixture.threshold, values=forest.measured, pairs=forest.rows[similar]
    )
    if mixture.separation < SEPARATION:
        reason = (
            f"scans of one subject and of different subjects do not separate by similarity (separation "
            f"{mixture.separation:.1f} SD, {SEPARATION:.0f} needed); there may be one scan per subject, or subjects may "
            "resemble each other"
        )
        return replace(recovery, reason=reason), np.arange(count)
    if mixture.share < MIN_STRONG_SHARE:
        reason = f"only {100 * mixture.share:.1f} % of the scans resemble another scan, too few to form subjects"
        return replace(recovery, reason=reason), np.arange(count)
    people = forest.clusters(mixture.threshold)
    confidence = _confidence(whitened, people, labels, same)
    if confidence < MIN_CONFIDENCE:
        reason = (
            "recoveries from two halves of the image components do not agree (adjusted Rand index "
            f"{confidence:.2f}, {MIN_CONFIDENCE} needed)"
        )
        return replace(recovery, reason=reason, confidence=confidence), np.arange(count)
    reason = f"{len(np.unique(people)):,} subjects with confidence {confidence:.2f}"
    return replace(recovery, reason=reason, confidence=confidence, succeeded=True), people


def _fit_forest(
    whitened: FloatArray, labels: IntArray | None, same: IntArray | None = None
) -> tuple[SpanningForest, TwoComponentMixture]:
    """The forest and the mixture of its edges; no edge joins two labels where each subject has one label."""
    forest = SpanningForest.build(whitened, None, same)
    mixture = TwoComponentMixture.fit(forest.measured)
    if labels is not None and labels_follow_subjects(forest, mixture, labels):
        inside = None if same is None else same[labels[same[:, 0]] == labels[same[:, 1]]]
        forest = SpanningForest.build(whitened, labels, inside)
        mixture = TwoComponentMixture.fit(forest.measured)
    return forest, mixture


def _confidence(whitened: FloatArray, people: IntArray, labels: IntArray | None, same: IntArray | None) -> float:
    """Agreement of recoveries from the even and from the odd components, on a sample of whole subjects; copies count as one scan."""
    from sklearn.metrics import adjusted_rand_score

    some = _sample_of_subjects(people)
    position = np.full(len(people), -1)
    position[some] = np.arange(len(some))
    copies = None if same is None else position[same][(position[same] >= 0).all(axis=1)]
    halves = []
    for first in (0, 1):
        half = whitened[some, first::2]
        half = half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-12)
        forest, mixture = _fit_forest(half, None if labels is None else labels[some], copies)
        halves.append(forest.clusters(mixture.threshold))
    scans = connected_scans(len(some), np.empty((0, 2), dtype=np.int64) if copies is None else copies)
    once = np.unique(scans, return_index=True)[1]
    return max(0.0, float(adjusted_rand_score(*(half[once] for half in halves))))


def _sample_of_subjects(people: IntArray) -> IntArray:
    """Rows of subjects drawn at random until they have `CONFIDENCE_SCANS` scans."""
    size = np.bincount(people)
    drawn = np.random.default_rng(0).permutation(len(size))
    taken = drawn[: max(2, int(np.searchsorted(np.cumsum(size[drawn]), CONFIDENCE_SCANS)) + 1)]
    return np.flatnonzero(np.isin(people, taken))


def _subject_names(people: IntArray) -> StrArray:
    """(N,) auto-0001, … in the order in which subjects come first."""
    _, first, code = np.unique(people, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    digits = max(4, len(str(len(first))))
    return np.array([f"auto-{number + 1:0{digits}}" for number in rank[code.reshape(-1)].tolist()], dtype=np.str_)


def _report_recovery(recovered: RecoveredSubjects) -> AuditFinding:
    """The subjects that were recovered, or why they could not be."""
    picture = _similarity_histogram(recovered)
    if not recovered.succeeded:
        message = f"Subjects could not be recovered from the images: {recovered.reason}. Pass --subject."
        return make_finding("subjects.recovered", "warning", message, picture=picture)
    message = (
        f"From the images alone: {recovered.reason} (adjusted Rand index of two recoveries, each from half of the image "
        "components)."
    )
    if recovered.is_confident:
        message += " Pass --subject if you know the subjects."
        return make_finding("subjects.recovered", "note", message, picture=picture)
    message += (
        f" That is below {CONFIDENT}, too low to split by: one person may count as two, or two as one. Pass --subject."
    )
    return make_finding("subjects.recovered", "warning", message, picture=picture)


def _suggest_patterns(evidence: Evidence, recovered: RecoveredSubjects) -> list[AuditFinding]:
    """Subjects that file names suggest, beside the recovered ones; a suggestion is never applied by itself."""
    from sklearn.metrics import adjusted_rand_score

    patterns = filename_patterns.propose_patterns(evidence.cohort.path, evidence.cohort.labels, recovered.pairs)
    if not patterns:
        return []
    best = patterns[0]
    message = (
        f"File names suggest {len(np.unique(best.subject)):,} subjects: {100 * best.agreement:.1f} % of the most similar "
        f"pairs of scans share a name ({100 * best.low:.1f}–{100 * best.high:.1f}; by chance {100 * best.chance:.1f} %). "
        f"If these names are the subjects, pass --subject '{best.pattern}'."
    )
    if recovered.succeeded:
        agreement = adjusted_rand_score(best.subject, recovered.subject)
        message += f" The adjusted Rand index with the subjects recovered from the images is {agreement:.3f}."
    if len(patterns) > 1:
        message += " Other patterns: " + ", ".join(f"'{other.pattern}'" for other in patterns[1:3]) + "."
    return [make_finding("subjects.names", "note" if recovered.is_confident else "warning", message)]


def _compare_with_given(evidence: Evidence, recovered: RecoveredSubjects) -> AuditFinding:
    """The given subjects beside those recovered from the images."""
    from sklearn.metrics import adjusted_rand_score

    picture = _similarity_histogram(recovered)
    if not recovered.succeeded:
        message = f"The given subjects could not be checked against the images: {recovered.reason}."
        return make_finding("subjects.given", "note", message, picture=picture)
    given = evidence.cohort.subject
    mismatched = _mismatched(given, recovered.subject)
    agreement = adjusted_rand_score(given, recovered.subject)
    message = (
        f"The adjusted Rand index of the given subjects and those recovered from the images is {agreement:.3f} "
        f"({len(np.unique(given)):,} subjects given; recovered: {recovered.reason})."
    )
    moved = mismatched[~np.isin(given[mismatched], np.setdiff1d(given[mismatched], np.delete(given, mismatched)))]
    merged = np.unique(given[np.setdiff1d(mismatched, moved)])
    if len(merged):
        names = ", ".join(merged[:3].tolist()) + (", …" if len(merged) > 3 else "")
        message += f" Recovered as one with another subject, with all their scans: {names} ({len(merged)} in all)."
    side = None if evidence.split is None else evidence.split.side
    torn = torn_people(given, recovered.subject, side) if recovered.is_certain else np.empty(0, dtype=np.int64)
    people = len(np.unique(recovered.subject[torn]))
    if people >= max(MERGED_SUBJECTS, TORN_SHARE * len(np.unique(recovered.subject))):
        sides = (
            "and stand on several sides of the split" if side is not None else "and any split by these names parts them"
        )
        message += (
            f" {people:,} people by the images have several of the given names each, {sides}. Give each person one "
            "name, or let `scanwise audit DATA --fix FIXED.csv` join them."
        )
        return make_finding("subjects.given", "leak", message, evidence.cohort.path[torn], picture)
    if not recovered.is_confident or (len(moved) <= MISMATCHED_SHARE * len(given) and len(merged) < MERGED_SUBJECTS):
        return make_finding("subjects.given", "note", message, picture=picture)
    message += f" {len(mismatched):,} scans look like another subject than the given one: check their subjects."
    shown = mismatched[:SHOWN]
    rows = np.stack([shown, _similar_scans(given, recovered.subject, shown)], axis=1)
    captions = tuple(f"{given[row]} and {given[other]}" for row, other in rows.tolist())
    pairs = PairSheet(rows, captions)
    return make_finding("subjects.given", "warning", message, evidence.cohort.path[mismatched], pairs)


def _mismatched(given: StrArray, recovered: StrArray) -> IntArray:
    """Scans whose recovered subject is, by most of its scans, another subject than the given one."""
    left, right = (np.unique(names, return_inverse=True)[1].reshape(-1) for names in (given, recovered))
    order = np.lexsort((left, right))
    pairs, count = np.unique(np.stack([right[order], left[order]]), axis=1, return_counts=True)
    most = np.zeros(int(right.max()) + 1, dtype=np.int64)
    by_count = np.argsort(count, kind="stable")
    most[pairs[0, by_count]] = pairs[1, by_count]
    return np.flatnonzero(most[right] != left)


def _similar_scans(given: StrArray, recovered: StrArray, rows: IntArray) -> IntArray:
    """For each of these scans the first one of the same recovered and another given subject."""
    return np.array([np.flatnonzero((recovered == recovered[row]) & (given != given[row]))[0] for row in rows])


def _similarity_histogram(recovered: RecoveredSubjects) -> Histogram | None:
    if not len(recovered.values):
        return None
    within = recovered.values >= recovered.threshold
    values = {"weaker": recovered.values[~within], "stronger": recovered.values[within]}
    axis = "similarity of neighbouring scans (whitened correlation less its local mean)"
    return Histogram(values, axis, recovered.threshold)
