"""Two processes learn what one learns from the same batches, and one of them writes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import together
import torch
from test_trainer import history, untimed

from scanwise.models import weights
from scanwise.training.sampling import BatchShare, EpochOrder, SharedBatchSampler

HERE = Path(__file__).parent
EXACT = [case for case in together.CASES if case not in ("normed", "brief")]


def train_together(folder: Path, many: str) -> Path:
    """The folder of what two processes trained, or three."""
    done = subprocess.run(
        [sys.executable, HERE / "together.py", folder, many], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "advice on speed is for others"
    return folder / many


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_together(tmp_path_factory.mktemp("together"), "two")


def compare(folder: Path, other: Path, case: str, tolerance: float) -> None:
    ours, theirs = (untimed(history(place / case)) for place in (folder, other))
    assert len(ours) == len(theirs)
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.extended
@pytest.mark.parametrize("case", EXACT)
def test_two_processes_have_the_curve_of_one(two: Path, tmp_path: Path, case: str) -> None:
    together.train(tmp_path, case)
    compare(two, tmp_path, case, 1e-4)
    ours, theirs = (weights.read_weights(together.toy.place(place / case).model) for place in (two, tmp_path))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.extended
def test_batch_norm_counts_each_share_for_itself_and_stays_near(two: Path, tmp_path: Path) -> None:
    together.train(tmp_path, "normed")
    ours, theirs = (history(place / "normed") for place in (two, tmp_path))
    losses = np.array([[row["train_loss"] for row in rows] for rows in (ours, theirs)])
    assert np.abs(losses[0] - losses[1]).max() < 0.15
    assert not np.array_equal(losses[0], losses[1])


@pytest.mark.extended
def test_one_process_writes_what_one_alone_would(two: Path, tmp_path: Path) -> None:
    for case in ("cached", "normed"):
        together.train(tmp_path, case)
        ours, theirs = (
            {str(f.relative_to(place / case)) for f in (place / case).rglob("*")} for place in (two, tmp_path)
        )
        assert ours == theirs


@pytest.mark.extended
def test_a_process_without_a_scan_of_its_own_keeps_step(tmp_path: Path) -> None:
    """34 scans in batches of 16 leave two, and there are three processes."""
    together.train(tmp_path, "brief")
    compare(train_together(tmp_path, "three"), tmp_path, "brief", 1e-4)


@pytest.mark.parametrize(("size", "count", "batch"), [(2, 66, 16), (3, 66, 16), (4, 5, 8), (2, 7, 1)])
def test_shares_make_up_every_batch(size: int, count: int, batch: int) -> None:
    order = EpochOrder(count, 1)
    whole = list(SharedBatchSampler(order, batch, False, BatchShare()))
    shares = [SharedBatchSampler(order, batch, False, BatchShare(rank, size)) for rank in range(size)]
    for index, (expected, *parts) in enumerate(zip(whole, *shares, strict=True)):
        assert shares[0].whole(index) == len(expected)
        own = [part for rank, part in enumerate(parts) if BatchShare(rank, size).counts(len(expected))]
        assert sorted(position for part in own for position in part) == sorted(expected)
        assert all(parts)


@pytest.mark.parametrize(("size", "count"), [(2, 29), (3, 30), (4, 2)])
def test_a_side_dealt_out_can_be_put_together(size: int, count: int) -> None:
    dealt = [BatchShare(rank, size).evenly(count) for rank in range(size)]
    assert len({len(part) for part in dealt}) == 1
    assert np.array(dealt).T.reshape(-1)[:count].tolist() == list(range(count))
