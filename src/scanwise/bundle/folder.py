"""The folder of a bundle, written from a fit."""

import shutil
from pathlib import Path
from typing import Any

from scanwise.bundle.contents import ABOUT, NOVELTY, RECIPE, VOCABULARY, WEIGHTS, list_hashes
from scanwise.bundle.engines import forward_shapes
from scanwise.bundle.predictors import HASHED, hashed_content
from scanwise.migrations import FORMATS
from scanwise.recipe import Recipe
from scanwise.records import Cohort, Split
from scanwise.records.columns import kinds_in
from scanwise.run import Fit, RunFolder, layout, read_json, write_json, write_text, writing


def write_bundle(run: RunFolder, fit: Fit, recipe: Recipe, cohort: Cohort) -> Path:
    """Write the bundle of a fit into its run folder, whole or not at all."""
    taught = cohort.take(Split.load(fit.split).rows("train")).groups
    sets = read_json(fit.conformal) if fit.conformal.is_file() else {}
    about = {
        "format": FORMATS["bundle"],
        "name": recipe.name,
        "classes": cohort.classes,
        "ordered": cohort.ordered,
        "groups": {name: kinds for name, values in taught.items() if (kinds := kinds_in(name, values))},
        "protocol": fit.protocol,
        "fold": fit.fold,
        "calibrators": read_json(fit.calibrator) if fit.calibrator.is_file() else {},
        "sets": {name: sets[name] for name in ("scan", "subject") if name in sets},
        "abstention": read_json(fit.abstention) if fit.abstention.is_file() else {},
        "novelty": fit.novelty.is_file(),
        HASHED: hashed_content(fit),
        "forward": forward_shapes(recipe),
        "explained": _explained(run.heatmaps / layout.CHECKS),
    }
    with writing(run.bundle) as folder:
        folder.mkdir()
        write_json(about, folder / ABOUT)
        write_text(recipe.to_yaml(), folder / RECIPE)
        shutil.copyfile(fit.model, folder / WEIGHTS)
        if fit.novelty.is_file():
            shutil.copyfile(fit.novelty, folder / NOVELTY)
        if fit.vocabulary.is_file():
            shutil.copyfile(fit.vocabulary, folder / VOCABULARY)
        list_hashes(folder)
    return run.bundle


def _explained(checks: Path) -> dict[str, Any]:
    """Results of the checks of each method of explanation on this network."""
    verdicts: dict[str, Any] = read_json(checks)["verdicts"] if checks.is_file() else {}
    return verdicts
