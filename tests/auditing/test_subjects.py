"""Who is who: told where pixels can tell, and said plainly where they cannot."""

import dataclasses

import numpy as np
import pytest
import scan_cases
from scipy import ndimage
from sklearn.metrics import adjusted_rand_score

from scanwise.auditing import subjects
from scanwise.auditing.evidence import Histogram, PairSheet
from scanwise.registration import descriptors


def recover(
    pixels: np.ndarray, labels: np.ndarray | None = None, same: np.ndarray | None = None
) -> subjects.RecoveredSubjects:
    return subjects.recover_subjects(pixels, descriptors(pixels), labels, same)


@pytest.mark.parametrize("seed", range(2))
def test_phantoms_are_told_apart(seed: int) -> None:
    pixels, names, labels = scan_cases.people(50, 4, seed)
    found = recover(pixels, labels)
    assert found.is_confident
    assert adjusted_rand_score(names, found.subject) > 0.99
    assert found.subject[0] == "auto-0001"


def test_the_order_of_scans_does_not_matter() -> None:
    pixels, names, labels = scan_cases.people(50, 4)
    order = np.random.default_rng(0).permutation(len(pixels))
    assert adjusted_rand_score(names[order], recover(pixels[order], labels[order]).subject) > 0.99


@pytest.mark.parametrize("count", [70, 150])
def test_one_scan_a_subject_cannot_be_told(count: int) -> None:
    found = recover(scan_cases.people(count, 1)[0])
    assert not found.succeeded
    assert len(np.unique(found.subject)) == count


def test_noise_cannot_be_told() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 104, 104), dtype=np.uint8)
    assert not recover(pixels).succeeded


def test_few_scans_cannot_be_told() -> None:
    found = recover(scan_cases.people(10, 4)[0])
    assert not found.succeeded
    assert "40 scans" in found.reason


def test_blank_scans_stand_alone() -> None:
    pixels, names, labels = scan_cases.people(50, 4)
    pixels, labels = pixels.copy(), labels.copy()
    pixels[::40] = 0
    found = recover(pixels, labels)
    shown = np.arange(len(pixels)) % 40 != 0
    assert adjusted_rand_score(names[shown], found.subject[shown]) > 0.99
    alone = found.subject[~shown]
    assert len(np.unique(alone)) == len(alone)
    assert not np.isin(alone, found.subject[shown]).any()


def test_no_subject_has_two_labels_where_labels_belong_to_people() -> None:
    pixels, _, labels = scan_cases.people(50, 4)
    found = recover(pixels, labels)
    assert all(len(np.unique(labels[found.subject == name])) == 1 for name in np.unique(found.subject))


