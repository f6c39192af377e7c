"""People as the unit of a network from scans to bundle: one answer on every way, and which slices spoke."""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from scanwise.bundle import load as load_bundle
from scanwise.errors import DataError
from scanwise.pipeline.stages.bags import bag_findings, check_people_known, people_of_files
from scanwise.recipe import Recipe, load_recipe
from scanwise.records import Cohort, Logits
from scanwise.run import RunFolder, read_json
from tiny import read_csv, run_command, write_csv

RECIPE = """\
name: tiny-people
classes: [a, b]
data: {size: 32}
model: {name: small, unit: subject}
train: {epochs: 12, batch: 8, optimizer: {lr: 3e-3}}
evaluation: {draws: 100}
rivals: {names: [majority]}
audit: {checks: []}
explain: {scans: 4, heads: false}
"""


@dataclass(frozen=True)
class People:
    run: RunFolder
    data: Path
    telling: dict[str, bool]

    @property
    def folder(self) -> Path:
        return self.data.parent


def write_people(folder: Path, first: int = 0) -> tuple[Path, dict[str, bool]]:
    """60 people with one scan to nine, against their order; in the scans of every second person one is bright: it alone tells."""
    random, rows, telling = np.random.default_rng(first), [], {}
    folder.mkdir()
    for person in range(60):
        count = 1 if person in (4, 5) else int(random.integers(4, 10))
        bright = int(random.integers(count))
        for place in reversed(range(count)):
            pixels = random.integers(40, 90, (32, 32))
            down, right = random.integers(3, 21, 2)
            tells = bool(person % 2) and place == bright
            pixels[down : down + 8, right : right + 8] = 230 if tells else 120
            name = f"p{first + person:03d}_{place}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            telling[name] = tells
            subject = f"p{first + person:03d}"
            rows.append({"path": name, "label": "ab"[person % 2], "subject": subject, "position": str(place)})
    return write_csv(folder / "scans.csv", rows), telling


def fit(folder: Path, data: Path, *more: str) -> RunFolder:
    recipe = folder / "people.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    done = run_command("fit", recipe, "--data", data, "--out", folder / "run", "--device", "cpu", "--threads", 1, *more)
    assert done.code == 0, done.err
    return RunFolder.open(folder / "run")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    folder = tmp_path_factory.mktemp("people")
    data, telling = write_people(folder / "data")
    return People(fit(folder, data), data, telling)


@pytest.mark.extended
def test_people_are_told_apart_and_the_weights_point_to_the_slice_that_tells(people: People) -> None:
    subjects = read_csv(people.run.tables / "predictions_subject.csv")
    assert np.mean([row["correct"] == "True" for row in subjects]) > 0.9
    scans = read_csv(people.run.tables / "predictions.csv")
    weights = {row["path"]: float(row["attention"]) for row in scans}
    told = [weight for path, weight in weights.items() if people.telling[path]]
    assert len(told) > 3
    assert np.median(told) > 0.8
    sums = {row["subject"]: 0.0 for row in scans}
    for row in scans:
        sums[row["subject"]] += float(row["attention"])
    assert list(sums.values()) == pytest.approx([1.0] * len(sums))


@pytest.mark.extended
def test_figures_are_of_people_alone(people: People) -> None:
    assert {m["unit"] for m in read_json(people.run.metrics)} == {"subject"}
    page = people.run.report.read_text(encoding="utf-8")
    assert "one label a subject" in page
    assert "Scans with the largest weight" in page
    assert "Test accuracy by scan" not in page


@pytest.mark.extended
def test_the_bundle_answers_as_the_run_does(people: People) -> None:
    test = Logits.load(people.run.fits()[0].logits("test"))
    assert test.attention is not None
    answer = load_bundle(people.run.path).predict(
        [people.folder / path for path in test.scans.tolist()], test.subjects.tolist()
    )
    of_run = read_csv(people.run.tables / "predictions_subject.csv")
    assert answer.subjects is not None
    assert answer.subjects.subjects.tolist() == [row["subject"] for row in of_run]
    assert answer.subjects.probs[:, 1] == pytest.approx([float(row["p_b"]) for row in of_run], abs=1e-4)
    turned = load_bundle(people.run.path).predict(
        [people.folder / path for path in test.scans.tolist()[::-1]], test.subjects.tolist()[::-1]
    )
    assert turned.subjects is not None
    order = [turned.subjects.subjects.tolist().index(name) for name in answer.subjects.subjects.tolist()]
    assert turned.subjects.probs[order] == pytest.approx(answer.subjects.probs, abs=1e-5)


@pytest.mark.extended
def test_a_scan_that_cannot_be_read_has_no_weight(people: People, tmp_path: Path) -> None:
    names = sorted(path for path in people.telling if path.startswith("p001_"))
    broken = tmp_path / "broken.png"
    broken.write_bytes((people.folder / names[0]).read_bytes()[:200])
    bundle, whole = load_bundle(people.run.path), [people.folder / name for name in names]
    some = bundle.predict([broken, *whole], ["p"] * (len(whole) + 1))
    few = bundle.predict(whole, ["p"] * len(whole))
    assert [path for path, _ in some.quarantine] == [str(broken)]
    assert some.subjects is not None
    assert few.subjects is not None
    assert some.subjects.probs == pytest.approx(few.subjects.probs)
    assert some.scans.attention is not None
    assert some.scans.attention.sum() == pytest.approx(1)


