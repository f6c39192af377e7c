"""Resuming a run, with the recipe, the scans and the split that it began with, but for a few settings.

A training that ran out of memory, or whose loss is no longer a number, can go on only if something changes. Settings that
leave data, network and learning-rate schedule as they are may change; what changed, and when, is kept in
`provenance.json` and among the findings.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scanwise.cohort.splits import BY_DATA
from scanwise.csv_files import read_csv
from scanwise.errors import RunError
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages import explanation, stated_rates
from scanwise.recipe import Recipe, load_recipe
from scanwise.records import Cohort, Finding, Split, load_findings
from scanwise.run import RunFolder, layout, read_json, write_json

log = logging.getLogger("scanwise")

SettingChanges = dict[str, list[Any]]
"""Settings, each with its value before and now."""

FREE = {"train.accumulate", "train.batch", "train.clip", "train.precision"}
"""Settings that may change within a run; batch times accumulate stays, so that each step learns from as many scans."""


def check_resume(folder: RunFolder, context: Context) -> None:
    """Refuse to go on with another recipe, other scans or another split; writes nothing.

    Raises:
        RunError: saying what differs.
    """
    if not folder.recipe.is_file():
        return
    if changes := _changed_settings(folder, context):
        _check_settings(folder, context, changes)
    _check_data(folder, context)


def stored_splits(folder: RunFolder, cohort: Cohort, splits: Sequence[Split]) -> list[Split]:
    """Splits of a run that goes on: those that it began with, which an older scanwise may have drawn otherwise.

    Args:
        folder: the run, which may not be there.
        cohort: as it is now.
        splits: as they would be made now. One that the data gives, or of scans that have changed, stays.
    """
    if not folder.cohort.is_file() or data_hash(Cohort.load(folder.cohort)) != data_hash(cohort):
        return list(splits)
    files = [folder.fit(split.protocol, split.fold).split for split in splits]
    stored = [Split.load(file) if file.is_file() else split for file, split in zip(files, splits, strict=True)]
    drawn = [split.protocol == "honest" and split.rule != BY_DATA for split in splits]
    return [
        old if is_drawn and old.rule == split.rule else split
        for old, split, is_drawn in zip(stored, splits, drawn, strict=True)
    ]


def record_changes(folder: RunFolder, context: Context) -> list[Finding]:
    """Note in `provenance.json` which settings change now, after `check_resume`.

    Returns:
        a finding for each change, now or earlier.
    """
    if not folder.recipe.is_file():
        return []
    provenance = read_json(folder.provenance) if folder.provenance.is_file() else {}
    changes = provenance.get("changes", [])
    if settings := _changed_settings(folder, context):
        changes = [*changes, {"settings": settings, "epochs": _epochs(folder)}]
        write_json({**provenance, "changes": changes}, folder.provenance)
        log.warning("going on with another recipe: %s", _in_words(settings))
    return [_finding(change) for change in changes]


def kept_findings(folder: RunFolder, context: Context) -> list[Finding]:
    """Findings of the last stages of a run that goes on: its list is never without them, and those stages replace them."""
    prefixes = (stated_rates.PREFIX, *((explanation.PREFIX,) if context.recipe.explain.scans else ()))
    if not folder.findings.is_file():
        return []
    try:
        findings = load_findings(folder.findings)
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged, and about to be written anew
        return []
    return [finding for finding in findings if finding.check.startswith(prefixes)]


def data_hash(cohort: Cohort) -> str:
    """One hash over all scans, their labels and subjects."""
    digest = hashlib.sha256(repr(cohort.classes).encode())
    columns = (cohort.path, cohort.sha256, cohort.labels, cohort.subject)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _changed_settings(folder: RunFolder, context: Context) -> SettingChanges:
    began = load_recipe(folder.recipe)
    now = context.written_recipe
    if began.to_yaml() == now.to_yaml():  # not the file's own text: a newer scanwise has more defaults
        return {}
    return _differences(began, now)


def _check_settings(folder: RunFolder, context: Context, changed: SettingChanges) -> None:
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


def _check_data(folder: RunFolder, context: Context) -> None:
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
    """The parts of the data that changed, in words; empty when none did."""
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
    old, new = (_flat(recipe.model_dump(mode="json")) for recipe in (before, now))
    return {key: [old.get(key), new.get(key)] for key in sorted(old | new) if old.get(key) != new.get(key)}


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {k: v for name, inner in values.items() for k, v in _flat(inner, f"{prefix}.{name}".lstrip(".")).items()}


def _epochs(folder: RunFolder) -> dict[str, int]:
    """Epochs that each network has behind it, by its folder among the fits; those without any are left out."""
    fits = folder.path / "fits"
    histories = sorted(fits.rglob(layout.HISTORY))
    return {str(file.parent.relative_to(fits)): len(read_csv(file)[1]) for file in histories}


def _in_words(changed: Mapping[str, list[Any]]) -> str:
    return ", ".join(f"{name} {now} instead of {before}" for name, (before, now) in changed.items())


def _finding(change: Mapping[str, Any]) -> Finding:
    after = ", ".join(f"epoch {count} of {fit_name}" for fit_name, count in change["epochs"].items())
    return Finding(
        "train.changed",
        "warning",
        f"The training went on with {_in_words(change['settings'])} after {after or 'a start without a whole epoch'}. "
        "What was trained before that had the old value, and the curve is not that of one recipe.",
    )
