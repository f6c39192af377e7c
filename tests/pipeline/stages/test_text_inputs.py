"""Scans with words, from a manifest to an answer."""

import json
from pathlib import Path

import numpy as np
import pytest

from scanwise import recipe
from scanwise.bundle import load as load_bundle
from scanwise.errors import DataError
from scanwise.models.vocabulary import Vocabulary
from scanwise.pipeline.commands.predict_files import predict_files
from scanwise.records import Cohort, Logits, Split, load_metrics
from scanwise.run import RunFolder
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
explain: {scans: 8, examples: 1}
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
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = tmp_path_factory.mktemp("runs")
    source = place / "worded.yaml"
    source.write_text(RECIPE)
    said = run_command("fit", source, "--data", manifest, "--out", place / "run", "--threads", 1)
    assert said.code == 0, said.err
    return RunFolder.open(place / "run")


def _accuracy(run: RunFolder, model: str) -> float:
    found = [m for m in load_metrics(run.metrics) if (m.name, m.model, m.unit) == ("accuracy", model, "scan")]
    return found[0].value


@pytest.mark.extended
def test_the_words_are_learnt_and_their_part_is_told(run: RunFolder) -> None:
    assert _accuracy(run, "network") > 0.8
    assert _accuracy(run, "network_without_image") > 0.8
    assert _accuracy(run, "network_without_words") < 0.7  # the picture tells nothing
    assert _accuracy(run, "words") > 0.8
    page = run.report.read_text(encoding="utf-8")
    assert "This network without the text" in page
    assert "what each part of the input gives" in page


@pytest.mark.extended
def test_words_are_named_with_what_they_gave(run: RunFolder) -> None:
    """The titles of the test side, word by word as they are written; that of the class speaks for it."""
    rows, cohort = read_csv(run.path / "heatmaps" / "words.csv"), Cohort.load(run.cohort)
    assert cohort.text is not None
    titles = dict(zip(cohort.path.tolist(), cohort.text.tolist(), strict=True))
    told: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        told.setdefault(row["path"], []).append(row)
    assert sum(mine[0]["checked"] == "1" for mine in told.values()) == 8
    for path, mine in told.items():
        assert titles[path].split() == [row["word"] for row in mine]
        assert {row["target"] for row in mine} <= set(CLASSES)
        assert 0 <= float(mine[0]["share_of_image"]) <= 1
        assert sum(float(row["looked_at"] or 0) for row in mine) <= 1.001
        assert mine[0]["picture"] == ""  # of so small a scan the map has a single place: words look nowhere else
    read = [row for row in rows if row["fall_of_log_odds"]]
    falls = {row["word"]: float(row["fall_of_log_odds"]) for row in read if row["target"] == row["truth"]}
    assert np.mean([fall for word, fall in falls.items() if word in CLASSES]) > 0
    page = run.report.read_text(encoding="utf-8")
    assert "Effects of words" in page
    assert "of what the classifier gets" in page


@pytest.mark.extended
def test_explain_names_the_words_of_new_scans(run: RunFolder, manifest: Path, tmp_path: Path) -> None:
    few = write_csv(
        manifest.parent / "few.csv", [row for row in read_csv(manifest) if row["path"] in ("0.png", "4.png")]
    )
    said = run_command("explain", run.path, "--manifest", few, "--target", "boot", "--out", tmp_path / "maps")
    assert said.code == 0, said.err
    rows = read_csv(tmp_path / "maps" / "words.csv")
    assert [row["word"] for row in rows] == ["Maker0", "canvas", "boot", "Maker4", "cotton", "shirt"]
    assert {row["target"] for row in rows} == {"boot"}
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert names == {"words.csv", *(f"{n}.png-boot{end}" for n in (0, 4) for end in (".png", ".npz"))}


@pytest.mark.extended
def test_a_part_that_is_gone_is_no_rival(run: RunFolder) -> None:
    page = run.report.read_text(encoding="utf-8")
    lead = page[: page.index('id="rivals"')]
    assert "without the" not in lead


@pytest.mark.extended
def test_the_vocabulary_knows_training_titles_alone(run: RunFolder) -> None:
    place, cohort = run.fit("honest", 0), Cohort.load(run.cohort)
    assert cohort.text is not None
    section = recipe.load_recipe(run.recipe).model.text
    kept, known = Vocabulary.load(place.vocabulary), cohort.text[Split.load(place.split).rows("train")]
    assert json.loads(kept.tokenizer) == json.loads(Vocabulary.learn(known, section).tokenizer)
    assert json.loads(kept.tokenizer) != json.loads(Vocabulary.learn(cohort.text, section).tokenizer)


@pytest.mark.extended
def test_predict_takes_the_words_of_a_manifest(run: RunFolder, manifest: Path) -> None:
    tested = Logits.load(run.fit("honest", 0).logits("test"))
    answer = predict_files(run.path, [], manifest=manifest)
    rows = [answer.scans.scans.tolist().index(path) for path in tested.scans.tolist()]
    expected = {row["path"]: row for row in read_csv(run.tables_of("honest") / "predictions.csv")}
    for row in rows:
        told = expected[answer.scans.scans[row]]
        np.testing.assert_allclose(answer.scans.probs[row], [float(told[f"p_{name}"]) for name in CLASSES], atol=1e-5)


@pytest.mark.extended
def test_without_words_predict_says_so_and_answers(
    run: RunFolder, manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = load_bundle(run.path).predict(manifest.parent / "0.png")
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


@pytest.mark.extended
def test_a_network_of_words_alone(tmp_path: Path, manifest: Path) -> None:
    (tmp_path / "worded.yaml").write_text(RECIPE)
    said_too = ("model.name=text", "model.text.hide_classes=true", "train.epochs=8", "train.class_weights=true")
    words = [part for setting in said_too for part in ("--set", setting)]
    said = run_command(
        "fit", tmp_path / "worded.yaml", "--data", manifest, "--out", tmp_path / "run", *words, "--threads", 1
    )
    assert said.code == 0, said.err
    assert _accuracy(RunFolder.open(tmp_path / "run"), "network") > 0.6
    titles = Vocabulary.load(RunFolder.open(tmp_path / "run").fit("honest", 0).vocabulary)
    assert not any(name in titles.tokenizer for name in CLASSES)
    rows = read_csv(tmp_path / "run" / "heatmaps" / "words.csv")
    assert {row["share_of_image"] for row in rows} == {""}
    assert not {row["word"] for row in rows} & set(CLASSES)  # as the network reads them
    assert any(float(row["fall_of_log_odds"] or 0) > 0.2 for row in rows)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "This network reads words alone" in page or "What the words give is not coloured" in page
    said = run_command("explain", tmp_path / "run", "--manifest", manifest, "--out", tmp_path / "maps")
    assert said.code == 0, said.err
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["words.csv"]
    with pytest.raises(DataError, match="cannot predict without text"):
        load_bundle(tmp_path / "run").predict(manifest.parent / "0.png")
