"""Predictions for new files, with the bundle of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scanwise import bundle
from scanwise.cohort import layouts, pseudonymised_paths, slice_expansion
from scanwise.errors import DataError
from scanwise.pipeline.context import resolve_device


def predict_files(
    path: Path,
    scans: Sequence[Path],
    *,
    manifest: Path | None = None,
    subject: str = "",
    device: str = "auto",
    threads: int = 0,
    pseudonymise: bool = False,
    progress: bool = False,
) -> bundle.BundlePredictions:
    """Predict files, folders of files, or the rows of a manifest, with the bundle of a run.

    With `pseudonymise` scans and subjects are named by keyed hashes.

    Raises:
        DataError: if there is nothing to predict, or nothing that can be read.
    """
    loaded = bundle.load(path)
    files = layouts.list_unlabelled(scans, manifest, subject)
    if pseudonymise:
        files = pseudonymised_paths.pseudonymise_listing(files)
    listing, _ = slice_expansion.expand_slices(files, loaded.recipe.data, progress=progress)
    if not len(listing):
        raise DataError(f"None of the {len(files)} files can be read; the first: {', '.join(listing.unused[0])}.")
    subjects = None
    if listing.subject is not None and bool((listing.subject != "").all()):
        subjects = listing.subject.tolist()
    predictions = loaded.predict(
        [listing.root / name for name in listing.path.tolist()],
        subjects,
        listing.groups,
        words=None if listing.text is None else listing.text.tolist(),
        names=listing.path,
        device=resolve_device(device, threads),
        progress=progress,
    )
    return replace(predictions, quarantine=(*predictions.quarantine, *listing.unused))
