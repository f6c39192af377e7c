"""An audit of many scans: the same bytes for any size of block and any workers, and nothing left on disk."""

from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest
from PIL import Image

from scanwise import pipeline
from scanwise.auditing import copy_search
from scanwise.cohort import phantom_files, row_files
from scanwise.cohort.phantom import Phantom
from scanwise.workers import open_workers
from tiny import RECIPE

WRITTEN = ("findings.json", "copies.csv", "subjects.csv", "audit.html")


@pytest.fixture(scope="module")
def sided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 synthetic people with 5 slices each on two sides; a blank scan, an equal one, a mirrored one and a broken file among them."""
    folder = tmp_path_factory.mktemp("blocks")
    phantom_files.write_phantoms(folder / "cohort", Phantom(subjects=16, slices=5, size=64, seed=1))
    for index, file in enumerate(sorted((folder / "cohort" / "scans").rglob("*.png"))):
        place = folder / "sided" / ("test" if index % 4 == 0 else "train") / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        copyfile(file, place / file.name)
    own = min((folder / "sided" / "train").iterdir())
    first, second = sorted(own.glob("*.png"))[:2]
    copyfile(first, own / "again.png")
    with Image.open(second) as scan:
        Image.fromarray(np.asarray(scan)[:, ::-1]).save(own / "mirrored.png")
    Image.new("L", (64, 64), 9).save(own / "blank.png")
    (own / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder / "sided"


@pytest.mark.extended
def test_findings_have_the_same_bytes_for_any_size_of_block_and_any_workers(
    scanwise, sided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {}
    for block, piece, workers in ((1024, 1024, ()), (7, 64, ()), (100, 128, ()), (50, 64, ("--workers", "2"))):
        monkeypatch.setattr(row_files, "BLOCK", block)
        monkeypatch.setattr(copy_search, "PIECE", piece)
        monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / f"cache-{block}"))  # else the search would be kept
        out = tmp_path / f"out-{block}"
        said = scanwise("audit", sided, "--out", out, *workers)
        assert said.code == 1
        answers[block] = {name: (out / name).read_bytes() for name in WRITTEN}
        assert {entry.name for entry in (tmp_path / f"cache-{block}").iterdir()} == {"copies", "stores"}
    assert b"copies." in answers[1024]["findings.json"]
    for block, files in answers.items():
        for name, content in files.items():
            assert content.replace(f"out-{block}".encode(), b"out-1024") == answers[1024][name], (block, name)


@pytest.mark.extended
def test_a_fit_gives_its_search_for_copies_to_the_workers_it_is_told(
    scanwise, sided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, found = [], {}

    def counted(*, count: int):
        asked.append(count)
        return open_workers(count=count)

    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setattr(pipeline, "open_workers", counted)
    for count in (1, 2):
        monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / f"cache-{count}"))  # else the search would be kept
        context = pipeline.prepare(tmp_path / "tiny.yaml", data=sided, device="cpu", threads=1, workers=count)
        found[count] = context.audited.evidence.copies
    assert len(found[1]) > 0
    assert np.array_equal(found[1].rows, found[2].rows)
    assert np.array_equal(found[1].similarity, found[2].similarity)
    said = scanwise("fit", tmp_path / "tiny.yaml", "--data", sided, "--workers", "3", "--plan")
    assert said.code == 0
    assert asked == [1, 2, 3]
