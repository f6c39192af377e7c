"""Every verb of Python, as a notebook would use it."""

import inspect
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom import dcmread

import scanwise
from medical_files import write_dicom
from scanwise import api
from scanwise.api.inputs import data_source, encode, scan_list
from scanwise.api.progress import showing_progress
from scanwise.api.settings import setting_lines
from scanwise.cli import cli
from scanwise.errors import DataError, RecipeError, RunError
from scanwise.pipeline.commands.cross_validation import CandidateChoice, CrossValidation
from scanwise.records import Metric
from tiny import Again, Whole, write_scans

VERBS = (
    "audit",
    "compare",
    "evaluate",
    "explain",
    "export",
    "fit",
    "fold",
    "load",
    "predict",
    "publish",
    "recipes",
    "register",
)
MEASURED = ["predicted", "set", "entropy", "abstain"]


@pytest.fixture
def run(whole: Whole) -> scanwise.Run:
    return scanwise.Run.open(whole.run.path)


def some(whole: Whole, count: int = 6) -> list[Path]:
    """Test scans of the run, by paths."""
    return [whole.data.parent / row["path"] for row in whole.table()[:count]]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_function_with_a_docstring_and_a_command(verb: str) -> None:
    function = getattr(scanwise, verb)
    assert inspect.isfunction(function)
    assert function.__doc__
    if verb != "load":
        assert verb in cli.commands


def test_a_run_gives_tables_of_what_lies_in_its_folder(run: scanwise.Run, whole: Whole) -> None:
    metrics = json.loads(whole.run.metrics.read_text())
    assert run.metrics.shape == (len(metrics), 11)
    assert run.metrics["name"].tolist() == [row["name"] for row in metrics]
    assert run.predictions["path"].tolist() == [row["path"] for row in whole.table()]
    assert set(run.subjects["subject"]) == set(run.predictions["subject"])
    assert set(run.findings["severity"]) <= {"leak", "warning", "note"}


def test_a_run_says_its_headline_by_the_unit_that_decides(run: scanwise.Run, whole: Whole) -> None:
    mine = run.metrics.query("model == 'network' and protocol == 'honest' and unit == 'subject' and group == ''")
    (accuracy,) = mine.query("name == 'accuracy' and split == 'test'").itertuples()
    assert f"Accuracy {100 * accuracy.value:.0f}" in run.summary
    assert run.summary.endswith(f"on {accuracy.count} test subjects")
    assert "\n" not in repr(run)
    assert "<table" in run._repr_html_()
    assert "Nearest neighbour" in run._repr_html_()


