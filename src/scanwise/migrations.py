"""Versions of the formats on disk, and how older ones are read.

Scanwise 0.1 wrote no number: that is format 0. A file of format 0 has the same columns and arrays as one of format 1,
so reading it needs no conversion. A future change that needs one converts it here.
"""

from scanwise.errors import RunError

FORMATS = {"run": 1, "logits": 1, "cohort": 1, "split": 1, "store": 1}
"""The number that this version writes, by kind of file. A bundle has a number of its own."""


def check_format(kind: str, number: object, source: object) -> None:
    """Check that a file has a format that this version reads; None stands for 0, as 0.1 wrote it.

    Raises:
        RunError: if it was written by a newer scanwise.
    """
    version = 0 if number is None else number
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= FORMATS[kind]:
        raise RunError(
            f"{source} has format {version!r} ({kind}); this scanwise reads formats 0 to {FORMATS[kind]}. Update scanwise."
        )
