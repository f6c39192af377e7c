"""Baselines against independent references, and the contract that all of them share."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scanwise import baselines
from scanwise.baselines import BASELINES, BaselineSpec, summaries
from scanwise.baselines.regression import OrderedLogistic
from scanwise.errors import DataError, ShapeError
from scanwise.recipe import Recipe


def scans(
    count: int, seed: int = 0, side: int = 16, channels: int = 1, classes: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise on which class k has a brighter k-th quarter of the rows; two scans a subject."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.permutation(np.arange(count // 2) % classes), 2)
    pixels = rng.normal(100, 30, (count, side, side, channels))
    for k in range(classes):
        pixels[labels == k, k * side // 4 : (k + 1) * side // 4] += 25
    return pixels.clip(0, 255).astype(np.uint8), labels, np.repeat(np.arange(count // 2), 2).astype(str)


def inputs_of(spec: BaselineSpec, pixels: np.ndarray) -> np.ndarray:
    """Pixels, or for a baseline on features some numbers that depend on them, or on words some words that do."""
    if spec.needs == "words":
        rows = pixels.reshape(len(pixels), 4, -1).mean(2).argmax(1)
        kinds = ("shirt", "shoe", "watch", "none")
        return np.array([f"A {kinds[row]} numbered {scan.sum()}" for row, scan in zip(rows, pixels, strict=True)])
    if spec.summary is not None:
        return spec.summary(pixels)
    if spec.needs in ("counts", "covariates"):
        return 2.0 + pixels.reshape(len(pixels), 4, -1).mean(2).argmax(1)[:, None]
    return pixels.reshape(len(pixels), -1)[:, ::7].astype(float) if spec.needs == "features" else pixels


# --- contract of every baseline ---


def test_every_baseline_has_one_row_and_its_place_in_recipes() -> None:
    assert [spec.name for spec in BASELINES.values()] == list(BASELINES)
    titles = [spec.title for spec in BASELINES.values()]
    assert len(titles) == len(set(titles))
    for spec in BASELINES.values():
        assert spec.meaning
        assert spec.needs in ("features", "counts", "covariates") or spec.summary or not spec.by_subject
    names = Recipe.model_json_schema()["$defs"]["Baselines"]["properties"]["names"]
    assert set(names["items"]["enum"]) == set(BASELINES)
    assert set(names["default"]) == set(BASELINES)


@pytest.mark.parametrize("spec", BASELINES.values(), ids=BASELINES)
def test_probabilities_are_finite_sum_to_one_and_repeat(spec: BaselineSpec) -> None:
    pixels, labels, subjects = scans(90)
    probs = spec.fit_predict(
        inputs_of(spec, pixels[:60]), labels[:60], subjects[:60], inputs_of(spec, pixels[60:]), 4
    )  # class 3 is never seen
    assert probs.shape == (30, 4)
    assert np.allclose(probs.sum(axis=1), 1)
    assert probs.min() > 0
    assert np.isfinite(np.log(probs)).all()
    assert (probs.argmax(axis=1) != 3).all()
    again = spec.fit_predict(inputs_of(spec, pixels[:60]), labels[:60], subjects[:60], inputs_of(spec, pixels[60:]), 4)
    assert np.array_equal(probs, again)


@pytest.mark.parametrize("spec", BASELINES.values(), ids=BASELINES)
def test_nothing_is_fitted_on_the_test_side(spec: BaselineSpec) -> None:
    pixels, labels, subjects = scans(90)
    train = (inputs_of(spec, pixels[:60]), labels[:60], subjects[:60])
    together, rows = spec.fit_predict(*train, inputs_of(spec, pixels[60:]), 3), range(60, 90, 5)
    alone = np.concatenate([spec.fit_predict(*train, inputs_of(spec, pixels[i : i + 1]), 3) for i in rows])
    assert np.allclose(together[::5], alone, atol=1e-6)


@pytest.mark.parametrize("spec", BASELINES.values(), ids=BASELINES)
def test_class_indices_keep_their_place_when_classes_are_missing(spec: BaselineSpec) -> None:
    pixels, labels, subjects = scans(120)
    seen = labels != 1
    probs = spec.fit_predict(inputs_of(spec, pixels[seen]), labels[seen], subjects[seen], inputs_of(spec, pixels), 3)
    assert probs[:, 1].max() < 0.05
    one = spec.fit_predict(inputs_of(spec, pixels), np.full(120, 2), subjects, inputs_of(spec, pixels), 3)
    assert (one.argmax(axis=1) == 2).all()


@pytest.mark.parametrize("spec", BASELINES.values(), ids=BASELINES)
def test_bad_input_is_refused(spec: BaselineSpec) -> None:
    pixels, labels, subjects = scans(20)
    values = inputs_of(spec, pixels)
    with pytest.raises(ShapeError, match="a label and a subject"):
        spec.fit_predict(values, labels[:-1], subjects, values, 3)
    if spec.needs != "words":
        with pytest.raises(ShapeError, match="same shape"):
            spec.fit_predict(values, labels, subjects, values[:, :-1], 3)
    with pytest.raises(DataError, match="between 0 and 1"):
        spec.fit_predict(values, labels, subjects, values, 2)
    with pytest.raises(DataError, match="needs training scans"):
        spec.fit_predict(values[:0], labels[:0], subjects[:0], values, 3)


def test_how_dark_a_scan_is_and_its_histogram_are_counted() -> None:
    pixels = np.array([[[0], [31], [32], [255]], [[200], [200], [200], [31]]], np.uint8).reshape(2, 2, 2, 1)
    assert BASELINES["dark_share"].summary(pixels).tolist() == [[0.5], [0.25]]
    histogram = BASELINES["gray_histogram"].summary(pixels)
    assert histogram.shape == (2, 16)
    assert histogram[0].nonzero()[0].tolist() == [0, 1, 2, 15]
    assert histogram[1, 12] == 0.75
    random = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    expected = [np.histogram(scan, bins=16, range=(0, 256))[0] / scan.size for scan in random]
    assert BASELINES["gray_histogram"].summary(random) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("name", ["dark_share", "gray_histogram", "scan_count"])
def test_what_tells_the_class_without_a_picture_is_found(name: str) -> None:
    random, labels = np.random.default_rng(1), np.arange(120) % 2
    subjects, spec = labels.astype(str) + np.arange(120).astype(str), BASELINES[name]
    pixels = random.integers(0, 120, (120, 8, 8, 1)) // (1 + labels[:, None, None, None])
    values = 4.0 + labels[:, None] if spec.needs == "counts" else spec.summary(pixels.astype(np.uint8))
    probs = spec.fit_predict(values[:80], labels[:80], subjects[:80], values[80:], 2)
    assert (probs.argmax(axis=1) == labels[80:]).mean() > 0.9


@pytest.mark.parametrize("name", ["nearest_neighbour", "pca_logistic", "small_pixels", "frozen_features", "words"])
def test_an_easy_signal_is_found(name: str) -> None:
    pixels, labels, subjects = scans(300, channels=3)
    spec = BASELINES[name]
    probs = spec.fit_predict(
        inputs_of(spec, pixels[:200]), labels[:200], subjects[:200], inputs_of(spec, pixels[200:]), 3
    )
    assert np.mean(probs.argmax(axis=1) == labels[200:]) > 0.6


@pytest.mark.parametrize("spec", [spec for spec in BASELINES.values() if spec.orders], ids=lambda spec: spec.name)
def test_the_ordered_form_gives_probabilities_of_neighbouring_stages(spec: BaselineSpec) -> None:
    """Class 1 lies between the others in what all of these read: its probability has one peak along the score."""
    pixels, labels, subjects = scans(150)
    values = inputs_of(spec, pixels)
    probs = spec.fit_predict(values[:100], labels[:100], subjects[:100], values[100:], 4, ordered=True)
    assert np.allclose(probs.sum(axis=1), 1)
    assert probs.min() > 0
    assert (probs.argmax(axis=1) != 3).all()
    rank = np.argsort(probs[:, 2] - probs[:, 0])
    rise = np.diff(probs[rank, 1])
    peak = int(probs[rank, 1].argmax())
    assert (rise[:peak] > -1e-9).all()
    assert (rise[peak:] < 1e-9).all()


def test_what_is_not_known_counts_as_the_average_of_training() -> None:
    ages = np.array([[60.0], [62.0], [np.nan], [80.0], [82.0]])
    labels, names = np.array([0, 0, 0, 1, 1]), np.arange(5).astype(str)
    asked = np.array([[np.nan], [71.0]])
    probs = baselines.few_features_logistic(ages, labels, names, asked, 2)
    assert probs[0] == pytest.approx(probs[1])
    nobody = np.full((5, 1), np.nan)
    assert np.allclose(baselines.few_features_logistic(nobody, labels, names, asked, 2), [[0.6, 0.4]] * 2, atol=1e-3)


def test_ridge_on_small_pixels_learns_a_row_a_person() -> None:
    """Ten copies of one person's scan weigh as one."""
    pixels, labels, subjects = scans(120)
    small = BASELINES["small_pixels"].summary(pixels)
    once = baselines.small_pixels_ridge(small, labels, subjects, small[:5], 3)
    rows = np.concatenate([np.arange(120), np.repeat([0, 1], 9)])
    often = baselines.small_pixels_ridge(small[rows], labels[rows], subjects[rows], small[:5], 3)
    assert np.allclose(once, often)


