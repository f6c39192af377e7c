"""Who is who from pixels alone, how sure that is, and whether the names of files say the same."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scanwise.audit import filename_patterns
from scanwise.audit.evidence import SURE, AuditFinding, Evidence, Histogram, PairSheet, RecoveredSubjects, make_finding
from scanwise.audit.subject_clustering import SpanningForest, TwoComponentMixture
from scanwise.records import FloatArray, IntArray, StrArray
from scanwise.registration import whiten

COMPONENTS = 400
"""Of the whitened vectors; a fifth of the scans where that is less, or noise would be blown up."""
FEWEST = 60
"""Scans below which nothing is said."""
SEPARATION = 2.0
"""Ashman's D from which two kinds of likeness are believed to be two."""
JOINED = 0.1
"""Least share of strong edges: fewer may be doubles, or the tail of one kind."""
LIKELY = 0.5
"""Confidence below which nothing is told."""
CROSSING = 0.05
"""Share of what chance gives that strong edges may cross labels where labels belong to people."""
ASKED = 8_000
"""Scans, in whole subjects, on which the confidence is measured."""
SHOWN = 24
"""Pairs in a picture."""
MERGED = 3
"""Subjects that pixels take, with all their scans, for somebody else before it is a warning: one may look like another."""
TORN = 0.01
"""Share of the scans that pixels may put to somebody else than the names do before it is a warning."""


