"""`scanwise calibrate` and `scanwise conformal` on files of logits: what they write and say."""

import json
import subprocess
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from logit_arrays import CLASSES, Write, arrays

from forked import run_forked
from scanwise import calibration
from scanwise.arrays import softmax
from scanwise.cli import cli
from scanwise.conformal import SCORES, ConditionalSets, ConformalSets, draws_from
from scanwise.pooling import pool_by_subject
from scanwise.records import Logits
from tiny import Command


def test_a_calibrator_is_learnt_written_and_its_worth_on_others_is_shown(
    scanwise: Command, files: dict[str, Path], tmp_path: Path
) -> None:
    said = scanwise("calibrate", files["valid"], "--out", tmp_path / "deep" / "c.json")
    assert said.code == 0, said.err
    saved = json.loads((tmp_path / "deep" / "c.json").read_text(encoding="utf-8"))
    given = arrays(0, 120)
    expected = calibration.Temperature.fit(given["logits"], given["labels"], given["subjects"])
    assert calibration.calibrator_from_dict(saved) == expected
    assert saved["classes"] == list(CLASSES)
    assert "0:7" not in json.dumps(saved)  # people are told again by digests, not named
    row = next(line.split() for line in said.out.splitlines() if line.startswith("NLL"))
    assert float(row[1]) > float(row[2])


@pytest.mark.parametrize("method", calibration.CALIBRATORS)
@pytest.mark.parametrize("by_subject", [False, True])
def test_every_method_writes_what_conformal_reads(
    scanwise: Command, write: Write, tmp_path: Path, method: str, by_subject: bool
) -> None:
    given = [write(name, arrays(seed, 240, 4)) for seed, name in enumerate(("valid", "known", "test"))]
    level = ["--subject-level"] if by_subject else []
    done = scanwise("calibrate", given[0], "--out", tmp_path / "c.json", "--method", method, *level)
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert told["method"] == method
    again = scanwise("conformal", *given[1:], "--calibrator", tmp_path / "c.json", "--out", tmp_path / "s.npz", *level)
    assert again.code == 0, again.err
    learnt, known, test = calibration.calibrator_from_dict(told), *(Logits.load(path) for path in given[1:])
    if by_subject:
        known, test = pool_by_subject(known), pool_by_subject(test)
    names = [(unit.subjects if by_subject else unit.scans).tolist() for unit in (known, test)]
    fitted = ConformalSets.fit(
        learnt(known.logits), known.labels, alpha=0.1, subjects=known.subjects, draws=draws_from(names[0])
    )
    with np.load(tmp_path / "s.npz") as found:
        np.testing.assert_array_equal(found["sets"], fitted(learnt(test.logits), draws_from(names[1])))
        assert found["subjects"].tolist() == test.subjects.tolist()


def test_a_calibrator_that_does_not_help_is_said(scanwise: Command, write: Write, tmp_path: Path) -> None:
    flat = write("flat", arrays(0, 60), logits=np.zeros((60, 3)))
    said = scanwise("calibrate", flat, "--out", tmp_path / "c.json")
    assert said.code == 0
    assert "probabilities stay as they are: it does not help subjects held out" in said.err


def test_a_headline_holds_for_the_cells_that_it_names(scanwise: Command, write: Write, tmp_path: Path) -> None:
    """Forty of one class, six and five of the others: those two have a threshold together, and none of their own."""
    labels = np.repeat([0, 1, 2], [40, 6, 5])
    known = write("known", arrays(1, 51), labels=labels)
    said = scanwise("conformal", known, write("test", arrays(2, 30)), "--by", "class", "--out", tmp_path / "s.npz")
    assert said.code == 0, said.err
    assert "in class well; in mild, severe together, not in each of them." in said.out
    assert "in each class" not in said.out


def test_a_written_calibrator_never_has_a_worse_log_loss_beside_it(
    scanwise: Command, write: Write, tmp_path: Path
) -> None:
    """One figure decides and is shown: a calibrator that makes NLL worse is the identity, and it is said."""
    seen = set()
    for seed in range(8):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 2, 40)
        logits = np.stack([np.zeros(40), random.normal(size=40) + 0.8 * (2 * labels - 1)], axis=1)
        given = {"logits": logits, "labels": labels}
        said = scanwise("calibrate", write(f"v{seed}", given), "--out", tmp_path / "c.json", "--method", "vector")
        row = next(line.split() for line in said.out.splitlines() if line.startswith("NLL"))
        kept = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["refused"] == ""
        assert kept == (float(row[2]) < float(row[1]))
        assert ("stay as they are" in said.err) != kept
        seen.add(kept)
    assert False in seen