# --- reference: each against another way to the same number ---


def test_ordered_logistic_of_two_classes_is_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 3))
    labels = (features[:, 0] + rng.logistic(size=200) > 0.5).astype(int)
    own = OrderedLogistic(0.3).fit(features, labels)
    reference = LogisticRegression(C=0.3, tol=1e-8).fit(features, labels)
    assert own.coef_ == pytest.approx(reference.coef_[0], abs=1e-3)
    assert own.predict_proba(features) == pytest.approx(reference.predict_proba(features), abs=1e-3)


def test_ordered_logistic_finds_the_cuts_that_it_was_drawn_with() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((20_000, 2))
    score = features @ [1.5, -0.5] + rng.logistic(size=20_000)
    labels = np.digitize(score, [-1.0, 0.5, 2.0])
    own = OrderedLogistic(1e3).fit(features, labels)
    assert own.coef_ == pytest.approx([1.5, -0.5], abs=0.06)
    assert own.cuts_ == pytest.approx([-1.0, 0.5, 2.0], abs=0.06)


def test_majority_is_the_smoothed_share_of_each_class() -> None:
    pixels, _, _ = scans(10)
    subjects = np.arange(10).astype(np.str_)
    labels = np.array([2, 2, 2, 2, 2, 0, 0, 0, 0, 0])  # a tie goes to the first class
    probs = baselines.majority_class(pixels, labels, subjects, pixels[:3], 3)
    assert np.allclose(probs, [[6 / 13, 1 / 13, 6 / 13]] * 3)
    assert (probs.argmax(axis=1) == 0).all()


