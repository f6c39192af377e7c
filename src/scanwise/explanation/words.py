"""Contribution of words and image regions to a prediction of `text` and `fusion` networks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scanwise.errors import DataError, RecipeError, ShapeError
from scanwise.explanation.layers import borrowed, map_layers
from scanwise.models import DeepEnsemble
from scanwise.models.fusion import FusionNetwork
from scanwise.records import FloatArray, IntArray

if TYPE_CHECKING:
    from scanwise.models import Network


@dataclass(frozen=True, slots=True)
class WordAttribution:
    """Contribution of each word of a title and each part of an image, for one class a scan.

    Attributes:
        fall: (N, W) fall of the class's log-odds when the word is removed; 0 where there is none.
        looked: (N, W) attention of the image to each word, rows that sum to at most one; None for words alone.
        regions: (N, h, w) attention of the words to each place of the image; None for words alone.
        shares: (N, 2) of image and words in the input of the head; None for words alone.
        targets: (N,) the class.
    """

    fall: FloatArray
    looked: FloatArray | None
    regions: FloatArray | None
    shares: FloatArray | None
    targets: IntArray


def more_than_evenly(regions: FloatArray) -> FloatArray:
    """(h, w) from 0 to 1: attention of a title's words above even attention; 1 is twice as much, or the maximum. A faint
    preference is thus drawn faint.

    >>> more_than_evenly(np.array([[0.25, 0.25], [0.25, 0.25]])).max(), more_than_evenly(np.array([[0.3, 0.2]])).round(1)
    (np.float64(0.0), array([[0.2, 0. ]]))
    """
    even = float(regions.mean())
    beyond = np.maximum(regions - even, 0)
    return np.asarray(beyond / max(even, float(beyond.max()), 1e-12))


def explain_words(
    network: "Network",
    scans: Any,
    tokens: IntArray,
    *,
    words: IntArray | None = None,
    targets: IntArray | None = None,
    batch: int = 16,
    device: str | None = None,
) -> WordAttribution:
    """Contributions of words and regions; the network is left unchanged.

    Args:
        network: `text` or `fusion`; of a deep ensemble attention and shares are the mean of its networks.
        scans: (N, H, W, C) uint8; None for `text`.
        tokens: (N, L).
        words: (N, L) the word that each token is a piece of, as `Vocabulary.words` gives it, -1 for none; all pieces of a
            word are removed at once. None takes each token for a word.
        targets: (N,) the class of each scan; None for the predicted one.
        batch: scans at a time; nothing depends on it.

    Raises:
        RecipeError: if the network reads no words.
        DataError: if there are no scans for a network that reads both.
        ShapeError: if `words` is not as `tokens`.
    """
    if not network.body_takes_tokens:
        raise RecipeError("This network reads no words; explain it with heatmaps.")
    parts = tuple(network.networks) if isinstance(network, DeepEnsemble) else (network,)
    fuses = isinstance(parts[0].body, FusionNetwork)
    if fuses and scans is None:
        raise DataError("A network of image and words is explained with both: give the scans.")
    groups = _groups(tokens, words, int(parts[0].body.words.pad))  # type: ignore[union-attr, arg-type]
    # of all scans, for batches are joined; one where no scan has a word, as attention is added up by word
    count = tokens.shape[1] if words is None else int(groups.max(initial=0)) + 1
    batches: list[tuple[Any, ...]] = []
    with borrowed(network, device) as run_device, torch.no_grad():
        for start in range(0, len(tokens), batch):
            here = slice(start, start + batch)
            read, of = (
                torch.from_numpy(np.asarray(values[here], np.int64)).to(run_device) for values in (tokens, groups)
            )
            images = torch.from_numpy(np.asarray(scans[here])).to(run_device).permute(0, 3, 1, 2) if fuses else None
            batch_targets = (
                None if targets is None else torch.from_numpy(np.asarray(targets[here], np.int64)).to(run_device)
            )
            batches.append(_batch(network, parts, images, read, of, batch_targets, count))
    columns = [None if column[0] is None else np.concatenate(column) for column in zip(*batches, strict=True)]
    return WordAttribution(*columns)  # type: ignore[arg-type]


def _groups(tokens: IntArray, words: IntArray | None, pad: int) -> IntArray:
    """(N, L) the word of each token, -1 for none."""
    tokens = np.asarray(tokens)
    if words is None:
        return np.where(tokens != pad, np.arange(tokens.shape[1]), -1)
    if words.shape != tokens.shape:
        raise ShapeError(f"Tokens are {tokens.shape} and the words that they are of {words.shape}; give one for each.")
    return words


def _batch(
    network: "Network",
    parts: "tuple[Network, ...]",
    images: Tensor | None,
    tokens: Tensor,
    groups: Tensor,
    targets: Tensor | None,
    count: int,
) -> tuple[Any, ...]:
    features = None if images is None else network.forward_features(images)
    logits = network.forward_head(features, tokens=tokens)
    classes = logits.argmax(1) if targets is None else targets
    pad = int(parts[0].body.words.pad)  # type: ignore[union-attr, arg-type]
    whole = _odds(logits, classes)
    fall = torch.zeros(len(tokens), count, device=tokens.device)
    for word in range(count):
        pieces = groups == word
        there = pieces.any(1)
        if there.any():
            less = tokens.masked_fill(pieces, pad)
            fall[:, word] = torch.where(there, whole - _odds(network.forward_head(features, tokens=less), classes), 0)
    columns: list[Any] = [fall.cpu().numpy(), None, None, None, classes.cpu().numpy()]
    if images is not None and features is not None:
        each = features if isinstance(features, tuple) else (features,)
        fused = [_attention_between(part, values, images, tokens) for part, values in zip(parts, each, strict=True)]
        looked, regions, shares = (torch.stack(column).mean(0) for column in zip(*fused, strict=True))
        of_words = torch.zeros_like(fall).scatter_add_(1, groups.clamp(min=0), looked * (groups >= 0))
        columns[1:4] = (values.float().cpu().numpy() for values in (of_words, regions, shares))
    return tuple(columns)


def _attention_between(
    network: "Network", features: Tensor, images: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention between image and words, (N, L) and (N, h, w), and the share of each (N, 2); of a batch ensemble the mean
    of its members."""
    body: Any = network.body
    count, members = len(tokens), network.members
    words = tokens.repeat(members, 1)
    maps = features.repeat(members, *[1] * (features.ndim - 1)) if network.folds_late else features
    image_looks, words_look = body.attention_maps(maps, words)
    is_word = (words != int(body.words.pad)).float()
    looked = image_looks[:, 1:, 1:].mean(1)
    seen = (words_look[:, 1:, 1:] * is_word[:, :, None]).sum(1) / is_word.sum(1, keepdim=True).clamp(min=1)
    height, width = _sides(network, images, tokens, seen.shape[1])
    looked, seen, shares = (
        values.reshape(members, count, -1).mean(0) for values in (looked, seen, body.shares(maps, words))
    )
    return looked, seen.reshape(count, height, width), shares


def _sides(network: "Network", images: Tensor, words: Tensor, count: int) -> tuple[int, int]:
    """Rows and columns of the map that words attend to."""
    for layer in reversed(map_layers(network, images[:1], words[:1])):
        if layer.height * layer.width == count:
            return layer.height, layer.width
    side = round(count**0.5)
    return (side, side) if side * side == count else (1, count)


def _odds(logits: Tensor, target: Tensor) -> Tensor:
    own = logits.gather(1, target[:, None])
    return own[:, 0] - logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
