"""Files' headers are read right; blank, odd, foreign and mislabelled scans are found, and sound ones are left alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from synthetic_evidence import evidence_of, grave, heads, only

from scanwise.auditing import label_errors, quality
from scanwise.auditing.evidence import Evidence, ScanSheet
from scanwise.auditing.subject_statistics import subject_indices
from scanwise.registration import descriptors

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)


def with_pixels(evidence: Evidence, pixels: NDArray[np.uint8]) -> Evidence:
    return replace(evidence, pixels=pixels, vectors=descriptors(pixels))


def facts_of(folder: Path, *names: str) -> dict[str, list[Any]]:
    return {name: values.tolist() for name, values in quality.read_file_facts(folder, np.array(names)).items()}


# --- headers ---


@pytest.mark.parametrize("wanted", [20, 30, 49, 50, 51, 60, 75, 85, 90, 95, 99])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_quality_of_a_jpeg_is_recovered(tmp_path: Path, wanted: int, mode: str) -> None:
    Image.fromarray(PICTURE).convert(mode).save(tmp_path / "a.jpg", quality=wanted)
    (found,) = facts_of(tmp_path, "a.jpg")["quality"]
    assert abs(found - wanted) <= 1


def test_headers_are_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PICTURE).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(PICTURE).convert("RGB").save(tmp_path / "b.png")
    Image.fromarray(PICTURE).save(tmp_path / "c ü.bmp")
    facts = facts_of(tmp_path, "turned.jpg", "b.png", "c ü.bmp")
    assert facts["width"] == [24, 40, 40]
    assert facts["height"] == [40, 24, 24]
    assert facts["mode"] == ["L", "RGB", "L"]
    assert facts["format"] == ["JPEG", "PNG", "BMP"]
    assert facts["has_exif"] == [True, False, False]
    assert facts["bytes"] == [(tmp_path / name).stat().st_size for name in ("turned.jpg", "b.png", "c ü.bmp")]
    assert np.isnan(facts["quality"][1:]).all()


def test_what_is_no_picture_is_no_crash(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    (tmp_path / "junk.png").write_bytes(b"not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "x.nii.gz").write_bytes(b"\0" * 40)
    bomb = (tmp_path / "a.png").read_bytes()
    wide = bytearray(bomb)
    wide[16:24] = (100_000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(bytes(wide))
    wide[16:24] = (10_000).to_bytes(4, "big") * 2
    (tmp_path / "large.png").write_bytes(bytes(wide))
    names = ("junk.png", "empty.jpg", "x.nii.gz#001", "x.nii.gz#002", "bomb.png", "large.png", "gone.png")
    facts = facts_of(tmp_path, *names)
    assert facts["width"][:5] == [0] * 5
    assert facts["bytes"] == [13, 0, 40, 40, len(wide), len(wide), 0]
    assert facts["format"][2:4] == ["gz", "gz"]


def test_no_scans_have_no_facts(tmp_path: Path) -> None:
    facts = quality.read_file_facts(tmp_path, np.array([], dtype=np.str_))
    assert all(len(values) == 0 for values in facts.values())


# --- plain faults ---


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("signal", [0.0, 25.0])
def test_sound_scans_are_left_alone(seed: int, signal: float) -> None:
    evidence = evidence_of(people=60, classes=2, seed=seed, signal=signal)
    files = {"width": np.full(240, 48), "height": np.full(240, 48), "mode": np.full(240, "L")}
    assert grave(quality.examine(replace(evidence, files=files))) == []


def test_unreadable_files_are_listed_by_reason() -> None:
    quarantine = (("a.png", "the file is empty (0 bytes)"), ("b.png", "damaged: x"), ("c.png", "damaged: y"))
    finding = only(quality.examine(replace(evidence_of(), quarantine=quarantine)), "quality.unreadable").finding
    assert finding.severity == "warning"
    assert finding.scans == ("a.png", "b.png", "c.png")
    assert "2 × damaged" in finding.message


def test_blank_and_faint_scans_are_found() -> None:
    evidence = evidence_of()
    pixels = evidence.pixels.copy()
    pixels[7] = 33
    pixels[11] = 0
    pixels[11, 20, 20:28] = 200
    noted = quality.examine(with_pixels(evidence, pixels))
    assert only(noted, "quality.blank").finding.scans == (evidence.cohort.path[7],)
    assert only(noted, "quality.faint").finding.scans == (evidence.cohort.path[11],)
    assert {one.finding.check for one in noted} >= {"quality.blank", "quality.faint"}


def test_a_scan_that_its_digest_calls_blank_is_blank() -> None:
    evidence = evidence_of()
    digest = evidence.cohort.pixels.copy()
    digest[3] = ""
    noted = quality.examine(replace(evidence, cohort=replace(evidence.cohort, pixels=digest)))
    assert only(noted, "quality.blank").finding.scans == (evidence.cohort.path[3],)


def test_odd_sizes_and_modes_are_found_where_one_is_usual() -> None:
    evidence = evidence_of(people=50, slices=4)
    width, mode = np.full(200, 512), np.full(200, "L", dtype="<U4")
    width[[3, 9]] = 300, 100
    mode[5] = "RGB"
    files = {"width": width, "height": np.full(200, 512), "mode": mode}
    noted = quality.examine(replace(evidence, files=files))
    path = evidence.cohort.path
    assert only(noted, "quality.size").finding.scans == (path[3], path[9])
    assert only(noted, "quality.mode").finding.scans == (path[5],)
    mixed = {"width": np.arange(200), "height": np.full(200, 512), "mode": np.where(width > 300, "L", "RGB")}
    assert [one.finding.check for one in quality.examine(replace(evidence, files=mixed))] == [
        "quality.mode",
        "quality.labels",
    ]


# --- out of place ---


def chest() -> NDArray[np.uint8]:
    """A bright picture with two dark lungs, up to the edge."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    lungs = sum(np.exp(-(((x - side) / 0.3) ** 2) - (y / 0.6) ** 2) for side in (-0.45, 0.45))
    return np.asarray(190 - 140 * lungs, dtype=np.uint8)


