"""The synthetic cohort: deterministic, truthful about where its signal is, and leaky exactly when split by scan."""

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation
from scipy.stats import multivariate_normal
from sklearn.neighbors import KNeighborsClassifier

from scanwise.cohort import phantom, phantom_files
from scanwise.cohort.phantom import MEASURES, Person, Phantom, draw_brain, people
from scanwise.errors import DataError

SMALL = Phantom(subjects=6, slices=2, size=48, stages=("nondemented", "milddemented"))
THREE = ("nondemented", "verymilddemented", "milddemented")
SIGNALS: tuple[phantom.Signal, ...] = ("all", "ventricles")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def as_severe(person: Person, cohort: Phantom, severity: float, only: str = "") -> Person:
    """The same person, with every measure (or one) at this severity."""
    latents = np.array(
        [severity if only in ("", name) else value for name, value in zip(MEASURES, person.latents, strict=True)]
    )
    return replace(person, latents=latents, measures=phantom.measures(latents, cohort))


# --- determinism and files ---


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        phantom_files.write_phantoms(tmp_path / name, replace(SMALL, seed=seed))
    first, again, other = (bytes_of(tmp_path / name) for name in "abc")
    assert first == again
    scans = [name for name in first if name.startswith("scans")]
    assert len(scans) == 12
    assert not any(first[name] in other.values() for name in scans)


def test_a_subject_does_not_depend_on_who_is_drawn_before() -> None:
    persons = people(SMALL)
    alone = draw_brain(SMALL, persons[4]).pixels
    for person in persons[:4]:
        draw_brain(SMALL, person)
    assert np.array_equal(draw_brain(SMALL, persons[4]).pixels, alone)


def test_each_cohort_has_an_anatomy_of_its_own() -> None:
    person = people(SMALL)[0]
    here, there = (draw_brain(replace(SMALL, seed=seed), person).head for seed in (0, 1))
    assert not np.array_equal(here, there)


