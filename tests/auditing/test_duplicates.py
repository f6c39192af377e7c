"""The same scan twice is found, however it was saved; people who look alike and slices that lie beside each other are not."""

import io
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scan_cases
from PIL import Image

from scanwise import registration
from scanwise.auditing import duplicates
from scanwise.auditing.evidence import Evidence
from scanwise.cohort import phantom
from scanwise.cohort.decoding import readers
from scanwise.records import Cohort, Split


def heads(count: int, slices: int = 3, seed: int = 0) -> list[np.ndarray]:
    made = replace(phantom.DEMO, subjects=count, slices=slices, seed=seed, size=208)
    return [image for person in phantom.people(made) for image in phantom.draw_brain(made, person).pixels]


def saved(image: np.ndarray, how: str) -> bytes:
    picture, stream = Image.fromarray(image), io.BytesIO()
    if how == "half":
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BILINEAR)
    if how == "png":
        picture.save(stream, "PNG")
    else:
        picture.save(stream, "JPEG", quality={"q95": 95, "q60": 60}.get(how, 95))
    return stream.getvalue()


def evidence(files: list[bytes], labels: list[int], sides: list[str] | None = None) -> Evidence:
    scans = [readers.read_scan(data, registration.THUMBNAIL) for data in files]
    pixels = np.stack([scan.pixels[:, :, 0] for scan in scans])
    path = np.array([f"{index:03d}.png" for index in range(len(files))])
    known = Cohort(
        root="", path=path, labels=np.array(labels), classes=("a", "b"), ordered=False, subject=path, subject_source="",
        sha256=np.array([scan.sha256 for scan in scans]), pixels=np.array([scan.digest for scan in scans]),
    )  # fmt: skip
    split = None if sides is None else Split(np.array(sides), "given", 0, "", leaky=False)
    return Evidence(known, pixels, registration.descriptors(pixels), split=split)


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    return heads(20)


def test_different_people_and_neighbouring_slices_are_no_duplicates(originals) -> None:
    assert duplicates.examine(evidence([saved(image, "q95") for image in originals], [0] * 60)) == []


def test_exact_copies_are_found_in_whatever_file(originals) -> None:
    files = [saved(image, "png") for image in originals]
    stream = io.BytesIO()
    Image.fromarray(originals[7]).save(stream, "BMP")
    (found,) = duplicates.examine(evidence([*files, stream.getvalue()], [0] * 61))
    assert found.finding.check == "duplicates.exact.twice"
    assert found.finding.scans == ("007.png", "060.png")


@pytest.mark.parametrize("how", ["q95", "q60", "half"])
def test_recompressed_and_resized_copies_are_found_and_nothing_else(originals, how) -> None:
    files = [saved(image, "png") for image in originals]
    files += [saved(originals[row], how) for row in (3, 30, 55)]
    (found,) = duplicates.examine(evidence(files, [0] * 63))
    assert found.finding.check == "duplicates.near.twice"
    assert found.finding.severity == "note"
    assert sorted(found.finding.scans) == ["003.png", "030.png", "055.png", "060.png", "061.png", "062.png"]


def test_one_scan_on_two_sides_leaks_and_under_two_labels_is_a_conflict(originals) -> None:
    files = [saved(image, "png") for image in originals] + [saved(originals[0], "png"), saved(originals[1], "q60")]
    labels, sides = [0] * 60 + [0, 1], ["train"] * 60 + ["test", "train"]
    found = {noted.finding.check: noted.finding for noted in duplicates.examine(evidence(files, labels, sides))}
    assert set(found) == {"duplicates.exact.sides", "duplicates.near.labels"}
    assert found["duplicates.exact.sides"].severity == "leak"
    assert found["duplicates.near.labels"].scans == ("001.png", "061.png")


def test_a_scan_that_no_side_uses_leaks_nothing(originals) -> None:
    files = [saved(image, "png") for image in originals] + [saved(originals[0], "png")]
    (found,) = duplicates.examine(evidence(files, [0] * 61, ["train"] * 60 + [""]))
    assert found.finding.severity != "leak"


def test_blank_scans_are_no_duplicates_of_each_other() -> None:
    blank = saved(np.zeros((64, 64), np.uint8), "png")
    assert duplicates.examine(evidence([blank] * 3, [0] * 3)) == []


def test_photos_that_are_called_exactly_the_same_are_equal_pixel_by_pixel() -> None:
    """The digest is of decoded pixels; each pair is held against the pixels themselves, and no equal pair is missed."""
    folder = scan_cases.real("fashion") / "images"
    by_size: dict[int, list[Path]] = {}
    for file in sorted(folder.glob("*.jpg")):
        by_size.setdefault(file.stat().st_size, []).append(file)
    several = [file for files in by_size.values() if len(files) > 1 for file in files][:240]
    found = duplicates.exact_duplicates(evidence([file.read_bytes() for file in several], [0] * len(several)).cohort)
    pixels = [np.asarray(Image.open(file).convert("RGB")) for file in several]
    told = {pair for rows in found for pair in combinations(rows.tolist(), 2)}
    assert told
    pairs = combinations(range(len(several)), 2)
    assert told == {(one, other) for one, other in pairs if np.array_equal(pixels[one], pixels[other])}
