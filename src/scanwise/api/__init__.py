"""Every command as a Python function: `import scanwise`, then `scanwise.fit(…)`.

`inputs` turns what Python holds (arrays, pictures, datasets, tables) into what the stages read, `settings` keyword arguments
into settings of a recipe, `results` and `classifier` what a stage left into tables (pandas), pages and lines. The stages themselves are
those of the command line.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from scanwise import registry as versions
from scanwise.api.classifier import Classifier, Heatmaps, ScanPredictions
from scanwise.api.inputs import data_source
from scanwise.api.progress import showing_progress
from scanwise.api.results import AuditSummary, Comparison, External, Folds, Run
from scanwise.api.settings import setting_lines
from scanwise.errors import RunError
from scanwise.pipeline.model_reference import locate_model
from scanwise.recipe import Recipe, load_recipe, shipped_recipes
from scanwise.registry import Version
from scanwise.run import RunFolder, layout, refuse_foreign

Settings = Mapping[str, Any] | Iterable[str]
"""Settings of a recipe: {"train.epochs": 3}, or lines such as "train.epochs=3"."""


def audit(
    data: Any,
    *,
    subject: str = "auto",
    out: str | Path | None = None,
    settings: Settings = (),
    seed: int = 0,
    pseudonymise: bool = False,
    progress: bool | None = None,
) -> AuditSummary:
    """Say what scans give away before anything is trained.

    Args:
        data: a folder of labelled scans, a manifest, a URL, or a DataFrame with the columns of a manifest (`path` or `image`,
            `label`, and optionally `subject`, `text` and others).
        subject: the subjects: a column, a CSV of path,subject, a pattern over the path, or "auto", from the pixels.
        out: a folder for page and findings; none is written without it.
        settings: where labels and persons are, such as {"data.label": "diagnosis"}.
        seed: of everything random.
        pseudonymise: put keyed hashes in place of names.
        progress: show bars and messages; default: in a terminal and in a notebook.

    Raises:
        ScanwiseError: if nothing can be read, with what to do.
    """
    from scanwise.pipeline.stages import audit as audit_stage

    lines = setting_lines(settings, {})
    if out is not None:
        refuse_foreign(Path(out), layout.FINDINGS, "audit")
    with showing_progress(progress) as bars:
        result = audit_stage.audit_scans(
            data_source(data), subject=subject, settings=lines, seed=seed, pseudonymise=pseudonymise, progress=bars
        )
        page = None if out is None else audit_stage.write_audit(result, Path(out))
    return AuditSummary.of(result, page)


def fit(
    recipe: str | Path | Recipe,
    *,
    data: Any,
    out: str | Path,
    subject: str = "",
    settings: Settings = (),
    resume: bool = False,
    device: str = "auto",
    threads: int = 0,
    pseudonymise: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> Run:
    """Everything from labelled scans to a report.

    Args:
        recipe: a shipped recipe's name, a YAML file, or a Recipe.
        data: as in `audit`.
        out: the run folder, or an fsspec URL of one; new or empty unless `resume`.
        subject: as in `audit`; "" where the data says it.
        settings: changes of the recipe.
        resume: go on with the run in `out`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: for the CPU; 0 leaves the choice to torch.
        pseudonymise: as in `audit`.
        progress: as in `audit`.
        options: settings by the last word of their key, such as epochs=3 for train.epochs.

    Raises:
        ScanwiseError: with what happened and what to do.
    """
    from scanwise import pipeline

    lines = setting_lines(settings, options)
    with showing_progress(progress) as bars:
        folder = pipeline.fit(
            recipe, data=data_source(data), out=out, subject=subject, settings=lines, resume=resume, device=device,
            threads=threads, pseudonymise=pseudonymise, progress=bars,
        )  # fmt: skip
    return Run.open(folder.path)


def fold(
    recipe: str | Path | Recipe,
    *,
    data: Any,
    out: str | Path,
    folds: int = 5,
    tries: Sequence[Settings] = (),
    by: str = "nll",
    combine: Literal["auto", "choose", "average"] = "auto",
    subject: str = "",
    settings: Settings = (),
    resume: bool = False,
    device: str = "auto",
    threads: int = 0,
    progress: bool | None = None,
    **options: Any,
) -> Folds:
    """K-fold cross-validation by subject, nested where candidates compete; every subject is tested once.

    Args:
        recipe, data, out, subject, settings, resume, device, threads, progress, options: as in `fit`.
        folds: how many.
        tries: the settings of each candidate, such as [{"train.epochs": 3}, {"train.epochs": 9}].
        by: the metric on validation subjects that chooses.
        combine: `choose` one candidate a fold, `average` all, or `auto`: average where few people validate.
    """
    from scanwise.pipeline.commands.cross_validation import cross_validate

    lines, candidates = setting_lines(settings, options), [setting_lines(candidate, {}) for candidate in tries]
    with showing_progress(progress) as bars:
        result = cross_validate(
            recipe, data=data_source(data), out=Path(out), folds=folds, subject=subject, settings=lines,
            tries=candidates, criterion=by, combine=combine, resume=resume, device=device, threads=threads, progress=bars,
        )  # fmt: skip
    return Folds.of(result)


def evaluate(
    run: "str | Path | Run",
    *,
    data: Any,
    out: str | Path | None = None,
    subject: str = "",
    settings: Settings = (),
    draws: int = 2000,
    accept_copies: bool = False,
    device: str = "auto",
    threads: int = 0,
    pseudonymise: bool = False,
    progress: bool | None = None,
) -> External:
    """External validation: a frozen run on other people's labelled scans.

    Args:
        run: a run or its folder.
        data, subject, settings, device, threads, pseudonymise, progress: as in `audit` and `fit`.
        out: folder of tables and page; default: `external` in the run folder.
        draws: behind each interval.
        accept_copies: go on where scans seem to be changed copies of the run's, after a look.

    Raises:
        ScanwiseError: if the data holds scans that the run learnt from.
    """
    from scanwise.pipeline.commands.external_validation import validate_externally, write_external_validation

    path = folder_of(run)
    folder = Path(out) if out is not None else path / layout.EXTERNAL
    refuse_foreign(folder, layout.EXTERNAL_PAGE, "external validation")
    lines = setting_lines(settings, {})
    with showing_progress(progress) as bars:
        result = validate_externally(
            path, data=data_source(data), subject=subject, settings=lines, draws=draws, accept_copies=accept_copies,
            device=device, threads=threads, pseudonymise=pseudonymise, progress=bars,
        )  # fmt: skip
        page = write_external_validation(result, folder)
    return External.of(result, page)


def compare(*runs: "str | Path | Run", out: str | Path = "comparison", draws: int = 2000, seed: int = 0) -> Comparison:
    """Compare runs on the people that all were tested on.

    Args:
        runs: runs or their folders.
        out: folder of tables and page.
        draws: behind each interval.
        seed: of the draws.
    """
    from scanwise.pipeline.commands.comparison import compare_runs, write_comparison

    refuse_foreign(Path(out), layout.COMPARISON, "comparison")
    result = compare_runs([folder_of(run) for run in runs], draws=draws, seed=seed)
    return Comparison.of(result, write_comparison(result, Path(out)))


def load(model: "str | Path | Run") -> Classifier:
    """Open a trained classifier.

    Args:
        model: a run, its folder or URL, a bundle, NAME:VERSION of a registered model, or hf://OWNER/NAME of the hub.

    Raises:
        RunError: if a file is missing or was altered.
    """
    return Classifier.open(_located(model))


def predict(model: "str | Path | Run | Classifier", scans: Any, **options: Any) -> ScanPredictions:
    """Class, probabilities, prediction set and entropy of new scans.

    Args:
        model: as in `load`, or what it gave.
        scans: as in `Classifier.predict`.
        options: of `Classifier.predict`.
    """
    return _classifier(model).predict(scans, **options)


def explain(model: "str | Path | Run | Classifier", scans: Any, **options: Any) -> Heatmaps:
    """Heatmaps of new scans, with the verdict of their checks.

    Args:
        model: as in `load`, or what it gave.
        scans: as in `Classifier.predict`.
        options: of `Classifier.explain`.
    """
    return _classifier(model).explain(scans, **options)


def register(run: "str | Path | Run", name: str, *, registry: str | Path = "") -> Version:
    """Give the bundle of a run the next version of a name; `scanwise.load("NAME:VERSION")` opens it.

    Args:
        run: a run, its folder or URL, or a bundle.
        name: letters, digits, dots, dashes and underscores.
        registry: a folder, or MLflow's registry; default: SCANWISE_REGISTRY, or your own data folder.
    """
    return versions.register(_located(run), name, registry=registry)


def export(
    run: "str | Path | Run",
    *,
    out: str | Path,
    scans: Iterable[str | Path] = (),
    registry: str | Path = "",
    progress: bool | None = None,
) -> Path:
    """Write the model of a run as an ONNX graph with all that it needs to predict without torch; whole, or not at all.

    Args:
        run: a run, its folder or URL, a bundle, or NAME:VERSION of a registered model.
        out: a new folder, which `load` and `predict` open like a run.
        scans: files and folders to compare graph and network on; default: the scans of the run.
        registry: as in `register`.
        progress: show bars and messages; default: in a terminal and in a notebook.

    Raises:
        ScanwiseError: if the graph answers any scan otherwise than the network, or there is none.
    """
    from scanwise.pipeline.commands.export_model import export_model

    with showing_progress(progress) as bars:
        export_model(_located(run, registry), Path(out), scans=[Path(scan) for scan in scans], progress=bars)
    return Path(out)


def publish(
    run: "str | Path | Run",
    *,
    folder: str | Path | None = None,
    name: str = "",
    license_id: str = "",
    private: bool = True,
) -> str:
    """Send the model card and the bundle of a run to the Hugging Face hub, or write them into a folder that it would take.

    Args:
        run: a run or its folder.
        folder: to write, in place of sending.
        name: OWNER/NAME on the hub.
        license_id: identifier of the licence, such as apache-2.0.
        private: whether a new model is seen by its owner alone.

    Returns:
        the folder, or the name for `load`.

    Raises:
        RunError: unless a folder or a name is given, or if the run cannot be published.
    """
    from scanwise.hub import send_to_hub, write_hub_folder

    if (folder is None) != bool(name):
        raise RunError("Name a folder to write, or a name OWNER/NAME to send to; one of the two.")
    opened = RunFolder.open(folder_of(run))
    if folder is not None:
        return str(write_hub_folder(opened, Path(folder), license_id=license_id))
    with TemporaryDirectory() as temporary:
        written = write_hub_folder(opened, Path(temporary) / "model", license_id=license_id)
        return send_to_hub(written, name, private=private)


def recipes() -> dict[str, str]:
    """The shipped recipes: name to title."""
    return {name: load_recipe(name).title for name in shipped_recipes()}


def folder_of(run: "str | Path | Run") -> Path:
    """The folder of a run."""
    return run.path if isinstance(run, Run) else Path(run)


def _located(model: "str | Path | Run", registry: str | Path = "") -> Path:
    """The folder of what names a model."""
    return locate_model(model.path if isinstance(model, Run) else model, registry)


def _classifier(model: "str | Path | Run | Classifier") -> Classifier:
    return model if isinstance(model, Classifier) else load(model)
