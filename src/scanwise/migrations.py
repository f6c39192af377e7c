"""Versions of the formats on disk, and how older ones are read.

Scanwise 0.1 wrote no number, but for bundles: that is format 0. A file of format 0 has the same columns and arrays as one
of format 1, so reading it needs no conversion. A bundle of format 1 has no novelty detector, and is read as one that flags
nothing. A bundle before format 3 names no forward shape and no hash: its batches are of any size, and its draws come from
the hash of the file, as when it was made. A future change that needs a conversion makes it here.
"""

from scanwise.errors import RunError

FORMATS = {"run": 1, "logits": 1, "cohort": 1, "split": 1, "store": 1, "checkpoint": 1, "spool": 1, "bundle": 3}
"""The number that this version writes, by kind of file."""
OLDEST = {"bundle": 1}
"""The lowest number that this version reads, where it is not 0."""
BUNDLE_BEFORE_NOVELTY = 1


def check_format(kind: str, number: object, source: object) -> None:
    """Check that a file has a format that this version reads; None stands for 0, as 0.1 wrote it.

    Raises:
        RunError: if it was written by a newer scanwise.
    """
    version, oldest = 0 if number is None else number, OLDEST.get(kind, 0)
    if isinstance(version, bool) or not isinstance(version, int) or not oldest <= version <= FORMATS[kind]:
        raise RunError(
            f"{source} has format {version!r} ({kind}); this scanwise reads formats {oldest} to {FORMATS[kind]}. "
            "Update scanwise."
        )
