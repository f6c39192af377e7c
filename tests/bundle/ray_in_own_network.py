"""What starts Ray. `test_ray_engine.py` runs each of these in a network namespace of its own, with a way out where nobody answers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scanwise import bundle
from scanwise.bundle import ray_engine
from scanwise.bundle.contents import digest_of_model
from scanwise.bundle.mapping import AskedScans, MappedScans
from scanwise.bundle.shards import ShardFolder
from scanwise.cohort import phantom_files, row_files
from scanwise.cohort.phantom import Phantom
from scanwise.errors import RunError
from scanwise.workers.ray_session import connected_ray
from tiny import Command
from tiny_bundles import write_scans_of

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="module")
def scans(build_once: BuildOnce) -> Path:
    return build_once("scans-of-kinds", write_scans_of)


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Home and temporary folder of the test, both empty when it ends; only here is Ray started."""
    assert [name for _, name in socket.if_nameindex() if name not in ("lo", "outside", "beyond")] == []
    temporary = Path(f"/tmp/r{os.getpid()}")  # noqa: S108 - names of sockets are short
    temporary.mkdir(mode=0o700)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []
    temporary.rmdir()


def sent() -> int:
    """Packets that left by the way out."""
    counts = dict(line.split(":") for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:])
    return int({name.strip(): values for name, values in counts.items()}["outside"].split()[9])


def listening() -> list[str]:
    """Addresses of this namespace, in hexadecimal, at which something listens or takes datagrams."""
    found = []
    for kind, states in (("tcp", {"0A"}), ("tcp6", {"0A"}), ("udp", {"07"}), ("udp6", {"07"})):
        lines = Path(f"/proc/net/{kind}").read_text(encoding="ascii").splitlines()[1:]
        found += [words[1].partition(":")[0] for words in map(str.split, lines) if words[3] in states]
    return found


def test_ray_listens_on_loopback_and_asks_nobody_outside() -> None:
    assert sent() == 0
    with connected_ray("", 2) as ray:
        (session,) = Path(os.environ["TMPDIR"]).glob("scanwise-*/ray/session_2*")
        assert session.parents[1].stat().st_mode & 0o777 == 0o700
        assert ray.get(ray.remote(num_cpus=1)(lambda: os.getpid()).remote()) != os.getpid()
        deadline = time.monotonic() + 60
        while not any(
            "Usage reporting is disabled" in file.read_text() for file in session.glob("logs/dashboard*.log")
        ):
            assert time.monotonic() < deadline, "the process that asks a cloud for its metadata did not start"
            time.sleep(0.2)
        found = set(listening())
        assert found
        assert found <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert sent() == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packet:  # the count would have told
        packet.sendto(b"", ("8.8.8.8", 53))
    time.sleep(0.2)
    assert sent() > 0


def test_ray_that_was_imported_to_listen_everywhere_is_refused() -> None:
    import ray

    assert not ray.is_initialized()
    with pytest.raises(RunError, match="RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0"), connected_ray("", 1):
        pass
    assert not ray.is_initialized()


def test_any_number_of_workers_and_size_of_shards_has_the_bytes_of_one_process(
    demo_model: Path, scans: Path, tmp_path: Path, scanwise: Command
) -> None:
    command = ["predict", demo_model, scans, "--subject", r"(p\d+)_", "--format", "json", "--out"]
    assert scanwise(*command, tmp_path / "local.json").code == 0
    answer = json.loads((tmp_path / "local.json").read_bytes())
    assert answer["subjects"]
    for workers, shard in ((1, 1000), (2, 5), (4, 3)):
        out = tmp_path / f"{workers}.json"
        done = scanwise(*command, out, "--engine", "ray", "--workers", workers, "--shard", shard)
        assert done.code == 0, done.err
        assert "uthentication" not in done.err
        assert out.read_bytes() == (tmp_path / "local.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.json", "2.json", "4.json", "home", "local.json"]


def test_workers_fetch_scans_at_a_url_with_the_credentials_of_the_environment(
    s3: Any, demo_model: Path, scans: Path, tmp_path: Path, scanwise: Command
) -> None:
    s3.put(f"{scans}/", "bucket/scans/", recursive=True)
    s3.pipe("bucket/all.csv", "\n".join(["path", *(f"scans/{path.name}" for path in scans.iterdir())]).encode())
    for number, source in enumerate((["s3://bucket/scans"], ["--manifest", "s3://bucket/all.csv"])):
        command = ["predict", demo_model, *source, "--subject", r"(p\d+)_", "--format", "json", "--shard", 5, "--out"]
        out = [tmp_path / f"{number}-{engine}.json" for engine in ("local", "ray")]
        for file, options in zip(out, ([], ["--engine", "ray", "--workers", 2]), strict=True):
            done = scanwise(*command, file, *options)
            assert done.code == 0, done.err
            assert "not used" not in done.err
        assert out[0].read_bytes() == out[1].read_bytes()


