"""The server as a process: it starts, answers many at once, finishes what it began, and ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs scanwise[serve]")
pytest.importorskip("prometheus_client", reason="needs scanwise[serve]")
httpx = pytest.importorskip("httpx")

import pydicom  # noqa: E402

from medical_files import shipped  # noqa: E402
from scanwise import bundle  # noqa: E402
from tiny import Command  # noqa: E402
from tiny_bundles import write_scans_of, write_tiny_bundle  # noqa: E402

CANARY = "Mustermann"
BuildOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture
def served(build_once: BuildOnce, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    folder = build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo"))
    command = [sys.executable, "-m", "scanwise", "serve", str(folder), "--port", "0", "--threads", "2"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    address = re.search(r"http://\S+", line)
    assert address, line + process.stderr.read()
    yield process, address.group()
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.extended
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

    until_ready(address)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, number) for number in range(16)]
        begun.wait()
        answers = [future.result() for future in asked]
    for number, text in answers:
        expected = loaded.predict([scans[number % len(scans)]]).to_json().rstrip()
        assert text.endswith(f'"answer": {expected}}}\n')
    for path in ("/", "/v1/health/ready"):
        head = httpx.head(f"{address}{path}")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(httpx.get(f"{address}{path}").content)
    form = {"content-type": "multipart/form-data; boundary=b"}
    assert (
        httpx.post(f"{address}/v1/predict", content=b"--x", headers=form).status_code == 400
    )  # and nothing is said of it
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == "Stopped. Every request that was accepted has its answer.\n"
    assert "Traceback" not in out + err
    assert str(scans[0]) not in out + err
    assert json.loads(answers[0][1])["answer"]["quarantine"] == []


@pytest.mark.extended
@pytest.mark.skipif(sys.platform != "linux", reason="finds the process of the model in /proc")
def test_a_model_that_is_killed_under_load_comes_back_and_no_name_is_left_anywhere(
    served: tuple[subprocess.Popen[str], str], build_once: BuildOnce, tmp_path: Path
) -> None:
    process, address = served
    scan = build_once("scans-of-kinds", write_scans_of) / "p00_0.png"
    header = pydicom.dcmread(shipped("MR_small.dcm"))
    header.PatientName, header.PatientID = f"{CANARY}^Erika", f"{CANARY}-7"
    header.PixelData = header.PixelData[:100]  # it is refused, in words that no header may supply
    header.save_as(tmp_path.parent / "canary.dcm")
    broken = (tmp_path.parent / "canary.dcm").read_bytes()
    about = {"about": json.dumps({"subjects": [f"{CANARY}-subject"] * 2})}
    sent = [("scans", (f"{CANARY}.png", scan.read_bytes())), ("scans", (f"{CANARY}.dcm", broken))]
    until_ready(address)
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                response = client.post(f"{address}/v1/predict", files=sent, data=about)
                statuses.append(response.status_code)
                assert response.status_code == 200 or CANARY not in response.text
                client.post(f"{address}/v1/predict", files=sent[1:], data=about)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(load) for _ in range(4)]
        while statuses.count(200) < 8:
            time.sleep(0.01)
        (model,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(model), signal.SIGKILL)
        while 503 not in statuses:
            time.sleep(0.01)
        until_ready(address)
        before = statuses.count(200)
        while statuses.count(200) < before + 8:
            time.sleep(0.01)
        stop.set()
        for client in clients:
            client.result()
    assert set(statuses) == {200, 503}
    counts = httpx.get(f"{address}/metrics").text
    assert "scanwise_restarts 1.0" in counts
    (folder,) = tmp_path.glob("scanwise-serve-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    left = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    for text in (counts, out, err, *(str(content) for content in left), *(str(path) for path in folder.rglob("*"))):
        assert CANARY not in text
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_opened_is_said(build_once: BuildOnce, tmp_path: Path, scanwise: Command) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo")), altered)
    recipe = altered / "recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8") + "#", encoding="utf-8")
    said = scanwise("serve", altered, "--port", "0")
    assert said.code == 2
    assert "recipe.yaml is not what scanwise wrote" in said.refusal


def until_ready(address: str) -> None:
    while httpx.get(f"{address}/v1/health/ready").status_code != 200:
        time.sleep(0.01)
