"""Covariates of people from manifest to report: a block of the person classifier, and a baseline without any scan."""

from pathlib import Path

import numpy as np
import pytest

from scanwise.bundle import load as load_bundle
from scanwise.records import Cohort, Logits, Split
from scanwise.run import RunFolder, read_json
from tiny import picture, read_csv, run_command, write_csv

TRAINED = """\
name: tiny-ages
classes: [well, ill]
data: {size: 32, covariates: [age, sex]}
split: {validation: 0.1, calibration: 0.2, test: 0.3}
model: {name: small, unit: UNIT}
train: {epochs: 20, batch: 8, monitor: loss, optimizer: {lr: 1e-2}}
evaluation: {draws: 100}
audit: {checks: []}
rivals: {names: [majority, covariates, gray_histogram, scan_count]}
explain: {scans: 2, heads: false}
"""
RECIPE = """\
name: tiny-ages
classes: [well, ill]
data: {size: 32, covariates: [age, sex]}
split: {validation: 0.1, calibration: 0.2, test: 0.3}
model:
  name: subject_ridge
  ridge: {backbone: {name: test_resnet}, blocks: 1, grid: [1, 1], pixels: [2, 2], slabs: 1, folds: 3}
train: {epochs: 0}
evaluation: {draws: 100}
audit: {checks: []}
rivals: {names: [majority, covariates, gray_histogram, scan_count]}
explain: {scans: 0}
"""


def write_people(folder: Path) -> Path:
    """80 people with two scans each, who fall ill with age; the scans show nothing, and every seventh age is missing."""
    random, rows = np.random.default_rng(5), []
    folder.mkdir()
    for person in range(80):
        ill = person % 2
        age = "" if person % 7 == 3 else f"{random.normal(60 + 12 * ill, 5):.0f}"
        sex = str(random.choice(["F", "M"]))
        for number in range(2):
            name = f"p{person:02d}_{number}.png"
            picture(0, 10 * person + number).save(folder / name)
            rows.append(
                {"path": name, "label": ["well", "ill"][ill], "subject": f"p{person:02d}", "age": age, "sex": sex}
            )
    return write_csv(folder / "scans.csv", rows)


@pytest.fixture(
    scope="module", params=["ridge", *(pytest.param(unit, marks=pytest.mark.extended) for unit in ("scan", "subject"))]
)
def aged(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[RunFolder, Path]:
    """Runs of the person classifier, of a network that is taught scans and of one that is taught people."""
    folder = tmp_path_factory.mktemp("aged")
    data, recipe = write_people(folder / "data"), folder / "ages.yaml"
    text = RECIPE if request.param == "ridge" else TRAINED.replace("UNIT", request.param)
    recipe.write_text(text, encoding="utf-8")
    done = run_command("fit", recipe, "--data", data, "--out", folder / "run", "--device", "cpu", "--threads", 1)
    assert done.code == 0, done.err
    return RunFolder.open(folder / "run"), data


def test_the_network_reads_them_and_the_baseline_stands_beside_it(aged: tuple[RunFolder, Path]) -> None:
    table = [m for m in read_json(aged[0].metrics) if m["unit"] == "subject" and not m["group"]]
    areas = {m["model"]: m["value"] for m in table if m["name"] == "auroc"}
    assert areas["covariates"] > 0.8
    assert areas["network"] > 0.7  # of scans alone it would be a coin
    assert "scan_count" not in areas
    assert [m for m in table if m["name"] == "auroc difference" and m["model"] == "covariates"]


def test_the_report_says_what_the_scans_add_and_counts_what_is_missing(aged: tuple[RunFolder, Path]) -> None:
    page = aged[0].report.read_text(encoding="utf-8")
    assert "It was not shown that the scans add anything to age and sex" in page
    assert "age of 11 is missing" in page
    assert "By “age”" in page


def test_the_bundle_reads_them_of_files_and_says_where_it_has_none(
    aged: tuple[RunFolder, Path], caplog: pytest.LogCaptureFixture
) -> None:
    run, data = aged
    cohort, test = Cohort.load(run.cohort), Logits.load(run.fits()[0].logits("test"))
    place = {path: row for row, path in enumerate(cohort.path.tolist())}
    rows = [place[path] for path in test.scans.tolist()]
    bundle, paths = load_bundle(run.path), [data.parent / path for path in test.scans.tolist()]
    groups = {name: cohort.groups[name][rows] for name in ("age", "sex")}
    answer = bundle.predict(paths, test.subjects.tolist(), groups).subjects
    of_run = read_csv(run.tables / "predictions_subject.csv")
    assert answer is not None
    assert answer.probs[:, 1] == pytest.approx([float(row["p_ill"]) for row in of_run], abs=2e-3)
    nothing = bundle.predict(paths, test.subjects.tolist()).subjects
    assert nothing is not None
    assert "No column says age and sex" in caplog.text
    assert np.ptp(nothing.probs[:, 1]) < np.ptp(answer.probs[:, 1])
    older = bundle.predict(paths[:1], None, {"age": np.array(["90"]), "sex": np.array(["F"])}).scans.probs[0, 1]
    younger = bundle.predict(paths[:1], None, {"age": np.array(["50"]), "sex": np.array(["F"])}).scans.probs[0, 1]
    assert older > younger + 0.2


@pytest.mark.extended
def test_explain_reads_them_too(aged: tuple[RunFolder, Path], tmp_path: Path) -> None:
    run, data = aged
    rows = read_csv(data)[:2]
    for name, age in (("old", "90"), ("young", "40")):
        listed = write_csv(data.with_name(f"{name}.csv"), [{**row, "label": "", "age": age} for row in rows])
        asked = ["explain", run.path, "--manifest", listed, "--out", tmp_path / name, "--target", "ill"]
        done = run_command(*asked, "--device", "cpu")
        assert done.code == 0, done.err
    probs = [float(np.load(next((tmp_path / name).glob("*.npz")))["prob"]) for name in ("old", "young")]
    assert probs[0] > probs[1] + 0.1


def test_their_scale_is_of_training_people_each_once(aged: tuple[RunFolder, Path]) -> None:
    run, _ = aged
    weights = load_bundle(run.path).network.covariates
    if weights is None:  # the person classifier has its own
        return
    cohort, (fit,) = Cohort.load(run.cohort), run.fits()
    rows = Split.load(fit.split).rows("train")
    ages = {cohort.subject[row]: cohort.groups["age"][row] for row in rows}
    known = [float(age) for age in ages.values() if age]
    assert len(known) < len(ages)
    assert float(weights.means[0]) == pytest.approx(np.mean(known))
    assert float(weights.spreads[0]) == pytest.approx(np.std(known))