def test_majority_is_of_subjects_however_many_scans_they_have() -> None:
    """Of 541 people, "the most common class" was that of a third: they had more scans each."""
    pixels = np.zeros((9, 4, 4, 1), np.uint8)
    labels, subjects = np.array([0] * 6 + [1] * 3), np.array(["a"] * 6 + ["b", "c", "d"])
    assert baselines.majority_class(pixels, labels, subjects, pixels[:1], 2).tolist() == [[2 / 6, 4 / 6]]


def test_nearest_neighbour_is_the_best_correlation() -> None:
    pixels, labels, subjects = scans(300)
    rng = np.random.default_rng(1)
    chosen = rng.permutation(300)[:50]
    gains = rng.uniform(0.4, 0.9, (50, 1, 1, 1))
    dimmed = (pixels[chosen] * gains + 20).astype(np.uint8)  # correlation sees through gain and offset
    labels = rng.integers(0, 3, 300)
    probs = baselines.nearest_neighbour(pixels, labels, subjects, dimmed, 3)
    assert np.array_equal(probs.argmax(axis=1), labels[chosen])
    assert np.allclose(probs.max(axis=1), 1 - baselines.SMOOTHING + baselines.SMOOTHING / 3)


def test_nearest_in_blocks_is_the_largest_entry_of_corrcoef() -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8) for n in (40, 30))
    prints = [summaries.correlation_rows(p) for p in (train, test)]
    expected = np.corrcoef(prints[1], prints[0])[:30, 30:].argmax(axis=1)
    assert np.array_equal(baselines._nearest(*prints, block=7), expected)


