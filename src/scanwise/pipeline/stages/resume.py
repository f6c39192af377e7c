"""Going on with a run: with the recipe, the scans and the split that it began with, but for a few settings.

A training that ran out of memory, or whose loss is no number any more, can go on only if something changes. Those settings
may that leave data, network and course of the learning rate as they are; what changed, and when, is kept in
`provenance.json` and said among the findings.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from scanwise import recipe, run
from scanwise.csv_files import read_csv
from scanwise.errors import RunError
from scanwise.pipeline.context import Context
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Finding, Split
from scanwise.run import Run

log = logging.getLogger("scanwise")

SettingChanges = dict[str, list[Any]]
"""Settings, each with its value before and now."""

FREE = {"train.accumulate", "train.batch", "train.clip", "train.precision"}
"""What may change within a run; of batch and accumulate the product stays, so that each step learns from as many scans."""


def resume_run(folder: Run, context: Context) -> list[Finding]:
    """Refuse to go on with another recipe, other scans or another split; note what of the recipe may change and does.

    Returns:
        what changed now or earlier, for the report.

    Raises:
        RunError: saying what differs.
    """
    if not folder.recipe.is_file():
        return []
    began = recipe.load_recipe(folder.recipe)
    changed: SettingChanges = {}
    if began.to_yaml() != context.recipe.to_yaml():  # not the file's own text: a newer scanwise has more defaults
        changed = _differences(began, context.recipe)
        _refuse_settings(folder, context, changed)
    _refuse_data(folder, context)
    known = run.read_json(folder.provenance) if folder.provenance.is_file() else {}
    changes = known.get("changes", [])
    if changed:
        changes = [*changes, {"settings": changed, "epochs": _epochs(folder)}]
        run.write_json({**known, "changes": changes}, folder.provenance)
        log.warning("going on with another recipe: %s", _in_words(changed))
    return [_finding(change) for change in changes]


def data_hash(known: Cohort) -> str:
    """One hash over all scans, their labels and subjects."""
    told = hashlib.sha256(repr(known.classes).encode())
    for row in zip(
        known.path.tolist(), known.sha256.tolist(), known.labels.tolist(), known.subject.tolist(), strict=True
    ):
        told.update(repr(row).encode())
    return told.hexdigest()


def _refuse_settings(folder: Run, context: Context, changed: SettingChanges) -> None:
    train = context.recipe.train
    steps = [
        batch * more
        for batch, more in zip(
            changed.get("train.batch", [train.batch] * 2),
            changed.get("train.accumulate", [train.accumulate] * 2),
            strict=True,
        )
    ]
    left = any(not folder.fit(split.protocol, split.fold).model.is_file() for split in context.splits)
    if left and changed and changed.keys() <= FREE and steps[0] == steps[1]:
        return
    raise RunError(
        f"{folder.path} was begun with another recipe; it differs in {', '.join(sorted(changed)[:5])}. "
        "Use that recipe again, or choose another --out. While a network is left to train, train.clip and train.precision "
        "may change, and train.batch with train.accumulate so that their product stays."
    )


def _refuse_data(folder: Run, context: Context) -> None:
    if folder.cohort.is_file() and (other := _other_data(Cohort.load(folder.cohort), context.cohort)):
        raise RunError(f"{folder.path} was begun with other {other}. Restore them, or choose another --out.")
    for split in context.splits:
        kept = folder.fit(split.protocol, split.fold).split
        if kept.is_file() and not np.array_equal(Split.load(kept).side, split.side):
            raise RunError(
                f"{folder.path} was begun with another {split.protocol} split: a scan that was learnt from could be "
                "tested now. Restore the split of the data, or choose another --out."
            )


def _other_data(before: Cohort, now: Cohort) -> str:
    """What of the data is not as it was, in words; empty when all that matters is."""
    if data_hash(before) == data_hash(now):
        return ""
    if before.classes != now.classes:
        return "classes"
    if not np.array_equal(before.path, now.path):
        return f"scans ({len(before)} then, {len(now)} now)"
    parts = {"pixels": "sha256", "labels": "labels", "subjects": "subject"}
    return " and ".join(
        word for word, name in parts.items() if not np.array_equal(getattr(before, name), getattr(now, name))
    )


def _differences(before: Recipe, now: Recipe) -> SettingChanges:
    old, new = (_flat(made.model_dump(mode="json")) for made in (before, now))
    return {key: [old.get(key), new.get(key)] for key in sorted(old | new) if old.get(key) != new.get(key)}


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {k: v for name, inner in values.items() for k, v in _flat(inner, f"{prefix}.{name}".lstrip(".")).items()}


def _epochs(folder: Run) -> dict[str, int]:
    """How many epochs each network has behind it, by its place among the fits; those without any are left out."""
    fits = folder.path / "fits"
    found = sorted(fits.rglob("history.csv"))
    return {str(file.parent.relative_to(fits)): len(read_csv(file)[1]) for file in found}


def _in_words(changed: Mapping[str, list[Any]]) -> str:
    return ", ".join(f"{name} {now} instead of {before}" for name, (before, now) in changed.items())


def _finding(change: Mapping[str, Any]) -> Finding:
    after = ", ".join(f"epoch {count} of {place}" for place, count in change["epochs"].items())
    return Finding(
        "train.changed",
        "warning",
        f"The training went on with {_in_words(change['settings'])} after {after or 'a start without a whole epoch'}. "
        "What was trained before that had the old value, and the curve is not that of one recipe.",
    )
