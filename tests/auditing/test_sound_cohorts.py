"""From files on disk: a cohort with no planted fault brings nothing above a note, and planted faults are found in it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from synthetic_evidence import grave

from scanwise import auditing, cohort
from scanwise.auditing import quality
from scanwise.auditing.evidence import AuditFinding, Evidence
from scanwise.cohort import phantom, phantom_files, splits
from scanwise.recipe import Recipe, SplitSection
from scanwise.registration import THUMBNAIL, descriptors

STAGES = ("nondemented", "verymilddemented", "milddemented", "moderatedemented")
Change = Callable[[Path, Image.Image, int], None]


def evidence_from(folder: Path, seed: int = 0) -> Evidence:
    """What the audit sees of a phantom cohort on disk, split by subject."""
    look = Recipe(name="audit", data=THUMBNAIL)
    intake = cohort.read_cohort(str(folder / "scans"), look, subject=str(folder / "truth.csv"))
    pixels = intake.store.read(np.arange(len(intake.cohort)))[..., 0]
    (split,) = splits.make_splits(intake.cohort, SplitSection(), seed)
    files = quality.read_file_facts(Path(intake.cohort.root), intake.cohort.path)
    subject = intake.cohort.subject
    return Evidence(intake.cohort, pixels, descriptors(pixels), subject, split, files, intake.quarantine, seed)


PLANTED = [name for name in auditing.CHECKS if name != "copies"]
"""Checks of a cohort with a planted fault: none of these makes a copy, and the sound one is searched for copies already."""


def judged(evidence: Evidence, checks: Sequence[str] = tuple(auditing.CHECKS)) -> list[AuditFinding]:
    return auditing.run_checks(evidence, checks)[0]


def drawn(folder: Path, seed: int, subjects: int = 45, stages: int = 3, slices: int = 3) -> Path:
    phantom_files.write_phantoms(folder, phantom.Phantom(subjects, slices, size=64, stages=STAGES[:stages], seed=seed))
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("sound") / "cohort", 0)


def planted(sound: Path, folder: Path, change: Change) -> list[str]:
    """What is said above a note of the same cohort after a change to each scan: `change(file, image, label)`."""
    (folder / "scans").mkdir(parents=True)
    (folder / "truth.csv").write_bytes((sound / "truth.csv").read_bytes())
    for file in sorted((sound / "scans").rglob("*.png")):
        place = folder / "scans" / file.relative_to(sound / "scans")
        place.parent.mkdir(exist_ok=True)
        with Image.open(file) as image:
            change(place, image.copy(), STAGES.index(file.parent.name))
    return [line.split(":")[0] for line in grave(judged(evidence_from(folder), PLANTED))]


@pytest.mark.extended
def test_a_sound_cohort_brings_notes_only(sound: Path) -> None:
    assert grave(judged(evidence_from(sound))) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_sound_cohorts_of_twenty_seeds_bring_notes_only(tmp_path: Path, seed: int) -> None:
    shape = [(60, 3, 3), (120, 2, 2), (48, 4, 4)][seed % 3]
    assert grave(judged(evidence_from(drawn(tmp_path / "cohort", seed, *shape), seed))) == []


def test_a_split_by_scan_is_seen_in_every_probe(sound: Path) -> None:
    evidence = evidence_from(sound)
    assert evidence.split is not None
    side = np.where(np.random.default_rng(0).random(len(evidence)) < 0.8, "train", "test")
    found = judged(replace(evidence, split=replace(evidence.split, side=side)), PLANTED)
    leaks = [one.finding.check for one in found if one.finding.severity == "leak"]
    assert leaks == ["leakage.subjects", "leakage.points", "leakage.permuted", "leakage.identity"]


def test_a_border_mark_that_goes_with_the_class_is_found(sound: Path, tmp_path: Path) -> None:
    def change(file: Path, image: Image.Image, label: int) -> None:
        if (label + (sum(file.stem[:5].encode()) % 5 == 0)) % 3 == 2:  # for four people in five it goes with the class
            ImageDraw.Draw(image).rectangle((0, 0, 8, 2), fill=200)
        image.save(file)

    found = planted(sound, tmp_path / "marked", change)
    assert "shortcuts.border" in found
    assert set(found) <= {"shortcuts.border", "shortcuts.background"}  # it reaches a little further in


def test_a_jpeg_quality_that_goes_with_the_class_is_found(sound: Path, tmp_path: Path) -> None:
    def change(file: Path, image: Image.Image, label: int) -> None:
        with file.open("wb") as stream:  # the name stays, for the list of subjects goes by it
            image.save(stream, "JPEG", quality=(90, 80, 80)[label])

    assert "shortcuts.quality" in planted(sound, tmp_path / "saved", change)


def test_a_foreign_picture_and_a_broken_one_are_found(sound: Path, tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    lungs = sum(np.exp(-(((x - side) / 0.3) ** 2) - (y / 0.6) ** 2) for side in (-0.45, 0.45))
    chest = Image.fromarray(np.asarray(190 - 140 * lungs, dtype=np.uint8))

    def change(file: Path, image: Image.Image, label: int) -> None:
        if file.name == "s0007_01.png":
            image = chest
        image.save(file)
        if file.name == "s0009_02.png":
            file.write_bytes(file.read_bytes()[:300])

    assert planted(sound, tmp_path / "foreign", change) == ["quality.unreadable", "quality.stranger"]
