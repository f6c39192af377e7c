"""Unlike scans are told from like ones; the alarm rate is as promised; what is saved says the same again."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from scanwise import novelty
from scanwise.baselines.summaries import average_areas
from scanwise.errors import DataError, RunError, ShapeError
from scanwise.novelty import (
    LAYOUT,
    STEPS,
    AlarmThreshold,
    NoveltyDetector,
    WhitenedComponents,
    appearance_features,
    blank_scan_mask,
    representative_rows,
)
from scanwise.records import Logits

SIZE = 24


def heads(count: int, seed: int) -> np.ndarray:
    """Bright ovals on black, of a place and size of their own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    middle = SIZE / 2 + random.normal(0, 0.6, (count, 2, 1, 1))
    radius = 7 + random.normal(0, 0.4, (count, 1, 1))
    inside = np.hypot(y - middle[:, 0], 1.2 * (x - middle[:, 1])) < radius
    level = np.where(inside, 150 + random.normal(0, 20, inside.shape), 3 * random.random(inside.shape))
    return level.clip(0, 255).astype(np.uint8)[..., None]


def features(pixels: np.ndarray) -> np.ndarray:
    """A stand-in for a network: a fixed random projection, cut off at zero."""
    weights = np.random.default_rng(99).normal(size=(SIZE * SIZE, 40)) / SIZE
    return np.maximum(pixels.mean(axis=3).reshape(len(pixels), -1) / 255 @ weights, 0).astype(np.float32)


def record(pixels: np.ndarray, name: str, slices: int = 4) -> Logits:
    count = len(pixels)
    subjects = np.array([f"{name}{row // slices}" for row in range(count)])
    return Logits(
        logits=np.zeros((count, 1, 2), np.float32),
        labels=np.arange(count) % 2,
        scans=np.array([f"{name}{row}.png" for row in range(count)]),
        subjects=subjects,
        classes=("a", "b"),
        features=features(pixels),
        appearance=appearance_features(pixels),
    )


@pytest.fixture(scope="module")
def sides() -> dict[str, Logits]:
    counts = {"train": 240, "validation": 80, "calibration": 160, "test": 400}
    return {name: record(heads(count, seed), name) for seed, (name, count) in enumerate(counts.items())}


@pytest.fixture(scope="module")
def detector(sides: dict[str, Logits]) -> NoveltyDetector:
    return NoveltyDetector.fit(sides["train"], sides["validation"], sides["calibration"], false_alarm=0.05)


def noise(like: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, like.shape, dtype=np.uint8)


STRANGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda pixels: 255 - pixels,
    "noise": noise,
    "black": np.zeros_like,
    "gray": lambda pixels: np.full_like(pixels, 128),
    "white": lambda pixels: np.full_like(pixels, 255),
    "moved": lambda pixels: np.roll(pixels, 8, axis=1),
    "dim": lambda pixels: pixels // 3,
    "stripes": lambda pixels: np.where(np.arange(SIZE)[:, None] % 2, 255, 0).astype(np.uint8) + 0 * pixels,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_scans_are_flagged(kind: str, detector: NoveltyDetector) -> None:
    strange = record(STRANGE[kind](heads(40, 11)), "strange")
    score, flag = detector(strange)
    assert flag.all()
    assert np.isfinite(score).all()
    assert (score > 1).all()
    subject_score, subject_flag = detector.by_subject(strange)
    assert len(subject_score) == 10
    assert subject_flag.all()


def test_few_of_those_alike_are_flagged(detector: NoveltyDetector, sides: dict[str, Logits]) -> None:
    score, flag = detector(sides["test"])
    assert 0 < flag.mean() < 0.12
    assert np.array_equal(flag, score > 1)
    assert detector.by_subject(sides["test"])[1].mean() < 0.15


def test_false_alarms_are_as_promised_over_many_calibration_sides() -> None:
    """Subjects have a level of their own, so scans alone would promise too much; 3 standard errors of slack."""
    random = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"scan": [], "subject": []}
    known, new = slice(0, 12), slice(12, 60)
    for _ in range(800):
        level = random.normal(size=60)
        distances = np.exp(level[:, None] + 0.3 * random.normal(size=(60, 5)))
        subjects = np.repeat(np.arange(60).astype(str), 5).reshape(60, 5)
        cut = AlarmThreshold.fit(distances[known].ravel(), subjects[known].ravel(), 0.1)
        rates["scan"].append(float((distances[new] > cut.threshold).mean()))
        means = distances.mean(axis=1)
        cut = AlarmThreshold.fit(means[known], subjects[known, 0], 0.1)
        rates["subject"].append(float((means[new] > cut.threshold).mean()))
    for found in rates.values():
        slack = 3 * np.std(found) / math.sqrt(len(found))
        assert np.mean(found) <= 0.1 + slack
        assert np.mean(found) >= 0.1 - 1 / 13 - slack