def test_a_blank_scan_is_no_trouble() -> None:
    pixels, labels, subjects = scans(30)
    pixels[0] = 0
    probs = baselines.nearest_neighbour(pixels, labels, subjects, pixels[:2], 3)
    assert np.isfinite(probs).all()
    assert probs[1].argmax() == labels[1]


@pytest.mark.parametrize("side", [16, 20])
def test_pca_logistic_is_the_scikit_learn_pipeline(side: int) -> None:
    pixels, labels, subjects = scans(240, side=side)
    flat = pixels.reshape(240, -1).astype(np.float64)  # no larger than 26 x 22: not shrunk
    reference = make_pipeline(StandardScaler(), PCA(20), StandardScaler(), LogisticRegression(max_iter=2000))
    expected = reference.fit(flat[:160], labels[:160]).predict_proba(flat[160:])
    probs = baselines.pca_logistic(pixels[:160], labels[:160], subjects[:160], pixels[160:], 3)
    assert np.allclose(probs, expected, atol=2e-3)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (31, 45), (208, 176), (10, 8)])
def test_shrink_averages_areas_as_torch_does_where_it_can(rows: int, columns: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, rows, columns, 2), dtype=np.uint8)
    small = summaries.average_areas(pixels, (26, 22))
    assert small.shape == (3, min(rows, 26), min(columns, 22), 2)
    assert np.allclose(small.mean(axis=(1, 2)), pixels.mean(axis=(1, 2)), rtol=1e-4)  # area averages keep the mean
    repeated = np.repeat(np.repeat(pixels, small.shape[1], axis=1), small.shape[2], axis=2)  # then whole pixels divide
    exact = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(repeated).permute(0, 3, 1, 2).float(), small.shape[1:3]
    )
    assert np.allclose(small, exact.permute(0, 2, 3, 1).numpy(), atol=0.05)


def test_frozen_features_is_logistic_regression_whose_strength_is_cross_validated() -> None:
    from sklearn.model_selection import GridSearchCV

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    features = rng.standard_normal((200, 60)) * 40 + labels[:, None] * np.linspace(0, 8, 60)
    known, names = features[:150], np.array([f"{row:03d}" for row in range(150)])
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    searched = GridSearchCV(regression, {"logisticregression__C": baselines.INVERSE_PENALTIES}, scoring="neg_log_loss")
    reference = searched.fit(known, labels[:150])
    assert reference.best_params_["logisticregression__C"] < 1.0
    probs = baselines.frozen_features_logistic(known, labels[:150], names, features[150:], 3)
    assert np.allclose(probs, reference.predict_proba(features[150:]), atol=1e-4)
    twice = baselines.frozen_features_logistic(
        np.repeat(known, 2, axis=0), np.repeat(labels[:150], 2), np.repeat(names, 2), features[150:], 3
    )
    assert np.allclose(probs, twice, atol=1e-4), "two equal scans of a person weigh as one"


def test_mean_by_subject_is_a_pandas_group_mean_and_keeps_changing_labels_apart() -> None:
    import pandas as pd

    rng = np.random.default_rng(0)
    subjects = rng.choice(["b", "a", "c10", "c9"], 40)
    labels = np.where(subjects == "b", rng.integers(0, 2, 40), 1)
    features = rng.standard_normal((40, 5))
    means, kept, names = baselines.mean_features_by_subject(features, labels, subjects)
    expected = pd.DataFrame(features).groupby([subjects, labels]).mean()
    assert list(zip(names, kept, strict=True)) == list(expected.index)
    assert np.allclose(means, expected.to_numpy())
    assert len(means) == 5
