"""What `scanwise serve` costs beside the bare model, and whether it stays whole under a long load. Loopback alone; it ends by itself.

    python benchmarks/serving.py [--requests 20000] [--rounds 3] [--seconds 8] [--torch] [--network mobilenetv2_100:128]

Figures, each side by side in one run, with the same files (PNG and DICOM of 256 × 256) and the same number of cores:

    16 clients       scans a second, over those of `Bundle.predict` in a bare loop of 64 scans at a time        bar: at least 0.9
    one client       95th percentile of its times, over the median of `Bundle.predict` of one scan             bar: at most 2
    memory           of all processes of the server (proportional), over the peak of `scanwise predict`         bar: at most 1.3
    without torch    the same in MiB, of an exported model                                                      bar: at most 400

Soak: 5 % corrupt files, 1 % bombs, 2 % cancelled, 1 % oversized, the others scans whose answer must have the bytes of the command.
Bars: none wrong, none hung, memory of the last quarter within 5 % of that after the first twentieth, open files as at the start.
Exit code 1 where a bar is missed.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
CLIENTS = 16
PATIENCE = 60.0
MOST_MEGABYTES = 4
SIDE = 256


class Client:
    """One connection, kept alive; requests are bytes that were prepared before, so that clients cost little."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket: socket.socket | None = None

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        for fresh in (False, True):
            if self.socket is None or fresh:
                self.close()
                self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused while it streams: read why
                    self.socket.sendall(request)
                return self._read(self.socket)
            except (EOFError, ConnectionError):
                if fresh:
                    raise
        raise EOFError

    def cancel(self, request: bytes) -> None:
        """Send a part and hang up."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as other:
            other.sendall(request[: len(request) // 2])

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def _read(self, stream: socket.socket) -> tuple[int, bytes]:
        content = b""
        while b"\r\n\r\n" not in content:
            content += self._some(stream)
        head, _, body = content.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:])
        while len(body) < int(fields["content-length"]):
            body += self._some(stream)
        if fields.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), body

    def _some(self, stream: socket.socket) -> bytes:
        if not (content := stream.recv(65536)):
            raise EOFError
        return content


def request_of(name: str, content: bytes, route: str = "/v1/predict") -> bytes:
    boundary = "b0undary"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="scans"; filename="{name}"\r\n\r\n'.encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    head = f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={boundary}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def write_scans(folder: Path, count: int) -> list[Path]:
    from medical_files import dataset

    folder.mkdir()
    random_numbers = np.random.default_rng(5)
    paths = []
    for number in range(count):
        small = Image.fromarray(random_numbers.integers(0, 256, (16, 16), np.uint8))
        pixels = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        path = folder / f"s{number:03d}.{'dcm' if number % 2 else 'png'}"
        if number % 2:
            dataset(pixels.astype(np.uint16) * 8).save_as(path, enforce_file_format=True)
        else:
            Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def bombs() -> list[bytes]:
    """A picture that claims 30,000 × 30,000 pixels, and a volume of a few kilobytes that unpacks to a gigabyte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    picture = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as file:
        header = bytearray(352)
        struct.pack_into("<i", header, 0, 348)
        struct.pack_into("<8h", header, 40, 3, 1024, 1024, 1024, 1, 1, 1, 1)
        struct.pack_into("<2h", header, 70, 2, 8)
        struct.pack_into("<f", header, 108, 352.0)
        header[344:348] = b"n+1\0"
        file.write(bytes(header))
        for _ in range(1024):
            file.write(bytes(2**20))
    return [picture, stream.getvalue()]