def test_labels_of_slices_do_not_cut_people() -> None:
    pixels, names, _ = scan_cases.people(50, 4)
    assert adjusted_rand_score(names, recover(pixels, np.arange(len(pixels)) % 4 // 2).subject) > 0.99


def test_copies_go_with_their_origin() -> None:
    pixels, names, _ = scan_cases.people(50, 4)
    turned = np.concatenate([pixels, np.rot90(pixels[:80], axes=(1, 2))])
    same = np.stack([np.arange(80), len(pixels) + np.arange(80)], axis=1)
    found = recover(turned, same=same)
    assert adjusted_rand_score(np.concatenate([names, names[:80]]), found.subject) > 0.98


def test_a_histogram_shows_the_threshold() -> None:
    pixels, _, labels = scan_cases.people(50, 4)
    (noted, *_) = subjects.examine(scan_cases.evidence_of(pixels, labels))
    assert noted.finding.severity == "note"
    assert isinstance(noted.picture, Histogram)
    assert noted.picture.threshold is not None
    assert max(noted.picture.values["weaker"]) < noted.picture.threshold <= min(noted.picture.values["stronger"])


def test_what_cannot_be_told_is_a_warning() -> None:
    (noted,) = subjects.examine(scan_cases.evidence_of(scan_cases.people(150, 1)[0]))
    assert noted.finding.severity == "warning"
    assert "--subject" in noted.finding.message


def test_given_subjects_are_held_against_the_pixels() -> None:
    pixels, names, labels = scan_cases.people(50, 4)
    (right,) = subjects.examine(scan_cases.evidence_of(pixels, labels, subject=names))
    assert right.finding.severity == "note"
    swapped = names.copy()
    swapped[[0, 40, 80, 120]] = names[[40, 80, 120, 0]]
    (wrong,) = subjects.examine(scan_cases.evidence_of(pixels, labels, subject=swapped))
    assert wrong.finding.severity == "warning"
    assert len(wrong.finding.scans) == 4
    assert isinstance(wrong.picture, PairSheet)


def test_one_subject_that_looks_like_another_is_said_and_several_are_a_warning() -> None:
    """Two names for one person, or two people who look alike: of one such pair the pixels are not the judge."""
    pixels, names, labels = scan_cases.people(50, 4)
    for parted, severity in ((1, "note"), (4, "warning")):
        given = names.astype("<U9")
        for person in np.unique(names)[:parted]:
            given[np.flatnonzero(names == person)[:1]] = f"{person}b"
        (noted,) = subjects.examine(scan_cases.evidence_of(pixels, labels, subject=given))
        assert noted.finding.severity == severity
        assert f"({parted} in all)" in noted.finding.message


def test_people_under_several_names_are_a_leak_where_the_pixels_are_certain_and_the_split_parts_them() -> None:
    pixels, names, labels = scan_cases.people(50, 4)
    given = np.char.add(names, np.where(np.arange(len(names)) % 2 == 0, "a", "b"))  # each person under two names
    assert recover(pixels, labels).is_certain
    apart = np.where(np.arange(len(names)) % 2 == 0, "train", "test")
    together = np.where(np.unique(names, return_inverse=True)[1] % 2 == 0, "train", "test")
    severities = {}
    for case, side in {"no split": None, "apart": apart, "together": together}.items():
        (noted,) = subjects.examine(scan_cases.evidence_of(pixels, labels, subject=given, side=side))
        severities[case] = noted.finding.severity
        assert ("50 people by the images" in noted.finding.message) == (case != "together")
    assert severities == {"no split": "leak", "apart": "leak", "together": "warning"}


def test_what_was_recovered_already_is_not_recovered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _, labels = scan_cases.people(50, 4)
    evidence = scan_cases.evidence_of(pixels, labels)
    evidence = dataclasses.replace(evidence, recovered=recover(pixels, labels))
    monkeypatch.setattr(subjects, "recover_subjects", lambda *_: pytest.fail("asked again"))
    assert subjects.examine(evidence)


@pytest.mark.extended
def test_real_people_are_told_apart() -> None:
    paths, names, labels = scan_cases.alzheimer(40)
    found = recover(scan_cases.read(scan_cases.real("alzheimer"), paths), labels)
    assert found.is_confident
    assert adjusted_rand_score(names, found.subject) >= 0.999


@pytest.mark.slow
def test_all_200_people_are_told_apart() -> None:
    paths, names, labels = scan_cases.alzheimer(200)
    found = recover(scan_cases.read(scan_cases.real("alzheimer"), paths), labels)
    assert found.is_confident
    assert adjusted_rand_score(names, found.subject) >= 0.999


@pytest.mark.slow
def test_series_are_told_better_than_by_correlation_and_with_less_confidence() -> None:
    from scipy.cluster.hierarchy import fcluster, linkage

    paths, series, labels = scan_cases.stroke()
    pixels = scan_cases.read(scan_cases.real("stroke"), paths)
    found = recover(pixels, labels)
    joined = linkage(np.asarray(descriptors(pixels), dtype=np.float64), "single")
    cuts = np.quantile(joined[:, 2], np.linspace(0.5, 1, 60))
    by_correlation = max(adjusted_rand_score(series, fcluster(joined, cut, "distance")) for cut in cuts)
    assert adjusted_rand_score(series, found.subject) > by_correlation + 0.3
    assert found.succeeded
    assert not found.is_confident
    assert all(len(np.unique(labels[found.subject == name])) == 1 for name in np.unique(found.subject))
    told = {
        noted.finding.check: noted.finding
        for noted in subjects.examine(scan_cases.evidence_of(pixels, labels, path=np.array(paths)))
    }
    assert r"(\d+) ?\(\d+\)" in told["subjects.names"].message
    assert "66 subjects" in told["subjects.names"].message


def test_copies_are_no_evidence_of_people() -> None:
    """Pictures of which every third is there twice: the pairs say that copies are copies, and nothing about who is who."""
    random = np.random.default_rng(0)
    own, shared = (
        ndimage.gaussian_filter(random.standard_normal((n, 104, 104)), (0, s, s)) for n, s in ((240, 3), (1, 8))
    )
    pixels = np.clip(128 + 25 * shared / shared.std() + 25 * own / own.std(), 0, 255).astype(np.uint8)
    origin = random.choice(240, 80, replace=False)
    noise = random.normal(0, 6, (80, 104, 104))
    both = np.concatenate([pixels, np.clip(0.8 * pixels[origin] + noise, 0, 255).astype(np.uint8)])
    same = np.stack([origin, 240 + np.arange(80)], axis=1)
    unaware = subjects.recover_subjects(both, descriptors(both))
    assert unaware.succeeded
    aware = subjects.recover_subjects(both, descriptors(both), None, same)
    assert not aware.succeeded, aware.reason