def test_fit_takes_settings_by_key_and_by_last_word(tmp_path: Path, tiny_recipe: Path) -> None:
    data = write_scans(tmp_path / "scans", {"a": 6, "b": 6})
    fitted = scanwise.fit(
        tiny_recipe, data=data, out=tmp_path / "run", subject=r"([ab]\d\d)_", settings={"seed": 3, "audit.checks": []}, epochs=1,
        device="cpu", threads=1, progress=False,
    )  # fmt: skip
    recipe = scanwise.Run.open(tmp_path / "run").folder.recipe.read_text()
    assert fitted.path == tmp_path / "run"
    assert "epochs: 1" in recipe
    assert "seed: 3" in recipe


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ("train.epochs=3", {}, "settings is one text"),
        ({}, {"epoch": 3}, "no setting epoch. Did you mean 'epochs'"),
        ({}, {"weights": "x"}, "weights may be model.weights or "),
        ({"train.epochs": object()}, {}, "object is no value of a recipe"),
    ],
)
def test_a_mistake_in_settings_is_one_sentence(settings: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        setting_lines(settings, options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_lines_of_the_command_line() -> None:
    given = {"train.epochs": np.int64(3), "model.weights": Path("a b.pth"), "audit.checks": ("copies",), "seed": 1}
    assert setting_lines(given, {"batch": 8}) == (
        "train.epochs=3", 'model.weights="a b.pth"', 'audit.checks=["copies"]', "seed=1", "train.batch=8",
    )  # fmt: skip
    assert setting_lines(["seed=2"], {}) == ("seed=2",)


def rows(answer: Any, columns: Sequence[str] = MEASURED) -> list[dict[str, Any]]:
    return answer.scans[[*columns]].to_dict("records")


def test_paths_arrays_pictures_and_stacks_give_one_answer(run: scanwise.Run, whole: Whole) -> None:
    model = scanwise.load(run)
    files = some(whole)
    expected = rows(model.predict(files))
    arrays = [np.asarray(Image.open(file)) for file in files]
    assert rows(scanwise.predict(run, [str(file) for file in files])) == expected
    assert rows(model.predict(arrays)) == expected
    assert rows(model.predict([Image.open(file) for file in files])) == expected
    assert rows(model.predict([array[..., None] for array in arrays])) == expected
    if len({array.shape for array in arrays}) == 1:
        assert rows(model.predict(np.stack(arrays))) == expected
    assert rows(model.predict(pd.DataFrame({"image": arrays}))) == expected
    assert rows(model.predict(arrays[0])) == rows(model.predict(files[0]))
    assert model.predict(arrays).scans["path"].tolist() == [f"scan-{index}.png" for index in range(len(arrays))]


def test_subjects_are_pooled_and_named(run: scanwise.Run, whole: Whole) -> None:
    files = some(whole, 4)
    answer = scanwise.predict(run, files, subjects=["p", "p", "q", "q"], groups={"site": ["north"] * 4})
    assert answer.subjects is not None
    assert answer.subjects["subject"].tolist() == ["p", "q"]
    assert answer.scans["site"].tolist() == ["north"] * 4
    table = pd.DataFrame({"path": [str(file) for file in files], "subject": ["p", "p", "q", "q"]})
    again = scanwise.predict(run, table)
    assert again.subjects is not None
    assert again.subjects["entropy"].tolist() == answer.subjects["entropy"].tolist()
    assert "By subject" in answer._repr_html_()
    assert repr(answer).startswith("<ScanPredictions 2 subjects: ")


def test_files_keep_the_names_that_they_were_given(
    run: scanwise.Run, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole.data.parent)
    names = [row["path"] for row in whole.table()[:2]]
    for answer in (
        scanwise.predict(run, names),
        scanwise.predict(run, names, subjects=["p", "q"]),
        scanwise.predict(run, pd.DataFrame({"path": names})),
    ):
        assert answer.scans["path"].tolist() == names


def test_unreadable_scans_are_named_beside_the_others(run: scanwise.Run, whole: Whole, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    answer = scanwise.predict(run, [some(whole)[0], tmp_path / "broken.png"])
    assert len(answer.scans) == 1
    assert answer.quarantine["path"].tolist() == [str(tmp_path / "broken.png")]
    assert "1 file not read" in answer.summary


def test_another_count_of_subjects_is_refused(run: scanwise.Run, whole: Whole) -> None:
    with pytest.raises(DataError, match="2 scans need as many values of subject, not 1"):
        scanwise.predict(run, some(whole, 2), subjects=["p"])


@pytest.mark.parametrize(
    "scan", [3, None, object(), np.zeros((4, 4, 2)), np.zeros((0, 4)), "nowhere.png", np.array(["a"], object)]
)
def test_what_is_no_scan_is_refused_with_what_to_give(scan: Any, run: scanwise.Run) -> None:
    with pytest.raises(DataError, match=r"give a path, an array|nothing at|cannot be read|None of the"):
        scanwise.predict(run, [scan])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64", "bool"])
def test_arrays_of_gray_values_are_kept_without_loss(dtype: str, tmp_path: Path) -> None:
    values = np.arange(20).reshape(4, 5)
    array = (values % 2 == 0) if dtype == "bool" else (values * 7).astype(dtype)
    suffix, content = encode(array)
    (tmp_path / f"x{suffix}").write_bytes(content)
    back = np.asarray(Image.open(tmp_path / f"x{suffix}"))
    assert np.array_equal(back, array * 255 if dtype == "bool" else array)


def test_a_dataset_is_read_as_its_file(run: scanwise.Run, tmp_path: Path) -> None:
    dataset = dcmread(write_dicom(tmp_path / "x.dcm", np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)))
    dataset.PixelData  # noqa: B018 - read before it is asked for
    assert rows(scanwise.predict(run, dataset)) == rows(scanwise.predict(run, tmp_path / "x.dcm"))


def test_a_table_of_arrays_is_audited_and_kept_under_its_content(whole: Whole, tmp_path: Path) -> None:
    data = write_scans(tmp_path / "scans", {"a": 6, "b": 6})
    files = sorted(data.rglob("*.png"))
    table = pd.DataFrame(
        {"image": [np.asarray(Image.open(file)) for file in files], "label": [file.parent.name for file in files]}
    )
    table["subject"] = [file.stem for file in files]
    result = scanwise.audit(table, subject="subject", out=tmp_path / "audit", progress=False)
    assert result.page is not None
    assert result.page.is_file()
    assert set(result.findings.columns) == {"severity", "check", "message", "scans"}
    assert result.verdict in repr(result)
    assert data_source(table) == data_source(table.copy())
    assert data_source(table) != data_source(table.assign(label="a"))


def test_other_sources_are_refused() -> None:
    with pytest.raises(DataError, match="give a folder, a manifest, a URL, or a DataFrame"):
        data_source([1, 2])
    with pytest.raises(DataError, match="columns label: name one path, or image"):
        data_source(pd.DataFrame({"label": ["a"]}))


def test_scans_are_listed_one_by_one() -> None:
    stack = np.zeros((5, 8, 8), np.uint8)
    assert len(scan_list(stack)) == 5
    assert len(scan_list(stack[0])) == 1
    assert len(scan_list(np.zeros((8, 8, 3), np.uint8))) == 1
    assert scan_list("a.png") == ["a.png"]


def test_heatmaps_come_with_pictures_and_the_verdict_of_their_checks(
    run: scanwise.Run, whole: Whole, tmp_path: Path
) -> None:
    shown = scanwise.explain(run, np.asarray(Image.open(some(whole)[0])), out=tmp_path / "maps", progress=False)
    assert len(shown.maps) == 1
    assert shown.pictures
    assert all(data.startswith(b"\x89PNG") for data in shown.pictures.values())
    assert (tmp_path / "maps").is_dir()
    assert "check" in shown.summary
    assert "data:image/png;base64," in shown._repr_html_()


def test_a_registered_model_is_loaded_by_its_name(
    run: scanwise.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANWISE_REGISTRY", str(tmp_path / "registry"))
    version = scanwise.register(run, "brains")
    assert scanwise.load(f"brains:{version.number}").classes == scanwise.load(run).classes


def test_shipped_recipes_have_titles() -> None:
    assert "demo" in scanwise.recipes()
    assert all(scanwise.recipes().values())


def test_names_of_users_are_text_in_html(run: scanwise.Run, whole: Whole, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\x1b[31m"
    answer = scanwise.predict(run, some(whole, 1), subjects=[name])
    assert "<script>" not in answer._repr_html_()
    assert "\x1b" not in repr(answer)


def test_a_comparison_has_a_page_and_tables(run: scanwise.Run, again: Again, tmp_path: Path) -> None:
    compared = scanwise.compare(run, again.run.path, out=tmp_path / "compared", draws=100)
    assert compared.page is not None
    assert compared.page.is_file()
    assert "accuracy" in set(compared.metrics["name"])
    assert not compared.ranks.empty


@pytest.mark.extended
def test_an_external_validation_has_a_page_and_tables(run: scanwise.Run, tmp_path: Path) -> None:
    data = write_scans(tmp_path / "scans", {"nondemented": 6, "milddemented": 6})
    judged = scanwise.evaluate(
        run, data=data, subject=r"(\w+\d\d)_", out=tmp_path / "judged", draws=100, progress=False
    )
    assert judged.page == tmp_path / "judged" / "external.html"
    assert len(judged.predictions) == 12
    assert judged.summary.endswith("on 12 test subjects")


def test_folds_are_summed_up_by_what_is_pooled(tmp_path: Path) -> None:
    metrics = [
        Metric("accuracy", value, 0.2, 0.9, "subject", 20, model=model, protocol="honest", fold=fold)
        for model, fold, value in (("network", 0, 0.5), ("network", -1, 0.75), ("majority", -1, 0.25))
    ]
    choices = (CandidateChoice(0, "candidate-1", 0.3, True),)
    folds = api.Folds.of(CrossValidation(tmp_path, {"candidate-1": ()}, choices, "choose", "", tuple(metrics)))
    assert "Accuracy 75\N{NO-BREAK SPACE}% (20–90) on 20 test subjects" in folds.summary
    assert folds.choices.to_dict("records") == [{"fold": 0, "candidate": "candidate-1", "value": 0.3, "chosen": True}]
    assert len(folds.pooled) == 2


def test_a_page_is_shown_in_a_browser_or_in_the_notebook(run: scanwise.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    run.show()
    assert opened == [run.folder.report.absolute().as_uri()]
    shown: list[Any] = []
    monkeypatch.setattr("scanwise.api.display.in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", shown.append)
    run.show()
    assert "srcdoc=" in shown[0].data
    assert "<script>alert" not in shown[0].data


def test_a_result_without_a_page_says_its_line(
    run: scanwise.Run, whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = scanwise.predict(run, some(whole, 1))
    answer.show()
    assert capsys.readouterr().out == f"{answer!r}\n"
    assert repr(scanwise.load(run)).startswith("<Classifier ")


def test_long_tables_are_cut_and_say_so() -> None:
    frame = pd.DataFrame({"value": np.arange(30) / 7})
    folds = api.Folds(Path("x"), frame, frame, "x: fine", frame)
    assert "and 10 more rows" in folds._repr_html_()


@pytest.mark.parametrize("wanted", [True, False, None])
def test_messages_are_shown_where_they_are_wanted_and_only_meanwhile(
    wanted: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("scanwise")
    before, log.handlers = log.handlers, []
    try:
        with showing_progress(wanted) as bars:
            log.info("on its way\x1b[31m")
        log.info("afterwards")
    finally:
        log.handlers = before
    assert bars is bool(wanted)
    told = capsys.readouterr().err
    assert ("on its way" in told) == bool(wanted)
    assert "\x1b" not in told
    assert "afterwards" not in told


def test_a_run_is_published_into_a_folder(run: scanwise.Run, tmp_path: Path) -> None:
    assert scanwise.publish(run, folder=tmp_path / "model") == str(tmp_path / "model")
    with pytest.raises(RunError, match="one of the two"):
        scanwise.publish(run)


def test_fold_passes_on_candidates_as_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def record(source: str, **options: Any) -> CrossValidation:
        asked.update(options)
        return CrossValidation(tmp_path, {"candidate-1": ()}, (), "choose", "", ())

    monkeypatch.setattr("scanwise.pipeline.commands.cross_validation.cross_validate", record)
    folds = scanwise.fold(
        "demo", data="scans", out=tmp_path, tries=[{"train.epochs": 3}], by="auroc", epochs=2, progress=False
    )
    assert asked["tries"] == [("train.epochs=3",)]
    assert asked["settings"] == ("train.epochs=2",)
    assert asked["criterion"] == "auroc"
    assert folds.summary.endswith("nothing was measured")
