"""The people tested: how many of each class, and their age, sex and site as far as the data says."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from scanwise.phrases import printable
from scanwise.records import IntArray, StrArray
from scanwise.reporting.run_data import RunData
from scanwise.reporting.wording import counted, fixed, listed

ASPECTS = {"age": r"age", "sex": r"sex|gender", "site": r"site|centre|center|hospital|institution|clinic|scanner"}
"""Aspects of the people tested that readers ask about, and words of the columns that may hold them."""
MOST = 5
"""Values of a column, and classes, that are named; of more, the most frequent."""


def describe_tested(contents: RunData) -> tuple[str, ...]:
    """Sentences about the people of the honest test sets: classes, then age, sex and site, or that they are not known."""
    if "honest" not in contents.protocols:
        return ()
    here = np.any([fitted.split.side == "test" for fitted in contents.fits_of("honest")], axis=0)
    cohort, noun = contents.cohort.take(here), contents.cohort.noun
    units = cohort.subject if cohort.subjects_known else cohort.path
    _, first = np.unique(units, return_index=True)
    labels = cohort.labels[first]
    counts = [(contents.title(name), int((labels == index).sum())) for index, name in enumerate(cohort.classes)]
    present = [f"{count:,} {title}" for title, count in sorted(counts, key=lambda pair: -pair[1]) if count]
    shown = [*present[:MOST], *([f"{len(present) - MOST} more classes"] if len(present) > MOST else [])]
    given: list[str] = []
    missing: list[str] = []
    for aspect, pattern in ASPECTS.items():
        values = next(_columns(cohort.groups, pattern, first), None)
        if values is None:
            missing.append(aspect)
        else:
            given.append(_aspect(aspect, values))
    sentences = [f"Tested: {counted(len(first), noun)} ({', '.join(shown)})."]
    if given:
        text = "; ".join(given)
        sentences.append(f"{text[0].upper()}{text[1:]}.")
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        sentences.append(f"{listed(missing).capitalize()} of those tested {verb} not known.")
    return tuple(sentences)


def _columns(groups: Mapping[str, StrArray], pattern: str, rows: IntArray) -> Iterator[StrArray]:
    """The values of each column whose name holds one of these words and that says anything of these rows."""
    for name, values in groups.items():
        words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
        if any(re.fullmatch(pattern, word) for word in words) and (values[rows] != "").any():
            yield values[rows]


def _aspect(aspect: str, values: StrArray) -> str:
    """One column in words: the range of numbers, or the most frequent values."""
    given = values[values != ""]
    of = "" if len(given) == len(values) else f" (known of {len(given):,})"
    numbers = [number for value in given.tolist() if (number := _number(value)) is not None]
    if len(numbers) == len(given) and len(set(numbers)) > 2:
        low, middle, high = (fixed(float(end), 0) for end in np.quantile(numbers, [0, 0.5, 1]))
        return f"{aspect} {low} to {high}, median {middle}{of}"
    kinds, counts = np.unique(given, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = [f"{printable(str(kinds[k]))} {counts[k]:,}" for k in order[:MOST]]
    more = [f"{len(kinds) - MOST} more"] if len(kinds) > MOST else []
    return f"{aspect} {', '.join([*shown, *more])}{of}"


def _number(value: str) -> float | None:
    """A number, also an age as DICOM writes it (063Y)."""
    match = re.fullmatch(r"0*(\d+(?:\.\d+)?)Y?", value.strip())
    return float(match[1]) if match else None