@pytest.mark.parametrize("planted", [1, 3])
def test_foreign_scans_are_out_of_place(planted: int) -> None:
    evidence = evidence_of(people=80, slices=4, signal=10.0)
    pixels = evidence.pixels.copy()
    rows = [20, 101, 210][:planted]
    for row in rows:
        pixels[row] = np.clip(chest() + np.random.default_rng(row).normal(0, 6, (48, 48)), 0, 255).astype(np.uint8)
    noted = only(quality.examine(with_pixels(evidence, pixels)), "quality.stranger")
    assert noted.finding.severity == "warning"
    assert set(noted.finding.scans) == {str(path) for path in evidence.cohort.path[rows]}
    assert isinstance(noted.picture, ScanSheet)
    assert set(noted.picture.rows.tolist()) == set(rows)


def test_negatives_are_out_of_place() -> None:
    evidence = evidence_of(people=80)
    pixels = evidence.pixels.copy()
    pixels[50] = 255 - pixels[50]
    assert only(quality.examine(with_pixels(evidence, pixels)), "quality.stranger").finding.scans == (
        evidence.cohort.path[50],
    )


def test_all_slices_of_a_foreign_person_are_out_of_place() -> None:
    """They are alike each other; that one's own scans are near is no proof."""
    evidence = evidence_of(people=80, slices=6)
    pixels = evidence.pixels.copy()
    own = subject_indices(evidence) == 33
    pixels[own] = chest()
    found = only(quality.examine(with_pixels(evidence, pixels)), "quality.stranger").finding.scans
    assert set(found) == {str(path) for path in evidence.cohort.path[own]}


def test_few_or_equal_scans_are_no_crash() -> None:
    evidence = evidence_of(people=4, slices=2)
    assert grave(quality.examine(evidence)) == []
    same = evidence_of(people=40)
    assert grave(quality.examine(with_pixels(same, np.repeat(same.pixels[:1], 160, axis=0)))) == []
    lonely = replace(same, subject=np.full(160, "one"))
    assert "quality.stranger" not in [one.finding.check for one in quality.examine(lonely)]


# --- wrong labels ---


