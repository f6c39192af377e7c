"""Augmented copies are found whichever way they were made; people who look alike, and slices side by side, are not copies."""

from dataclasses import replace

import numpy as np
import pytest
import scan_cases
from PIL import Image, ImageEnhance, ImageOps

from scanwise import registration
from scanwise.audit import copies
from scanwise.audit.evidence import Evidence
from scanwise.cohort import phantom
from scanwise.cohort.decoding import readers
from scanwise.records import Cohort, Split
from tiny import picture


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    made = replace(phantom.DEMO, subjects=15, slices=3, seed=4, size=160)
    return [
        Image.fromarray(image) for person in phantom.people(made) for image in phantom.draw_brain(made, person).pixels
    ]


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
    found = copies.find_copies(np.stack(pixels))
    pairs = {tuple(pair) for pair in found.rows.tolist()}
    right = {(row, 45 + index) for index, row in enumerate(rows)}
    assert len(pairs & right) >= 8
    assert not {pair for pair in pairs - right if pair[1] < 45}


def test_people_who_look_alike_and_slices_side_by_side_are_no_copies(originals) -> None:
    assert len(copies.find_copies(np.stack([thumbnail(picture) for picture in originals]))) == 0


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


def test_a_few_strangers_are_held_against_the_others_alone(originals) -> None:
    """The copy within the others goes unsought, the one across is found, as where all pairs are sought."""
    pixels = np.array([thumbnail(one) for one in originals[:45]])
    learnt = np.concatenate([pixels[:40], pixels[5:6, :, ::-1]])
    strangers = np.concatenate([pixels[41:45], pixels[12:13, :, ::-1]])
    both, sides = np.concatenate([learnt, strangers]), np.repeat(["learnt", "external"], [41, 5])
    assert copies.find_copies(both, sides, "external").rows.tolist() == [[12, 45]]
    assert sorted(copies.find_copies(both, sides).rows.tolist()) == [[5, 40], [12, 45]]
    assert len(copies.find_copies(both, np.full(46, "learnt"), "external")) == 0


def test_without_sides_copies_of_strangers_are_a_warning_and_those_of_one_person_a_note(originals) -> None:
    pixels = [thumbnail(picture) for picture in originals] + [thumbnail(changed(originals[12], "turned"))]
    known = evidence(pixels, [0] * 46, None)
    people = np.array([f"p{row}" for row in range(45)] + ["p12"])
    for subject, severity in (
        (None, "warning"),
        (np.array([f"p{row}" for row in range(46)]), "warning"),
        (people, "note"),
    ):
        (found,) = copies.examine(replace(known, subject=subject))
        assert (found.finding.check, found.finding.severity) == ("copies.within", severity)


def test_a_copy_under_another_label_is_a_warning(originals) -> None:
    pixels = [thumbnail(picture) for picture in originals] + [thumbnail(changed(originals[12], "turned"))]
    (found,) = copies.examine(evidence(pixels, [0] * 45 + [1], None))
    assert (found.finding.check, found.finding.severity) == ("copies.labels", "warning")


def test_too_few_scans_and_blank_ones_are_no_copies() -> None:
    blank = np.zeros((3, 104, 104), dtype=np.uint8)
    assert len(copies.find_copies(blank)) == 0
    assert len(copies.find_copies(blank[:1])) == 0


def test_simple_pictures_that_explain_each_other_are_no_copies() -> None:
    blobs = np.stack([thumbnail(picture(kind, 100 * kind + index)) for kind in range(3) for index in range(12)])
    found = copies.find_copies(blobs)
    assert len(found) == 0
    assert (
        found.min_similarity > copies.MIN_SIMILARITY
    )  # and it is known why: any two of them leave hardly anything unexplained


def test_noise_that_is_laid_over_one_spot_is_no_copy() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 104, 104), dtype=np.uint8)
    assert len(copies.find_copies(noise)) == 0


def test_what_stands_out_is_said_where_pictures_are_simple() -> None:
    blobs = [thumbnail(picture(kind, 100 * kind + index)) for kind in range(3) for index in range(12)]
    (told,) = copies.examine(evidence(blobs, [0] * 36, None))
    assert (told.finding.check, told.finding.severity) == ("copies.simple", "note")


def test_real_copies_are_found_and_other_people_are_left_alone() -> None:
    """Copies of half of twelve people, made in a way of our own: an affine map, gamma, and a JPEG."""
    paths, names, _ = scan_cases.alzheimer(12)
    folder, random = scan_cases.real("alzheimer"), np.random.default_rng(0)
    originals = scan_cases.read(folder, paths)
    copied = np.isin(names, np.unique(names)[::2])
    origin = random.choice(np.flatnonzero(copied), 100)
    made = [thumbnail(bent(Image.open(folder / paths[row]).convert("L"), random)) for row in origin]
    found = copies.find_copies(
        np.concatenate([originals, made]), np.array(["test"] * len(originals) + ["train"] * len(made))
    )
    across = found.take((found.rows[:, 0] < len(paths)) & (found.rows[:, 1] >= len(paths)))
    best = {
        int(other): int(one) for one, other in across.rows[np.argsort(across.similarity)]
    }  # the most alike comes last
    told = np.array([best.get(len(paths) + index, -1) for index in range(len(made))])
    assert ((told >= 0) & (names[told] == names[origin])).mean() >= 0.98
    assert (told == origin).mean() >= 0.95
    assert not np.isin(np.flatnonzero(~copied), found.rows).any()


def bent(scan: Image.Image, random: np.random.Generator) -> Image.Image:
    """Mirrored or not, turned, zoomed, sheared, shifted, of another gamma, and saved."""
    scan = ImageOps.mirror(scan) if random.random() < 0.5 else scan
    turn, zoom, shear = np.radians(random.uniform(-18, 18)), random.uniform(0.87, 1.15), random.uniform(-0.05, 0.05)
    linear = np.array([[np.cos(turn), -np.sin(turn) + shear], [np.sin(turn), np.cos(turn)]]) / zoom
    middle = np.array(scan.size) / 2
    shift = middle - linear @ (middle + random.uniform(-0.06, 0.06, 2) * scan.size)
    data = (*linear[0], shift[0], *linear[1], shift[1])
    scan = scan.transform(scan.size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    gamma = random.uniform(0.75, 1.3)
    scan = scan.point([round(255 * (value / 255) ** gamma) for value in range(256)])
    return Image.fromarray(scan_cases.saved(np.asarray(scan), int(random.integers(50, 95))))


@pytest.mark.slow
def test_slices_of_head_scans_that_share_the_ring_of_the_skull_are_no_copies() -> None:
    paths, _, _ = scan_cases.stroke()
    found = copies.find_copies(scan_cases.read(scan_cases.real("stroke"), paths[::3]))
    assert len(found) == 0
