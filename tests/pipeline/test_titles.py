"""Scans with words, from a manifest to an answer."""

import json
from pathlib import Path

import numpy as np
import pytest

import scanwise
from scanwise import recipe
from scanwise.errors import DataError
from scanwise.models.vocabulary import Vocabulary
from scanwise.records import Cohort, Logits, Split, load_metrics
from scanwise.run import Run
from tiny import picture, read_csv, run_command, write_csv

RECIPE = """\
name: worded
data: {size: 32}
split: {protocols: [honest]}
model:
  name: fusion
  mean: [0.5]
  std: [0.5]
  text: {words: 200, length: 8, width: 16, layers: 1, heads: 2}
  fusion: {image: {name: test_efficientnet.r160_in1k, weights: none}, width: 16, heads: 2}
train: {epochs: 12, batch: 16, optimizer: {lr: 5e-3}}
evaluation: {draws: 100}
rivals: {names: [majority, words]}
audit: {checks: []}
"""
CLASSES = ("boot", "shirt", "watch")
KINDS = ("canvas leather", "cotton printed", "analog dial")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty things of which the title tells the class, and the picture nothing."""
    folder = tmp_path_factory.mktemp("goods")
    rows = []
    for index in range(60):
        kind = index % 3
        picture(0, index).save(folder / f"{index}.png")
        title = f"Maker{index} {KINDS[kind].split()[index % 2]} {CLASSES[kind]}"
        rows.append({"path": f"{index}.png", "label": CLASSES[kind], "subject": f"p{index}", "text": title})
    return write_csv(folder / "goods.csv", rows)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("runs")
    source = place / "worded.yaml"
    source.write_text(RECIPE)
    said = run_command("fit", source, "--data", manifest, "--out", place / "run", "--threads", 1)
    assert said.code == 0, said.err
    return Run.open(place / "run")


def _accuracy(run: Run, model: str) -> float:
    found = [m for m in load_metrics(run.metrics) if (m.name, m.model, m.unit) == ("accuracy", model, "scan")]
    return found[0].value


def test_the_words_are_learnt_and_their_part_is_told(run: Run) -> None:
    assert _accuracy(run, "network") > 0.8
    assert _accuracy(run, "network_without_image") > 0.8
    assert _accuracy(run, "network_without_words") < 0.7  # the picture tells nothing
    assert _accuracy(run, "words") > 0.8
    page = run.report.read_text(encoding="utf-8")
    assert "This network without the text" in page
    assert "what each part of the input gives" in page


def test_a_part_that_is_gone_is_no_rival(run: Run) -> None:
    page = run.report.read_text(encoding="utf-8")
    lead = page[: page.index('id="rivals"')]
    assert "without the" not in lead


def test_the_vocabulary_knows_training_titles_alone(run: Run) -> None:
    place, cohort = run.fit("honest", 0), Cohort.load(run.cohort)
    assert cohort.text is not None
    section = recipe.load(run.recipe).model.text
    kept, known = Vocabulary.load(place.vocabulary), cohort.text[Split.load(place.split).rows("train")]
    assert json.loads(kept.tokenizer) == json.loads(Vocabulary.learn(known, section).tokenizer)
    assert json.loads(kept.tokenizer) != json.loads(Vocabulary.learn(cohort.text, section).tokenizer)


def test_predict_takes_the_words_of_a_manifest(run: Run, manifest: Path) -> None:
    tested = Logits.load(run.fit("honest", 0).logits("test"))
    answer = scanwise.pipeline.predict(run.path, [], manifest=manifest)
    rows = [answer.scans.scans.tolist().index(path) for path in tested.scans.tolist()]
    expected = {row["path"]: row for row in read_csv(run.tables_of("honest") / "predictions.csv")}
    for row in rows:
        told = expected[answer.scans.scans[row]]
        np.testing.assert_allclose(answer.scans.probs[row], [float(told[f"p_{name}"]) for name in CLASSES], atol=1e-5)


def test_without_words_predict_says_so_and_answers(run: Run, manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    answer = scanwise.load(run.path).predict(manifest.parent / "0.png")
    assert "the images alone" in caplog.text
    assert len(answer.scans) == 1


def test_scans_without_words_are_refused_before_training(tmp_path: Path, manifest: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "text"} for row in read_csv(manifest)]
    bare = write_csv(manifest.parent / "bare.csv", rows)
    (tmp_path / "worded.yaml").write_text(RECIPE)
    said = run_command("fit", tmp_path / "worded.yaml", "--data", bare, "--out", tmp_path / "run")
    assert said.code == 2
    assert "column text" in said.refusal
    assert not (tmp_path / "run").exists()


def test_a_network_of_words_alone(tmp_path: Path, manifest: Path) -> None:
    (tmp_path / "worded.yaml").write_text(RECIPE)
    words = ("--set", "model.name=text", "--set", "model.text.hide_classes=true", "--set", "train.epochs=8")
    said = run_command(
        "fit", tmp_path / "worded.yaml", "--data", manifest, "--out", tmp_path / "run", *words, "--threads", 1
    )
    assert said.code == 0, said.err
    assert _accuracy(Run.open(tmp_path / "run"), "network") > 0.6
    titles = Vocabulary.load(Run.open(tmp_path / "run").fit("honest", 0).vocabulary)
    assert not any(name in titles.tokenizer for name in CLASSES)
    with pytest.raises(DataError, match="cannot answer without text"):
        scanwise.load(tmp_path / "run").predict(manifest.parent / "0.png")