def make_model(folder: Path, network: str, exported: bool) -> Path:
    import tiny_bundles

    name, size = network.split(":")
    tiny_bundles.SIZE = int(size)
    tiny_bundles.KINDS["served"] = {"name": name}
    made = tiny_bundles.write_tiny_bundle(folder / "bundle", "served")
    if not exported:
        return made
    command = [
        sys.executable,
        "-m",
        "scanwise",
        "export",
        str(made),
        "--scans",
        str(folder / "scans"),
        "--out",
        str(folder / "exported"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "exported"


@contextlib.contextmanager
def serving(model: Path, cores: int) -> Iterator[tuple[int, int]]:
    """Number of the process, and its port."""
    command = [
        sys.executable, "-m", "scanwise", "serve", str(model), "--port", "0", "--threads", str(cores), "--most-megabytes",
        str(MOST_MEGABYTES),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline() if process.stderr else ""
    try:
        port = int(line.split(" ")[0].rsplit(":", 1)[1])
        until_ready(port)
        yield process.pid, port
    finally:
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
        if process.returncode or "Traceback" in err:
            print(err)
            raise SystemExit(1)


def until_ready(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while Client(port).ask(b"GET /v1/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[0] != 200:
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def _names(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def family(number: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii").split()
    threads = [Path(f"/proc/{number}/task/{task}/children") for task in map(int, _names(f"/proc/{number}/task"))]
    numbers = set(children)
    for thread in threads:
        with contextlib.suppress(OSError):
            numbers |= set(thread.read_text(encoding="ascii").split())
    return [number, *(below for child in numbers for below in family(int(child)))]


def memory(number: int) -> float:
    """MiB of a process and all below it; pages that some share count once."""
    total = 0
    for each in family(number):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii").splitlines()
            total += int(next(line.split()[1] for line in lines if line.startswith("Pss:")))
    return total / 1024


def open_files(number: int) -> int:
    return sum(len(_names(f"/proc/{each}/fd")) for each in family(number))


def clients_rate(port: int, requests: list[bytes], seconds: float) -> float:
    end = time.perf_counter() + seconds

    def load(first: int) -> int:
        client, count = Client(port), 0
        while time.perf_counter() < end:
            status, body = client.ask(requests[(first + count) % len(requests)])
            if status != 200:
                raise RuntimeError(f"refused with {status}: {body!r}")
            count += 1
        client.close()
        return count

    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        count = sum(pool.map(load, range(CLIENTS)))
    return count / (time.perf_counter() - begun)


def bare_rate(predict: Callable[[list[Path]], object], paths: list[Path], seconds: float) -> float:
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        predict(paths[:64])
        count += 64
    return count / (time.perf_counter() - begun)


def times(ask: Callable[[int], object], count: int) -> list[float]:
    each = []
    for number in range(count):
        begun = time.perf_counter()
        ask(number)
        each.append(time.perf_counter() - begun)
    return each


def peak_of_predict(model: Path, paths: list[Path]) -> float:
    """MiB; not by `getrusage`, which counts what this process held when it started the other."""
    code = (
        "import re, sys; from pathlib import Path; from scanwise.cli import main\n"
        "try: main()\n"
        "finally: print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "predict", str(model), *map(str, paths), "--format", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(ended.stderr.strip().splitlines()[-1]) / 1024


def soak(number: int, port: int, count: int, good: list[tuple[bytes, bytes]], bad: dict[str, list[bytes]]) -> bool:
    """Whether nothing went wrong."""
    kinds = random.Random(3).choices(["good", *bad, "cancelled"], [91, 5, 1, 1, 2], k=count)  # noqa: S311 - not a secret
    outcomes: Counter[str] = Counter()
    sizes: list[float] = []
    places = iter(range(count))
    lock = threading.Lock()
    fds = open_files(number)

    def one(client: Client, place: int) -> str:
        kind = kinds[place]
        request, expected = good[place % len(good)]
        if kind == "cancelled":
            client.cancel(request)
            return "cancelled"
        if kind == "good":
            status, body = client.ask(request)
            right = status == 200 and body.endswith(b'"answer": ' + expected + b"}\n")
            return "right" if right else f"wrong: {status}"
        status, _ = client.ask(bad[kind][place % len(bad[kind])])
        return kind if status == (413 if kind == "oversized" else 422) else f"wrong: {kind} {status}"

    def load(_: int) -> None:
        client = Client(port)
        while True:
            with lock:
                place = next(places, None)
                if place is not None and place and place % max(1, count // 20) == 0:
                    sizes.append(memory(number))
            if place is None:
                return client.close()
            try:
                outcome = one(client, place)
            except TimeoutError:
                outcome = "hung"
            except (OSError, EOFError) as error:
                outcome = f"wrong: {type(error).__name__}"
            with lock:
                outcomes[outcome] += 1

    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(load, range(CLIENTS)))
    seconds = time.perf_counter() - begun
    time.sleep(6)  # connections that nobody uses are closed after five
    growth = statistics.mean(sizes[-5:]) / sizes[0] if len(sizes) > 5 else float("nan")
    after = open_files(number)
    print(f"soak              {count} requests, {count / seconds:.0f} a second: {dict(outcomes)}")
    print(
        f"                  memory {sizes[0]:.0f} -> {sizes[-1]:.0f} MiB, last quarter {growth:.3f} of the first; open files {fds} -> {after}"
    )
    fine = not any(name.startswith(("wrong", "hung")) for name in outcomes)
    return fine and growth <= 1.05 and after <= fds


def killed(number: int, port: int, request: bytes) -> bool:
    """Whether the model, killed under load, is said to be away within two seconds and comes back."""
    stop = threading.Event()
    statuses: Counter[int] = Counter()

    def load(_: int) -> None:
        client = Client(port)
        while not stop.is_set():
            statuses[client.ask(request)[0]] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(load, client) for client in range(CLIENTS)]
        time.sleep(1)
        os.kill(family(number)[1], signal.SIGKILL)
        begun = time.perf_counter()
        away = back = None
        while back is None and time.perf_counter() - begun < PATIENCE:
            status = Client(port).ask(b"GET /v1/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[0]
            now = time.perf_counter() - begun
            away = now if status == 503 and away is None else away
            back = now if status == 200 and away is not None else None
            time.sleep(0.01)
        stop.set()
        for each in running:
            each.result()
    print(f"kill -9           503 after {away:.2f} s, ready after {back:.2f} s; statuses under load {dict(statuses)}")
    return away is not None and away <= 2 and back is not None and set(statuses) <= {200, 503}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--network", default="mobilenetv2_100:128")
    parser.add_argument("--torch", action="store_true", help="serve a bundle with torch, and not an exported model")
    given = parser.parse_args()
    from scanwise import bundle
    from scanwise.pipeline.commands.predict_files import predict_files

    cores = len(os.sched_getaffinity(0))
    bars: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = write_scans(folder / "scans", 64)
        model = make_model(folder, given.network, not given.torch)
        loaded = bundle.load(model)
        os.chdir(folder / "scans")
        expected = [predict_files(loaded, [Path(path.name)]).to_json().rstrip().encode() for path in paths]
        told = subprocess.run(
            [sys.executable, "-m", "scanwise", "predict", str(model), paths[0].name, "--format", "json"],
            capture_output=True, check=True,
        )  # fmt: skip
        bars["the command has the bytes of Python"] = told.stdout.rstrip() == expected[0]
        requests = [request_of(path.name, path.read_bytes()) for path in paths]
        peak = peak_of_predict(model, paths)
        with serving(model, cores) as (number, port):
            rates, singles, medians = [], [], []
            client = Client(port)
            for _ in range(given.rounds):
                bare = bare_rate(loaded.predict, paths, given.seconds)  # type: ignore[arg-type]
                rates.append((clients_rate(port, requests, given.seconds), bare))
                alone = times(lambda place: loaded.predict([paths[place % 64]]), 100)
                answered = times(lambda place: client.ask(requests[place % 64]), 100)
                singles.append(sorted(answered)[94] / statistics.median(alone))
                medians.append(statistics.median(answered) / statistics.median(alone))
            best = max(rates, key=lambda pair: pair[0] / pair[1])
            ratio, single = best[0] / best[1], min(singles)
            print(
                f"{cores} cores, {given.network}, {'torch' if given.torch else 'ONNX Runtime'}; best of {given.rounds} rounds"
            )
            print(f"16 clients        {best[0]:.1f} of {best[1]:.1f} scans/s: {ratio:.2f}")
            print(f"one client        95th percentile {single:.2f} times the bare median; median {min(medians):.2f}")
            used = memory(number)
            print(f"memory            {used:.0f} MiB, predict {peak:.0f} MiB: {used / peak:.2f}")
            bars |= {"16 clients": ratio >= 0.9, "one client": single <= 2, "memory": used <= 1.3 * peak}
            if not given.torch:
                bars["without torch"] = used <= 400
            bad = {
                "corrupt": [request_of("x.png", paths[0].read_bytes()[:700]), request_of("x", b"no picture"), request_of("x.dcm", paths[1].read_bytes()[:900])],
                "bomb": [request_of("x", content) for content in bombs()],
                "oversized": [request_of("x", bytes(MOST_MEGABYTES * 2**20 + 1))],
            }  # fmt: skip
            if given.requests:
                bars["soak"] = soak(number, port, given.requests, list(zip(requests, expected, strict=True)), bad)
            bars["kill -9"] = killed(number, port, requests[0])
    missed = [name for name, held in bars.items() if not held]
    print(json.dumps({"missed": missed}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
