"""Subjects suggested by file names, and whether the images confirm them.

A part of a path may be the subject: a word, a number, a folder. Every candidate is a pattern that can be passed as --subject.
It is proposed only where the most similar scans share a subject under it far more often than if its subjects were
reassigned at random within each class.
"""

import re
from dataclasses import dataclass

import numpy as np

from scanwise.records import FloatArray, IntArray, StrArray
from scanwise.risk import clopper_pearson

_FILE = (
    r"(sub-[A-Za-z0-9]+)",  # BIDS
    r"(\d+) ?\(\d+\)[^/]*$",  # 27 (13).jpg: the series before the bracket
    r"\((\d+)\)[^/]*$",  # … or the number inside
    r"([^/]+)[_-]\d+[^/\d]*$",  # all but the last number: s0017_02.png
    r"([^/_-]+)[_-][^/]*$",  # the first word
    r"([^/_-]+[_-][^/_-]+)[_-][^/]*$",  # the first two words
    r"([^/\d]*\d+)[^/]*$",  # up to the first number
    r"(\d+)[^/\d]*$",  # the last number
)
PATTERNS = (
    *_FILE,
    r"([^/]+)/[^/]*$",
    r"([^/]+)/[^/]+/[^/]*$",
    *(rf"([^/]+)/[^/]*?{part}" for part in (_FILE[1], _FILE[2], _FILE[7])),
)
"""Patterns whose groups may be the subject; the last ones for trees that number each class from 1."""
FEWEST = 3
"""Subjects that a pattern must give at least."""
SLICES = 1.2
"""Mean number of scans a subject that a pattern must give at least."""
MIN_GAIN = 0.5
"""Least gain over chance of a pattern that is proposed."""
MIXED = 0.05
"""Rate, as a share of the chance rate, below which similar pairs of one name cross labels: the name then stands for two people."""


@dataclass(frozen=True, slots=True)
class SubjectPattern:
    """A pattern over paths that may give the subject.

    Attributes:
        pattern: to pass as --subject.
        subject: (N,) subjects under the pattern.
        agreement: share of similar pairs with one subject.
        low: lower end of the 99 % interval of that share (Clopper and Pearson).
        high: its upper end.
        chance: expected share if subjects were reassigned at random within each class.
        mixes: whether one name stands under two labels for dissimilar scans.
    """

    pattern: str
    subject: StrArray
    agreement: float
    low: float
    high: float
    chance: float
    mixes: bool

    @property
    def gain(self) -> float:
        """Agreement corrected for chance, at the lower end of its interval: 1 is perfect, 0 is chance."""
        return (self.low - self.chance) / (1 - self.chance)


def propose_patterns(paths: StrArray, labels: IntArray, pairs: IntArray) -> list[SubjectPattern]:
    """The patterns that the images confirm, the best first.

    Args:
        paths: (N,) relative paths.
        labels: (N,) class indices.
        pairs: (P, 2) rows of the most similar scans, none of them the same scan twice.
    """
    candidates = [_evaluate_pattern(pattern, paths, labels, pairs) for pattern in PATTERNS]
    good = [each for each in candidates if each is not None and each.gain >= MIN_GAIN and not each.mixes]
    return sorted(_distinct(good), key=lambda each: -round(each.gain, 2))


def extract_subjects(pattern: str, paths: StrArray) -> StrArray | None:
    """(N,) the groups of the pattern in each path, joined by "_"; None where some path does not match.

    >>> extract_subjects(r"([^/]+)[_-]\\d+[^/\\d]*$", np.array(["mild/s01_7.png", "mild/s02_7.png"])).tolist()
    ['s01', 's02']
    """
    compiled = re.compile(pattern)
    matches = [match for path in paths.tolist() if (match := compiled.search(path))]
    if len(matches) < len(paths):
        return None
    return np.array(["_".join(match.groups()) for match in matches], dtype=np.str_)


def _evaluate_pattern(pattern: str, paths: StrArray, labels: IntArray, pairs: IntArray) -> SubjectPattern | None:
    subject = extract_subjects(pattern, paths)
    if subject is None or not len(pairs):
        return None
    code = np.unique(subject, return_inverse=True)[1].reshape(-1)
    counts = np.zeros((int(labels.max()) + 1, int(code.max()) + 1))
    np.add.at(counts, (labels, code), 1)
    if counts.shape[1] < FEWEST or counts.shape[1] * SLICES > len(paths):
        return None
    chance = _chance_agreement(counts, labels, pairs)
    if chance > 1 - MIN_GAIN / 2:  # it gives little more than the class
        return None
    together = code[pairs[:, 0]] == code[pairs[:, 1]]
    low, high = clopper_pearson(int(together.sum()), len(pairs), 0.99)
    mixes = _mixes(counts, labels[pairs[together]], code[pairs[together, 0]])
    return SubjectPattern(pattern, subject, float(together.mean()), low, high, chance, mixes)


def _chance_agreement(counts: FloatArray, labels: IntArray, pairs: IntArray) -> float:
    """Mean over pairs of the probability that two scans of their labels have one subject.

    Args:
        counts: (C, S) scans of each label and subject.
    """
    size = counts.sum(axis=1)
    meet = counts @ counts.T - np.diag(size)
    meet /= np.maximum(np.outer(size, size) - np.diag(size), 1)
    return float(meet[labels[pairs[:, 0]], labels[pairs[:, 1]]].mean())


def _mixes(counts: FloatArray, labels: IntArray, code: IntArray) -> bool:
    """Whether names stand under several labels, but similar pairs (P, 2) of one name hardly ever do."""
    share = counts / counts.sum(axis=0)
    expected = float((1 - (share**2).sum(axis=0))[code].mean()) if len(code) else 0.0
    return bool(expected > 0 and (labels[:, 0] != labels[:, 1]).mean() < MIXED * expected)


def _distinct(patterns: list[SubjectPattern]) -> list[SubjectPattern]:
    """The first of all patterns that make the same groups."""
    kept: dict[bytes, SubjectPattern] = {}
    for each in patterns:
        _, first, code = np.unique(each.subject, return_index=True, return_inverse=True)
        kept.setdefault(np.argsort(np.argsort(first))[code.reshape(-1)].tobytes(), each)
    return list(kept.values())
