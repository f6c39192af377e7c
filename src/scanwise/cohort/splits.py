"""Train, validation, calibration and test: honest splits by subject, and the published ones that leak.

Honest splits give every subject one side. Published ones repeat what a notebook did, so that its figure can be
reproduced and stamped.

Who is tested in an honest split depends on the subjects and the seed alone. Each label of the data is divided by itself: its
subjects are ranked by a keyed hash, the first ranks are tested, and the others follow them. So recipes that merge
labels differently or have other shares test the same subjects, but for the difference of their shares, and a subject that is
added moves at most one other over the border of the test side (with folds: over each border between two folds).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from scanwise.cohort.listing import first
from scanwise.errors import DataError, LeakageError
from scanwise.phrases import count_of
from scanwise.pooling import common_label
from scanwise.recipe import PublishedSplit, SplitSection
from scanwise.records import SIDES, BoolArray, Cohort, Finding, IntArray, Split, StrArray
from scanwise.records.names import label_key

BY_DATA = "as the data gives it"
"""Rule of a split that is not made here."""
FEWEST_APART = 10
"""Subjects of a label that is divided by itself; the smaller ones of a class are divided together."""
_STREAM = 2
"""Divides with numbers of its own: the phantom cohort draws its people from [seed, 0] and their scans from [seed, 1]."""


def make_splits(cohort: Cohort, section: SplitSection, seed: int) -> list[Split]:
    """Every split that a recipe asks for: its protocols, and the folds of the honest one.

    Raises:
        DataError: if fewer than two classes can be judged, or the data lacks what a protocol needs.
    """
    splits: list[Split] = []
    if "honest" in section.protocols:
        splits += [_honest(cohort, section, seed, fold) for fold in range(section.folds)]
    if "published" in section.protocols:
        splits.append(_published(cohort, section.published, seed))
    return splits


def settle_small_classes(cohort: Cohort, section: SplitSection) -> tuple[Cohort, IntArray, tuple[str, ...]]:
    """Merge or drop classes with too few subjects for every side, as the recipe says.

    Returns:
        the cohort, the rows of the old one that it keeps, and what was done, in words.

    Raises:
        DataError: if fewer than two classes would be left to judge, or a class that is one single person is to be kept.
    """
    small, needed = too_small(cohort, section), max(_needed(section), section.fewest)
    messages = tuple(f"{name} has {count} subjects of the {needed} needed" for name, count in small.items())
    if len(cohort.classes) - len(small) < 2:
        raise DataError(
            f"Fewer than two classes can be judged: {'; '.join(messages)}. Every side of the split needs a subject of "
            "each class. Add subjects, or gather classes with `classes:` in the recipe."
        )
    everyone = np.arange(len(cohort))
    if not small or section.small_classes == "keep":
        single = [name for name, count in small.items() if count == 1]
        if single:
            raise DataError(
                f"The class {single[0]!r} is one single subject: a network would learn the person, not the class. Add "
                "subjects, or choose --set split.small_classes=drop (or merge, for stages in order)."
            )
        return cohort, everyone, ()
    if section.small_classes == "drop":
        kept = [index for index, name in enumerate(cohort.classes) if name not in small]
        rows = np.flatnonzero(np.isin(cohort.labels, kept))
        return _relabel(cohort.take(rows), [[index] for index in kept]), rows, tuple(f"{t}: dropped" for t in messages)
    if not cohort.ordered:
        raise DataError(
            f"{messages[0]}, and classes without an order have no neighbour to merge with. Use `classes:` or drop."
        )
    return (
        _relabel(cohort, _merged(cohort, set(small))),
        everyone,
        tuple(f"{t}: merged with its neighbour" for t in messages),
    )


def too_small(cohort: Cohort, section: SplitSection) -> dict[str, int]:
    """Classes with fewer subjects than the honest split (or the recipe) needs, and how many subjects they have."""
    counts = subjects_per_class(cohort)
    return {name: count for name, count in counts.items() if count < max(_needed(section), section.fewest)}


def subjects_per_class(cohort: Cohort) -> dict[str, int]:
    """Count the subjects of each class; one with several labels counts where most of its scans are."""
    _, labels = _subjects(cohort)
    return {name: int((labels == index).sum()) for index, name in enumerate(cohort.classes)}


def label_change_findings(cohort: Cohort) -> list[Finding]:
    """A finding on subjects whose scans have several classes, such as people who fell ill between two visits."""
    subjects, table = _scans_by_class(cohort)
    changed = (table > 0).sum(axis=1) > 1
    if not changed.any() or not cohort.subjects_known:
        return []
    kinds = Counter(" and ".join(np.array(cohort.classes)[row > 0]) for row in table[changed])
    tied = int(((table == table.max(axis=1, keepdims=True)).sum(axis=1) > 1)[changed].sum())
    message = (
        f"{int(changed.sum()):,} of {count_of(len(subjects), 'subject')} have scans of several classes "
        f"({first([f'{kind}: {count:,}' for kind, count in kinds.most_common()])}). In splits, and where scans are pooled, a "
        "subject counts once, as the class of most of its scans"
    )
    message += (
        f"; {tied:,} with as many of two classes count as the later one ({', '.join(cohort.classes)})." if tied else "."
    )
    message += " If these are labels of visits, a scan's own label is what results by scan are about."
    return [
        Finding(
            "cohort.label_changes",
            "warning",
            message,
            tuple(cohort.path[np.isin(cohort.subject, subjects[changed])][:1000].tolist()),
        )
    ]


def counts(cohort: Cohort, split: Split) -> list[dict[str, object]]:
    """Scans and subjects of each class on each side: the rows of the plan."""
    rows: list[dict[str, object]] = []
    for side in SIDES:
        for index, name in enumerate(cohort.classes):
            here = (split.side == side) & (cohort.labels == index)
            rows.append(
                {
                    "side": side,
                    "class": name,
                    "scans": int(here.sum()),
                    "subjects": len(set(cohort.subject[here].tolist())),
                }
            )
    return rows


def check_split(cohort: Cohort, split: Split) -> list[Finding]:
    """Find leaks of a split: subjects, or identical pixels, on two sides.

    Raises:
        LeakageError: if the split claims to be honest.
    """
    findings = [
        *_leaks(cohort, split, cohort.subject, "subject", "subjects"),
        *_leaks(cohort, split, cohort.pixels, "pixels", "groups of scans with identical pixels"),
    ]
    if findings and split.protocol == "honest":
        raise LeakageError(
            f"The honest split leaks: {findings[0].message} Give each subject one side and copies of one scan one "
            "subject. `scanwise audit DATA --fix FIXED.csv` writes a manifest without exact copies, for --data."
        )
    return findings


def _leaks(cohort: Cohort, split: Split, keys: StrArray, check_name: str, what: str) -> list[Finding]:
    shared = _shared(keys, split.side)
    if not shared:
        return []
    total = len({key for key, side in zip(keys.tolist(), split.side.tolist(), strict=True) if key and side})
    scans = cohort.path[np.isin(keys, sorted(shared)[:50])][:50]
    named = "" if check_name == "pixels" else f" (first: {', '.join(sorted(shared)[:3])})"
    message = f"{len(shared)} of {total} {what} stand on more than one side of the {split.protocol} split{named}."
    return [Finding(f"split.{check_name}", "leak", message, tuple(scans.tolist()))]


def _shared(keys: StrArray, side: StrArray) -> set[str]:
    """Keys that stand on more than one side."""
    pairs = {(key, where) for key, where in zip(keys.tolist(), side.tolist(), strict=True) if key and where}
    return {key for key, sides in Counter(key for key, _ in pairs).items() if sides > 1}


def _split(cohort: Cohort, side: StrArray, protocol: str, fold: int, rule: str, unfit: Mapping[str, int]) -> Split:
    leaky = bool(_shared(cohort.subject, side) or _shared(cohort.pixels, side))
    return Split(side, protocol, fold, rule, leaky, dict(unfit))


def _honest(cohort: Cohort, section: SplitSection, seed: int, fold: int) -> Split:
    if cohort.given is not None and set(SIDES) <= set(cohort.given.tolist()):
        if section.folds > 1:
            raise DataError(
                f"The data says who is on which side, so there is one split and not {section.folds} folds. "
                "Choose --set split.folds=1, or remove the column 'split'."
            )
        return _split(cohort, cohort.given, "honest", fold, BY_DATA, {})
    unfit = too_small(cohort, section)
    subjects, labels = _subjects(cohort)
    kinds = _own_labels(cohort, labels)
    side_of = dict.fromkeys(subjects.tolist(), "train")
    for index, name in enumerate(cohort.classes):
        for kind, rows in _strata(labels == index, kinds, section) if name not in unfit else ():
            members = sorted(subjects[rows].tolist(), key=lambda subject: (_hash(subject, seed), subject))
            side_of.update(zip(members, _sides(len(members), section, fold, _hash(kind, seed)), strict=True))
    side = np.array([side_of[subject] for subject in cohort.subject.tolist()], dtype=np.str_)
    folds = f", fold {fold + 1} of {section.folds}" if section.folds > 1 else ""
    return _split(cohort, side, "honest", fold, f"by subject, stratified by class{folds}", unfit)


def _own_labels(cohort: Cohort, labels: IntArray) -> StrArray:
    """(K,) the label of the data that most scans of each subject have, of those that its class (K,) gathers."""
    spelled = np.array(cohort.classes)[cohort.labels] if cohort.spelling is None else cohort.spelling
    spellings, code = np.unique(spelled, return_inverse=True)
    names, kind = np.unique([label_key(label) for label in spellings.tolist()], return_inverse=True)
    people = np.unique(cohort.subject, return_inverse=True)[1]
    own = cohort.labels == labels[people]
    return names[common_label(kind[code][own], people[own], len(names))]


def _strata(members: BoolArray, kinds: StrArray, section: SplitSection) -> Iterator[tuple[str, IntArray]]:
    """Subjects of one class that are divided apart, by label; "" for all of its small labels together."""
    names, counts = np.unique(kinds[members], return_counts=True)
    small = names[counts < max(FEWEST_APART, _needed(section))]
    for name in np.setdiff1d(names, small).tolist():
        yield name, np.flatnonzero(members & (kinds == name))
    rest = np.flatnonzero(members & np.isin(kinds, small))
    if len(rest) >= _needed(section):  # fewer stay in training
        yield "", rest


def _hash(text: str, seed: int) -> int:
    key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=str(seed).encode(), digest_size=16)
    return int.from_bytes(key.digest(), "big")


def _sides(count: int, section: SplitSection, fold: int, offset: int) -> list[str]:
    """Sides by rank: the tested ones are a range of ranks, and the others follow it in turn.

    Args:
        count: of the ranks.
        section: the shares, all of `count`.
        fold: with folds, each rank is tested in exactly one.
        offset: spreads the larger folds of several strata.
    """
    folds = section.folds
    if folds == 1:
        start, end = 0, min(max(1, round(section.test * count)), count - len(SIDES) + 1)
    else:
        start, end = ((index * count + offset % folds) // folds for index in (fold, fold + 1))
    left = count - (end - start)
    share = count / left
    rest = _allot(left, {"calibration": section.calibration * share, "validation": section.validation * share})
    after = count - end
    return [*rest[after:], *["test"] * (end - start), *rest[:after]]


def _allot(count: int, shares: Mapping[str, float]) -> list[str]:
    """Sides for `count` shuffled units: every side at least one, the rest to train.

    >>> Counter(_allot(10, {"validation": 0.15, "test": 0.2}))
    Counter({'train': 6, 'validation': 2, 'test': 2})
    """
    sides = [side for side, share in shares.items() for _ in range(max(1, round(share * count)))]
    if count <= len(shares):  # a side goes without rather than train
        return ["train", *[*shares][::-1]][:count]
    while len(sides) >= count:  # tiny classes: the largest side gives one up, so that train has one
        sides.remove(Counter(sides).most_common(1)[0][0])
    return sides + ["train"] * (count - len(sides))


def _published(cohort: Cohort, published: PublishedSplit, seed: int) -> Split:
    if published.by == "scan":
        side = _by_scan(cohort.labels, {"validation": published.validation, "test": published.test}, seed)
        shares = [
            round(100 * share)
            for share in (1 - published.validation - published.test, published.validation, published.test)
        ]
        return _split(cohort, side, "published", 0, f"at random by scan, {'/'.join(map(str, shares))}", {})
    if cohort.given is None or not {"train", "test"} <= set(cohort.given.tolist()):
        raise DataError(
            "The published protocol goes by the data's own train and test folders, and the data has none. "
            "Choose --set split.published.by=scan, or --set split.protocols=[honest]."
        )
    side = cohort.given.astype("<U11")
    if "validation" not in side:
        train = np.flatnonzero(side == "train")
        side[train] = _by_scan(cohort.labels[train], {"validation": published.validation}, seed)
    side[side == "calibration"] = ""
    return _split(cohort, side, "published", 0, "the data's own train and test folders", {})


def _by_scan(labels: IntArray, shares: Mapping[str, float], seed: int) -> StrArray:
    side = np.full(len(labels), "train", dtype="<U11")
    for index in np.unique(labels):
        rows = np.flatnonzero(labels == index)
        random = np.random.default_rng([seed, _STREAM, int(index)])
        side[rows[random.permutation(len(rows))]] = _allot(len(rows), shares)
    return side


def _subjects(cohort: Cohort) -> tuple[StrArray, IntArray]:
    """Each subject once, in order of name, with the class that most of its scans have (ties: the later class)."""
    subjects, people = np.unique(cohort.subject, return_inverse=True)
    return subjects, common_label(cohort.labels, people, len(cohort.classes))


def _scans_by_class(cohort: Cohort) -> tuple[StrArray, IntArray]:
    """Each subject once, in order of name, and (K, C) how many of its scans have each class."""
    subjects, inverse = np.unique(cohort.subject, return_inverse=True)
    table = np.zeros((len(subjects), len(cohort.classes)), dtype=np.int64)
    np.add.at(table, (inverse, cohort.labels), 1)
    return subjects, table


def _needed(section: SplitSection) -> int:
    """The fewest subjects with one for every side, in every fold."""
    if section.folds == 1:
        return len(SIDES)
    count = section.folds
    while count - math.ceil(count / section.folds) < len(SIDES) - 1:
        count += 1
    return count


def _merged(cohort: Cohort, small: set[str]) -> list[list[int]]:
    """Groups of neighbouring classes; each small class joins the milder neighbour, or the next where there is none."""
    groups: list[list[int]] = []
    for index, name in enumerate(cohort.classes):
        lonely = groups and len(groups) == 1 and all(cohort.classes[i] in small for i in groups[0])
        if groups and (name in small or lonely):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _relabel(cohort: Cohort, groups: Sequence[Sequence[int]]) -> Cohort:
    new = {old: index for index, group in enumerate(groups) for old in group}
    names = tuple("+".join(cohort.classes[old] for old in group) for group in groups)
    return replace(cohort, classes=names, labels=np.array([new[int(label)] for label in cohort.labels], dtype=np.int64))