def test_probabilities_given_as_logits_are_noticed(scanwise: Command, write: Write, tmp_path: Path) -> None:
    probs = softmax(arrays(0, 60)["logits"])
    said = scanwise("calibrate", write("valid", arrays(0, 60), logits=probs), "--out", tmp_path / "c.json")
    assert said.code == 0
    assert "seems to hold probabilities, not logits" in said.err
    usual = scanwise("calibrate", write("usual", arrays(0, 60)), "--out", tmp_path / "u.json")
    assert "probabilities, not logits" not in usual.err


def test_huge_logits_get_a_temperature_of_their_size(scanwise: Command, write: Write, tmp_path: Path) -> None:
    given = arrays(0, 240)
    temperatures = []
    for name, factor in (("usual", 1.0), ("huge", 1e4)):
        path = write(name, given, logits=factor * given["logits"].astype(np.float64))
        assert scanwise("calibrate", path, "--out", tmp_path / "c.json").code == 0
        temperatures.append(json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["temperature"])
    assert temperatures[1] == pytest.approx(1e4 * temperatures[0], rel=0.1)


@pytest.mark.parametrize("alpha", ["1e-12", "0.9999999999", "0", "1", "-0.1", "nan"])
def test_an_impossible_alpha_is_refused_in_a_sentence(
    scanwise: Command, files: dict[str, Path], tmp_path: Path, alpha: str
) -> None:
    said = scanwise("conformal", files["known"], files["test"], "--alpha", alpha, "--out", tmp_path / "s.npz")
    assert said.code != 0
    assert "alpha" in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "s.npz").exists()


@pytest.mark.parametrize("alpha", ["1e-6", "0.999999"])
def test_an_extreme_alpha_that_means_something_is_taken(
    scanwise: Command, files: dict[str, Path], tmp_path: Path, alpha: str
) -> None:
    said = scanwise("conformal", files["known"], files["test"], "--alpha", alpha, "--out", tmp_path / "s.npz")
    assert said.code == 0, said.err


@pytest.mark.parametrize("fold", ["zero", 1.5, np.nan, np.inf, True])
def test_a_fold_that_is_no_number_is_refused(scanwise: Command, write: Write, tmp_path: Path, fold: object) -> None:
    path = write("valid", arrays(0, 60), fold=fold)
    said = scanwise("calibrate", path, "--out", tmp_path / "c.json")
    if fold is True:  # a flag is a number to NumPy: fold 1
        assert said.code == 0
        return
    assert said.code != 0
    assert "fold must be a whole number" in said.err
    assert "Traceback" not in said.err


def test_the_command_knows_every_score_and_every_calibrator() -> None:
    choices = {
        option.name: option.type.choices
        for name in ("conformal", "calibrate")
        for option in cli.commands[name].params
        if isinstance(option.type, click.Choice)
    }
    assert set(choices["score"]) == set(SCORES)
    assert set(choices["method"]) == set(calibration.CALIBRATORS)


@pytest.mark.parametrize("score", ["lac", "aps", "raps", "ordinal"])
def test_sets_are_those_of_the_library_and_the_table_tells_them(
    scanwise: Command, files: dict[str, Path], tmp_path: Path, score: str
) -> None:
    out = tmp_path / "sets.npz"
    said = scanwise("conformal", files["known"], files["test"], "--score", score, "--alpha", 0.2, "--out", out)
    assert said.code == 0, said.err
    known, test = arrays(1, 120), arrays(2, 120)
    draws = [None if score == "lac" else draws_from(part["scans"].tolist()) for part in (known, test)]
    fitted = ConformalSets.fit(
        softmax(known["logits"]), known["labels"], alpha=0.2, score=score, subjects=known["subjects"], draws=draws[0]
    )
    expected = fitted(softmax(test["logits"]), draws[1])
    with np.load(out, allow_pickle=False) as found:
        assert found["sets"].dtype == np.bool_
        np.testing.assert_array_equal(found["sets"], expected)
        for name in ("scans", "subjects", "labels", "classes", "group_site"):
            np.testing.assert_array_equal(found[name], test[name])
        told = json.loads(str(found["conformal"]))
    assert told.pop("promise") == "80 % coverage for a new subject"
    assert ConformalSets.from_dict(told) == fitted
    covered = expected[np.arange(120), test["labels"]].mean()
    row = next(line.split() for line in said.out.splitlines() if line.startswith("everyone"))
    assert row[1:4] == ["120", "120", f"{100 * covered:.1f}"]
    assert row[-1] == f"{expected.sum(axis=1).mean():.2f}"
    assert "80 % coverage for a new subject" in said.out


