"""Augmented copies are found whichever way they were made; people who look alike, and slices side by side, are not copies."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from scanwise import registration
from scanwise.audit import copies
from scanwise.audit.evidence import Evidence
from scanwise.cohort import phantom, readers
from scanwise.records import Cohort, Split
from tiny import picture


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    made = replace(phantom.DEMO, subjects=15, slices=3, seed=4, size=160)
    return [Image.fromarray(image) for person in phantom.people(made) for image in phantom.draw(made, person).pixels]


def thumbnail(picture: Image.Image) -> np.ndarray:
    return readers.resize(np.asarray(picture.convert("L"))[:, :, None], registration.THUMBNAIL)[:, :, 0]


def changed(picture: Image.Image, how: str) -> Image.Image:
    side = picture.width
    if how == "mirrored":
        return ImageOps.mirror(picture)
    if how == "turned":
        return picture.rotate(17, Image.Resampling.BILINEAR)
    if how == "upright":
        return picture.rotate(90)
    if how == "moved":
        return picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, -7, 0, 1, 5), Image.Resampling.BILINEAR)
    if how == "zoomed":
        far = side / 1.1
        near = (side - far) / 2
        box = (near, near, near + far, near + far)
        return picture.transform(picture.size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    if how == "all":
        return ImageEnhance.Brightness(ImageOps.mirror(picture).rotate(-11, Image.Resampling.BILINEAR)).enhance(0.8)
    raise AssertionError(how)


KINDS = ("mirrored", "turned", "upright", "moved", "zoomed", "all")


def evidence(pixels: list[np.ndarray], labels: list[int], sides: list[str] | None) -> Evidence:
    stack = np.stack(pixels)
    path = np.array([f"{index:03d}.png" for index in range(len(pixels))])
    known = Cohort(
        root="", path=path, labels=np.array(labels), classes=("a", "b"), ordered=False, subject=path, subject_source="",
        sha256=path, pixels=path,
    )  # fmt: skip
    split = None if sides is None else Split(np.array(sides), "given", 0, "", leaky=False)
    return Evidence(known, stack, registration.descriptors(stack), split=split)


@pytest.mark.parametrize("how", KINDS)
def test_a_copy_is_found_with_its_origin_and_nothing_else(originals, how) -> None:
    pixels = [thumbnail(picture) for picture in originals]
    rows = list(range(0, 45, 5))
    pixels += [thumbnail(changed(originals[row], how)) for row in rows]
    found = copies.find(np.stack(pixels))
    pairs = {tuple(pair) for pair in found.rows.tolist()}
    right = {(row, 45 + index) for index, row in enumerate(rows)}
    assert len(pairs & right) >= 8
    assert not {pair for pair in pairs - right if pair[1] < 45}


def test_people_who_look_alike_and_slices_side_by_side_are_no_copies(originals) -> None:
    assert len(copies.find(np.stack([thumbnail(picture) for picture in originals]))) == 0


def test_copies_on_two_sides_leak_and_within_one_are_a_note(originals) -> None:
    pixels = [thumbnail(picture) for picture in originals] + [thumbnail(changed(originals[12], "all"))]
    pixels.append(thumbnail(changed(originals[40], "turned")))
    sides = ["train"] * 45 + ["test", "train"]
    found = {one.finding.check: one for one in copies.examine(evidence(pixels, [0] * 47, sides))}
    assert found["copies.sides"].finding.severity == "leak"
    assert set(found["copies.sides"].finding.scans) == {"012.png", "045.png"}  # and not the slices beside it
    assert "mirrored" in found["copies.sides"].picture.captions[0]
    assert found["copies.within"].finding.severity == "note"
    assert {"040.png", "046.png"} <= set(found["copies.within"].finding.scans)


def test_a_copy_under_another_label_is_a_warning(originals) -> None:
    pixels = [thumbnail(picture) for picture in originals] + [thumbnail(changed(originals[12], "turned"))]
    (found,) = copies.examine(evidence(pixels, [0] * 45 + [1], None))
    assert (found.finding.check, found.finding.severity) == ("copies.labels", "warning")


def test_too_few_scans_and_blank_ones_are_no_copies() -> None:
    blank = np.zeros((3, 104, 104), dtype=np.uint8)
    assert len(copies.find(blank)) == 0
    assert len(copies.find(blank[:1])) == 0


def test_simple_pictures_that_explain_each_other_are_no_copies() -> None:
    blobs = np.stack([thumbnail(picture(kind, 100 * kind + index)) for kind in range(3) for index in range(12)])
    found = copies.find(blobs)
    assert len(found) == 0
    assert found.least > copies.LEAST  # and it is known why: any two of them leave hardly anything unexplained


def test_noise_that_is_laid_over_one_spot_is_no_copy() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 104, 104), dtype=np.uint8)
    assert len(copies.find(noise)) == 0


def test_what_stands_out_is_said_where_pictures_are_simple() -> None:
    blobs = [thumbnail(picture(kind, 100 * kind + index)) for kind in range(3) for index in range(12)]
    (told,) = copies.examine(evidence(blobs, [0] * 36, None))
    assert (told.finding.check, told.finding.severity) == ("copies.simple", "note")
