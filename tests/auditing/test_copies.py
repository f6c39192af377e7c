"""Augmented copies are found whichever way they were made; people who look alike, and slices side by side, are not copies."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scan_cases
from PIL import Image, ImageEnhance, ImageOps

from scanwise import registration
from scanwise.auditing import copies
from scanwise.auditing.copy_search import find_copies
from scanwise.auditing.evidence import Evidence
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
    return readers.resize(np.asarray(picture.convert("L"))[:, :, None], registration.DETAIL)[:, :, 0]


def look(file: Path) -> np.ndarray:
    return readers.read_scan(file.read_bytes(), registration.DETAIL).pixels[:, :, 0]


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
    return Evidence(known, stack, registration.descriptors(registration.reduce_to_thumbnails(stack)), split=split)


@pytest.fixture(scope="module")
def searched(originals) -> tuple[set[tuple[int, int]], list[tuple[str, tuple[int, int]]]]:
    """What one search finds among the originals with a copy of each, every sixth of one kind; and each kind with its pairs."""
    kinds = [KINDS[row % len(KINDS)] for row in range(len(originals))]
    copied = [changed(one, how) for one, how in zip(originals, kinds, strict=True)]
    found = find_copies(np.stack([thumbnail(one) for one in [*originals, *copied]]))
    return {tuple(pair) for pair in found.rows.tolist()}, [(how, (row, 45 + row)) for row, how in enumerate(kinds)]


@pytest.mark.parametrize("how", KINDS)
def test_a_copy_is_found_with_its_origin(searched, how) -> None:
    pairs, right = searched
    own = [pair for kind, pair in right if kind == how]
    assert len(own) >= 7
    assert len(pairs & set(own)) >= len(own) - 1


def test_nothing_but_a_copy_is_found(searched) -> None:
    pairs, right = searched
    assert pairs <= {pair for _, pair in right}


@pytest.mark.extended
def test_people_who_look_alike_and_slices_side_by_side_are_no_copies(originals) -> None:
    assert len(find_copies(np.stack([thumbnail(picture) for picture in originals]))) == 0


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


@pytest.mark.extended
def test_a_few_strangers_are_held_against_the_others_alone(originals) -> None:
    """The copy within the others goes unsought, the one across is found, as where all pairs are sought."""
    pixels = np.array([thumbnail(one) for one in originals[:45]])
    learnt = np.concatenate([pixels[:40], pixels[5:6, :, ::-1]])
    strangers = np.concatenate([pixels[41:45], pixels[12:13, :, ::-1]])
    both, sides = np.concatenate([learnt, strangers]), np.repeat(["learnt", "external"], [41, 5])
    assert find_copies(both, sides, "external").rows.tolist() == [[12, 45]]
    assert sorted(find_copies(both, sides).rows.tolist()) == [[5, 40], [12, 45]]
    assert len(find_copies(both, np.full(46, "learnt"), "external")) == 0


@pytest.fixture(scope="module")
def one_turned(originals) -> Evidence:
    """The originals and one of them turned, with the pair that it makes."""
    pixels = [thumbnail(picture) for picture in originals] + [thumbnail(changed(originals[12], "turned"))]
    return replace(evidence(pixels, [0] * 46, None), copies=find_copies(np.stack(pixels)))


@pytest.mark.extended
def test_without_sides_copies_of_strangers_are_a_warning_and_those_of_one_person_a_note(one_turned) -> None:
    people = np.array([f"p{row}" for row in range(45)] + ["p12"])
    for subject, severity in (
        (None, "warning"),
        (np.array([f"p{row}" for row in range(46)]), "warning"),
        (people, "note"),
    ):
        found, _ = copies.examine(replace(one_turned, subject=subject))
        assert (found.finding.check, found.finding.severity) == ("copies.within", severity)


def test_a_copy_under_another_label_is_a_warning(one_turned) -> None:
    labelled = replace(one_turned.cohort, labels=np.array([0] * 45 + [1]))
    found, _ = copies.examine(replace(one_turned, cohort=labelled))
    assert (found.finding.check, found.finding.severity) == ("copies.labels", "warning")


def test_too_few_scans_and_blank_ones_are_no_copies() -> None:
    blank = np.zeros((3, 104, 104), dtype=np.uint8)
    assert len(find_copies(blank)) == 0
    assert len(find_copies(blank[:1])) == 0


@pytest.mark.extended
def test_simple_pictures_are_no_copies() -> None:
    blobs = np.stack([thumbnail(picture(kind, 100 * kind + index)) for kind in range(3) for index in range(12)])
    assert len(find_copies(blobs)) == 0


@pytest.mark.extended
def test_noise_that_is_laid_over_one_spot_is_no_copy() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 104, 104), dtype=np.uint8)
    assert len(find_copies(noise)) == 0


@pytest.mark.extended
def test_every_page_says_what_share_of_copies_of_these_scans_is_found(originals) -> None:
    """Scans of 20 by 20 pixels show little of themselves: many of their copies go unseen, and that is said."""
    shares = []
    tiny_scans = [one.resize((20, 20)) for one in originals]
    for pictures in (originals, tiny_scans):
        *others, told = copies.examine(evidence([thumbnail(one) for one in pictures], [0] * len(pictures), None))
        assert (told.finding.check, told.finding.severity) == ("copies.found", "note")
        assert ("No changed copies were recognised" in told.finding.message) == (not others)
        shares.append(int(re.findall(r"of these scans (\d+) % are found", told.finding.message)[0]))
    assert shares[0] >= 90 > 85 > shares[1]


@pytest.mark.extended
def test_all_pairs_are_listed_with_sides_and_what_was_done(originals) -> None:
    pixels = [thumbnail(one) for one in originals] + [thumbnail(changed(originals[12], "all"))]
    known = evidence(pixels, [0] * 45 + [1], ["test"] * 45 + ["train"])
    known = replace(known, copies=find_copies(np.stack(pixels), known.split.side))
    same = np.array([f"{row}" for row in range(46)])
    same[[7, 8, 9]] = "7"
    known = replace(
        known,
        copies=replace(
            known.copies,
            **{
                name: np.concatenate([getattr(known.copies, name), values])
                for name, values in (
                    ("rows", [[7, 9]]),
                    ("similarity", [1.0]),
                    ("likeness", [1.0]),
                    ("displacement", [0.0]),
                    ("transform", np.eye(2, 3)[None]),
                )
            },
        ),
    )
    *exact, changed_one = copies.list_copies(replace(known, cohort=replace(known.cohort, pixels=same)))
    assert [dict(zip(copies.COLUMNS, row, strict=True))["change"] for row in exact] == ["same pixels"] * 2
    row = dict(zip(copies.COLUMNS, changed_one, strict=True))
    assert (row["scan"], row["scan_side"], row["origin"], row["origin_side"]) == ("012.png", "test", "045.png", "train")
    assert (row["scan_class"], row["origin_class"]) == ("a", "b")
    assert row["change"].startswith("mirrored, rotated by")
    assert 0.95 <= float(row["likeness"]) <= 1


@pytest.mark.extended
def test_pairs_follow_a_selection_of_the_scans(originals) -> None:
    pixels = [thumbnail(one) for one in originals] + [thumbnail(changed(originals[row], "turned")) for row in (12, 30)]
    known = evidence(pixels, [0] * 47, None)
    known = replace(known, copies=find_copies(np.stack(pixels)))
    assert sorted(known.copies.rows.tolist()) == [[12, 45], [30, 46]]
    assert known.take(np.array([3, 12, 20, 45])).copies.rows.tolist() == [[1, 3]]


@pytest.mark.extended
def test_real_copies_are_found_and_other_people_are_left_alone() -> None:
    """Copies of half of twelve people, made in a way of our own: an affine map, gamma, and a JPEG."""
    paths, names, _ = scan_cases.alzheimer(12)
    folder, random = scan_cases.real("alzheimer"), np.random.default_rng(0)
    originals = np.stack([look(folder / path) for path in paths])
    copied = np.isin(names, np.unique(names)[::2])
    origin = random.choice(np.flatnonzero(copied), 100)
    made = [thumbnail(bent(Image.open(folder / paths[row]).convert("L"), random)) for row in origin]
    found = find_copies(np.concatenate([originals, made]), np.array(["test"] * len(originals) + ["train"] * len(made)))
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


@pytest.mark.extended
def test_neighbouring_slices_of_head_scans_are_no_copies() -> None:
    paths, names, _ = scan_cases.stroke()
    few = [path for path, name in zip(paths, names, strict=True) if name in np.unique(names)[:4]]
    found = find_copies(np.stack([look(scan_cases.real("stroke") / path) for path in few]))
    assert len(found) <= 0.05 * len(few)
