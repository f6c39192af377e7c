"""Rows on disk: the same bytes for any blocks, and nothing of them is left or can be opened."""

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scanwise.cohort import row_files
from scanwise.cohort.row_files import blocks_of, read_rows, store_rows
from scanwise.errors import StorageError

ROWS = np.random.default_rng(0).integers(0, 256, (23, 4, 5), dtype=np.uint8)


@given(size=st.integers(1, 30), count=st.integers(0, 23))
def test_rows_come_back_whatever_the_size_of_a_block(size: int, count: int) -> None:
    values = ROWS[:count] / np.float32(7)
    parts = [(ROWS[:count][block], values[block]) for block in blocks_of(count, size)]
    rows, others = store_rows(parts)
    assert np.array_equal(rows, ROWS[:count])
    assert np.array_equal(others, values)
    assert (rows.dtype, others.dtype) == (np.uint8, np.float32)


def test_rows_are_read_again_after_their_pages_left_memory() -> None:
    (rows,) = store_rows([(ROWS,)])
    for _ in range(2):
        assert np.array_equal(read_rows(rows, np.array([3, 1, 3])), ROWS[[3, 1, 3]])
        assert np.array_equal(read_rows(rows[:, :2], slice(4, 9)), ROWS[4:9, :2])
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


def test_rows_in_memory_are_read_as_they_are() -> None:
    copied = read_rows(ROWS, slice(0, 2))
    copied[:] = 0
    assert ROWS[:2].any()


def test_the_files_have_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWISE_CACHE", str(tmp_path / "cache"))
    (rows,) = store_rows([(ROWS,)])
    assert list((tmp_path / "cache").iterdir()) == []
    assert np.array_equal(rows, ROWS)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: NDArray[Any]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(row_files.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(StorageError, match="SCANWISE_CACHE"):
        store_rows([(ROWS,)])
    assert tempfile is row_files.tempfile
