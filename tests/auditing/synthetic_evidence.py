"""Cohorts in memory for the audit's judgements: people who look like themselves, and classes that show a little."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanwise.auditing.evidence import AuditFinding, Evidence
from scanwise.records import Cohort, Split
from scanwise.registration import descriptors

SIZE = 48
ALZHEIMER = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[3] / "shared") / "data" / "alzheimer"


def evidence_of(
    people: int = 40,
    slices: int = 4,
    classes: int = 2,
    *,
    signal: float = 0.0,
    seed: int = 0,
    split: str = "",
    files: Mapping[str, NDArray[Any]] | None = None,
    groups: Mapping[str, NDArray[np.str_]] | None = None,
    **given: Any,
) -> Evidence:
    """`people` heads with `slices` scans each; a spot of `signal` gray values tells the classes apart."""
    random = np.random.default_rng(seed)
    label_of = random.permutation(np.arange(people) % classes)
    who, labels = np.repeat(np.arange(people), slices), np.repeat(label_of, slices)
    pixels = np.concatenate([heads(random, slices) for _ in range(people)]).astype(np.float32)
    if signal:
        pixels[:, 20:28, 20:28] += (signal * labels)[:, None, None]
    path = np.array(
        [f"c{label}/p{person:03}_{k}.png" for k, (person, label) in enumerate(zip(who, labels, strict=True))]
    )
    cohort = Cohort(
        root="/nowhere",
        path=path,
        labels=labels,
        classes=tuple(f"c{index}" for index in range(classes)),
        ordered=False,
        subject=np.array([f"p{person:03}" for person in who]),
        subject_source="column subject",
        sha256=path,
        pixels=path,
        groups=groups or {},
    )
    scans = np.clip(pixels, 0, 255).astype(np.uint8)
    sides = {"": None, "subject": who % 4 == 0, "scan": random.random(len(who)) < 0.25}[split]
    made = None if sides is None else split_of(np.where(sides, "test", "train"))
    about: dict[str, Any] = {"subject": cohort.subject, "split": made, "files": files or {}, **given}
    return Evidence(cohort, scans, descriptors(scans), **about)


def heads(random: np.random.Generator, slices: int) -> NDArray[np.float32]:
    """(slices, SIZE, SIZE) scans of one person: an ellipse with folds of its own on black, a little different each."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    wide, high = random.uniform(0.62, 0.74, 2)
    inside = (x / wide) ** 2 + (y / high) ** 2 < 1
    own = ndimage.gaussian_filter(random.standard_normal((SIZE, SIZE)), 2)
    change = ndimage.gaussian_filter(random.standard_normal((slices, SIZE, SIZE)), (0, 2, 2))
    folds = own / own.std() + 0.3 * change / change.std()
    return np.asarray(np.where(inside, np.clip(120 + 30 * folds, 20, 220), 0), dtype=np.float32)


def split_of(side: NDArray[np.str_]) -> Split:
    return Split(side, "published", 0, "as the test has it", False)


def only(noted: list[AuditFinding], check: str) -> AuditFinding:
    """The one finding of a check."""
    (found,) = [one for one in noted if one.finding.check == check]
    return found


def grave(noted: list[AuditFinding]) -> list[str]:
    """What is said above a note."""
    return [f"{one.finding.check}: {one.finding.message}" for one in noted if one.finding.severity != "note"]
