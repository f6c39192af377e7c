"""What the names of files say of who is who, and whether the pixels bear it out.

A part of a path may be the subject: a word, a number, a folder. Every such guess is a pattern that can be typed after
--subject, and none is trusted: it is told only where scans that look most alike have the same subject under it, far more
often than if its subjects were dealt anew inside each class.
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
"""What may tell the subject in a path, in its groups; the last ones where each class counts from 1 anew."""
FEWEST = 3
"""Subjects that make a guess worth asking."""
SLICES = 1.2
"""Scans a subject, on average, that make a guess worth asking."""
PROMISING = 0.5
"""Least share of what chance leaves open that a guess must put together to be told."""
MIXED = 0.05
"""Share of what chance gives that alike pairs of one name may cross labels where the name stands for two people."""


@dataclass(frozen=True, slots=True)
class SubjectPattern:
    """A pattern over paths that may tell the subject.

    Attributes:
        pattern: to type after --subject.
        subject: (N,) what it finds.
        agreement: share of alike pairs that it puts together.
        low: lower end of the 99 % interval of that share (Clopper and Pearson).
        high: its upper end.
        chance: the share that it would put together if its subjects were dealt anew inside each class.
        mixes: whether one name stands under two labels, for scans that are not alike.
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
        """How much of what chance leaves open the guess explains, at least: 1 is all, 0 none."""
        return (self.low - self.chance) / (1 - self.chance)


def propose_patterns(paths: StrArray, labels: IntArray, pairs: IntArray) -> list[SubjectPattern]:
    """The patterns that the pixels bear out, the best first.

    Args:
        paths: (N,) relative paths.
        labels: (N,) class indices.
        pairs: (P, 2) rows of scans that look most alike, none of them the same scan twice.
    """
    found = [guess for pattern in PATTERNS if (guess := _judge(pattern, paths, labels, pairs)) is not None]
    good = [guess for guess in found if guess.gain >= PROMISING and not guess.mixes]
    return sorted(_distinct(good), key=lambda guess: -round(guess.gain, 2))


def extract_subjects(pattern: str, paths: StrArray) -> StrArray | None:
    """(N,) the groups of the pattern in each path, joined by "_"; None where a path does not match.

    >>> extract_subjects(r"([^/]+)[_-]\\d+[^/\\d]*$", np.array(["mild/s01_7.png", "mild/s02_7.png"])).tolist()
    ['s01', 's02']
    """
    compiled = re.compile(pattern)
    matches = [match for path in paths.tolist() if (match := compiled.search(path))]
    if len(matches) < len(paths):
        return None
    return np.array(["_".join(match.groups()) for match in matches], dtype=np.str_)


def _judge(pattern: str, paths: StrArray, labels: IntArray, pairs: IntArray) -> SubjectPattern | None:
    subject = extract_subjects(pattern, paths)
    if subject is None or not len(pairs):
        return None
    code = np.unique(subject, return_inverse=True)[1].reshape(-1)
    counts = np.zeros((int(labels.max()) + 1, int(code.max()) + 1))
    np.add.at(counts, (labels, code), 1)
    if counts.shape[1] < FEWEST or counts.shape[1] * SLICES > len(paths):
        return None
    chance = _chance(counts, labels, pairs)
    if chance > 1 - PROMISING / 2:  # it says little but the class
        return None
    together = code[pairs[:, 0]] == code[pairs[:, 1]]
    low, high = clopper_pearson(int(together.sum()), len(pairs), 0.99)
    mixes = _mixes(counts, labels[pairs[together]], code[pairs[together, 0]])
    return SubjectPattern(pattern, subject, float(together.mean()), low, high, chance, mixes)


def _chance(counts: FloatArray, labels: IntArray, pairs: IntArray) -> float:
    """The mean over pairs of the probability that two scans of their labels have one subject.

    Args:
        counts: (C, S) scans of each label and subject.
    """
    size = counts.sum(axis=1)
    meet = counts @ counts.T - np.diag(size)
    meet /= np.maximum(np.outer(size, size) - np.diag(size), 1)
    return float(meet[labels[pairs[:, 0]], labels[pairs[:, 1]]].mean())


def _mixes(counts: FloatArray, labels: IntArray, code: IntArray) -> bool:
    """Whether names stand under several labels, and alike pairs (P, 2) of one name hardly ever do."""
    share = counts / counts.sum(axis=0)
    expected = float((1 - (share**2).sum(axis=0))[code].mean()) if len(code) else 0.0
    return bool(expected > 0 and (labels[:, 0] != labels[:, 1]).mean() < MIXED * expected)


def _distinct(found: list[SubjectPattern]) -> list[SubjectPattern]:
    """Of guesses that make the same groups, the first."""
    kept: dict[bytes, SubjectPattern] = {}
    for guess in found:
        _, first, code = np.unique(guess.subject, return_index=True, return_inverse=True)
        kept.setdefault(np.argsort(np.argsort(first))[code.reshape(-1)].tobytes(), guess)
    return list(kept.values())