def swapped(evidence: Evidence, wrong: NDArray[np.bool_]) -> Evidence:
    labels = np.where(wrong, 1 - evidence.cohort.labels, evidence.cohort.labels)
    return replace(evidence, cohort=replace(evidence.cohort, labels=labels))


def test_the_wrong_labels_of_whole_people_come_first() -> None:
    evidence = evidence_of(people=120, slices=4, signal=130.0)
    wrong = np.isin(subject_indices(evidence), [3, 40, 77, 90])
    noted = only(quality.examine(swapped(evidence, wrong)), "quality.labels")
    place = {str(path): row for row, path in enumerate(evidence.cohort.path)}
    ranked = list(dict.fromkeys(int(subject_indices(evidence)[place[scan]]) for scan in noted.finding.scans))
    assert {3, 40, 77, 90} <= set(ranked[:6])  # of 120
    assert noted.finding.severity == "warning"  # the classes are plain to see
    assert isinstance(noted.picture, ScanSheet)
    assert subject_indices(evidence)[noted.picture.rows].tolist() == ranked[: len(noted.picture.rows)]


def test_a_scan_labelled_unlike_the_rest_of_its_person_is_found() -> None:
    evidence = evidence_of(people=60, slices=5)
    wrong = np.zeros(len(evidence), dtype=bool)
    wrong[[7, 123, 200]] = True
    finding = only(quality.examine(swapped(evidence, wrong)), "quality.labels.subject").finding
    assert finding.severity == "warning"
    assert finding.scans == tuple(str(path) for path in evidence.cohort.path[wrong])


def test_a_person_whose_disease_changed_is_not_accused() -> None:
    evidence = evidence_of(people=60, slices=6)
    later = np.isin(subject_indices(evidence), [4, 9]) & (np.arange(len(evidence)) % 6 >= 3)
    assert "quality.labels.subject" not in [one.finding.check for one in quality.examine(swapped(evidence, later))]


def test_where_nothing_can_be_seen_no_label_is_doubted() -> None:
    finding = only(quality.examine(evidence_of(people=80, seed=2)), "quality.labels").finding
    assert finding.severity == "note"
    assert "not checked" in finding.message
    assert finding.scans == ()


def test_classes_of_few_people_are_not_judged() -> None:
    evidence = evidence_of(people=40)
    lonely = np.where(subject_indices(evidence) < 2, 1, 0)
    noted = quality.examine(replace(evidence, cohort=replace(evidence.cohort, labels=lonely)))
    assert "not checked" in only(noted, "quality.labels").finding.message


def test_without_people_single_scans_are_doubted() -> None:
    evidence = evidence_of(people=200, slices=1, signal=130.0)
    wrong = np.isin(np.arange(200), [5, 60, 150])
    finding = only(quality.examine(replace(swapped(evidence, wrong), subject=None)), "quality.labels").finding
    assert set(finding.scans[:3]) == {str(path) for path in evidence.cohort.path[wrong]}


def test_doubts_come_from_people_who_were_not_learnt_from() -> None:
    evidence = evidence_of(people=30, slices=4, signal=20.0)
    people, classes = subject_indices(evidence), evidence.cohort.labels
    rows = np.arange(len(evidence))
    before = label_errors.out_of_fold_probs(evidence, rows, classes, people)
    assert np.allclose(before.sum(axis=1), 1)
    mine = people == 11
    random = np.random.default_rng(0)
    other = evidence.vectors.copy()
    other[~mine] = descriptors(np.concatenate([heads(random, 4) for _ in range(29)]).astype(np.uint8))
    after = label_errors.out_of_fold_probs(replace(evidence, vectors=other), rows, classes, people)
    assert not np.allclose(before[mine], after[mine])


def test_confident_errors_follow_the_paper() -> None:
    """By hand: class averages are 0.6 and 0.7; a scan below both of its own and the other is not counted."""
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9], [0.55, 0.45], [0.35, 0.65]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    usual = [probs[labels == c, c].mean() for c in (0, 1)]
    assert usual == pytest.approx([0.6, 2 / 3])
    assert label_errors.confident_errors(probs, labels).tolist() == [1]
    probs[4] = 0.7, 0.3
    assert label_errors.confident_errors(probs, labels).tolist() == [1, 4]