def recover_subjects(
    pixels: NDArray[np.uint8], vectors: FloatArray, labels: IntArray | None = None, same: IntArray | None = None
) -> RecoveredSubjects:
    """Tell people apart: scans joined by strong edges of a forest over their likeness are one subject.

    The strength that is asked for comes from the edges themselves: those within a subject and those between subjects
    must lie as two kinds. Where they do not, nothing is told. Labels, if given, are used only where strong edges hardly
    ever cross them: then they belong to people, and no subject gets two.

    Args:
        pixels: (N, S, S) thumbnails.
        vectors: (N, D) of `registration.descriptors(pixels)`; scans of one value take no part.
        labels: (N,) class indices.
        same: (P, 2) rows that are known to be one scan, such as copies.
    """
    shown = np.flatnonzero(vectors.any(axis=1))
    if len(shown) < FEWEST:
        return _unknown(len(pixels), f"{len(shown)} scans are too few; {FEWEST} are needed")
    place = np.full(len(pixels), -1)
    place[shown] = np.arange(len(shown))
    kept = None if same is None else place[same][(place[same] >= 0).all(axis=1)]
    turned = whiten(vectors[shown], min(COMPONENTS, len(shown) // 5))
    part, people = _judge(turned, None if labels is None else labels[shown], kept)
    everyone = np.arange(len(pixels))
    everyone[shown] = shown[np.unique(people, return_index=True)[1][people]]
    return replace(part, subject=_named(everyone), pairs=shown[part.pairs])


def examine(evidence: Evidence) -> list[AuditFinding]:
    """Who is who by the pixels, beside what was given; and by the names of files, where nothing was given."""
    known = evidence.cohort
    given = known.subjects_known and not known.subject_source.startswith("recovered")
    recovered = evidence.recovered or recover_subjects(evidence.pixels, evidence.vectors, known.labels)
    if given:
        return [_compared(evidence, recovered)]
    return [_told(evidence, recovered), *_proposed(evidence, recovered)]


def labels_follow_subjects(forest: SpanningForest, kinds: TwoComponentMixture, labels: IntArray) -> bool:
    """Whether the surer half of the strong edges crosses labels far more seldom than chance would."""
    strong = forest.rows[np.isfinite(forest.values) & (forest.values >= kinds.mean[1])]
    share = np.bincount(labels) / len(labels)
    chance = 1 - float((share**2).sum())
    if not len(strong) or chance == 0:
        return False
    crossing = float((labels[strong[:, 0]] != labels[strong[:, 1]]).mean())
    return crossing <= CROSSING * chance


def _unknown(count: int, reason: str) -> RecoveredSubjects:
    nothing = np.empty((0, 2), dtype=np.int64)
    return RecoveredSubjects(_named(np.arange(count)), 0.0, float("nan"), False, reason, np.empty(0), nothing)


def _judge(turned: FloatArray, labels: IntArray | None, same: IntArray | None) -> tuple[RecoveredSubjects, IntArray]:
    """What whitened vectors (N, D) say, and (N,) the number of each scan's subject."""
    forest, kinds = _grown(turned, labels, same)
    count = len(turned)
    alike = np.isfinite(forest.values) & (forest.values >= np.median(forest.judged))
    told = replace(_unknown(count, ""), threshold=kinds.threshold, values=forest.judged, pairs=forest.rows[alike])
    if kinds.separation < SEPARATION:
        reason = (
            f"likeness does not fall into two kinds (they are {kinds.separation:.1f} deviations apart, and "
            f"{SEPARATION:.0f} are needed): there may be one scan a subject, or subjects that look alike"
        )
        return replace(told, reason=reason), np.arange(count)
    if kinds.share < JOINED:
        reason = f"only {100 * kinds.share:.1f} % of the scans look like another one, too few to speak of subjects"
        return replace(told, reason=reason), np.arange(count)
    people = forest.cut(kinds.threshold)
    confidence = _confidence(turned, people, labels)
    if confidence < LIKELY:
        reason = f"two halves of the evidence do not agree on who is who ({confidence:.2f}, and {LIKELY} is needed)"
        return replace(told, reason=reason, confidence=confidence), np.arange(count)
    reason = f"{len(np.unique(people)):,} subjects with confidence {confidence:.2f}"
    return replace(told, reason=reason, confidence=confidence, judged=True), people


def _grown(
    turned: FloatArray, labels: IntArray | None, same: IntArray | None = None
) -> tuple[SpanningForest, TwoComponentMixture]:
    """The forest and the two kinds of its edges; no edge joins two labels where labels belong to people."""
    forest = SpanningForest.grow(turned, None, same)
    kinds = TwoComponentMixture.fit(forest.judged)
    if labels is not None and labels_follow_subjects(forest, kinds, labels):
        inside = None if same is None else same[labels[same[:, 0]] == labels[same[:, 1]]]
        forest = SpanningForest.grow(turned, labels, inside)
        kinds = TwoComponentMixture.fit(forest.judged)
    return forest, kinds


def _confidence(turned: FloatArray, people: IntArray, labels: IntArray | None) -> float:
    """Agreement of what the even and the odd components, each for itself, say of some whole subjects."""
    from sklearn.metrics import adjusted_rand_score

    some = _some_people(people)
    halves = []
    for first in (0, 1):
        half = turned[some, first::2]
        half = half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-12)
        forest, kinds = _grown(half, None if labels is None else labels[some])
        halves.append(forest.cut(kinds.threshold))
    return max(0.0, float(adjusted_rand_score(*halves)))


def _some_people(people: IntArray) -> IntArray:
    """Rows of subjects drawn at random until they have `ASKED` scans."""
    size = np.bincount(people)
    drawn = np.random.default_rng(0).permutation(len(size))
    taken = drawn[: max(2, int(np.searchsorted(np.cumsum(size[drawn]), ASKED)) + 1)]
    return np.flatnonzero(np.isin(people, taken))


def _named(people: IntArray) -> StrArray:
    """auto-0001, … in the order in which they come first."""
    _, first, code = np.unique(people, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    digits = max(4, len(str(len(first))))
    return np.array([f"auto-{number + 1:0{digits}}" for number in rank[code.reshape(-1)].tolist()], dtype=np.str_)


def _told(evidence: Evidence, recovered: RecoveredSubjects) -> AuditFinding:
    picture = _plot(recovered)
    if not recovered.judged:
        message = f"Who is who cannot be told from the pixels: {recovered.reason}. Say it with --subject."
        return make_finding("subjects.recovered", "warning", message, picture=picture)
    message = f"The pixels alone tell {recovered.reason} (two halves of the evidence agree by so much)."
    if recovered.sure:
        return make_finding(
            "subjects.recovered", "note", message + " Say with --subject who is who, if you know.", picture=picture
        )
    message += (
        f" That is below {SURE}, too little to split by: people may be cut apart or thrown together. Use --subject."
    )
    return make_finding("subjects.recovered", "warning", message, picture=picture)


def _proposed(evidence: Evidence, recovered: RecoveredSubjects) -> list[AuditFinding]:
    """What names say, beside what pixels say; never used unasked."""
    from sklearn.metrics import adjusted_rand_score

    found = filename_patterns.propose_patterns(evidence.cohort.path, evidence.cohort.labels, recovered.pairs)
    if not found:
        return []
    best = found[0]
    message = (
        f"File names seem to tell {len(np.unique(best.subject)):,} subjects: of scans that look most alike, "
        f"{100 * best.agreement:.1f} % have one name ({100 * best.low:.1f}–{100 * best.high:.1f}; by chance "
        f"{100 * best.chance:.1f} %). If that is who they are, give --subject '{best.pattern}'."
    )
    if recovered.judged:
        both = adjusted_rand_score(best.subject, recovered.subject)
        message += f" With the subjects that pixels tell, the adjusted Rand index is {both:.3f}."
    if len(found) > 1:
        message += " Other readings: " + ", ".join(f"'{guess.pattern}'" for guess in found[1:3]) + "."
    return [make_finding("subjects.names", "note" if recovered.sure else "warning", message)]


def _compared(evidence: Evidence, recovered: RecoveredSubjects) -> AuditFinding:
    """The given subjects beside those of the pixels."""
    from sklearn.metrics import adjusted_rand_score

    if not recovered.judged:
        message = f"The given subjects could not be checked against the pixels: {recovered.reason}."
        return make_finding("subjects.given", "note", message, picture=_plot(recovered))
    given = evidence.cohort.subject
    torn = _torn(given, recovered.subject)
    both = adjusted_rand_score(given, recovered.subject)
    message = (
        f"The given subjects and those that the pixels tell agree with an adjusted Rand index of {both:.3f} "
        f"({len(np.unique(given)):,} subjects given; the pixels tell {recovered.reason})."
    )
    moved = torn[~np.isin(given[torn], np.setdiff1d(given[torn], np.delete(given, torn)))]
    merged = np.unique(given[np.setdiff1d(torn, moved)])
    if len(merged):
        names = ", ".join(merged[:3].tolist()) + (", …" if len(merged) > 3 else "")
        message += f" Taken for one with another, with all their scans: {names} ({len(merged)} in all)."
    if not recovered.sure or (len(moved) <= TORN * len(given) and len(merged) < MERGED):
        return make_finding("subjects.given", "note", message, picture=_plot(recovered))
    message += f" {len(torn):,} scans look like somebody else than their subject says: check who is who."
    shown = torn[:SHOWN]
    rows = np.stack([shown, _likeness(given, recovered.subject, shown)], axis=1)
    captions = tuple(f"{given[one]} and {given[other]}" for one, other in rows.tolist())
    return make_finding("subjects.given", "warning", message, evidence.cohort.path[torn], PairSheet(rows, captions))


def _torn(given: StrArray, recovered: StrArray) -> IntArray:
    """Scans whose recovered subject is, by most of its scans, somebody else than was given."""
    one, other = (np.unique(names, return_inverse=True)[1].reshape(-1) for names in (given, recovered))
    order = np.lexsort((one, other))
    pairs, first, count = np.unique(np.stack([other[order], one[order]]), axis=1, return_index=True, return_counts=True)
    del first
    most = np.zeros(int(other.max()) + 1, dtype=np.int64)
    by_count = np.argsort(count, kind="stable")
    most[pairs[0, by_count]] = pairs[1, by_count]
    return np.flatnonzero(most[other] != one)


def _likeness(given: StrArray, recovered: StrArray, torn: IntArray) -> IntArray:
    """For each torn scan the first scan of its recovered subject that was given to somebody else."""
    return np.array([np.flatnonzero((recovered == recovered[row]) & (given != given[row]))[0] for row in torn])


def _plot(recovered: RecoveredSubjects) -> Histogram | None:
    if not len(recovered.values):
        return None
    within = recovered.values >= recovered.threshold
    values = {"weaker": recovered.values[~within], "stronger": recovered.values[within]}
    return Histogram(
        values, "likeness of neighbouring scans (whitened correlation less its local mean)", recovered.threshold
    )