@pytest.mark.parametrize("by", ["class", "site"])
def test_coverage_by_class_or_column(scanwise: Command, files: dict[str, Path], tmp_path: Path, by: str) -> None:
    out = tmp_path / "sets.npz"
    said = scanwise("conformal", files["known"], files["test"], "--score", "aps", "--by", by, "--out", out)
    assert said.code == 0, said.err
    known, test = arrays(1, 120), arrays(2, 120)
    columns = [None if by == "class" else part["group_site"] for part in (known, test)]
    fitted = ConditionalSets.fit(
        softmax(known["logits"]), known["labels"], alpha=0.1, score="aps", groups=columns[0],
        subjects=known["subjects"], draws=draws_from(known["scans"].tolist()),
    )  # fmt: skip
    with np.load(out) as found:
        expected = fitted(softmax(test["logits"]), draws_from(test["scans"].tolist()), columns[1])
        np.testing.assert_array_equal(found["sets"], expected)
    assert f"in each {by}" in said.out
    values = np.array(CLASSES)[test["labels"]] if by == "class" else test["group_site"]
    for value in np.unique(values):
        rows = values == value
        line = next(line.split() for line in said.out.splitlines() if line.startswith(value))
        assert line[2] == str(rows.sum())
        assert line[3] == f"{100 * expected[np.arange(120), test['labels']][rows].mean():.1f}"


def test_small_cells_are_merged_and_unseen_groups_get_every_class(
    scanwise: Command, write: Write, tmp_path: Path
) -> None:
    site = np.array(["north"] * 50 + ["south"] * 5 + ["west"] * 5)
    known = write("known", arrays(1, 60), group_site=site)
    test = write("test", arrays(2, 20), group_site=np.array(["east", "south"] * 10))
    said = scanwise("conformal", known, test, "--by", "site", "--out", tmp_path / "s.npz")
    assert said.code == 0, said.err
    assert "site south, west: too few each; coverage is guaranteed for them together" in said.err
    assert "Guarantee: 90 % coverage for a new subject: in site north; in south, west together, not in each" in said.out
    assert "site east is not in" in said.err
    assert "10 rows get every class" in said.err
    with np.load(tmp_path / "s.npz") as found:
        assert found["sets"][::2].all()
    names = [line.split("  ")[0].strip() for line in said.out.splitlines()]
    assert {"everyone", "2 merged", "in no cell"} <= set(names)
    assert "north" not in names


def test_repeated_subjects_get_the_hierarchical_quantile_and_it_is_said(
    scanwise: Command, write: Write, tmp_path: Path
) -> None:
    known, test = write("known", arrays(1, 240, 8)), write("test", arrays(2, 80, 8))
    said = scanwise("conformal", known, test, "--score", "lac", "--out", tmp_path / "s.npz")
    assert said.code == 0, said.err
    assert "random scan of a new subject" in said.out
    assert "240 scans of 30 subjects" in said.err
    given = arrays(1, 240, 8)
    options: dict[str, Any] = {"alpha": 0.1, "score": "lac"}
    fitted = ConformalSets.fit(softmax(given["logits"]), given["labels"], subjects=given["subjects"], **options)
    plain = ConformalSets.fit(softmax(given["logits"]), given["labels"], **options)
    with np.load(tmp_path / "s.npz") as found:
        told = json.loads(str(found["conformal"]))
    assert told["threshold"] == pytest.approx(fitted.threshold, abs=1e-12)
    assert fitted.threshold > plain.threshold
    pooled = scanwise("conformal", known, test, "--subject-level", "--out", tmp_path / "p.npz")
    assert pooled.code == 0, pooled.err
    assert "90 % coverage for a new subject." in pooled.out
    with np.load(tmp_path / "p.npz") as found:
        assert found["sets"].shape == (10, 3)
        assert found["scans"].tolist() == ["8"] * 10


def test_below_the_minimum_count_every_class_and_a_warning(scanwise: Command, write: Write, tmp_path: Path) -> None:
    known, test = write("known", arrays(1, 40, 5)), write("test", arrays(2, 12))
    said = scanwise("conformal", known, test, "--out", tmp_path / "s.npz")
    assert said.code == 0, said.err
    assert "8 calibration subjects cannot guarantee 90% coverage, which needs 9" in said.err
    assert "Guarantee: none: 8 calibration subjects cannot" in said.out
    assert "90 % coverage for" not in said.out
    with np.load(tmp_path / "s.npz") as found:
        assert found["sets"].all()