@pytest.mark.extended
def test_explain_and_predict_say_which_slices_spoke(people: People, tmp_path: Path) -> None:
    rows = [row for row in read_csv(people.data) if row["subject"] in ("p000", "p001")]
    two = write_csv(people.data.with_name("two.csv"), [{**row, "label": ""} for row in rows])
    done = run_command(
        "explain", people.run.path, "--manifest", two, "--out", tmp_path / "why", "--device", "cpu", "--target", "b"
    )
    assert done.code == 0, done.err
    weights = read_csv(tmp_path / "why" / "attention.csv")
    assert len(weights) == len(rows)
    (first,) = [row for row in weights if row["subject"] == "p001"][:1]
    assert people.telling[Path(first["path"]).name]
    alone = write_csv(people.data.with_name("alone.csv"), [{"path": row["path"]} for row in rows[:2]])
    done = run_command("explain", people.run.path, "--manifest", alone, "--out", tmp_path / "alone", "--device", "cpu")
    assert "a manifest with a column subject" in done.err
    assert not (tmp_path / "alone" / "attention.csv").exists()
    done = run_command("predict", people.run.path, "--manifest", two, "--device", "cpu")
    assert "Quote the row of the subject" in done.err + done.out
    assert run_command("report", people.run.path).code == 0


@pytest.mark.extended
def test_others_are_evaluated_as_people(people: People, tmp_path: Path) -> None:
    others, _ = write_people(tmp_path / "others", 500)
    done = run_command("evaluate", people.run.path, "--data", others, "--out", tmp_path / "external", "--device", "cpu")
    assert done.code == 0, done.err
    assert {m["unit"] for m in read_json(tmp_path / "external" / "metrics.json")} == {"subject"}


@pytest.mark.extended
def test_a_plan_says_how_many_scans_a_step_holds(people: People, tmp_path: Path) -> None:
    asked = ["fit", people.run.path.parent / "people.yaml", "--data", people.data, "--out", tmp_path / "run"]
    done = run_command(*asked, "--plan", "--device", "cpu", "--set", "model.bag=5")
    assert done.code == 0, done.err
    assert "a training step holds up to 40 scans" in done.out
    assert "60 subjects have more than 5 scans" in done.out


def cohort(subjects: list[str], labels: list[int], source: str = "column subject") -> Cohort:
    empty = np.full(len(subjects), "")
    names = np.array([f"{row}.png" for row in range(len(subjects))])
    return Cohort("x", names, np.array(labels), ("a", "b"), False, np.array(subjects), source, empty, empty)


def test_what_a_bag_means_for_these_people_is_said() -> None:
    recipe = Recipe.model_validate({"name": "r", "model": {"name": "small", "unit": "subject", "bag": 3}})
    many = cohort([*["p"] * 5, "q", "r", "r"], [0, 0, 0, 0, 0, 1, 0, 1])
    messages = [finding.message for finding in bag_findings(recipe, many)]
    assert "1 of 3 subjects have more than 3 scans (the most is 5)" in messages[0]
    assert "1 of 3 subjects have one scan" in messages[1]
    assert "1 of 3 subjects have scans of more than one class" in messages[2]
    assert not bag_findings(Recipe.model_validate({"name": "r"}), many)


@pytest.mark.extended
def test_people_must_be_known(people: People) -> None:
    recipe = load_recipe(people.run.recipe)
    with pytest.raises(DataError, match="Give --subject"):
        check_people_known(recipe, cohort(["0", "1"], [0, 1], ""))


@pytest.mark.extended
def test_five_hundred_scans_of_a_person_are_one_answer(people: People) -> None:
    """Repeats change no weighted mean; all of them are read."""
    bundle = load_bundle(people.run.path)
    names = [people.folder / name for name in sorted(people.telling) if name.startswith("p001_")]
    times = -(-500 // len(names))
    once, often = (bundle.predict(names * count, ["p"] * len(names) * count) for count in (1, times))
    assert once.subjects is not None
    assert often.subjects is not None
    assert often.subjects.scan_counts is not None
    assert often.subjects.scan_counts[0] >= 500
    assert often.subjects.probs == pytest.approx(once.subjects.probs, abs=1e-4)


def test_slices_of_one_file_are_one_person_where_nobody_is_named() -> None:
    people, scans = (
        Recipe.model_validate({"name": "r", "model": {"name": "small", "unit": unit}}) for unit in ("subject", "scan")
    )
    names = ["a.nii.gz#000", "a.nii.gz#001", "b.nii.gz#000"]
    assert people_of_files(people, names, None) == ["a.nii.gz", "a.nii.gz", "b.nii.gz"]
    assert people_of_files(people, names, ["p", "q", "r"]) == ["p", "q", "r"]
    assert people_of_files(people, ["a.png", "b.png"], None) is None
    assert people_of_files(scans, names, None) is None


@pytest.mark.extended
def test_a_volume_is_explained_as_one_person(people: People, tmp_path: Path) -> None:
    names = sorted(name for name in people.telling if name.startswith("p001_"))
    planes = [np.asarray(Image.open(people.folder / name)).T for name in names]
    volume = nibabel.Nifti1Image(np.stack(planes, axis=2).astype(np.int16), np.eye(4))
    nibabel.save(volume, tmp_path / "whole.nii.gz")
    done = run_command(
        "explain", people.run.path, tmp_path / "whole.nii.gz", "--out", tmp_path / "why", "--device", "cpu"
    )
    assert done.code == 0, done.err
    weights = read_csv(tmp_path / "why" / "attention.csv")
    assert len(weights) == len(names)
    assert sum(float(row["attention"]) for row in weights) == pytest.approx(1)
