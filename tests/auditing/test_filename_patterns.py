"""File names: proposed where alike scans share them, never else."""

import numpy as np
import pytest

from scanwise.auditing import filename_patterns

PEOPLE, SLICES = 30, 6


def alike() -> np.ndarray:
    """Neighbouring slices of each person."""
    rows = np.arange(PEOPLE * SLICES).reshape(PEOPLE, SLICES)
    return np.stack([rows[:, :-1].reshape(-1), rows[:, 1:].reshape(-1)], axis=1)


def named(form: str) -> tuple[np.ndarray, np.ndarray]:
    """Paths of the people's scans, and their labels; people of a class count from 0 in `{k}`, all in `{p}`."""
    rows = [(person, piece) for person in range(PEOPLE) for piece in range(SLICES)]
    paths = [form.format(c=f"class{p % 2}", p=p + 3, k=p // 2, s=s, n=p * SLICES + s) for p, s in rows]
    return np.array(paths), np.array([p % 2 for p, _ in rows])


@pytest.mark.parametrize(
    "form",
    [
        "{c}/s{p:04d}_{s:02d}.png",
        "{c}/{p} ({s}).jpg",
        "{c}/{s} ({p}).jpg",
        "{c}/sub-{p:02d}/slice{s}.png",
        "{c}/sub-{p:02d}_slice-{s}_bold.png",
        "{c}/patient {p}/{n}.png",
        "{c}/p{p}-{s}.png",
        "{c}/IM-{p:04d}-{s:04d}.png",
        "{c}/{p}_{s}_axial.png",
        "{c}/site{s}_{p}_x.png",
    ],
)
def test_finds_the_part_that_is_the_subject(form: str) -> None:
    paths, labels = named(form)
    best, *_ = filename_patterns.propose_patterns(paths, labels, alike())
    people = np.repeat(np.arange(PEOPLE), SLICES)
    code = np.unique(best.subject, return_inverse=True)[1]
    assert len(set(zip(code.tolist(), people.tolist(), strict=True))) == PEOPLE == code.max() + 1
    assert best.agreement == 1.0
    assert best.chance < 0.1
    assert best.low < 1.0 == best.high


@pytest.mark.parametrize("form", ["{c}/{k} ({s}).jpg", "{c}/{s} ({k}).jpg", "{c}/{s}_{k}.jpg"])
def test_where_classes_count_anew_the_class_is_part_of_the_name(form: str) -> None:
    paths, labels = named(form)
    best, *_ = filename_patterns.propose_patterns(paths, labels, alike())
    assert len(np.unique(best.subject)) == PEOPLE


@pytest.mark.parametrize("form", ["{c}/{n:05d}.png", "{c}/scan{n}.png", "{c}/{s} ({n}).jpg"])
def test_names_that_tell_nobody_are_not_told(form: str) -> None:
    paths, labels = named(form)
    assert filename_patterns.propose_patterns(paths, labels, alike()) == []


def test_names_that_the_pixels_do_not_bear_out_are_not_told() -> None:
    paths, labels = named("{c}/s{p:04d}_{s:02d}.png")
    pairs = np.random.default_rng(0).permutation(len(paths)).reshape(-1, 2)
    assert filename_patterns.propose_patterns(paths, labels, pairs) == []


def test_without_alike_pairs_nothing_is_told() -> None:
    paths, labels = named("{c}/s{p:04d}_{s:02d}.png")
    assert filename_patterns.propose_patterns(paths, labels, np.empty((0, 2), dtype=np.int64)) == []
