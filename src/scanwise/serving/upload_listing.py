"""Uploads as the listing that `scanwise predict` makes of the same files, so that the answer has its bytes."""

from dataclasses import replace
from pathlib import Path

from scanwise.cohort.listing import Listing, texts
from scanwise.cohort.slice_expansion import expand_slices
from scanwise.errors import DataError
from scanwise.phrases import none_readable
from scanwise.recipe import Data
from scanwise.records.names import clean_subjects
from scanwise.serving.decoding import DecodedFiles
from scanwise.serving.messages import Header


def list_uploads(header: Header, files: DecodedFiles, settings: Data) -> Listing:
    """A row a scan of the files that can be used; the others are `unused`.

    Args:
        header: of the question: the name of each file, and its subject and words where they are known.
        files: decoded.
        settings: of the recipe.

    Raises:
        DataError: if no file can be used.
    """
    names: list[str] = header["names"]
    # A label may look like a slice of a file, or like another label: files are listed by number, and named at the end.
    numbered = [f"upload-{row:07d}" for row in range(len(names))]
    listing = Listing(
        Path(),
        texts(numbered),
        texts("" for _ in numbered),
        subject=None if header["subjects"] is None else texts(clean_subjects(header["subjects"])),
        text=None if header["words"] is None else texts(header["words"]),
        opened=files.opened,
    )
    scans, rows = expand_slices(listing, settings)

    def named(text: str) -> str:
        for number, name in zip(numbered, names, strict=True) if "upload-" in text else ():
            text = text.replace(number, name)
        return text

    unused = tuple((names[numbered.index(path)], reason) for path, reason in scans.unused)
    if not len(scans):
        raise DataError(f"{none_readable(len(names))}; the first: {', '.join(unused[0])}.")
    paths = [
        names[row] + path[len(numbered[row]) :] for row, path in zip(rows.tolist(), scans.path.tolist(), strict=True)
    ]
    return replace(scans, path=texts(paths), unused=unused, remarks=tuple(map(named, scans.remarks)))