def test_an_audit_has_the_bytes_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanwise: Command
) -> None:
    phantom_files.write_phantoms(tmp_path / "cohort", Phantom(subjects=12, slices=5, size=64, seed=1))
    monkeypatch.setattr(row_files, "BLOCK", 50)
    answers = []
    for engine in ("local", "ray"):
        monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / f"cache-{engine}"))  # else the search would be kept
        out = tmp_path / engine
        done = scanwise("audit", tmp_path / "cohort" / "scans", "--out", out, "--engine", engine, "--workers", 2)
        assert done.code in (0, 1), done.err
        answers.append([(out / name).read_bytes() for name in ("findings.json", "copies.csv", "subjects.csv")])
    assert answers[0] == answers[1]


def test_a_cluster_that_runs_is_joined(demo_model: Path, scans: Path, tmp_path: Path) -> None:
    place = Path(os.environ["TMPDIR"]) / "head"
    head = [
        sys.executable,
        "-c",
        "from ray.scripts.scripts import main; main()",
        "start",
        "--head",
        "--block",
        "--port=6399",
        "--num-cpus=2",
    ]
    flags = [
        "--node-ip-address=10.9.9.2",
        "--include-dashboard=false",
        "--disable-usage-stats",
        f"--temp-dir={place}",
    ]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}
    with subprocess.Popen([*head, *flags], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for_port("10.9.9.2", 6399)
            command = [sys.executable, "-m", "scanwise", "predict", str(demo_model), scans.name]
            command += ["--subject", r"(p\d+)_"]
            ray = ["--engine", "ray", "--cluster", "10.9.9.2:6399", "--shard", "5"]
            for name, options in (("local", []), ("ray", ray)):
                whole = [*command, "--out", str(tmp_path / f"{name}.parquet"), *options]
                done = subprocess.run(
                    whole, env=environment, capture_output=True, text=True, check=False, cwd=scans.parent
                )
                assert done.returncode == 0, done.stderr
            assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
        finally:
            process.terminate()
            process.wait(30)
    subprocess.run(["rm", "-r", str(place)], check=True)


def wait_for_port(host: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return


def mortal(died: Path, fatal: frozenset[str]) -> Any:
    """Workers of which one dies once, over p01_1, and others at each sight of some scans."""

    class MortalWorker(ray_engine.ShardWorker):
        def map(self, shard: AskedScans) -> MappedScans:
            names = {Path(name).name for name in shard.names}
            if ("p01_1.png" in names and not died.exists()) or names & fatal:
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().map(shard)

    MortalWorker.__module__ = "__main__"  # sent by value
    return MortalWorker


@pytest.mark.parametrize("fatal", [frozenset(), frozenset({"p04_2.png"})])
def test_a_worker_killed_midway_changes_no_byte_and_a_scan_that_kills_is_quarantined(
    fatal: frozenset[str], demo_model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "ShardWorker", mortal(tmp_path / "died", fatal))
    loaded, paths = bundle.load(demo_model), sorted(scans.iterdir())
    subjects = [path.stem[:3] for path in paths]
    digest = digest_of_model(demo_model)
    (tmp_path / "shards").mkdir()
    shards = ShardFolder(tmp_path / "shards", digest, 7, ray_engine.RayEngine(demo_model, digest, 2, ""))
    answer = loaded.predict(paths, subjects, shards=shards)
    kept = [row for row, path in enumerate(paths) if path.name not in fatal]
    whole = loaded.predict([paths[row] for row in kept], [subjects[row] for row in kept])
    assert answer.scans.rows() == whole.scans.rows()
    assert answer.subjects is not None
    assert whole.subjects is not None
    assert answer.subjects.rows() == whole.subjects.rows()
    assert answer.quarantine == tuple((str(scans / name), ray_engine.FATAL) for name in fatal)
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("limit", ["of the machine", "of the worker"])
def test_a_worker_without_memory_is_said_and_no_scan_is_blamed(
    limit: str, demo_model: Path, scans: Path, tmp_path: Path, scanwise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit == "of the machine":  # Ray ends workers of a machine whose memory is nearly full
        monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
        monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "20")
    else:
        monkeypatch.setattr(ray_engine, "ShardWorker", greedy())
    out = tmp_path / "a.parquet"
    done = scanwise("predict", demo_model, scans, "--out", out, "--engine", "ray", "--workers", 1)
    assert done.code == 2
    assert "had not enough memory" in done.refusal
    assert "--workers" in done.refusal
    assert not out.exists()


def greedy() -> Any:
    """Workers that want more memory than they may have."""

    class GreedyWorker(ray_engine.ShardWorker):
        def map(self, shard: AskedScans) -> MappedScans:
            import resource

            import numpy as np

            used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))
            np.ones(2**28)
            return super().map(shard)

    GreedyWorker.__module__ = "__main__"
    return GreedyWorker
