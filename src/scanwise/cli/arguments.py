"""Checks of the arguments alone: mistakes within a second, and imports that run while scans are read."""

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from threading import Thread

from scanwise.errors import RecipeError
from scanwise.run import RunFolder, require_model_folder
from scanwise.untrusted import require_data


def check_data(data: str, *, option: str = "--data") -> None:
    """Refuse a path where nothing lies; a URL is asked for later.

    Raises:
        DataError: if there is nothing.
    """
    if not _is_url(data):
        require_data(Path(data.removeprefix("file://")).expanduser(), option)


def check_recipe(recipe: str, settings: Iterable[str]) -> None:
    """Read a recipe and its settings.

    Raises:
        RecipeError: naming every mistake.
    """
    from scanwise.recipe import load_recipe

    load_recipe(recipe, settings)


def check_data_settings(settings: Iterable[str]) -> None:
    """Refuse settings of a command that trains nothing, but for those of how scans are read.

    Raises:
        RecipeError: naming the first other one.
    """
    for setting in settings:
        key = setting.partition("=")[0]
        if not key.startswith("data."):
            raise RecipeError(
                f"--set {key[:80]}: nothing is trained here; only keys of data apply, such as data.slices."
            )


def check_run_folder(folder: str, *, resume: bool) -> None:
    """Refuse a folder that cannot take a run.

    Raises:
        RunError: if it is taken, or holds nothing to go on with.
    """
    if not _is_url(folder) and Path(folder).exists():
        RunFolder.create(Path(folder), resume=resume)


def check_model(named: str) -> None:
    """Refuse a name that is no folder of a run or bundle; URLs and registered versions are looked up later.

    Raises:
        RunError: if there is no such folder.
    """
    if not _is_url(named) and not re.fullmatch(r"[^/\\:]+:(\d+|latest)", named):
        require_model_folder(Path(named))


def load_torch_meanwhile() -> None:
    """Import what training needs in a thread, while this one reads scans."""
    Thread(target=_import_training, name="imports").start()


def _import_training() -> None:
    """The slow imports of a fit; one that fails says so where it is needed."""
    try:
        for module in ("torch", "timm", "lightning"):
            import_module(module)
    except Exception:  # noqa: BLE001, S110 - of any package, as it likes
        pass


def _is_url(text: str) -> bool:
    return "://" in text and not text.startswith("file://")
