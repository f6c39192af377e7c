"""Files of arrays that claim what they do not hold: one line that says what is wrong with the file, and no memory for it."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanwise.errors import DataError, RunError
from scanwise.records import array_files, read_arrays
from scanwise.records.array_files import read_parquet, write_parquet
from tiny import Command

LOGITS = np.arange(12, dtype=np.float32).reshape(4, 3)


def member(array: np.ndarray, old: str = "", new: str = "") -> bytes:
    """An npy file with words of its header exchanged."""
    content = io.BytesIO()
    np.save(content, array)
    raw = content.getvalue()
    start = 10 + struct.unpack("<H", raw[8:10])[0]
    header = raw[10:start].decode().rstrip()
    assert old in header
    text = (header.replace(old, new) + "\n").encode()
    return raw[:8] + struct.pack("<H", len(text)) + text + raw[start:]


def npz(file: Path, *members: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def huge(file: Path) -> Path:
    return npz(file, ("logits.npy", member(LOGITS, "(4, 3)", "(400000000000, 3)")))


def small(file: Path) -> Path:
    return npz(file, ("logits.npy", member(LOGITS, "(4, 3)", "(2, 3)")))


def negative(file: Path) -> Path:
    return npz(file, ("logits.npy", member(LOGITS, "(4, 3)", "(-4, -3)")))


def sizeless(file: Path) -> Path:
    return npz(file, ("scans.npy", member(np.zeros(0, "<U1"), "'<U1', 'fortran_order': False, 'shape': (0,)",
                                          "'<U0', 'fortran_order': False, 'shape': (10000000000,)")))  # fmt: skip


def objects(file: Path) -> Path:
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return npz(file, ("classes.npy", content.getvalue()))


def hidden_objects(file: Path) -> Path:
    return npz(file, ("logits.npy", member(LOGITS, "'<f4'", "[('a', 'O')]")))


def pickled(file: Path) -> Path:
    file.write_bytes(pickle.dumps({"logits": LOGITS}))
    return file


def bomb(file: Path) -> Path:
    return npz(file, ("logits.npy", member(np.zeros((10_000_000, 10), np.float32))))


def cut(file: Path) -> Path:
    return npz(file, ("logits.npy", member(LOGITS)[:-5]))


def headless(file: Path) -> Path:
    return npz(file, ("logits.npy", b"\x93NUMPY\x01\x00\xff\xff{"))


def no_array(file: Path) -> Path:
    return npz(file, ("logits", b"these are no numbers"))


def nested(file: Path) -> Path:
    return npz(file, ("logits.npy", member(LOGITS, "(4, 3)", "(" * 3000 + ")" * 3000)))


def later(file: Path) -> Path:
    raw = bytearray(member(LOGITS))
    raw[6] = 9
    return npz(file, ("logits.npy", bytes(raw)))


def twice(file: Path) -> Path:
    return npz(file, ("logits.npy", member(LOGITS)), ("logits", member(LOGITS)))


def locked(file: Path) -> Path:
    raw = bytearray(npz(file, ("logits.npy", member(LOGITS)), packing=zipfile.ZIP_STORED).read_bytes())
    for start in (raw.index(b"PK\x03\x04") + 6, raw.index(b"PK\x01\x02") + 8):
        raw[start] |= 1  # as if with a password
    file.write_bytes(raw)
    return file


def packed_otherwise(file: Path) -> Path:
    raw = bytearray(npz(file, ("logits.npy", member(LOGITS)), packing=zipfile.ZIP_STORED).read_bytes())
    for start in (raw.index(b"PK\x03\x04") + 8, raw.index(b"PK\x01\x02") + 10):
        raw[start] = 97
    file.write_bytes(raw)
    return file


def no_letters(file: Path) -> Path:
    raw = member(np.array(["ab"]))
    return npz(file, ("classes.npy", raw[:-1] + b"\x7f"))


def halves_of_letters(file: Path) -> Path:
    return npz(file, ("classes.npy", member(np.array(["\ud83d"]))))


def no_utf8(file: Path) -> Path:
    return npz(file, ("classes.npy", member(np.array([b"\xff"]))))


def records(file: Path) -> Path:
    return npz(file, ("logits.npy", member(np.zeros(3, [("a", "f4"), ("b", "f4")]))))


LIES: dict[Callable[[Path], Path], str] = {
    huge: r"'logits' claims the shape \(400000000000, 3\), 4,800,000,000,000 bytes, and holds 48\.",
    small: "claims the shape",
    negative: "claims the shape",
    sizeless: "'scans' claims the shape",
    objects: "'classes' holds Python objects",
    hidden_objects: "'logits' holds Python objects",
    pickled: "not a zip file",
    bomb: "a small file that would unpack to 400 MB",
    cut: "claims the shape",
    headless: "EOF",
    no_array: "magic",
    nested: "without pickle",
    later: "version",
    twice: "one name",
    locked: "encrypted",
    packed_otherwise: "compression",
    no_letters: "'classes' holds text with letters that there are not",
    halves_of_letters: "'classes' holds text with letters that there are not",
    no_utf8: "utf-8",
    records: "'logits' holds records",
}


@pytest.mark.extended
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_file_that_lies_is_one_line_about_the_file(
    lie: Callable[[Path], Path], tmp_path: Path, scanwise: Command
) -> None:
    file = lie(tmp_path / "logits.npz")
    with pytest.raises(DataError, match=LIES[lie]):
        read_arrays(file)
    said = scanwise("calibrate", file, "--out", tmp_path / "c.json")
    assert said.code == 2
    assert said.refusal.startswith(f"{file} is not a file of logits")
    assert "memory" not in said.refusal
    assert "\n" not in said.refusal
    assert not (tmp_path / "c.json").exists()


def test_arrays_that_shrink_well_are_read(tmp_path: Path) -> None:
    arrays = {"logits": np.zeros((1000, 50)), "labels": np.zeros(1000, np.int64), "classes": np.array(["", "脑😀"])}
    np.savez_compressed(tmp_path / "a.npz", **arrays, turned=np.asfortranarray(LOGITS), none=np.zeros((0, 3)))
    np.savez(
        tmp_path / "b.npz",
        bytes=np.array([b"a", "ö".encode()]),
        swapped=np.array(["ab"]).astype(">U2"),
        one=np.array("x"),
    )
    texts = read_arrays(tmp_path / "b.npz")
    assert {name: array.tolist() for name, array in texts.items()} == {
        "bytes": ["a", "ö"],
        "swapped": ["ab"],
        "one": "x",
    }
    found = read_arrays(tmp_path / "a.npz")
    for name, array in {**arrays, "turned": LOGITS, "none": np.zeros((0, 3))}.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_too_little_memory_is_said_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", logits=np.zeros((1000, 1000)))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(array_files.npy, "read_array", fail)
    with pytest.raises(DataError, match=r"a\.npz take 8 MB, more memory than there is"):
        read_arrays(tmp_path / "a.npz")


@given(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_one_wrong_byte_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: float, byte: int
) -> None:
    file = npz(tmp_path_factory.mktemp("npz") / "a.npz", ("logits.npy", member(LOGITS)), packing=zipfile.ZIP_STORED)
    raw = bytearray(file.read_bytes())
    raw[int(place * (len(raw) - 1))] = byte
    file.write_bytes(raw)
    with suppress(DataError):
        assert all(np.array_equal(array, LOGITS) for array in read_arrays(file).values())


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 60 + b"PAR1"])
def test_a_damaged_table_is_one_line_about_the_file(content: bytes, tmp_path: Path) -> None:
    write_parquet({"path": np.array(["a"])}, {"format": 1}, tmp_path / "a.parquet")
    assert read_parquet(tmp_path / "a.parquet")[0]["path"].tolist() == ["a"]
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(RunError, match=r"a\.parquet is not a table that scanwise wrote"):
        read_parquet(tmp_path / "a.parquet")
