"""What an optional feature needs is named where it is missing, as advice and not as a fault of scanwise."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny_bundles import write_scans_of, write_tiny_bundle

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
NEEDS = {  # a package of the extra that is not there, the extra, and the command after its model
    "serve": ("fastapi", "serve", ["serve", "{model}", "--port", "0"]),
    "the counts of serve": ("prometheus_client", "serve", ["serve", "{model}", "--port", "0"]),
    "receive": ("pynetdicom", "dicom", ["receive", "{model}", "--spool", "{out}", "--allow", "A"]),
    "predict --dicom-out": ("highdicom", "dicom", ["predict", "{model}", "{scans}", "--dicom-out", "{out}"]),
    "predict --engine ray": ("ray", "ray", ["predict", "{model}", "{scans}", "--engine", "ray", "--out", "{out}.csv"]),
    "predict from S3": ("s3fs", "s3", ["predict", "{model}", "s3://bucket/scans"]),
}

WITHOUT = """
import sys


class Away:
    @staticmethod
    def find_spec(name, *_):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)


sys.meta_path.insert(0, Away)
sys.argv[1:] = {arguments!r}
import scanwise.cli

scanwise.cli.main()
"""


@pytest.mark.parametrize(("package", "extra", "command"), NEEDS.values(), ids=NEEDS)
def test_a_missing_extra_is_advice(
    package: str, extra: str, command: list[str], build_once: BuildOnce, tmp_path: Path
) -> None:
    places = {
        "model": build_once("kind-demo", lambda folder: write_tiny_bundle(folder, "demo")),
        "scans": build_once("scans-of-kinds", write_scans_of),
        "out": tmp_path / "out",
    }
    arguments = [part.format_map(places) for part in command]
    start = WITHOUT.format(package=package, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert f"pip install 'scanwise[{extra}]'" in done.stderr
