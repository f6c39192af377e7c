"""What the cohort tests share: a cache of their own, and a folder of small scans."""

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
