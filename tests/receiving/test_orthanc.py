"""A round trip through Orthanc: images by C-STORE, results back by C-STORE and by STOW-RS."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="needs scanwise[dicom]")

from medical_files import NAMES
from own_network import own_network
from tiny_bundles import write_tiny_bundle

SCRIPT = Path(__file__).with_name("orthanc_round_trip.py")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.mark.extended
def test_results_come_back_to_orthanc(tmp_path: Path) -> None:
    if shutil.which("Orthanc") is None or not PLUGIN.is_file():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed (orthanc, orthanc-dicomweb)")
    model = write_tiny_bundle(tmp_path / "bundle", "demo")
    done = subprocess.run(
        [*own_network(), sys.executable, SCRIPT, tmp_path, model],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "orthanc.log").read_text(errors="replace")[-3000:]
    returned = json.loads(done.stdout.splitlines()[-1])
    for number, way in ((1, "store"), (2, "web")):
        person = f"{NAMES['PatientID']}-{number}"
        assert returned[way] == [f"{kind}:{person}" for kind in ["MR"] * 3 + ["OT"] * 4 + ["SR"]]
    assert not [name for name in NAMES.values() if name in done.stderr]
