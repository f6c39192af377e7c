"""A finished run on other people: frozen figures, what is refused, and what is said."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scanwise import metrics
from scanwise.arrays import softmax
from scanwise.cohort import phantom, phantom_files
from scanwise.errors import DataError, LeakageError
from scanwise.pipeline.commands import external_validation, recalibration
from scanwise.records import Cohort, Predictions, load_metrics
from scanwise.reporting import tables
from tiny import Command, Whole, read_csv, write_csv

CLASSES = ("nondemented", "verymilddemented", "milddemented")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of 18 synthetic people whom the run has never seen, six a class."""
    folder = tmp_path_factory.mktemp("strangers") / "cohort"
    phantom_files.write_phantoms(folder, phantom.Phantom(subjects=18, slices=2, size=64, stages=CLASSES, seed=99))
    return folder


def _others(
    strangers: Path, folder: Path, kinds: tuple[int, ...] = (0, 1, 2), names: tuple[str, ...] = CLASSES
) -> Path:
    """A manifest of the strangers of some classes, under names for these."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in read_csv(strangers / "truth.csv"):
        kind = CLASSES.index(row["label"])
        if kind in kinds:
            site = "east" if int(row["subject"][1:]) % 2 else "west"
            path, who = str(strangers / "scans" / row["path"]), f"other-{row['subject']}"
            rows.append({"path": path, "label": names[kind], "subject": who, "site": site})
    return write_csv(folder / "others.csv", rows)


def test_a_frozen_run_is_judged_and_nothing_is_learnt(
    whole: Whole, strangers: Path, tmp_path: Path, scanwise: Command
) -> None:
    before = {p: p.read_bytes() for p in whole.run.path.rglob("*") if p.is_file() and "external" not in p.parts}
    out = tmp_path / "out"
    said = scanwise(
        "evaluate", whole.run.path, "--data", _others(strangers, tmp_path / "scans"), "--out", out, "--draws", 100
    )
    assert said.code == 0, said.err
    assert before == {p: p.read_bytes() for p in before}
    table = tables.read_predictions(out / "tables" / "predictions_subject.csv")
    assert len(table) == 18
    found = {(m.name, m.unit, m.group): m for m in load_metrics(out / "metrics.json")}
    value = found["accuracy", "subject", ""]
    assert value.value == pytest.approx(metrics.METRICS["accuracy"](table.probs, table.labels))  # type: ignore[arg-type]
    assert value.split == "external"
    assert ("accuracy", "subject", "site=east") in found
    for name in ("drift", "recalibration", "operating_points"):
        assert len(pd.read_parquet(out / "tables" / f"{name}.parquet"))
    page = (out / "external.html").read_text(encoding="utf-8")
    assert "Nothing was re-tuned" in page
    assert "is an exact copy" in page
    assert re.search(r"Of changed copies of these scans \d+ % are found", page)


def test_scans_that_the_run_learnt_from_are_refused(whole: Whole, strangers: Path, tmp_path: Path) -> None:
    manifest = _others(strangers, tmp_path / "scans")
    known = Cohort.load(whole.run.cohort)
    split = pd.read_parquet(whole.run.fit("honest", 0).split)["split"].to_numpy()
    learnt = known.path[np.flatnonzero(split == "train")[0]]
    (manifest.parent / "again.png").write_bytes((Path(known.root) / learnt).read_bytes())
    with manifest.open("a", encoding="utf-8") as file:
        file.write(f"{manifest.parent / 'again.png'},nondemented,other-s0000,east\n")
    with pytest.raises(LeakageError, match=r"1 of \d+ scans are scans that this run learnt from.*again\.png"):
        external_validation.validate_externally(whole.run.path, data=str(manifest), draws=100)


@pytest.mark.extended
def test_a_class_that_nobody_has_is_said(whole: Whole, strangers: Path, tmp_path: Path) -> None:
    found = external_validation.validate_externally(
        whole.run.path, data=str(_others(strangers, tmp_path / "scans", kinds=(0, 1))), subject="auto", draws=100
    )
    told = {finding.check: finding.message for finding in found.findings}
    assert "No scan here has milddemented" in told["external.classes"]
    names = {(m.name, m.group) for m in found.metrics}
    assert ("recall", "class=milddemented") not in names
    assert ("recall", "class=nondemented") in names


@pytest.mark.extended
def test_labels_of_another_spelling_are_known_and_strange_ones_are_left_out(
    whole: Whole, strangers: Path, tmp_path: Path
) -> None:
    names = ("Non Demented", "very_mild_dementia", "tumour")
    found = external_validation.validate_externally(
        whole.run.path, data=str(_others(strangers, tmp_path / "scans", names=names)), draws=100
    )
    assert len(found.scans) < 36
    assert f"tumour: {36 - len(found.scans)} scans were left out" in " ".join(
        finding.message for finding in found.findings
    )
    strange = _others(strangers, tmp_path / "strange", names=("a", "b", "c"))
    with pytest.raises(DataError, match="None of the labels"):
        external_validation.validate_externally(whole.run.path, data=str(strange), draws=100)


@pytest.mark.extended
def test_recalibration_helps_where_the_network_is_too_sure() -> None:
    random = np.random.default_rng(0)
    odds = 1.5 * random.normal(size=200)
    labels = (random.random(200) < 1 / (1 + np.exp(-odds))).astype(int)
    probs = softmax(np.column_stack([np.zeros(200), 4 * odds]))
    names = np.array([str(row) for row in range(200)])
    said = Predictions(names, names, ("a", "b"), probs, None, np.zeros(200), np.zeros(200, dtype=bool), labels)
    rows = {
        (row["subjects"], row["name"]): row for row in recalibration.recalibration_curve(said, alpha=0.1, repeats=20)
    }
    assert rows[100, "nll"]["mean"] < rows[0, "nll"]["mean"] - 0.2
    assert rows[50, "coverage"]["mean"] == pytest.approx(0.9, abs=0.05)
    assert (200, "nll") not in rows  # half of the people stay to judge on
