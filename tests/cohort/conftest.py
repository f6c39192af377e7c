"""What the cohort tests share: a cache of their own, and a folder of small scans."""

import os
from pathlib import Path

import pytest
from cohort_scans import Scans


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stores and mirrors go to the test's own folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SCANWISE_CACHE", str(folder))
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Scans:
    return Scans(tmp_path / "scans")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scans."""
    folder = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[3] / "shared") / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set SCANWISE_SHARED to the folder of real scans")
    return folder
