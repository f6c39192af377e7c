"""Workers of Ray say what this process says, to the last byte, whatever dies."""

import builtins
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from own_network import OUTSIDE, own_network
from scanwise.bundle.contents import digest_of_model
from scanwise.bundle.mapping import AskedScans, MappedScans
from scanwise.bundle.ray_engine import FATAL, PieceQueue, ShardPiece, ShardWorker
from scanwise.errors import RunError
from scanwise.workers.ray_session import connected_ray
from tiny import Command
from tiny_bundles import write_scans_of

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
IN_OWN_NETWORK = Path(__file__).with_name("ray_in_own_network.py")


@pytest.fixture(scope="module")
def scans(build_once: BuildOnce) -> Path:
    return build_once("scans-of-kinds", write_scans_of)


@pytest.mark.extended
@pytest.mark.parametrize(
    "test", re.findall(r"^def (test_\w+)", IN_OWN_NETWORK.read_text(encoding="utf-8"), re.MULTILINE)
)
def test_in_a_network_of_its_own(test: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'b'}"]
    command = [*own_network(OUTSIDE), *pytest_command, f"{IN_OWN_NETWORK}::{test}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def asked(count: int) -> AskedScans:
    names = [str(row) for row in range(count)]
    return AskedScans([Path(name) for name in names], names, np.arange(count))


def answer_to(scans: AskedScans) -> MappedScans:
    """Rows whose logit is the number of the scan."""
    assert scans.tokens is not None
    logits = scans.tokens.astype(np.float32)[:, None, None]
    return MappedScans(len(scans), np.arange(len(scans)), list(scans.names), logits, None, None, ())


def test_the_scan_that_kills_is_found_and_its_neighbours_are_kept() -> None:
    """Deaths over a shard of 100 whose scans 37 and 99 kill: all others are answered, after few of them."""
    queue = PieceQueue([asked(100), asked(3)])
    whole, deaths = {}, 0
    while queue.waiting:
        piece = queue.waiting.popleft()
        rows = piece.scans.names
        if piece.shard == 0 and {"37", "99"} & set(rows):
            deaths += 1
            found = queue.lose(piece)
        else:
            found = queue.answer(piece, answer_to(piece.scans))
        if found is not None:
            whole[piece.shard] = found
    assert whole[0].quarantine == ((37, FATAL), (99, FATAL))
    assert whole[0].logits[:, 0, 0].tolist() == [row for row in range(100) if row not in (37, 99)]
    assert whole[1].logits[:, 0, 0].tolist() == [0, 1, 2]
    assert deaths <= 16


def test_a_shard_whose_worker_was_lost_once_is_asked_whole() -> None:
    piece = ShardPiece(3, 0, asked(2))
    (again,) = piece.after_death()
    assert (again.scans, again.shard) == (piece.scans, 3)


def test_where_workers_die_whatever_they_read_no_scan_is_blamed() -> None:
    queue, deaths = PieceQueue([asked(1000)]), 0
    while len(queue.waiting[0].scans) > 1 or deaths < 13:
        queue.lose(queue.waiting.popleft())
        deaths += 1
    with pytest.raises(RunError, match=r"memory.*--workers.*--resume"):
        queue.lose(queue.waiting.popleft())


def test_a_machine_without_the_model_or_the_scans_says_so_and_no_scan_is_blamed(demo_model: Path, scans: Path) -> None:
    digest = digest_of_model(demo_model)
    with pytest.raises(RunError, match="another model on"):
        ShardWorker(demo_model, "of another")
    worker = ShardWorker(demo_model, digest)
    (here,) = sorted(scans.iterdir())[:1]
    assert len(worker.map(AskedScans([here], ["a"], None)).kept) == 1
    with pytest.raises(RunError, match="/nowhere is not on"):
        worker.map(AskedScans([here, Path("/nowhere/b.png")], ["a", "b"], None))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:99999999"])
def test_a_cluster_that_is_not_there_is_said(
    address: str, demo_model: Path, scans: Path, tmp_path: Path, scanwise: Command
) -> None:
    out = tmp_path / "a.parquet"
    done = scanwise("predict", demo_model, scans, "--out", out, "--engine", "ray", "--cluster", address)
    assert done.code == 2
    assert f"no Ray cluster at {address}" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("constants", [None, True])
def test_ray_that_was_imported_before_to_listen_everywhere_is_refused(
    constants: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose constants are not known is not trusted either."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    known = ModuleType("ray._private.ray_constants")
    if constants is not None:
        known.ENABLE_RAY_CLUSTER = constants  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, known.__name__, known)
    with pytest.raises(RunError, match="would listen on all networks"), connected_ray("", 1):
        pass


def test_ray_that_is_not_installed_is_said(
    demo_model: Path, scans: Path, tmp_path: Path, scanwise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.delitem(sys.modules, "ray", raising=False)  # of another test
    monkeypatch.setattr(builtins, "__import__", without)
    done = scanwise("predict", demo_model, scans, "--out", tmp_path / "a.parquet", "--engine", "ray")
    assert done.code == 2
    assert "scanwise[ray]" in done.err
    for options in (["--engine", "ray"], ["--out", tmp_path / "a.csv", "--workers", 2]):
        assert scanwise("predict", demo_model, scans, *options).code == 2