@pytest.mark.parametrize(("count", "share"), [(99, 0.01), (98, 1 / 99), (5, 1 / 6), (1, 1 / 2)])
def test_too_few_subjects_promise_what_they_can(count: int, share: float) -> None:
    values = np.arange(1.0, count + 1)
    cut = AlarmThreshold.fit(values, values.astype(str), 0.01)
    assert cut == AlarmThreshold(count, pytest.approx(share), count)


def test_scan_of_one_value_is_flagged_even_where_such_were_learnt(sides: dict[str, Logits]) -> None:
    pixels = heads(240, 0)
    pixels[::2] = 90
    train = record(pixels, "train")
    checks = [
        record(np.where(np.arange(80)[:, None, None, None] % 2, heads(80, s), np.uint8(90)), str(s)) for s in (1, 2)
    ]
    detector = NoveltyDetector.fit(train, *checks)
    score, flag = detector(record(np.full((8, SIZE, SIZE, 1), 90, np.uint8), "new"))
    assert (score < 1).all()
    assert flag.all()
    assert detector.by_subject(record(np.full((8, SIZE, SIZE, 1), 90, np.uint8), "new"))[1].all()


def test_blank_is_one_single_value() -> None:
    pixels = np.full((4, 20, 20, 3), 77, np.uint8)
    pixels[1, 0, 0] = 78
    pixels[2, :, :10] = 10
    pixels[3, ::2] = 10
    assert blank_scan_mask(appearance_features(pixels)).tolist() == [True, False, False, False]


