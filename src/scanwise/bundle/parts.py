"""Network and vocabulary of a bundle, built only from files that fit each other."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scanwise.bundle.contents import VOCABULARY, WEIGHTS
from scanwise.errors import RunError, ScanwiseError
from scanwise.recipe import Recipe
from scanwise.untrusted import quote

if TYPE_CHECKING:
    from scanwise.models import Network
    from scanwise.models.vocabulary import Vocabulary


def load_vocabulary(folder: Path, recipe: Recipe, digests: Mapping[str, str]) -> "Vocabulary | None":
    """The vocabulary of a network that reads words; None for others.

    Raises:
        RunError: if it is missing, or of another network.
    """
    if not recipe.model.reads_words:
        return None
    if VOCABULARY not in digests:
        raise RunError(f"SHA256SUMS of the bundle {folder} does not list {VOCABULARY}. Copy the whole folder again.")
    from scanwise.models.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(folder / VOCABULARY)
    section, encoder = recipe.model.text, vocabulary.encoder
    pieces = section.words if encoder is None else int(encoder.get("vocab_size", len(vocabulary)))
    if (
        (encoder is None) != (section.encoder == "small")
        or len(vocabulary) > pieces
        or vocabulary.length != section.length
    ):
        raise RunError(f"The vocabulary of the bundle {folder} is of another network. Copy the whole folder again.")
    return vocabulary


def load_bundle_network(folder: Path, recipe: Recipe, num_classes: int, vocabulary: "Vocabulary | None") -> "Network":
    """The network of a recipe with its weights; one that they do not fit is never built.

    Raises:
        WeightsError: naming what does not fit.
    """
    from scanwise.models import build_network, weights

    def build() -> "Network":
        encoder = None if vocabulary is None else vocabulary.encoder
        return build_network(recipe.model, num_classes, recipe.data.channels, pretrained=False, encoder=encoder)

    members = recipe.model.members
    weights.check_header(folder / WEIGHTS, members.number if members.kind == "deep_ensemble" else 1, build)
    network = build()
    weights.load_weights(network, folder / WEIGHTS)
    return network.eval()


@contextmanager
def naming_damage(folder: Path) -> Iterator[None]:
    """Turn whatever the files of others make readers raise into one error about the bundle."""
    try:
        yield
    except (ScanwiseError, MemoryError):
        raise
    except Exception as error:
        raise RunError(
            f"The bundle {folder} is damaged, or not of scanwise: {type(error).__name__}: {quote(str(error), 200)[1:-1]}. Copy "
            "the whole folder again, or make it anew with `scanwise fit … --resume`."
        ) from error
