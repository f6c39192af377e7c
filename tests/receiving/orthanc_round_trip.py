"""A round trip through Orthanc, for a network namespace of its own: Debian's Orthanc listens at all addresses, whatever its settings say.

    unshare --net python orthanc_round_trip.py FOLDER MODEL

The archive sends a series to a receiver by C-STORE; the result comes back by C-STORE for one series and by STOW-RS for another.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from senders import image, send

from scanwise.receiving.destinations import parse_destinations
from scanwise.receiving.receiver import ReceiverSettings, open_receiver
from scanwise.receiving.spool import Spool
from scanwise.receiving.storage import StorageAddress

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
WEB, STORE, OWN = 8042, 4242, 11112


def raise_loopback() -> None:
    """Bring up the loopback of this namespace, which must have no other address."""
    assert [name for _, name in socket.if_nameindex()] == ["lo"], "not in a network namespace of its own"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))  # SIOCSIFFLAGS: up, running


def ask(path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{WEB}{path}", data, timeout=20) as answer:
        return json.loads(answer.read())


def wait_for(condition: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)


def modalities(number: int) -> list[str]:
    """Modalities of the objects in the study of a series."""
    found = ask("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": f"1.2.9.{number}"}})
    instances = [entry for study in found for entry in ask(f"/studies/{study}/instances?simplify")]
    return sorted(
        ask(f"/instances/{entry['ID']}/simplified-tags")["Modality"]
        + ":"
        + ask(f"/instances/{entry['ID']}/simplified-tags")["PatientID"]
        for entry in instances
    )


def trip(folder: Path, model: Path, number: int, entities: list[str], urls: list[str]) -> list[str]:
    """Modalities in the study of a series, after its result has come back."""
    assert send(STORE, [image(number, slice_) for slice_ in range(3)], called="ORTHANC") == [0] * 3
    (series,) = ask("/tools/find", {"Level": "Series", "Query": {"SeriesInstanceUID": f"1.2.9.{number}.1"}})
    settings = ReceiverSettings(StorageAddress("SCANWISE", ("ORTHANC",), port=OWN), quiet=0.5, retry=0.2)
    receiver = open_receiver(
        model, Spool(folder / f"spool{number}", 0), settings, parse_destinations(entities, urls, "SCANWISE")
    )
    stop, opened = threading.Event(), threading.Event()
    thread = threading.Thread(target=receiver.run, args=(stop.is_set, lambda _: opened.set()))
    thread.start()
    try:
        assert opened.wait(20)
        assert (
            ask("/modalities/scanwise/store", {"Resources": [series], "Synchronous": True})["FailedInstancesCount"] == 0
        )
        wait_for(lambda: len(modalities(number)) == 3 + 5)
        wait_for(lambda: all(not state["problem"] for state in deliveries(folder / f"spool{number}")))
    finally:
        stop.set()
        thread.join()
    return modalities(number)


def deliveries(spool: Path) -> list[Any]:
    states = [json.loads(file.read_text(encoding="utf-8")) for file in spool.glob("series/*/state.json")]
    return [way for state in states for version in state["versions"] for way in version["deliveries"].values()]


def main(folder: Path, model: Path) -> None:
    raise_loopback()
    settings = {
        "StorageDirectory": str(folder / "orthanc"), "IndexDirectory": str(folder / "orthanc"), "HttpPort": WEB, "DicomPort": STORE,
        "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)],
        "DicomModalities": {"scanwise": ["SCANWISE", "127.0.0.1", OWN]}, "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        orthanc = subprocess.Popen(["Orthanc", folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        wait_for(lambda: ask("/system"))
        by_store = trip(folder, model, 1, [f"ORTHANC@127.0.0.1:{STORE}"], [])
        by_web = trip(folder, model, 2, [], [f"http://127.0.0.1:{WEB}/dicom-web"])
        sys.stdout.write(json.dumps({"store": by_store, "web": by_web}) + "\n")
    finally:
        orthanc.terminate()
        orthanc.wait(20)


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