def test_folder_holds_a_mask_and_a_row_for_each_scan_and_nothing_else(tmp_path: Path) -> None:
    phantom_files.write_phantoms(tmp_path / "cohort", SMALL)
    names = set(bytes_of(tmp_path / "cohort"))
    with (tmp_path / "cohort" / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert names == {"truth.csv"} | {f"{kind}/{row['path']}" for row in rows for kind in ("scans", "masks")}
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
    persons = {person.name: person for person in people(SMALL)}
    for row in rows:
        person = persons[row["subject"]]
        assert row["path"] == f"{row['label']}/{row['subject']}_{int(row['slice']):02d}.png"
        assert row["label"] == SMALL.stages[person.label]
        assert float(row["ventricles"]) == pytest.approx(person.measures["ventricles"], abs=1e-6)
        assert [float(row[f"p_{name}"]) for name in SMALL.stages] == pytest.approx(person.probs.tolist(), abs=1e-6)


def test_files_hold_what_was_drawn(tmp_path: Path) -> None:
    phantom_files.write_phantoms(tmp_path / "cohort", SMALL)
    person = people(SMALL)[0]
    drawing = draw_brain(SMALL, person)
    name = f"{SMALL.stages[person.label]}/{person.name}_01.png"
    scan, mask = (Image.open(tmp_path / "cohort" / kind / name) for kind in ("scans", "masks"))
    assert scan.mode == mask.mode == "L"
    assert np.array_equal(np.asarray(scan), drawing.pixels[1])
    assert np.array_equal(np.asarray(mask) == 255, drawing.masks[1])


def test_names_and_order_do_not_give_the_stage_away() -> None:
    labels = np.array([person.label for person in people(Phantom(subjects=400, stages=THREE))])
    assert np.bincount(labels).tolist() == [134, 133, 133]
    assert abs(np.corrcoef(labels, np.arange(400))[0, 1]) < 0.15
    assert 0.2 < np.mean(labels[1:] == labels[:-1]) < 0.46  # 1/3 when dealt at random


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(cohort: Phantom, person: Person) -> phantom.DrawnBrain:
        if person.number == 3:
            raise RuntimeError("power cut")
        return draw_brain(cohort, person)

    monkeypatch.setattr(phantom_files, "draw_brain", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        phantom_files.write_phantoms(tmp_path / "cohort", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_older_phantom_is_replaced_and_anything_else_is_left_alone(tmp_path: Path) -> None:
    phantom_files.write_phantoms(tmp_path / "cohort", SMALL)
    phantom_files.write_phantoms(tmp_path / "cohort", replace(SMALL, subjects=2))
    assert len(bytes_of(tmp_path / "cohort")) == 1 + 2 * 2 * 2
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    for taken in (tmp_path / "thesis", tmp_path / "thesis" / "chapter1.txt"):
        with pytest.raises(DataError, match="choose another folder"):
            phantom_files.write_phantoms(taken, SMALL)
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "wrong", [{"stages": ("one",)}, {"stages": ("one", "one")}, {"subjects": 1}, {"slices": 0}, {"size": 8}]
)
def test_impossible_cohorts_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="phantom cohort needs"):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


# --- the planted truth ---


@pytest.mark.parametrize("signal", SIGNALS)
def test_severity_changes_no_pixel_outside_the_mask(signal: phantom.Signal) -> None:
    cohort = Phantom(subjects=8, slices=3, signal=signal)
    only = "ventricles" if signal == "ventricles" else ""
    for person in people(cohort):
        mild, severe = (draw_brain(cohort, as_severe(person, cohort, severity, only)) for severity in (-3, 3))
        changed = mild.pixels != severe.pixels
        assert changed.any(axis=(1, 2)).all()
        assert not (changed & ~severe.masks).any()
        assert (severe.masks & severe.head).sum() < 0.9 * severe.head.sum()


def test_the_mask_is_no_larger_than_what_can_change() -> None:
    cohort = Phantom(subjects=8, slices=3, signal="ventricles")
    for person in people(cohort):
        none, severe = (draw_brain(cohort, as_severe(person, cohort, severity, "ventricles")) for severity in (-50, 3))
        shown = none.pixels != severe.pixels
        assert (shown & severe.masks).sum() > 0.5 * severe.masks.sum()


@pytest.mark.parametrize("size", [80, 96, 128])
def test_ventricles_alone_cover_at_most_8_percent_of_the_head(size: int) -> None:
    cohort = Phantom(subjects=20, slices=4, size=size, signal="ventricles")
    for person in people(cohort):
        drawing = draw_brain(cohort, as_severe(person, cohort, 4.0))
        shares = drawing.masks.sum(axis=(1, 2)) / drawing.head.sum(axis=(1, 2))
        assert shares.min() > 0.01
        assert shares.max() <= 0.08


def test_ventricles_have_the_size_that_was_asked_for() -> None:
    cohort = Phantom(subjects=10, slices=5, size=128)
    for person in people(cohort):
        assert draw_brain(cohort, person).ventricles.max() == pytest.approx(person.measures["ventricles"], rel=0.05)


def test_scans_are_heads_on_black_with_bright_white_matter() -> None:
    cohort = Phantom(subjects=10, slices=3)
    for person in people(cohort):
        drawing = draw_brain(cohort, person)
        for pixels, head in zip(drawing.pixels, drawing.head, strict=True):
            assert not pixels[~binary_dilation(head, iterations=2)].any()  # the edge itself is a ramp
        assert not drawing.head[:, [0, -1]].any()
        assert not drawing.head[:, :, [0, -1]].any()
        middle = np.median(drawing.pixels[drawing.head & ~drawing.masks])  # neither ventricle nor cortex
        assert middle > 1.2 * np.median(drawing.pixels[drawing.masks & drawing.head])


def test_neighbouring_slices_look_alike_but_are_not_copies() -> None:
    cohort = Phantom(subjects=10, slices=5)
    drawings = [draw_brain(cohort, person).pixels.astype(float) for person in people(cohort)]
    next_slice = [np.corrcoef(d[i].ravel(), d[i + 1].ravel())[0, 1] for d in drawings for i in range(4)]
    next_person = [np.corrcoef(a[2].ravel(), b[2].ravel())[0, 1] for a, b in pairwise(drawings)]
    assert min(next_slice) > max(next_person)
    assert max(next_slice) < 0.999


# --- stages, measures and the oracle ---


def measured(cohort: Phantom) -> tuple[np.ndarray, np.ndarray]:
    persons = people(cohort)
    return np.array([[p.measures[m] for m in MEASURES] for p in persons]), np.array([p.label for p in persons])


def test_stages_are_ordered_and_overlap() -> None:
    values, labels = measured(Phantom(subjects=800))
    for column, direction in zip(values.T, (1, 1, -1), strict=True):
        stages = [direction * column[labels == stage] for stage in range(4)]
        for milder, worse in pairwise(stages):
            assert np.median(milder) < np.median(worse)
            assert np.quantile(milder, 0.95) > np.quantile(worse, 0.05)


def test_the_cortex_is_silent_when_the_signal_is_the_ventricles() -> None:
    values, labels = measured(Phantom(subjects=2000, signal="ventricles"))
    ventricles, sulci, thickness = (np.corrcoef(column, labels)[0, 1] for column in values.T)
    assert ventricles > 0.8
    assert abs(sulci) < 0.08
    assert abs(thickness) < 0.08


@pytest.mark.parametrize(("signal", "used"), [("all", 3), ("ventricles", 1)])
def test_the_oracle_is_bayes_rule(signal: phantom.Signal, used: int) -> None:
    cohort = Phantom(subjects=30, stages=THREE, signal=signal)
    persons = people(cohort)
    latents = np.stack([person.latents for person in persons])[:, :used]
    scatter = [phantom.SCATTER[name] ** 2 for name in MEASURES[:used]]
    covariance = np.diag(scatter) + np.ones((used, used))
    likelihood = np.stack(
        [multivariate_normal(np.full(used, phantom.STEP * (k - 1)), covariance).pdf(latents) for k in range(3)], axis=1
    )
    expected = likelihood / likelihood.sum(axis=1, keepdims=True)
    assert np.allclose([person.probs for person in persons], expected, atol=1e-9)


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_oracle_errs_as_often_as_it_says(signal: phantom.Signal) -> None:
    cohort = Phantom(subjects=20_000, stages=THREE, signal=signal)
    says = np.mean([person.probs.max() for person in people(cohort)])
    accuracy = phantom.ceiling(cohort)
    assert accuracy == pytest.approx(says, abs=4 * np.sqrt(0.25 / 20_000))
    assert 0.75 < accuracy < 0.95


def test_ceiling_is_that_of_the_subjects_named() -> None:
    persons = people(SMALL)
    right = [person.name for person in persons if person.probs.argmax() == person.label]
    assert phantom.ceiling(SMALL, right) == 1.0
    assert phantom.ceiling(SMALL) == len(right) / len(persons)
    with pytest.raises(DataError, match="s0000 to s0005"):
        phantom.ceiling(SMALL, ["s0000", "somebody"])


# --- leakage: the reason for being ---


def test_a_split_by_scan_leaks_and_a_split_by_subject_does_not() -> None:
    cohort = Phantom(subjects=150, slices=4, size=48, stages=THREE)
    persons = people(cohort)
    pixels = np.concatenate([draw_brain(cohort, person).pixels for person in persons])
    small = pixels.reshape(600, 24, 2, 24, 2).mean(axis=(2, 4)).reshape(600, -1)
    labels = np.repeat([person.label for person in persons], 4)
    rng = np.random.default_rng(0)
    by_scan = rng.random(600) < 0.3
    by_subject = np.repeat(rng.random(150) < 0.3, 4)
    leaky, honest = (
        KNeighborsClassifier(1).fit(small[~test], labels[~test]).score(small[test], labels[test])
        for test in (by_scan, by_subject)
    )
    assert leaky > 0.95
    assert honest < 0.65
