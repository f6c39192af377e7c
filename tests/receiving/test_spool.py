"""What stands in a spool is read by the version that wrote it, and by later ones."""

from pathlib import Path

import pytest

from scanwise.errors import RunError
from scanwise.migrations import FORMATS
from scanwise.receiving.spool import STATE, SeriesVersion, Spool, SpooledSeries
from scanwise.run import read_json, write_json


def test_a_spool_of_a_newer_version_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "series" / "a"
    folder.mkdir(parents=True)
    SpooledSeries("a", folder, versions=[SeriesVersion(["x"])]).save()
    with Spool(tmp_path).opened():
        pass
    state = read_json(folder / STATE)
    state["versions"][0]["of_a_later_version"] = 1
    write_json({**state, "format": FORMATS["spool"] + 1}, folder / STATE)
    with pytest.raises(RunError, match=r"format 2 \(spool\).*Update scanwise"), Spool(tmp_path).opened():
        pass
