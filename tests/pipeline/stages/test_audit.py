"""`scanwise audit` as its users see it: exit codes, files, the manifest that mends, and what `fit` makes of it."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage

from scanwise.cohort import layouts, phantom, phantom_files
from scanwise.errors import LeakageError
from scanwise.pipeline import fit as fit_run
from scanwise.pipeline.stages import audit as audit_stage
from scanwise.records import Cohort, Split, load_findings

SUBJECTS = r"(s\d+)_\d+"


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """24 synthetic people with 6 slices each: enough for the pixels to tell who is who."""
    folder = tmp_path_factory.mktemp("people") / "cohort"
    phantom_files.write_phantoms(folder, replace(phantom.DEMO, subjects=24, slices=6, seed=1))
    return folder / "scans"


@pytest.fixture
def sided(people, tmp_path) -> Path:
    """The same people in train and test folders, slices dealt in turn: everybody on both sides.

    `again.png` is a scan of the training side once more, and `torn.png` is one more under another label.
    """
    for index, file in enumerate(sorted(people.rglob("*.png"))):
        place = tmp_path / "sided" / ("test" if index % 4 == 0 else "train") / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / file.name)
    train = tmp_path / "sided" / "train"
    copied, torn = min(train.rglob("*.png")), last_nondemented(tmp_path / "sided")
    shutil.copy(copied, copied.with_name("again.png"))
    shutil.copy(torn, train / "milddemented" / "torn.png")
    return tmp_path / "sided"


def last_nondemented(sided: Path) -> Path:
    return max((sided / "train" / "nondemented").glob("s*.png"))


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_people_on_both_sides_are_a_leak_though_nobody_said_who_is_who(scanwise, sided, tmp_path) -> None:
    said = scanwise("audit", sided, "--out", tmp_path / "out")
    assert said.code == 1
    assert "share 24 of 24 subjects" in " ".join(said.out.split())
    findings = {f.check: f for f in load_findings(tmp_path / "out" / "findings.json")}
    assert findings["leakage.subjects"].severity == "leak"
    assert findings["leakage.permuted"].severity == "leak"
    assert (tmp_path / "out" / "audit.html").is_file()
    assert all((tmp_path / "out" / f.figure).is_file() for f in findings.values() if f.figure)


@pytest.mark.extended
def test_a_sound_cohort_is_clean(scanwise, people, tmp_path) -> None:
    assert scanwise("audit", people, "--subject", SUBJECTS, "--out", tmp_path / "out").code == 0


@pytest.mark.extended
def test_people_whose_label_changes_are_said(scanwise, people, tmp_path) -> None:
    shutil.copytree(people, tmp_path / "data")
    files = sorted((tmp_path / "data").rglob("*.png"))
    later = [file for file in files if file.parent.name == "nondemented"][:4]  # half of the scans of one person
    with (tmp_path / "data" / "scans.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "label"])
        for file in files:
            label = "milddemented" if file in later else file.parent.name
            rows.writerow([file.relative_to(tmp_path / "data").as_posix(), label])
    said = scanwise("audit", tmp_path / "data" / "scans.csv", "--subject", SUBJECTS, "--out", tmp_path / "out")
    assert "1 of 24 subjects have scans of several classes" in " ".join(said.out.split())
    assert "several classes" in (tmp_path / "out" / "audit.html").read_text()


def test_pixels_tell_the_people_of_the_phantom(people) -> None:
    found = audit_stage.audit_scans(people, checks=())
    known = [path.rpartition("/")[2].partition("_")[0] for path in found.evidence.cohort.path.tolist()]
    pairs = set(zip(known, found.evidence.cohort.subject.tolist(), strict=True))
    assert len(pairs) == 24 == len(set(known))
    assert "recovered from pixels" in found.evidence.cohort.subject_source


def test_what_cannot_be_judged_has_an_exit_code_of_its_own(scanwise, fill, tmp_path) -> None:
    data = fill(tmp_path / "data", {"a": 6, "b": 6})
    said = scanwise("audit", data, "--out", tmp_path / "out")
    assert said.code == 3
    assert "the subjects are unknown" in said.out


def test_bad_input_is_one_clear_line(scanwise, tmp_path) -> None:
    said = scanwise("audit", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert said.code == 2
    assert "nowhere" in said.refusal
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_audit_stays_as_it_is(scanwise, people, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    said = scanwise("audit", people, "--subject", SUBJECTS, "--out", tmp_path / "mine")
    assert said.code == 2
    assert "--out" in said.refusal
    assert sorted(file.name for file in (tmp_path / "mine").iterdir()) == ["thesis.txt"]


def test_json_is_nothing_but_the_findings(scanwise, people, tmp_path) -> None:
    said = scanwise("audit", people, "--subject", SUBJECTS, "--out", tmp_path / "out", "--json")
    assert json.loads(said.out) == json.loads((tmp_path / "out" / "findings.json").read_text())


def test_fix_writes_a_manifest_with_people_and_a_safe_split(scanwise, sided, tmp_path) -> None:
    torn = last_nondemented(sided)
    before = len(list(sided.rglob("*.png")))
    early = scanwise("audit", sided, "--out", tmp_path / "out", "--fix", tmp_path / "safe.txt")
    assert (early.code, (tmp_path / "out").exists()) == (2, False)  # not after the work
    said = scanwise("audit", sided, "--out", tmp_path / "out", "--fix", tmp_path / "safe.csv")
    assert "1 exact copy removed" in said.out
    assert "two labels" in said.out
    rows = table(tmp_path / "safe.csv")
    assert len(rows) == before - 1 - 2
    assert not any("torn" in row["path"] or Path(row["path"]).name == torn.name for row in rows)
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["subject"], set()).add(row["split"])
    assert len(sides) == 24
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "validation", "calibration", "test"}
    (source,) = {row["subject_source"] for row in rows}
    assert source.startswith("recovered from pixels, 25 subjects with confidence")
    assert source.endswith("; 1 subject joined to others, of the same study or pixels")
    read = layouts.discover_scans(tmp_path / "safe.csv")
    assert read.subject_source == source
    assert "subject_source" not in read.groups


@pytest.mark.extended
def test_what_fix_wrote_is_sound(scanwise, sided, tmp_path) -> None:
    assert scanwise("audit", sided, "--out", tmp_path / "out", "--fix", tmp_path / "safe.csv").code == 1
    source = table(tmp_path / "safe.csv")[0]["subject_source"].partition(" with")[0]
    assert source.startswith("recovered from pixels, ")
    again = scanwise("audit", tmp_path / "safe.csv", "--out", tmp_path / "out2")
    assert again.code == 0, again.out
    assert source in (tmp_path / "out2" / "audit.html").read_text()


KAGGLE = {"nondemented": "NonDemented", "verymilddemented": "VeryMildDemented", "milddemented": "MildDemented"}


@pytest.fixture
def augmented(people, tmp_path) -> tuple[Path, dict[str, str]]:
    """The tree of the augmented Kaggle set: every second scan of the people as originals, copies of every third of these, and whom each copy shows.

    One more, `again.png`, is an exact copy of the first original; nobody knows whom it shows.
    """
    random, who = np.random.default_rng(0), {}
    for index, file in enumerate(sorted(people.rglob("*.png"))[::2]):
        label = KAGGLE[file.parent.name]
        place = tmp_path / "kaggle" / "OriginalDataset" / label / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
        who[f"OriginalDataset/{label}/{file.name}"] = file.name[:5]
        if index % 3 == 0:
            name = f"AugmentedAlzheimerDataset/{label}/{random.integers(10**12):012d}.png"
            (tmp_path / "kaggle" / name).parent.mkdir(parents=True, exist_ok=True)
            with Image.open(file) as scan:
                turned = ImageOps.mirror(scan).rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR)
            turned.save(tmp_path / "kaggle" / name)
            who[name] = file.name[:5]
    first = tmp_path / "kaggle" / min(path for path in who if path.startswith("Original"))
    shutil.copy(first, first.with_name("again.png"))
    return tmp_path / "kaggle", who


@pytest.mark.extended
def test_training_on_augmented_copies_of_the_test_scans_is_a_leak(scanwise, augmented, tmp_path) -> None:
    data, who = augmented
    said = scanwise("audit", data, "--out", tmp_path / "out")
    assert said.code == 1
    findings = {f.check: f for f in load_findings(tmp_path / "out" / "findings.json")}
    assert findings["copies.sides"].severity == "leak"
    copied = [path for path in who if path.startswith("Augmented")]
    assert len(set(copied) & set(findings["copies.sides"].scans)) >= 0.9 * len(copied)
    assert "Of changed copies of these scans" in findings["copies.found"].message
    listed = {row["origin"]: row for row in table(tmp_path / "out" / "copies.csv")}
    assert len(set(copied) & set(listed)) >= 0.9 * len(copied)
    assert {(row["scan_side"], row["origin_side"]) for row in listed.values()} >= {("test", "train")}
    assert any(row["change"].startswith("mirrored, rotated by") for row in listed.values())


@pytest.mark.extended
def test_fix_leaves_changed_copies_out_where_nobody_is_known(scanwise, tmp_path) -> None:
    random = np.random.default_rng(0)
    for number in range(20):
        folder = tmp_path / "scans" / ("a" if number % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        drawn = ndimage.gaussian_filter(random.standard_normal((96, 96)), 3)
        scan = Image.fromarray(np.clip(128 + 40 * drawn / drawn.std(), 0, 255).astype(np.uint8))
        scan.save(folder / f"{number:02}.png")
        if number in (4, 9):
            scan.rotate(180).save(folder / f"{number:02}x-turned.png")
    said = scanwise("audit", tmp_path / "scans", "--out", tmp_path / "out", "--fix", tmp_path / "safe.csv")
    assert said.code == 3, said.out
    assert "20 scans; 2 changed copies removed; no split" in said.out.replace("\n", " ")
    assert not any("turned" in row["path"] for row in table(tmp_path / "safe.csv"))
    pairs = {(Path(row["origin"]).name, Path(row["scan"]).name) for row in table(tmp_path / "out" / "copies.csv")}
    assert pairs == {("04.png", "04x-turned.png"), ("09.png", "09x-turned.png")}


@pytest.mark.extended
def test_fix_gives_copies_the_subject_and_the_side_of_their_origin(scanwise, augmented, tmp_path) -> None:
    """Whoever was asked did not know the copies, and gave each of them a name of its own."""
    data, who = augmented
    with (tmp_path / "who.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "subject"])
        writer.writerows((path, f"unknown{row}" if path.startswith("A") else who[path]) for row, path in enumerate(who))
    (again,) = data.rglob("again.png")
    with (tmp_path / "who.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow([again.relative_to(data).as_posix(), "someone"])
    said = scanwise(
        "audit", data, "--subject", tmp_path / "who.csv", "--out", tmp_path / "out", "--fix", tmp_path / "safe.csv"
    )
    assert said.code == 1
    assert "1 exact copy removed" in said.out
    assert "joined" in said.out
    rows = {row["path"].rpartition("kaggle/")[2]: row for row in table(tmp_path / "safe.csv")}
    assert len(rows) == len(who)
    assert {row["label"] for row in rows.values()} == set(KAGGLE.values())
    (source,) = {row["subject_source"] for row in rows.values()}
    assert source.startswith("file who.csv; ")
    assert source.endswith("joined to others, whose scans they copy")
    known = {path: row for path, row in rows.items() if path.startswith("Original")}
    side_of = {row["subject"]: row["split"] for row in known.values()}
    assert len(side_of) == 24
    copied = [path for path in rows if path.startswith("A") and path in who]
    right = [path for path in copied if rows[path]["subject"] == who[path]]
    assert len(right) >= 0.9 * len(copied)
    assert all(rows[path]["split"] == side_of[who[path]] for path in right)


@pytest.mark.extended
def test_fit_recovers_who_is_who_and_splits_by_it(tiny_recipe, people, tmp_path) -> None:
    run = fit_run(tiny_recipe, data=people, out=tmp_path / "run", device="cpu", threads=1)
    known = Cohort.load(run.cohort)
    assert "recovered from pixels" in known.subject_source
    side = Split.load(run.fit("honest", 0).split).side
    person = np.array([path.rpartition("/")[2].partition("_")[0] for path in known.path.tolist()])
    assert all(len(set(side[person == one].tolist())) == 1 for one in np.unique(person))
    assert "cohort.subjects" not in {f.check for f in load_findings(run.findings)}
    assert (run.path / "audit.html").is_file()


def test_fit_stops_where_the_given_subjects_hide_a_leak(tiny_recipe, people, tmp_path) -> None:
    """Two people under one name are harmless; copies of a scan under two names are not."""
    data = tmp_path / "data"
    shutil.copytree(people, data)
    rows = []
    for file in sorted(people.rglob("*.png")):
        place = file.relative_to(people).as_posix()
        rows.append({"path": place, "subject": file.name[:5]})
        copy = file.with_name(f"x{file.name}")
        shutil.copy(file, data / copy.relative_to(people))
        rows.append({"path": copy.relative_to(people).as_posix(), "subject": f"x{file.name[:5]}"})
    with (tmp_path / "who.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "subject"])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(LeakageError, match="honest split leaks"):
        fit_run(
            tiny_recipe, data=data, subject=str(tmp_path / "who.csv"), out=tmp_path / "run", device="cpu", threads=1
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.extended
def test_a_bare_folder_without_classes_is_looked_at(scanwise, people, tmp_path) -> None:
    (tmp_path / "flat").mkdir()
    for file in people.rglob("*.png"):
        shutil.copy(file, tmp_path / "flat" / file.name)
    shutil.copy(file, tmp_path / "flat" / "again.png")
    said = scanwise("audit", tmp_path / "flat", "--out", tmp_path / "out")
    assert said.code == 0
    findings = {f.check: f for f in load_findings(tmp_path / "out" / "findings.json")}
    assert "24 subjects" in findings["subjects.recovered"].message
    assert "again.png" in findings["duplicates.exact.twice"].scans
    assert "no classes" in findings["audit.classes"].message
