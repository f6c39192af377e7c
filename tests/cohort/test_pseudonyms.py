"""Hashes stand in for names: the same for the same key, useless without it, and the key is kept to its owner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scanwise.cohort import pseudonyms
from scanwise.cohort.pseudonyms import Pseudonyms
from scanwise.errors import StorageError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration folder is the test's own."""
    monkeypatch.delenv("SCANWISE_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "scanwise"


def test_a_value_has_one_stand_in_for_each_key_and_kind() -> None:
    hashes = Pseudonyms(b"key")
    assert hashes("subject", "Doe") == hashes("subject", "Doe")
    told = {
        hashes("subject", "Doe"),
        hashes("study", "Doe"),
        hashes("subject", "Dof"),
        Pseudonyms(b"kez")("subject", "Doe"),
    }
    assert len(told) == 4
    assert hashes("subject", "") == ""
    assert "Doe" not in " ".join(told)


def test_the_key_is_made_once_and_is_the_owners_alone(config: Path) -> None:
    one = Pseudonyms.load()
    assert Pseudonyms.load() == one
    assert len(one.key) >= 32
    assert pseudonyms.key_file() == config / "key"
    assert (config / "key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in config.iterdir()] == ["key"]


def test_another_user_has_another_key(config: Path) -> None:
    one = Pseudonyms.load()
    (config / "key").unlink()
    assert Pseudonyms.load() != one


def test_a_key_of_the_environment_comes_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_KEY", "a long secret")
    assert Pseudonyms.load() == Pseudonyms(b"a long secret")
    assert not config.exists()


@pytest.mark.extended
def test_two_processes_have_the_same_key(config: Path) -> None:
    code = "from scanwise.cohort.pseudonyms import Pseudonyms; print(Pseudonyms.load()('subject', 'Doe'))"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0] for process in both}
    assert said == {Pseudonyms.load()("subject", "Doe") + "\n"}


def test_the_key_is_not_shown(config: Path) -> None:
    assert "key" not in repr(Pseudonyms(b"secret")).replace("Pseudonyms", "")
    assert "secret" not in repr(Pseudonyms(b"secret"))


def test_no_place_for_a_key(config: Path, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="Set SCANWISE_KEY"):
        Pseudonyms.load()
    assert not os.environ.get("SCANWISE_KEY")


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("NonDemented/John Doe/scan.png", "NonDemented/*/*.png"),
        ("train/NonDemented/Doe.nii.gz", "train/NonDemented/*.nii.gz"),
        ("John.Doe", "*"),
        ("Doe#001", "*"),
        ("IM0001", "*"),
    ],
)
def test_of_a_path_its_shape_stays(path: str, shape: str) -> None:
    hidden = Pseudonyms(b"key").path(path, keep=("train", "NonDemented"))
    expected = shape.split("/")
    parts = hidden.split("/")
    assert len(parts) == len(expected)
    for part, pattern in zip(parts, expected, strict=True):
        if "*" not in pattern:
            assert part == pattern
        else:
            assert part.endswith(pattern[1:])
            assert len(part) == 16 + len(pattern) - 1
    assert "Doe" not in hidden


def test_neighbours_stay_neighbours() -> None:
    hashes = Pseudonyms(b"key")
    one, two = hashes.path("a/Doe/1.png"), hashes.path("a/Doe/2.png")
    assert one.split("/")[:2] == two.split("/")[:2]
    assert one != two
