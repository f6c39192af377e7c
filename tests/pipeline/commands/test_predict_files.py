"""What a reader of new predictions must know of the scans, beside the predictions."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scanwise.bundle import Bundle, BundlePredictions, NetworkOutputs
from scanwise.bundle import load as load_bundle
from scanwise.pipeline.commands.predict_files import predict_files
from tiny import Command, Whole, write_csv


def rows(whole: Whole, sites: list[str], subject: str = "") -> list[dict[str, str]]:
    scans = [str(whole.data.parent / row["path"]) for row in whole.table()[: len(sites)]]
    given = [{"path": scan, "site": site} for scan, site in zip(scans, sites, strict=True)]
    return [row | {"subject": subject} for row in given] if subject else given


def test_the_bundle_knows_the_kinds_that_taught_it_and_no_names(whole: Whole) -> None:
    assert load_bundle(whole.run.path).about["groups"] == {"site": ["north", "south"]}


@pytest.mark.parametrize(
    ("sites", "said"),
    [(["north", "South "], []), (["north", ""], []), (["east", "north"], ["site of 1 scan here (east)"])],
)
def test_a_kind_that_training_never_had_is_said(
    sites: list[str], said: list[str], whole: Whole, tmp_path: Path, scanwise: Command
) -> None:
    table = write_csv(tmp_path / "new.csv", rows(whole, sites))
    done = scanwise("predict", whole.run.path, "--manifest", table, "--format", "json", "--device", "cpu")
    remarks = json.loads(done.out)["remarks"]
    assert len(remarks) == len(said)
    for text, remark in zip(said, remarks, strict=True):
        assert text in remark
        assert "training had north, south" in remark
        assert f"note: {remark}" in done.err


@pytest.mark.parametrize("differing", [True, False])
def test_a_subject_that_differs_from_its_scans_is_explained(
    differing: bool, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Bundle.predict_outputs

    def turned(self: Bundle, outputs: Sequence[NetworkOutputs]) -> list[BundlePredictions]:
        """Every scan as its subject; the first one otherwise, if they are to differ."""
        (answer,) = predict(self, outputs)
        assert answer.subjects is not None
        probs = np.repeat(answer.subjects.probs, len(answer.scans), axis=0)
        if differing:
            probs[0] = np.roll(probs[0], 1)
        return [replace(answer, scans=replace(answer.scans, probs=probs))]

    monkeypatch.setattr(Bundle, "predict_outputs", turned)
    table = write_csv(tmp_path / "new.csv", rows(whole, ["north"] * 3, subject="p"))
    answer = predict_files(whole.run.path, [], manifest=table, device="cpu")
    remarks = [remark for remark in answer.remarks if "another class" in remark]
    assert len(remarks) == differing
    assert all(remark.startswith("1 subject of 1 has another class than some of its own scans") for remark in remarks)
