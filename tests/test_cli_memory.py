"""Where no stage knows better, running out of memory is one line that says which setting to lower."""

from pathlib import Path

import pytest
import torch

from scanwise import bundle
from tiny import Command


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, scanwise: Command, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(bundle, "load", fail)
    said = scanwise("predict", tmp_path, tmp_path / "a.png")
    assert said.code == 2
    assert "data.size" in said.refusal
    assert "train.batch" in said.refusal


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch, scanwise: Command, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("sizes differ")

    monkeypatch.setattr(bundle, "load", fail)
    said = scanwise("predict", tmp_path, tmp_path / "a.png")
    assert said.code == 70
    assert "Unforeseen RuntimeError: sizes differ." in said.refusal
