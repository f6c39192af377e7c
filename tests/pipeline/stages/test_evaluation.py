"""The baseline on frozen features runs in a whole fit, by scan and by subject, on the sides of the split."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from scanwise.baselines import frozen_features_logistic
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.decoding.streams import read_files
from scanwise.recipe import Data
from scanwise.records import Cohort, Logits, Split, load_metrics
from scanwise.run import RunFolder
from tiny import RECIPE, WITHOUT_COPIES, run_command, write_scans

BACKBONE, SIZE = "test_resnet", 64


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Path]:
    """A fit with a tiny timm network of random weights as the strongest baseline, and the file of its weights."""
    folder = tmp_path_factory.mktemp("baseline")
    torch.manual_seed(0)
    file = folder / "backbone.pth"
    torch.save(timm.create_model(BACKBONE, num_classes=0).state_dict(), file)
    (folder / "tiny.yaml").write_text(RECIPE + WITHOUT_COPIES)
    data = write_scans(folder / "scans", {"nondemented": 10, "verymilddemented": 10}, slices=2)
    settings = ("train.epochs=1", "rivals.names=[majority, frozen_features]", f"rivals.backbone={BACKBONE}",
                f"rivals.weights={file}", f"rivals.size={SIZE}")  # fmt: skip
    result = run_command(
        "fit", folder / "tiny.yaml", "--data", data, "--out", folder / "run", "--threads", 1,
        "--subject", r"([a-z]+\d\d)_",
        *(part for setting in settings for part in ("--set", setting)),
    )  # fmt: skip
    assert result.code == 0, result.err
    return RunFolder.open(folder / "run"), file


def features_of(cohort: Cohort, file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(N, D) features by timm alone."""
    network = timm.create_model(BACKBONE, num_classes=0)
    network.load_state_dict(torch.load(file, weights_only=True))
    files = [Path(cohort.root) / path for path in cohort.path.tolist()]
    scans = list(read_files(files, Data(size=SIZE, channels=3)))
    pixels = np.stack([scan.pixels for scan in scans if isinstance(scan, DecodedScan)])
    with torch.inference_mode():
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return np.asarray(network.eval()((values - 0.5) / 0.5).numpy(), dtype=np.float32)


def test_frozen_features_are_measured_by_scan_and_by_subject(fitted: tuple[RunFolder, Path]) -> None:
    run, _ = fitted
    metrics = [m for m in load_metrics(run.metrics) if m.model == "frozen_features" and m.name == "accuracy"]
    assert {m.unit for m in metrics} == {"scan", "subject"}
    differences = [m for m in load_metrics(run.metrics) if m.model == "frozen_features" and "difference" in m.name]
    assert {m.unit for m in differences} == {"scan", "subject"}
    for unit in ("scan", "subject"):
        predictions = Logits.load(run.fit("honest", 0).rival("frozen_features", unit))
        (accuracy,) = [m for m in metrics if m.unit == unit and not m.group]
        right = predictions.logits.mean(axis=1).argmax(axis=1) == predictions.labels
        assert accuracy.value == pytest.approx(right.mean())


def test_frozen_features_learn_on_training_scans_and_answer_for_test_scans(fitted: tuple[RunFolder, Path]) -> None:
    run, file = fitted
    cohort, fit = Cohort.load(run.cohort), run.fit("honest", 0)
    split = Split.load(fit.split)
    train, test = split.rows("train"), split.rows("test")
    by_scan, by_subject = (Logits.load(fit.rival("frozen_features", unit)) for unit in ("scan", "subject"))
    assert by_scan.scans.tolist() == cohort.path[test].tolist()
    assert set(by_subject.subjects.tolist()) == set(cohort.subject[test].tolist())
    assert not set(by_subject.subjects.tolist()) & set(cohort.subject[train].tolist())
    features = features_of(cohort, file)
    expected = frozen_features_logistic(
        features[train], cohort.labels[train], cohort.subject[train], features[test], len(cohort.classes)
    )
    np.testing.assert_allclose(by_scan.logits[:, 0], np.log(expected), atol=1e-3)
    people = {name: features[cohort.subject == name].mean(axis=0) for name in np.unique(cohort.subject).tolist()}
    learn = np.unique(cohort.subject[train])
    label = dict(zip(cohort.subject.tolist(), cohort.labels.tolist(), strict=True))
    answers = frozen_features_logistic(
        np.stack([people[name] for name in learn.tolist()]),
        np.array([label[name] for name in learn.tolist()]),
        learn,
        np.stack([people[name] for name in by_subject.subjects.tolist()]),
        len(cohort.classes),
    )
    np.testing.assert_allclose(by_subject.logits[:, 0], np.log(answers), atol=1e-3)
