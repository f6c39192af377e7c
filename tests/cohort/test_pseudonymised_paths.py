"""Under other names a cohort is the same cohort, and the old names are nowhere."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cohort_scans import Scans

from medical_files import write_dicom, write_nifti
from scanwise import cohort
from scanwise.cohort import layouts, pseudonymised_paths, pseudonyms
from scanwise.errors import StorageError
from scanwise.recipe import Recipe
from scanwise.records import Cohort, save_findings

RECIPE = Recipe.model_validate({"name": "a", "data": {"size": 16}})
PEOPLE = ("Quibblewort Zenobia", "Hummelbrand", "Thistledown")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a key of the tests")


@pytest.fixture
def ward(scans: Scans) -> Path:
    """Folders of people, in every format, and junk."""
    random = np.random.default_rng(0)
    for label in ("NonDemented", "MildDemented"):
        for name in PEOPLE:
            folder = scans.root / "train" / label / name
            scans.add(*(f"train/{label}/{name}/{name}_{index}.png" for index in range(2)))
            write_nifti(folder / f"{name}.nii.gz", random.integers(0, 99, (5, 6, 3)).astype(np.int16))
            write_dicom(folder / f"{name}#7", random.integers(0, 99, (9, 9)).astype(np.uint16))
    (scans.root / "train" / "MildDemented" / "Thistledown" / "Thistledown.txt").write_text("x")
    (scans.root / "train" / "Hummelbrand.txt").write_text("x")
    return scans.root


def test_it_is_the_same_cohort(ward: Path) -> None:
    plain = cohort.read_cohort(str(ward), RECIPE, r"Demented/([^/]+)/")
    hidden = cohort.read_cohort(str(ward), RECIPE, r"Demented/([^/]+)/", pseudonymise=True)
    assert len(plain.cohort) == 2 * 3 * (2 + 3 + 1)
    order = {digest: row for row, digest in enumerate(plain.cohort.sha256.tolist())}
    rows = [order[digest] for digest in hidden.cohort.sha256.tolist()]
    assert sorted(rows) == list(range(len(plain.cohort)))
    np.testing.assert_array_equal(hidden.store.read(range(len(rows))), plain.store.read(rows))
    assert hidden.cohort.labels.tolist() == plain.cohort.labels[rows].tolist()
    assert hidden.cohort.given is not None
    assert set(hidden.cohort.given.tolist()) == {"train"}
    pairs = set(zip(hidden.cohort.subject.tolist(), plain.cohort.subject[rows].tolist(), strict=True))
    assert len(pairs) == 3  # one stand-in a person
    assert len(hidden.quarantine) == len(plain.quarantine) == 2


def test_no_name_is_left(ward: Path, tmp_path: Path) -> None:
    hidden = cohort.read_cohort(str(ward), RECIPE, r"Demented/([^/]+)/", pseudonymise=True)
    hidden.cohort.save(tmp_path / "cohort.parquet")
    save_findings(hidden.findings, tmp_path / "findings.json")
    told = (tmp_path / "findings.json").read_text() + repr(hidden)
    saved = Cohort.load(tmp_path / "cohort.parquet")
    told += " ".join([saved.root, *saved.path.tolist(), *saved.subject.tolist()])
    for name in (*PEOPLE, "Zenobia"):
        assert name not in told
    assert all(path.startswith(("train/NonDemented/", "train/MildDemented/")) for path in saved.path.tolist())


def test_what_was_hidden_can_be_read_again_by_its_new_names(ward: Path) -> None:
    hidden = cohort.read_cohort(str(ward), RECIPE, pseudonymise=True)
    other = Recipe.model_validate({"name": "a", "data": {"size": 32}})
    from scanwise.cohort import store

    pixels, refused = store.build_store(Path(hidden.cohort.root), hidden.cohort.path, other.data)
    assert refused == {}
    assert pixels.sha256.tolist() == hidden.cohort.sha256.tolist()


def test_hiding_twice_is_hiding_once_and_follows_what_has_moved(ward: Path) -> None:
    one = pseudonymised_paths.pseudonymise_listing(layouts.discover_scans(ward))
    two = pseudonymised_paths.pseudonymise_listing(layouts.discover_scans(ward))
    assert (one.root, one.path.tolist()) == (two.root, two.path.tolist())
    assert one.root.is_relative_to(pseudonyms.key_file().parent)  # who may read the links may read the key
    shutil.rmtree(ward / "train" / "NonDemented" / "Hummelbrand")
    assert len(pseudonymised_paths.pseudonymise_listing(layouts.discover_scans(ward))) == len(one) - 4


def test_another_key_gives_other_names(ward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = pseudonymised_paths.pseudonymise_listing(layouts.discover_scans(ward))
    monkeypatch.setenv("SCANWISE_KEY", "another key")
    two = pseudonymised_paths.pseudonymise_listing(layouts.discover_scans(ward))
    assert one.root != two.root
    assert not set(one.path.tolist()) & set(two.path.tolist())


def test_no_place_for_links(ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file" / "config"))
    with pytest.raises(StorageError, match="XDG_CONFIG_HOME"):
        pseudonymised_paths.pseudonymise_listing(layouts.discover_scans(ward))