def test_lambda_is_chosen_on_validation_subjects(scanwise: Command, write: Write, tmp_path: Path) -> None:
    random = np.random.default_rng(5)

    def tailed(name: str, count: int) -> tuple[Path, Any, Any]:
        labels = random.integers(0, 30, count)
        logits = random.normal(size=(count, 30)) + 4.0 * np.eye(30)[labels]  # a long tail that APS collects
        return write(name, {"logits": logits, "labels": labels}), softmax(logits), labels

    valid, known, test = tailed("valid", 600), tailed("known", 600), tailed("test", 600)
    told = scanwise("conformal", known[0], test[0], "--tune", valid[0], "--out", tmp_path / "a.npz")
    plain = scanwise("conformal", known[0], test[0], "--out", tmp_path / "b.npz")
    assert (told.code, plain.code) == (0, 0), told.err + plain.err
    draws = draws_from([f"validation row {row}" for row in range(600)])
    penalty, k_reg = ConformalSets.tune(*valid[1:], alpha=0.1, draws=draws)
    assert penalty > 0
    assert f"lambda {penalty:g}, k_reg {k_reg}" in told.err
    assert "raps with lambda 0 is aps" in plain.err
    with np.load(tmp_path / "a.npz") as tuned, np.load(tmp_path / "b.npz") as untuned:
        assert tuned["sets"].sum() < untuned["sets"].sum()


def test_logits_and_labels_alone_are_enough_and_what_is_not_known_is_said(
    scanwise: Command, write: Write, tmp_path: Path
) -> None:
    bare = {"scans": None, "subjects": None, "classes": None, "group_site": None}
    known = write("known", arrays(1, 60), **bare)
    test = write("test", arrays(2, 30), **bare, labels=None)
    said = scanwise("conformal", known, test, "--score", "lac", "--out", tmp_path / "s.npz")
    assert said.code == 0, said.err
    assert said.err.count("names no subjects: each scan is taken for a person of its own") == 2
    assert "for a new scan" in said.out
    row = next(line.split() for line in said.out.splitlines() if line.startswith("everyone"))
    assert row[:3] == ["everyone", "30", "30"]
    assert len(row) == 4  # no coverage without labels
    with np.load(tmp_path / "s.npz") as found:
        assert found["classes"].tolist() == ["0", "1", "2"]
        assert (found["labels"] == -1).all()


def test_a_test_side_that_looks_otherwise_is_said(scanwise: Command, write: Write, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    known, test = arrays(1, 60), arrays(2, 60)
    features = {"features": random.normal(size=(60, 5))}
    for given, shift, told in (
        (test, 0.0, "are not seen to differ"),
        ({**test, "logits": test["logits"] / 30}, 3.0, "differ (p = 0.001)"),
    ):
        paths = write("known", known, **features), write("test", given, features=random.normal(size=(60, 5)) + shift)
        said = scanwise("conformal", *paths, "--out", tmp_path / "s.npz")
        assert said.code == 0, said.err
        lines = [line for line in said.out.splitlines() if line.startswith("  by ")]
        assert [line.split(",")[0] for line in lines] == ["  by confidence", "  by features"]
        assert all(told in line for line in lines)
    alone = scanwise("conformal", write("known", known), write("test", test), "--out", tmp_path / "s.npz")
    assert "by features" not in alone.out


def test_the_calibrators_of_a_run_are_read(scanwise: Command, files: dict[str, Path], tmp_path: Path) -> None:
    both = {"scan": calibration.Temperature(3.0).to_dict(), "subject": calibration.Temperature(1.0).to_dict()}
    (tmp_path / "calibrator.json").write_text(json.dumps(both), encoding="utf-8")
    thresholds = []
    for more in ([], ["--subject-level"]):
        options = ["--calibrator", tmp_path / "calibrator.json", "--score", "lac", "--out", tmp_path / "s.npz", *more]
        assert scanwise("conformal", files["known"], files["test"], *options).code == 0
        with np.load(tmp_path / "s.npz") as found:
            thresholds.append(json.loads(str(found["conformal"]))["threshold"])
    given = arrays(1, 120)
    for temperature, found in zip((3.0, 1.0), thresholds, strict=True):
        probs = softmax(given["logits"] / temperature)
        expected = ConformalSets.fit(probs, given["labels"], alpha=0.1, score="lac").threshold
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.extended
def test_a_shell_gets_tables_notes_and_exit_codes(files: dict[str, Path], tmp_path: Path) -> None:
    def shell(*args: object) -> subprocess.CompletedProcess[str]:
        return run_forked(*args, env={"COLUMNS": "80"})

    out = tmp_path / "sets.npz"
    done = shell("conformal", files["known"], files["test"], "--by", "class", "--score", "ordinal", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "in each class" in done.stdout
    assert out.is_file()
    bad = shell("conformal", files["known"], files["known"], "--out", tmp_path / "other.npz")
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.startswith("error: 120 subjects are on both sides")
    assert bad.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known.npz", "sets.npz", "test.npz", "valid.npz"]
