"""A run in a bucket: killed here, it goes on elsewhere; what cannot be written is said before anything is computed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanwise.cohort.remote import mirror_folder
from scanwise.errors import DataError, RunError, StorageError
from scanwise.pipeline import remote_run
from tiny import Command, Fill, post

s3fs = pytest.importorskip("s3fs")

URL = "s3://bucket/runs/a"
CHECKPOINTS = f"{URL}/fits/honest/0/checkpoints"
PATIENT = "train.epochs=4"


def names(s3: Any) -> set[str]:
    s3.invalidate_cache()
    return {name.removeprefix("bucket/runs/a/") for name in s3.find("bucket/runs/a")}


@pytest.mark.extended
def test_a_run_that_was_killed_goes_on_from_the_bucket(
    s3: Any, fill: Fill, tiny_recipe: Path, tmp_path: Path, scanwise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fill(tmp_path / "data", {"a": 16, "b": 16}, slices=2)
    told = ["--data", data, "--subject", r"([ab]\d+)_", "--set", PATIENT, "--device", "cpu", "--threads", 1]
    fit = ["fit", tiny_recipe, *told, "--out", URL]
    first = subprocess.Popen([sys.executable, "-m", "scanwise", *map(str, fit)], stderr=subprocess.PIPE)
    until = time.monotonic() + 240
    while f"{CHECKPOINTS.removeprefix(URL + '/')}/last.ckpt" not in names(s3):
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.25)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert "bundle/bundle.json" not in names(s3)
    shutil.rmtree(tmp_path / "cache")  # another machine, where nothing is known

    refused = scanwise(*fit)
    assert refused.code == 2
    assert "already holds a run" in refused.refusal
    said = scanwise(*fit, "--resume")
    assert said.code == 0, said.err
    assert "resuming after epoch" in said.err
    assert URL in said.out
    assert scanwise("fit", tiny_recipe, *told, "--out", tmp_path / "here").code == 0
    here = {str(file.relative_to(tmp_path / "here")) for file in (tmp_path / "here").rglob("*") if file.is_file()}
    assert names(s3) == here
    for file in ("fits/honest/0/model.safetensors", "tables/predictions.csv", "metrics.json"):
        assert s3.cat(f"{URL}/{file}") == (tmp_path / "here" / file).read_bytes()
    scan = next((data / "a").iterdir())
    away, near = (
        scanwise("predict", run, scan, "--format", "csv", "--device", "cpu") for run in (URL, tmp_path / "here")
    )
    assert away.code == 0, away.err
    assert away.out == near.out


def test_wrong_credentials_are_said_before_anything_is_read(
    s3: Any, server: str, scanwise: Command, tiny_recipe: Path, fill: Fill, tmp_path: Path
) -> None:
    data = fill(tmp_path / "data", {"a": 3, "b": 3})
    post(f"{server}/moto-api/reset-auth", b"0")  # from now on moto knows nobody
    try:
        s3fs.S3FileSystem.clear_instance_cache()
        said = scanwise("fit", tiny_recipe, "--data", data, "--out", URL)
        with pytest.raises(DataError, match="credentials"):
            mirror_folder("s3://bucket/scans")
    finally:
        post(f"{server}/moto-api/reset-auth", b"inf")
    assert said.code == 2
    assert URL in said.refusal
    assert "credentials" in said.refusal
    assert "\n" not in said.refusal
    assert not (tmp_path / "cache" / "stores").exists()


def test_a_bucket_that_is_not_there_is_said(s3: Any) -> None:
    with pytest.raises(StorageError, match=r"s3://absent/a cannot be (written|reached)"):
        remote_run.RemoteRun.open("s3://absent/a")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[remote_run.RemoteRun]:
    import fsspec

    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path))
    yield remote_run.RemoteRun.open("memory://runs/b")
    fsspec.filesystem("memory").rm("/runs", recursive=True)


def test_only_what_changed_is_sent_in_the_order_it_was_written(
    place: remote_run.RemoteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    put = place.filesystem.put_file
    monkeypatch.setattr(place.filesystem, "put_file", lambda one, two: (sent.append(Path(one).name), put(one, two)))
    for index, name in enumerate(("z.txt", "a.txt", ".part", "features/large")):
        (place.folder / name).parent.mkdir(exist_ok=True)
        (place.folder / name).write_text(name)
        os.utime(place.folder / name, (index, index))
    place.send()
    assert sent == ["z.txt", "a.txt"]
    (place.folder / "z.txt").write_text("new")
    (place.folder / "a.txt").unlink()
    place.send()
    assert sent == ["z.txt", "a.txt", "z.txt"]
    assert place.filesystem.find("/runs/b") == ["/runs/b/z.txt"]
    again = remote_run.RemoteRun.open("memory://runs/b", resume=True)
    assert (again.folder / "z.txt").read_text() == "new"
    with pytest.raises(RunError, match="already holds a run"):
        remote_run.RemoteRun.open("memory://runs/b")


def test_a_line_that_breaks_stops_no_training_but_is_told_at_the_end(
    place: remote_run.RemoteRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> None:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(remote_run.time, "sleep", lambda _: None)
    (place.folder / "a.txt").write_text("a")
    with monkeypatch.context() as patch:
        patch.setattr(place.filesystem, "put_file", breaks)
        place.send()
        assert "tried again" in caplog.text
        with pytest.raises(StorageError, match=f"the line is dead.*{place.folder}"):
            place.finish()
    place.finish()
    assert place.filesystem.cat("/runs/b/a.txt") == b"a"
