"""Files of logits that cannot be used: one line that names the rows, exit code 2, and nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logit_arrays import Write, arrays

from scanwise import calibration
from scanwise.pipeline.commands.logit_files import read_logit_file
from tiny import Command


def spoilt(name: str, place: tuple[int, ...], value: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(given: dict[str, Any]) -> dict[str, Any]:
        values = given[name].copy()
        values[place] = value
        return {name: values}

    return change


BAD: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "not a number": (spoilt("logits", (7, 1), np.nan), "1 of 60 rows have logits that are NaN or infinite. Rows: 7."),
    "infinite": (spoilt("logits", (9, 0), np.inf), "Rows: 9."),
    "label out of range": (spoilt("labels", (4,), 3), "1 of 60 rows have a label outside 0…2. Rows: 4."),
    "label unknown": (spoilt("labels", (4,), -1), "Rows: 4."),
    "labels not whole": (lambda given: {"labels": given["labels"] * 1.0}, "whole numbers; they are float64"),
    "labels of another length": (lambda given: {"labels": given["labels"][:-1]}, "labels must be (60,)"),
    "scans of another length": (lambda given: {"scans": given["scans"][:-1]}, "scans must be (60,)"),
    "subjects of another length": (lambda given: {"subjects": given["subjects"][:-1]}, "subjects must be (60,)"),
    "classes of another length": (lambda given: {"classes": given["classes"][:2]}, "classes must be (3,)"),
    "groups of another length": (lambda given: {"group_site": given["group_site"][:2]}, "group_site must be (60,)"),
    "no rows": (lambda given: {name: values[:0] for name, values in given.items()}, "N is 0"),
    "a vector": (lambda given: {"logits": given["logits"][:, 0]}, "two classes or more"),
    "text": (lambda given: {"logits": given["logits"].astype(str)}, "logits must be numbers"),
    "no subject": (lambda given: {"subjects": np.where(np.arange(60) == 8, "", given["subjects"])}, "Rows: 8."),
    **{
        f"the subject {word}": (
            lambda given, word=word: {"subjects": np.where(np.arange(60) == 8, word, given["subjects"])},
            "no subject; the guarantee depends on the subjects. Rows: 8.",
        )
        for word in ("nan", "None", "unknown", "#N/A", "N/A", "null")
    },
    "a subject that is not a number": (
        lambda given: {"subjects": np.where(np.arange(60) == 8, np.nan, np.arange(60.0))},
        "Rows: 8.",
    ),
    "a scan twice": (
        lambda given: {"scans": np.where(np.arange(60) == 8, given["scans"][2], given["scans"])},
        "a scan that an earlier row has as well. Rows: 8.",
    ),
    "a class twice": (lambda given: {"classes": np.array(["a", "b", "a"])}, "two classes have one name"),
    "no logits": (lambda given: {"logits": None}, "it lacks ['logits']"),
    "features of nobody": (lambda given: {"features": np.ones((59, 4))}, "features must be numbers (60, …)"),
    "features not a number": (lambda given: {"features": np.full((60, 4), np.nan)}, "60 of 60 rows have features"),
    "features in words": (lambda given: {"features": np.full((60, 4), "a")}, "features must be numbers"),
    "several folds": (lambda given: {"fold": np.arange(60)}, "fold must be one value"),
    "leaky": (lambda given: {"protocol": "published"}, "protocol 'published', which leaks"),
    "training side": (lambda given: {"split": "train"}, "of the train side"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("side", ["known", "test"])
def test_bad_rows_are_one_line_that_names_them_and_nothing_is_written(
    scanwise: Command, write: Write, tmp_path: Path, kind: str, side: str
) -> None:
    change, told = BAD[kind]
    known, test = arrays(1, 60), arrays(2, 60)
    spoil = change(known if side == "known" else test)
    paths = [
        write(name, given, **(spoil if name == side else {})) for name, given in (("known", known), ("test", test))
    ]
    said = scanwise("conformal", *paths, "--out", tmp_path / "out" / "s.npz")
    assert said.code == 2
    assert told in said.refusal
    assert f"{side}.npz" in said.refusal
    assert len(said.refusal.splitlines()) == 1
    assert said.out == ""
    assert not (tmp_path / "out").exists()
    if side == "known":
        alone = scanwise("calibrate", paths[0], "--out", tmp_path / "out" / "c.json")
        assert alone.code == 2
        assert told in alone.refusal
        assert not (tmp_path / "out").exists()


def test_one_class_only_says_nothing(scanwise: Command, write: Write, files: dict[str, Path], tmp_path: Path) -> None:
    one = write("one", arrays(3, 30), labels=np.ones(30, dtype=int))
    for command in (["calibrate", one], ["conformal", one, files["test"]]):
        said = scanwise(*command, "--out", tmp_path / "x")
        assert said.code == 2
        assert "30 of 30 rows have the label 'mild' and none another" in said.refusal
        assert not (tmp_path / "x").exists()
    test = write("healthy", arrays(4, 30), labels=np.zeros(30, dtype=int))  # a test may hold whom it will
    assert scanwise("conformal", files["known"], test, "--out", tmp_path / "x").code == 0


@pytest.mark.parametrize("alpha", ["0", "1", "-0.1", "nan", "2"])
def test_alpha_must_lie_between_0_and_1(scanwise: Command, files: dict[str, Path], tmp_path: Path, alpha: str) -> None:
    said = scanwise("conformal", files["known"], files["test"], "--alpha", alpha, "--out", tmp_path / "s.npz")
    assert said.code == 2
    assert "alpha must lie between 0 and 1" in said.refusal
    assert not (tmp_path / "s.npz").exists()


def test_files_that_do_not_belong_together_are_refused(
    scanwise: Command, write: Write, files: dict[str, Path], tmp_path: Path
) -> None:
    def refusal(known: Path, test: Path, *more: object) -> str:
        said = scanwise("conformal", known, test, "--out", tmp_path / "s.npz", *more)
        assert said.code == 2, said.err
        assert not (tmp_path / "s.npz").exists()
        return said.refusal

    other = write("other", arrays(2, 60), classes=np.array(["mild", "well", "severe"]))
    assert "They must be the same, in the same order" in refusal(files["known"], other)
    subjects = arrays(2, 60)["subjects"]
    subjects[[11, 40]] = "1:3"
    crossing = write("crossing", arrays(2, 60), subjects=subjects)
    told = refusal(files["known"], crossing)
    assert "1 subjects are on both sides, such as '1:3': rows 3 of" in told
    assert "rows 11, 40 of" in told
    bare = {"subjects": None, "scans": arrays(1, 120)["scans"]}
    same = [write("a", arrays(1, 120), **bare), write("b", arrays(2, 120), **bare)]
    assert "120 scans are on both sides" in refusal(*same)
    tuned = write("tuned", arrays(2, 60), split="validation")
    assert "60 subjects are on both sides" in refusal(files["known"], files["test"], "--tune", tuned)
    folds = [
        write(f"f{fold}", arrays(6 + fold, 60), split=side, fold=fold)
        for fold, side in ((0, "calibration"), (1, "test"))
    ]
    assert "of fold 1: other networks" in refusal(*folds)
    assert "has no group column 'sit'; its columns are site" in refusal(files["known"], files["test"], "--by", "sit")
    assert "lac does not have" in refusal(files["known"], files["test"], "--score", "lac", "--tune", files["valid"])
    assert "let --tune VALID.npz choose it" in refusal(files["known"], files["test"], "--score", "saps")
    anonymous = write("anonymous", arrays(7, 60), subjects=None)
    assert "names no subjects to pool by" in refusal(files["known"], anonymous, "--subject-level")


def test_a_person_is_one_whatever_the_type_of_the_number(
    scanwise: Command, write: Write, files: dict[str, Path], tmp_path: Path
) -> None:
    numbers = np.arange(60)
    known = write("whole", arrays(1, 60), subjects=numbers)
    for name, subjects in (("floats", numbers * 1.0), ("texts", np.char.add(numbers.astype(str), ".0"))):
        test = write(name, arrays(2, 60), subjects=subjects)
        said = scanwise("conformal", known, test, "--out", tmp_path / "s.npz")
        assert said.code == 2
        assert "60 subjects are on both sides, such as '0'" in said.refusal


def test_people_whose_names_hardly_differ_are_counted(
    scanwise: Command, write: Write, files: dict[str, Path], tmp_path: Path
) -> None:
    known = write("upper", arrays(1, 60), subjects=np.array([f"P{row}" for row in range(60)]))
    test = write("lower", arrays(2, 60), subjects=np.array([f"{'p' if row < 7 else 'q'}{row}" for row in range(60)]))
    said = scanwise("conformal", known, test, "--out", tmp_path / "s.npz")
    assert said.code == 0
    assert "14 subjects differ from another only in case" in said.err


def test_a_gap_in_a_group_column_is_no_group(
    scanwise: Command, write: Write, files: dict[str, Path], tmp_path: Path
) -> None:
    age = np.where(np.arange(120) % 4 == 0, np.nan, np.arange(120) % 3 + 60.0)
    given = read_logit_file(write("aged", arrays(1, 120), group_age=age), "calibration")
    assert set(given.logits.groups["age"].tolist()) == {"", "60", "61", "62"}


def test_a_calibrator_must_fit_and_know_nobody(
    scanwise: Command, write: Write, files: dict[str, Path], tmp_path: Path
) -> None:
    def refusal(path: Path) -> str:
        said = scanwise("conformal", files["known"], files["test"], "--calibrator", path, "--out", tmp_path / "s.npz")
        assert said.code == 2, said.err
        assert not (tmp_path / "s.npz").exists()
        return said.refusal

    for name, told in (("known", "learnt from 120 subjects of"), ("test", "rows 0, 1, 2")):
        assert scanwise("calibrate", files[name], "--out", tmp_path / f"{name}.json").code == 0
        assert told in refusal(tmp_path / f"{name}.json")
    four = write("four", {"logits": np.eye(4).repeat(9, axis=0), "labels": np.arange(4).repeat(9)})
    assert scanwise("calibrate", four, "--method", "vector", "--out", tmp_path / "four.json").code == 0
    assert "learnt on the classes" in refusal(tmp_path / "four.json")
    vector = calibration.VectorScaling((1.0, 1.0), (0.0, 0.0)).to_dict()
    for text, told in (
        ("{", "is not a calibrator that"), ("[]", "its method is none of"), ('{"method": "platt"}', "its method is none of"),
        ('{"method": []}', "its method is none of"), ('{"method": "temperature", "classes": 3}', "its classes are no list of names"),
        ('{"method": "temperature", "learnt_from": [[]]}', "its learnt_from are no list of names"),
        (f'{{"method": "temperature", "temperature": {"9" * 400}}}', "Was the file changed?"),
        (f'{{"method": "vector", "factors": [{"9" * 400}], "shifts": [0]}}', "Was it changed?"),
        ('{"method": "isotonic", "said": 3, "seen": {}}', "Was the file changed?"), ("[" * 10_000, "nested too deep"),
        (json.dumps(vector), "fitted on 2 classes"), ('{"method": "temperature"}', "Was the file changed?"),
    ):  # fmt: skip
        (tmp_path / "odd.json").write_text(text, encoding="utf-8")
        assert told in refusal(tmp_path / "odd.json")
    assert "No such file" in refusal(tmp_path / "nowhere.json")


def test_files_that_are_none_are_refused_and_none_is_written_over(
    scanwise: Command, files: dict[str, Path], tmp_path: Path
) -> None:
    whole = files["known"].read_bytes()
    odd = tmp_path / "odd.npz"
    for content in (b"", b"junk", whole[:900]):
        odd.write_bytes(content)
        said = scanwise("calibrate", odd, "--out", tmp_path / "c.json")
        assert (said.code, (tmp_path / "c.json").exists()) == (2, False)
        assert "not a file of logits" in said.refusal
    np.save(tmp_path / "array.npy", np.zeros((3, 3)))
    assert "not a file of logits" in scanwise("calibrate", tmp_path / "array.npy", "--out", tmp_path / "c.json").refusal
    over = scanwise("conformal", files["known"], files["test"], "--out", files["known"])
    assert over.code == 2
    assert "it would be lost" in over.refusal
    assert files["known"].read_bytes() == whole
    assert scanwise("calibrate", tmp_path / "nothing.npz", "--out", tmp_path / "c.json").code == 2
    assert scanwise("calibrate", files["valid"], "--out", tmp_path).code == 2
    assert scanwise("conformal", files["known"], files["test"], "--score", "hps", "--out", tmp_path / "s").code == 2


# --- names of persons ---


def test_a_person_by_number_is_one_person_in_every_type(scanwise: Command, write: Write, tmp_path: Path) -> None:
    known, test = arrays(1, 60), arrays(2, 60)
    whole = np.arange(60)
    first = write("known", known, subjects=whole)
    for kind in ("int64", "float64", "float32", "str", "bytes"):
        same = whole.astype("S") if kind == "bytes" else whole.astype(kind)
        said = scanwise("conformal", first, write("test", test, subjects=same), "--out", tmp_path / "s.npz")
        assert said.code == 2
        assert "60 subjects are on both sides" in said.refusal


@pytest.mark.parametrize("word", ["NaN", "#N/A", "N/A", "null", "None", "unknown", np.nan])
def test_words_that_name_no_person_are_refused_by_row(
    scanwise: Command, write: Write, tmp_path: Path, word: str | float
) -> None:
    known, test = arrays(1, 60), arrays(2, 60)
    subjects = np.arange(60).astype(type(word))
    subjects[[8, 9]] = word
    said = scanwise(
        "conformal", write("known", known, subjects=subjects), write("test", test), "--out", tmp_path / "s.npz"
    )
    assert said.code == 2
    assert "2 of 60 rows have no subject" in said.refusal
    assert "Rows: 8, 9." in said.refusal


def test_a_missing_group_is_none(write: Write) -> None:
    from scanwise.pipeline.commands.logit_files import read_logit_file

    given = arrays(1, 60)
    values = np.where(np.arange(60) < 20, np.nan, np.arange(60) % 2)
    logits = read_logit_file(write("known", given, group_site=values), "calibration").logits
    assert set(logits.groups["site"][:20].tolist()) == {""}
    assert set(logits.groups["site"][20:].tolist()) == {"0", "1"}


def test_ids_that_may_be_one_person_are_said(scanwise: Command, write: Write, tmp_path: Path) -> None:
    known, test = arrays(1, 60), arrays(2, 60)
    first = write("known", known, subjects=np.array([f"P{row:03d}" for row in range(60)]))
    second = write("test", test, subjects=np.array([f"p{row}" for row in range(50, 110)]))
    said = scanwise("conformal", first, second, "--out", tmp_path / "s.npz")
    assert said.code == 0
    assert "20 subjects differ from another only in case, leading zeros" in said.err