def test_appearance_is_of_each_scan_alone_and_of_fixed_length() -> None:
    pixels = heads(6, 3)
    whole = appearance_features(pixels)
    assert whole.dtype == np.float32
    assert np.array_equal(whole[2:3], appearance_features(pixels[2:3]))
    np.testing.assert_allclose(np.linalg.norm(whole[:, :256], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(whole[:, 256:], axis=1), np.sqrt(2), rtol=1e-5)
    assert appearance_features(np.repeat(pixels, 3, axis=3)).shape == (6, 256 + 18 + 48)


@pytest.mark.parametrize("channels", [1, 3])
def test_appearance_is_layout_and_shares_of_steps_and_grays(channels: int) -> None:
    pixels = np.random.default_rng(channels).integers(0, 256, (3, 40, 40, channels), np.uint8)
    pixels[1, ::2] //= 9
    gray = pixels.astype(np.float32).mean(axis=3)
    small = average_areas(gray[..., None], LAYOUT).reshape(3, -1)
    small = small - small.mean(axis=1, keepdims=True)
    level = np.rint(gray).astype(int)
    shares = []
    for axis in (1, 2):
        steps = np.abs(np.diff(level, axis=axis)).reshape(3, -1)
        shares.append([np.histogram(row, [*STEPS, 256])[0] / (2 * row.size) for row in steps])
    for channel in range(channels):
        values = pixels[..., channel].reshape(3, -1)
        shares.append([np.histogram(row, np.arange(0, 257, 16))[0] / (channels * row.size) for row in values])
    wanted = np.concatenate([small / np.linalg.norm(small, axis=1, keepdims=True), *map(np.sqrt, shares)], axis=1)
    np.testing.assert_allclose(appearance_features(pixels), wanted, atol=1e-6)
    assert appearance_features(pixels[:0]).shape == (0, wanted.shape[1])


def test_layout_does_not_see_brightness_and_tone_does_not_see_place() -> None:
    pixels = heads(5, 3)
    dim, moved = appearance_features(pixels // 2 + 40), appearance_features(np.rot90(pixels, 2, (1, 2)))
    np.testing.assert_allclose(dim[:, :256], appearance_features(pixels)[:, :256], atol=0.01)
    np.testing.assert_allclose(moved[:, 256:], appearance_features(pixels)[:, 256:], atol=1e-6)


def test_components_are_those_of_an_independent_svd() -> None:
    train = np.random.default_rng(0).normal(size=(30, 12)) * np.linspace(3, 0.2, 12)
    for given in (train, train[:10]):  # more rows than columns, and fewer
        learnt = WhitenedComponents.fit(given, 4)
        _, values, axes = np.linalg.svd(given - given.mean(axis=0), full_matrices=False)
        places = np.abs((given - given.mean(axis=0)) @ axes[:4].T / values[:4] * np.sqrt(len(given) / 4))
        np.testing.assert_allclose(np.abs(learnt(given)[:, :4]), places, atol=1e-4)
        left = np.sqrt((((given - given.mean(axis=0)) @ axes[4:].T) ** 2).sum(axis=1))
        np.testing.assert_allclose(learnt(given)[:, 4] * learnt.rest, left, atol=1e-4)


@pytest.mark.parametrize("dead", [np.zeros((20, 6)), np.ones((20, 6)), np.tile(np.arange(6.0), (20, 1))])
def test_features_that_never_change_do_no_harm(dead: np.ndarray) -> None:
    learnt = WhitenedComponents.fit(dead)
    assert np.isfinite(learnt(dead)).all()
    assert learnt(dead + 1).max() > 1e3


def test_representatives_are_spread_over_subjects_and_always_the_same() -> None:
    subjects = np.repeat(["b", "a", "c"], [40, 2, 10])
    rows = representative_rows(subjects, 15)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert np.unique(subjects[rows], return_counts=True)[1].tolist() == [2, 5, 5]
    assert rows[:2].tolist() == [0, 10]
    assert representative_rows(subjects, 52).tolist() == list(range(52))
    many = np.arange(50).astype(str)
    assert len(representative_rows(many, 7)) == 7


def test_loaded_says_the_same(detector: NoveltyDetector, sides: dict[str, Logits], tmp_path: Path) -> None:
    detector.save(tmp_path / "x.safetensors")
    again = NoveltyDetector.load(tmp_path / "x.safetensors")
    assert np.array_equal(detector(sides["test"])[0], again(sides["test"])[0])
    assert again.thresholds == detector.thresholds
    assert {view.reference.dtype for view in again.views.values()} == {np.dtype(np.float32)}


def test_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--resume"):
        NoveltyDetector.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "text").write_text("x")
    with pytest.raises(RunError, match="--resume"):
        NoveltyDetector.load(tmp_path / "text")
    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(RunError, match="--resume"):
        NoveltyDetector.load(tmp_path / "other.safetensors")


def test_features_alone_will_do(sides: dict[str, Logits]) -> None:
    bare = {name: replace(side, appearance=None) for name, side in sides.items()}
    detector = NoveltyDetector.fit(bare["train"], bare["validation"], bare["calibration"])
    assert set(detector.views) == {"network"}
    strange = replace(record(noise(heads(20, 1)), "strange"), appearance=None)
    assert detector(strange)[1].all()
    with pytest.raises(DataError, match="fitted on the views network"):
        detector(sides["test"])


def test_bad_input_is_refused(detector: NoveltyDetector, sides: dict[str, Logits]) -> None:
    train, validation, calibration = sides["train"], sides["validation"], sides["calibration"]
    with pytest.raises(DataError, match="no features"):
        NoveltyDetector.fit(replace(train, features=None), validation, calibration)
    with pytest.raises(DataError, match=r"60 subjects are on the training side and on the calibration side"):
        NoveltyDetector.fit(train, validation, replace(train, labels=train.labels))
    with pytest.raises(ShapeError, match="Expected 40 features"):
        detector(replace(calibration, features=np.zeros((160, 3))))
    with pytest.raises(DataError, match="NaN or infinite"):
        detector(replace(calibration, features=np.full((160, 40), np.nan)))


def test_a_distance_is_the_same_to_the_last_bit_beside_any_others() -> None:
    random = np.random.default_rng(0)
    train, scans = random.normal(size=(30, 40)), random.normal(size=(17, 40))
    whole = novelty._neighbour_distances(train, scans)
    apart = np.linalg.norm(scans[:, None] - train, axis=2)
    np.testing.assert_allclose(whole, np.sort(apart, axis=1)[:, novelty.K - 1], rtol=1e-9)
    components = novelty.WhitenedComponents.fit(train)
    np.testing.assert_allclose(novelty._neighbour_distances(train, scans, False, 5), whole, rtol=1e-9)
    np.testing.assert_allclose(components(scans, False), components(scans), rtol=1e-9)
    mixed = random.permutation(17)
    assert np.array_equal(novelty._neighbour_distances(train, scans[mixed]), whole[mixed])
    assert np.array_equal(components(scans[mixed]), components(scans)[mixed])
    for row in range(17):
        assert np.array_equal(novelty._neighbour_distances(train, scans[row : row + 1]), whole[row : row + 1])
        assert np.array_equal(components(scans[row : row + 1]), components(scans)[row : row + 1])
