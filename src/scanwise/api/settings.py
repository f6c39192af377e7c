"""Settings of a recipe from Python values."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from scanwise.errors import RecipeError, did_you_mean
from scanwise.recipe import setting_keys


def setting_lines(settings: Mapping[str, Any] | Iterable[str], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings as `key=value` lines.

    Args:
        settings: {"train.epochs": 3}, or lines as `--set` has them.
        options: values by the last word of a key, such as {"epochs": 3}.

    Raises:
        RecipeError: for one string in place of a list, a value that YAML cannot spell, or an option that is no key, or several.
    """
    if isinstance(settings, str | bytes):
        raise RecipeError(f'settings is one text: give {{"train.epochs": 3}} or ["train.epochs=3"], not {settings!r}.')
    if isinstance(settings, Mapping):
        lines = [_line(str(key), value) for key, value in settings.items()]
    else:
        lines = [str(line) for line in settings]
    return (*lines, *(_line(_key(name), value) for name, value in options.items()))


def _key(name: str) -> str:
    """The one key that ends with this word."""
    keys = setting_keys()
    matches = [key for key in keys if key.rpartition(".")[2] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RecipeError(f"{name} may be {' or '.join(matches)}. Say which: settings={{{matches[0]!r}: …}}.")
    words = [key.rpartition(".")[2] for key in keys]
    raise RecipeError(f"There is no setting {name}.{did_you_mean(name, words)} `scanwise recipes schema` lists all.")


def _line(key: str, value: Any) -> str:
    try:
        return f"{key}={json.dumps(value, ensure_ascii=False, default=_plain)}"
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"{key}: {type(value).__name__} is no value of a recipe; give a number, a text or a list."
        ) from error


def _plain(value: Any) -> Any:
    """Numbers of NumPy, tuples, sets and paths as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(type(value).__name__)
