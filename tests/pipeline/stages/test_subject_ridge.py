"""A person classifier from scans to bundle: who teaches, who was left out, and one answer on every way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scanwise.arrays import softmax
from scanwise.bundle import load as load_bundle
from scanwise.bundle.inputs import LOCAL, ScanReader
from scanwise.bundle.predictors import scan_hashes, subject_hashes
from scanwise.conformal import SCORES, draws_from, sets_from_dict
from scanwise.errors import RecipeError
from scanwise.pipeline import fit as fit_run
from scanwise.pooling import pool_by_subject
from scanwise.recipe import load_recipe
from scanwise.records import Cohort, Logits, Split
from scanwise.run import RunFolder, layout, read_json
from tiny import WITHOUT_COPIES, picture, read_csv, run_command, write_csv

RECIPE = """\
name: tiny-ridge
classes: {{well: a, ill: [b, c]}}
ordered: true
data: {{size: 32}}
split: {{validation: 0.1, calibration: 0.2}}
model:
  name: subject_ridge
  ridge: {{backbone: {{name: test_resnet}}, blocks: 2, grid: [2, 2], pixels: [6, 6], slabs: 2, learn_on: {learn_on}}}
train: {{epochs: 0}}
evaluation: {{draws: 100}}
rivals: {{names: [majority]}}
explain: {{scans: 4, method: contributions, heads: false}}
"""


@dataclass(frozen=True)
class Ridge:
    run: RunFolder
    data: Path

    def logits(self, side: str) -> Logits:
        (fit,) = self.run.fits()
        return Logits.load(fit.logits(side))


def write_people(folder: Path, first: int = 0) -> Path:
    """60 people of three stages with four scans each, listed against their anatomical order."""
    random, rows = np.random.default_rng(4 + first), []
    folder.mkdir()
    for person in range(60):
        kind = person % 3
        for position in (2, 0, 3, 1):
            shown = kind if random.random() > 0.4 else int(random.integers(3))
            name = f"p{person:02d}_{position}.png"
            picture(shown, 10 * (first + person) + position).save(folder / name)
            row = {"path": name, "label": "abc"[kind], "subject": f"p{person:02d}", "position": str(10 * position)}
            rows.append(row)
    return write_csv(folder / "scans.csv", rows)


def fit(folder: Path, data: Path, learn_on: str, *more: str) -> RunFolder:
    recipe = folder / "ridge.yaml"
    recipe.write_text(RECIPE.format(learn_on=learn_on) + WITHOUT_COPIES, encoding="utf-8")
    done = run_command("fit", recipe, "--data", data, "--out", folder / "run", "--device", "cpu", "--threads", 1, *more)
    assert done.code == 0, done.err
    return RunFolder.open(folder / "run")


@pytest.fixture(scope="module")
def ridge(tmp_path_factory: pytest.TempPathFactory) -> Ridge:
    folder = tmp_path_factory.mktemp("ridge")
    data = write_people(folder / "data")
    return Ridge(fit(folder, data, "stages"), data)


def test_it_finds_what_was_planted_and_names_its_unit(ridge: Ridge) -> None:
    table = read_json(ridge.run.metrics)
    accuracy = [m for m in table if m["name"] == "auroc" and m["unit"] == "subject" and m["model"] == "network"]
    assert accuracy[0]["value"] > 0.8


def test_whether_anything_was_learnt_is_judged_by_person(ridge: Ridge) -> None:
    of_run = read_csv(ridge.run.tables / "predictions_subject.csv")
    correct = sum(row["predicted"] == row["label"] for row in of_run)
    checks = {check["name"]: check["message"] for check in read_json(ridge.run.heatmaps / layout.CHECKS)["checks"]}
    assert checks["learnt"].startswith(f"{correct} of {len(of_run)} correct")


def test_people_who_taught_are_judged_by_the_member_that_left_them_out(ridge: Ridge) -> None:
    for side in ("train", "validation"):
        assert ridge.logits(side).logits.shape[1] == 1
    for side in ("calibration", "test"):
        assert ridge.logits(side).logits.shape[1] == 5


def test_the_bundle_answers_for_files_as_the_run_does(ridge: Ridge) -> None:
    cohort, test = Cohort.load(ridge.run.cohort), ridge.logits("test")
    place = {path: row for row, path in enumerate(cohort.path.tolist())}
    rows = [place[path] for path in test.scans.tolist()]
    answer = load_bundle(ridge.run.path).predict(
        [ridge.data.parent / path for path in test.scans.tolist()],
        test.subjects.tolist(),
        {"position": cohort.groups["position"][rows]},
    )
    of_run = read_csv(ridge.run.tables / "predictions_subject.csv")
    assert answer.subjects is not None
    assert answer.subjects.subjects.tolist() == [row["subject"] for row in of_run]
    assert answer.subjects.probs[:, 1] == pytest.approx([float(row["p_ill"]) for row in of_run], abs=2e-3)


@pytest.mark.extended
def test_predict_explain_and_report_take_people_as_fit_does(ridge: Ridge, tmp_path: Path) -> None:
    rows = [row for row in read_csv(ridge.data) if row["subject"] in ("p00", "p01")]
    people = write_csv(ridge.data.with_name("two.csv"), [{**row, "label": ""} for row in rows])
    alone = write_csv(ridge.data.with_name("alone.csv"), [{"path": row["path"]} for row in rows])
    done = run_command(
        "predict", ridge.run.path, "--manifest", people, "--by", "subject", "--format", "csv", "--device", "cpu"
    )
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3
    maps = {}
    for name, manifest in (("people", people), ("alone", alone)):
        asked = ["explain", ridge.run.path, "--manifest", manifest, "--out", tmp_path / name, "--target", "ill"]
        done = run_command(*asked, "--device", "cpu")
        assert done.code == 0, done.err
        maps[name] = [np.load(file)["values"] for file in sorted((tmp_path / name).glob("*.npz"))]
    assert len(maps["people"]) == 8
    assert not all(
        np.allclose(one, other) for one, other in zip(*maps.values(), strict=True)
    )  # slabs have their own weights
    assert run_command("report", ridge.run.path).code == 0


@pytest.mark.extended
def test_others_are_evaluated_as_fit_does(ridge: Ridge, tmp_path: Path) -> None:
    others = write_people(tmp_path / "others", 1000)
    done = run_command("evaluate", ridge.run.path, "--data", others, "--out", tmp_path / "external", "--device", "cpu")
    assert done.code == 0, done.err


def test_places_count_the_scans_that_can_be_read(ridge: Ridge, tmp_path: Path) -> None:
    names = [f"p00_{position}.png" for position in range(4)]
    broken = tmp_path / "broken.png"
    broken.write_bytes((ridge.data.parent / names[1]).read_bytes()[:200])
    paths = [ridge.data.parent / names[0], broken, ridge.data.parent / names[2], ridge.data.parent / names[3]]
    positions = np.array(["0", "10", "20", "30"])
    bundle = load_bundle(ridge.run.path)
    some = bundle.predict(paths, ["p"] * 4, {"position": positions})
    few = bundle.predict([paths[i] for i in (0, 2, 3)], ["p"] * 3, {"position": positions[[0, 2, 3]]})
    assert [path for path, _ in some.quarantine] == [str(broken)]
    assert some.subjects is not None
    assert few.subjects is not None
    assert some.subjects.probs.tolist() == few.subjects.probs.tolist()


def test_the_order_of_a_persons_scans_is_read_and_their_rows_are_not(ridge: Ridge) -> None:
    bundle = load_bundle(ridge.run.path)
    paths = [ridge.data.parent / f"p01_{position}.png" for position in range(4)]

    def probs(order: list[int], positions: list[int]) -> list[float]:
        given = {"position": np.array([str(position) for position in positions])}
        subjects = bundle.predict([paths[i] for i in order], ["p"] * 4, given).subjects
        assert subjects is not None
        return [round(value, 5) for value in subjects.probs[0].tolist()]

    assert probs([0, 1, 2, 3], [0, 1, 2, 3]) == probs([3, 1, 0, 2], [3, 1, 0, 2])
    assert probs([0, 1, 2, 3], [0, 1, 2, 3]) != probs([0, 1, 2, 3], [3, 2, 1, 0])


@pytest.mark.extended
def test_stages_are_taught_and_classes_are_reported(ridge: Ridge, tmp_path: Path) -> None:
    assert Cohort.load(ridge.run.cohort).classes == ("well", "ill")
    coarse = fit(tmp_path, ridge.data, "classes")
    fine, other = (Logits.load(run.fits()[0].logits("test")).logits for run in (ridge.run, coarse))
    assert fine.shape == other.shape
    assert not np.allclose(fine, other)


@pytest.mark.extended
def test_a_fit_is_the_same_twice(ridge: Ridge, tmp_path: Path) -> None:
    again = fit(tmp_path, ridge.data, "stages")
    files = [run.fits()[0].model.read_bytes() for run in (ridge.run, again)]
    assert files[0] == files[1]


@pytest.mark.extended
def test_features_of_another_size_are_computed_anew(ridge: Ridge, tmp_path: Path) -> None:
    """The cache holds those of the same scans at 32 pixels."""
    larger = fit(tmp_path, ridge.data, "stages", "--set", "data.size=48")
    features = [Logits.load(run.fits()[0].logits("test")).features for run in (ridge.run, larger)]
    assert features[0] is not None
    assert features[1] is not None
    assert not np.allclose(features[0], features[1])


@pytest.mark.extended
def test_people_without_a_known_order_are_counted(ridge: Ridge, tmp_path: Path) -> None:
    rows = read_csv(ridge.data)
    unknown = [{**row, "position": "" if row["subject"] in ("p03", "p04") else row["position"]} for row in rows]
    data = write_csv(ridge.data.with_name("unknown.csv"), unknown)
    run = fit(tmp_path, data, "stages")
    (note,) = [finding for finding in read_json(run.findings) if finding["check"] == "model.order"]
    assert "2 of 60 subjects" in note["message"]
    assert not [finding for finding in read_json(ridge.run.findings) if finding["check"] == "model.order"]


@pytest.mark.extended
def test_an_order_that_nobody_tells_is_recovered_from_pixels_in_run_and_bundle_alike(tmp_path: Path) -> None:
    """Lumps that shrink upwards, in seven cuts a person, under names in no order."""
    random, rows = np.random.default_rng(2), []
    down, across = np.mgrid[:32, :32] - 15.5
    (tmp_path / "data").mkdir()
    for person in range(40):
        shift, gray = random.uniform(-2, 2, 2), 110 + 50 * (person % 2)
        for place, cut in enumerate(random.permutation(7).tolist()):
            inside = np.hypot(down - shift[0] - 0.5 * cut, across - shift[1]) < 14 - cut
            name = f"p{person:02d}_{place}.png"
            Image.fromarray((inside * (gray + 8 * cut)).astype(np.uint8)).save(tmp_path / "data" / name)
            rows.append({"path": name, "label": "ab"[person % 2], "subject": f"p{person:02d}"})
    data = write_csv(tmp_path / "data" / "scans.csv", rows)
    run = fit(
        tmp_path, data, "classes", "--set", "classes=[a, b]", "--set", "audit.checks=[]", "--set", "explain.scans=0"
    )
    (note,) = [finding for finding in read_json(run.findings) if finding["check"] == "model.order"]
    assert "was recovered for 40 of 40 subjects" in note["message"]
    test = Logits.load(run.fits()[0].logits("test"))
    answer = load_bundle(run.path).predict([data.parent / path for path in test.scans.tolist()], test.subjects.tolist())
    of_run = read_csv(run.tables / "predictions_subject.csv")
    assert answer.subjects is not None
    assert answer.subjects.probs[:, 1] == pytest.approx([float(row["p_b"]) for row in of_run], abs=2e-3)


def test_the_report_does_not_speak_of_epochs(ridge: Ridge) -> None:
    page = ridge.run.report.read_text(encoding="utf-8")
    assert "solved exactly, once for each of 5 inner folds" in page
    assert "best epoch" not in page


def test_stages_without_merged_classes_are_refused(ridge: Ridge, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.format(learn_on="stages").replace("{well: a, ill: [b, c]}", "[a, b, c]"), encoding="utf-8")
    with pytest.raises(RecipeError, match="classes that merge labels"):
        fit_run(recipe, data=ridge.data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def crossed(ridge: Ridge, tmp_path_factory: pytest.TempPathFactory) -> Ridge:
    """The same people, with prediction sets from the out-of-fold scores of all who teach."""
    settings = [f"--set={text}" for text in ("conformal.data=out_of_fold", "conformal.alpha=0.2", "explain.scans=0")]
    return Ridge(fit(tmp_path_factory.mktemp("crossed"), ridge.data, "stages", *settings), ridge.data)


@pytest.mark.extended
def test_out_of_fold_all_but_the_tested_teach_and_make_the_sets(crossed: Ridge) -> None:
    sides = {side: crossed.logits(side) for side in ("validation", "calibration", "test", "out_of_fold")}
    assert sides["calibration"].logits.shape[1] == 1
    split = Split.load(crossed.run.fits()[0].split)
    subjects = Cohort.load(crossed.run.cohort).subject
    taught = {name for side in ("train", "validation", "calibration") for name in subjects[split.rows(side)].tolist()}
    assert set(sides["out_of_fold"].subjects.tolist()) == taught
    assert not taught & set(sides["test"].subjects.tolist())
    sets = sets_from_dict(read_json(crossed.run.fits()[0].conformal)["subject"])
    assert sets.calibration_count == len(taught)


@pytest.mark.extended
@pytest.mark.parametrize(("people", "count"), [("calibration", 36), ("out_of_fold", 48)])
def test_the_plan_counts_all_who_teach(ridge: Ridge, tmp_path: Path, people: str, count: int) -> None:
    (tmp_path / "ridge.yaml").write_text(RECIPE.format(learn_on="stages") + WITHOUT_COPIES, encoding="utf-8")
    asked = ["fit", tmp_path / "ridge.yaml", "--data", ridge.data, "--set", f"conformal.data={people}", "--plan"]
    done = run_command(*asked, "--device", "cpu")
    assert f"{count} subjects teach (inner folds of them choose); 12 are tested" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("name", "taught"),
    [
        ("ridge", "144 scans of 36 subjects"),
        pytest.param("crossed", "192 scans of 48 subjects", marks=pytest.mark.extended),
    ],
)
def test_the_report_counts_all_who_taught(name: str, taught: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(name).run.report.read_text(encoding="utf-8").replace("\xa0", " ")
    assert f"It learnt from {taught} and was tested on 48 scans of 12 other" in page


@pytest.mark.extended
def test_each_score_is_that_of_the_member_that_left_the_person_out(crossed: Ridge) -> None:
    """Red where scores of a member that has seen the person stand in."""
    kept = crossed.logits("out_of_fold")
    bundle, positions = load_bundle(crossed.run.path), {row["path"]: row["position"] for row in read_csv(crossed.data)}
    names, fold = kept.scans.tolist(), kept.groups["inner_fold"].astype(int)
    paths = [crossed.data.parent / name for name in names]
    places = {"position": np.array([positions[name] for name in names])}
    tokens = bundle.tokens_of_people(paths, names, kept.subjects.tolist(), places)
    reader = ScanReader(LOCAL.read(paths, bundle.recipe.data), tokens, "pixels")
    members = np.concatenate([bundle.engine().run(*batch)[0] for batch in reader.batches(64)])
    rows = np.arange(len(members))
    assert kept.logits[:, 0] == pytest.approx(members[rows, fold], abs=2e-3)
    assert np.abs(kept.logits[:, 0] - members[rows, (fold + 1) % 5]).max() > 0.05
    pooled = pool_by_subject(kept)
    hashes = subject_hashes(pooled.subjects, kept, scan_hashes(Cohort.load(crossed.run.cohort), kept.scans, "pixels"))
    scores = SCORES["raps"].of_labels(softmax(pooled.logits[:, 0]), pooled.labels, draws_from(hashes), 0.0, 0)
    stored = read_json(crossed.run.fits()[0].conformal)["subject"]["scores"]
    for number, of_fold in enumerate(stored):
        assert of_fold == pytest.approx(np.sort(scores[pooled.groups["inner_fold"] == str(number)]).tolist())


def test_the_weaker_guarantee_is_named_wherever_a_guarantee_is(crossed: Ridge) -> None:
    page = crossed.run.report.read_text(encoding="utf-8")
    assert "These sets are cross-conformal" in page
    assert "at least 60\xa0%" in page
    assert "guaranteed 80" not in page
    assert "guarantee 60% coverage, not 80%" in (crossed.run.path / layout.MODEL_CARD).read_text(encoding="utf-8")
    assert load_bundle(crossed.run.path).predictors["subject"].sets.coverage == pytest.approx(0.6)  # type: ignore[union-attr]
    answer = load_bundle(crossed.run.path).predict([crossed.data.parent / "p00_0.png"], ["p00"])
    assert any("guarantee 60% coverage, not 80%" in remark for remark in answer.remarks)
    abstention = read_json(crossed.run.fits()[0].abstention)
    assert "none are left" in abstention["chosen"]["refused"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.ridge.folds=2", "3 folds"),
        ("data.covariates=[age]", "does not go with data.covariates"),
        ("conformal.alpha=0.5", "below 0.5"),
        ("model={name: small}", "subject_ridge with"),
    ],
)
def test_out_of_fold_is_refused_where_nothing_would_hold(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("subject-ridge", ["conformal.data=out_of_fold", setting])
