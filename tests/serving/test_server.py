"""The server as a process: it starts, answers many at once, finishes what it began, and ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs scanwise[serve]")
pytest.importorskip("prometheus_client", reason="needs scanwise[serve]")
httpx = pytest.importorskip("httpx")

from scanwise import bundle  # noqa: E402
from tiny_bundles import write_scans_of, write_tiny_bundle  # noqa: E402

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture
def served(build_once: BuildOnce) -> Iterator[tuple[subprocess.Popen[str], str]]:
    folder = build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))
    command = [sys.executable, "-m", "scanwise", "serve", str(folder), "--port", "0", "--threads", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    line = process.stderr.readline()
    address = re.search(r"http://\S+", line)
    assert address, line + process.stderr.read()
    yield process, address.group()
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_sixteen_clients_get_the_bytes_of_one_and_a_stop_loses_none(
    served: tuple[subprocess.Popen[str], str], build_once: BuildOnce
) -> None:
    process, address = served
    scans = sorted(build_once("scans-of-kinds", write_scans_of).iterdir())
    folder = build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))
    loaded = bundle.load(folder)
    begun = threading.Barrier(17)

    def ask(number: int) -> tuple[int, str]:
        path = scans[number % len(scans)]
        with httpx.Client(timeout=60) as client:
            assert client.get(f"{address}/v1/health/live").status_code == 200
            begun.wait()
            answers = [client.post(f"{address}/v1/predict", files=[("scans", (str(path), path.read_bytes()))])]
        return number, answers[0].text

    while httpx.get(f"{address}/v1/health/ready").status_code != 200:
        pass
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, number) for number in range(16)]
        begun.wait()
        answers = [future.result() for future in asked]
    for number, text in answers:
        expected = loaded.predict([scans[number % len(scans)]]).to_json().rstrip()
        assert text.endswith(f'"answer": {expected}}}\n')
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 143), err
    assert "Traceback" not in out + err
    assert str(scans[0]) not in out + err
    assert json.loads(answers[0][1])["answer"]["quarantine"] == []
