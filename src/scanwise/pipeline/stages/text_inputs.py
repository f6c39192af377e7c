"""The words beside the scans: their tokens, and inputs with a part taken away."""

from typing import Any

import numpy as np

from scanwise.cohort.anatomical_order import scan_positions
from scanwise.cohort.covariates import network_tokens
from scanwise.cohort.store import Store
from scanwise.errors import DataError
from scanwise.models.vocabulary import Vocabulary, remove_words, titles_as_read
from scanwise.pipeline.context import Context
from scanwise.recipe import Recipe
from scanwise.records import Cohort, IntArray, Split, StrArray
from scanwise.run import Fit

PARTS = ("without_words", "without_image", "without_class_words")
"""Parts that can be taken away: the title, the image, or the words of the title that the class names hold."""


def removable_parts(recipe: Recipe) -> tuple[str, ...]:
    """Those of `PARTS` that can be taken from the network of a recipe."""
    if not recipe.model.reads_words:
        return ()
    masked = () if recipe.model.text.hide_classes else PARTS[2:]
    return (*PARTS[:2], *masked) if recipe.model.name == "fusion" else masked


def cohort_titles(cohort: Cohort, recipe: Recipe) -> StrArray:
    """(N,) the titles as the recipe's network reads them.

    Raises:
        DataError: if the data has no words.
    """
    if cohort.text is None or not np.char.strip(cohort.text).any():
        raise DataError(
            f"The network {recipe.model.name!r} reads words, and these scans have none. Give a manifest with a column text, "
            "or choose another model.name."
        )
    return np.array(titles_as_read(cohort.text, recipe.model.text, cohort.classes), dtype=np.str_)


def fit_vocabulary(context: Context, fit_dir: Fit, split: Split) -> Vocabulary | None:
    """The vocabulary of a fit, learnt from its training titles alone; None for a network that reads no words."""
    if not context.recipe.model.reads_words:
        return None
    titles = cohort_titles(context.cohort, context.recipe)
    if not fit_dir.vocabulary.is_file():
        Vocabulary.learn(titles[split.rows("train")], context.recipe.model.text).save(fit_dir.vocabulary)
    return Vocabulary.load(fit_dir.vocabulary)


def cohort_tokens(context: Context, vocabulary: Vocabulary | None) -> Any:
    """(N, L) tokens of all scans of the cohort: words, or the numbers of `network_tokens`; None for no tokens."""
    if vocabulary is not None:
        return vocabulary(cohort_titles(context.cohort, context.recipe))
    cohort = context.cohort
    return network_tokens(context.recipe, cohort.subject, scan_positions(cohort.path, cohort.groups), cohort.groups)


def inputs_without(
    part: str, context: Context, vocabulary: Vocabulary, tokens: IntArray, rows: IntArray
) -> tuple[Store | None, IntArray, IntArray]:
    """Pixels, rows and tokens for a network that a part of its input is kept from."""
    if part == "without_words":
        return context.store, rows, np.full_like(tokens, vocabulary.pad)
    if part == "without_image":
        return None, rows, tokens
    titles = remove_words(cohort_titles(context.cohort, context.recipe), context.cohort.classes)
    return context.store, rows, vocabulary(titles)
