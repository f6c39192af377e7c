"""Logits of each side of a fit, and of altered scans that are unlike training."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise import novelty, run
from scanwise.cohort.decoding.pixels import Pixels
from scanwise.cohort.store import Store
from scanwise.pipeline.context import Context
from scanwise.pipeline.stages.subject_ridge import OUT_OF_FOLD, kept_features, out_of_fold_logits, predict_kept
from scanwise.pipeline.stages.text_inputs import PARTS, cohort_tokens, fit_vocabulary, inputs_without, removable_parts
from scanwise.records import SIDES, FloatArray, IntArray, Logits, Split
from scanwise.run import Fit

if TYPE_CHECKING:
    from scanwise.models import Network
    from scanwise.models.vocabulary import Vocabulary
    from scanwise.training.features import FeatureSource

ALTERED = "strange"
"""The name of the logits of altered scans, beside those of the sides."""
MOST_ALTERED = 64
"""Test scans that each kind of altered scan is made from."""


def noise_scans(pixels: Pixels, rows: IntArray) -> Pixels:
    """Pixels at random, always the same ones for a row."""
    drawn = [np.random.default_rng(int(row)).integers(0, 256, pixels.shape[1:], dtype=np.uint8) for row in rows]
    return np.stack(drawn)


def blank_scans(pixels: Pixels, rows: IntArray) -> Pixels:
    """One single value all over."""
    levels = (rows * 37 % 256).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], pixels.shape).copy()


def scale_brightness(pixels: Pixels, factor: float) -> Pixels:
    """Every pixel times a factor, up to white."""
    scaled: Pixels = np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8)
    return scaled


ALTERATIONS: dict[str, Callable[[Pixels, IntArray], Pixels]] = {
    "noise": noise_scans,
    "blank": blank_scans,
    "inverted": lambda pixels, _: 255 - pixels,
    "rotated": lambda pixels, _: np.rot90(pixels, 1, (1, 2)).copy(),
    "brighter": lambda pixels, _: scale_brightness(pixels, 1.6),
    "darker": lambda pixels, _: scale_brightness(pixels, 0.5),
}


@dataclass(frozen=True, slots=True)
class AlteredScans:
    """The scans of a store, each changed as it is read."""

    store: Store
    change: Callable[[Pixels, IntArray], Pixels]

    def read(self, indices: IntArray) -> Pixels:
        return self.change(self.store.read(indices), indices)


def predict_sides(context: Context, fit_dir: Fit, split: Split) -> None:
    """Write logits of all sides but training; of honest fits also those that detecting scans unlike training needs."""
    rows_by_name = {side: split.rows(side) for side in SIDES[1:]}
    if split.protocol == "honest":
        train, test = split.rows("train"), rows_by_name["test"]
        rows_by_name["train"] = train[novelty.representative_rows(context.cohort.subject[train])]
        rows_by_name[ALTERED] = test[novelty.representative_rows(context.cohort.subject[test], MOST_ALTERED)]
        if context.recipe.conformal.is_out_of_fold:
            rows_by_name[OUT_OF_FOLD] = train
    rows_by_name |= dict.fromkeys(removable_parts(context.recipe), rows_by_name["test"])
    missing = {name: rows for name, rows in rows_by_name.items() if len(rows) and not _is_there(fit_dir, name)}
    if not missing:
        return
    network, vocabulary, tokens = load_network(context, fit_dir, split)
    kept = kept_features(context, network) if context.recipe.model.is_ridge else None
    for name, rows in missing.items():
        if name == ALTERED:
            changed = {kind: AlteredScans(context.store, change) for kind, change in ALTERATIONS.items()}
            parts = {kind: _ask(context, network, split, scans, rows, tokens) for kind, scans in changed.items()}
            run.save(_together(parts), fit_dir.logits(name))
        elif name == OUT_OF_FOLD and kept is not None and tokens is not None:
            run.save(out_of_fold_logits(context, network, kept, split, tokens), fit_dir.logits(name))
        elif vocabulary is not None and tokens is not None and name in PARTS:
            logits = _ask(context, network, split, *inputs_without(name, context, vocabulary, tokens, rows))
            run.save(replace(logits, split="test"), fit_dir.logits(name))
        else:
            taught = name == "calibration" and context.recipe.conformal.is_out_of_fold
            logits = _ask(context, network, split, context.store, rows, tokens, kept)
            run.save(replace(logits, split="train" if taught else name), fit_dir.logits(name))


def load_network(context: Context, fit_dir: Fit, split: Split) -> "tuple[Network, Vocabulary | None, IntArray | None]":
    """The network of a fit; where it reads words, its vocabulary and the tokens of all scans."""
    from scanwise.models import build_network, weights

    vocabulary = fit_vocabulary(context, fit_dir, split)
    encoder = None if vocabulary is None else vocabulary.encoder
    recipe, count = context.recipe, len(context.cohort.classes)
    network = build_network(recipe.model, count, recipe.data.channels, pretrained=False, encoder=encoder)
    weights.load_weights(network, fit_dir.model)
    return network, vocabulary, cohort_tokens(context, vocabulary)


def _is_there(fit_dir: Fit, name: str) -> bool:
    """Whether logits with all that is needed of them were written; an older scanwise left out the appearance."""
    path = fit_dir.logits(name)
    if not path.is_file() or name == OUT_OF_FOLD:
        return path.is_file()
    if not zipfile.is_zipfile(path):  # damaged: reading it raises the error
        return True
    with zipfile.ZipFile(path) as file:
        return "appearance.npy" in file.namelist()


def _ask(
    context: Context,
    network: Any,
    split: Split,
    scans: Store | AlteredScans | None,
    rows: IntArray,
    tokens: IntArray | None = None,
    kept: "FeatureSource | None" = None,
) -> Logits:
    from scanwise import prediction

    if kept is not None and tokens is not None:
        logits, features = predict_kept(context, network, kept, split, rows, tokens)
    else:
        logits, features = prediction.predict_scans(
        network, scans, rows, tokens=tokens, batch=prediction.prediction_batch_size(context.recipe), device=context.device,
        progress=context.progress,
    )  # fmt: skip
    here = context.cohort.take(rows)
    return Logits(
        logits=logits,
        labels=here.labels,
        scans=here.path,
        subjects=here.subject,
        classes=here.classes,
        groups=here.groups,
        features=features,
        attention=prediction.attention_scores(network, features),
        protocol=split.protocol,
        fold=split.fold,
        appearance=_appearance(context.store if scans is None else scans, rows),
    )


def _appearance(scans: Store | AlteredScans, rows: IntArray, block: int = 512) -> FloatArray:
    starts = range(0, len(rows), block)
    return np.concatenate([novelty.appearance_features(scans.read(rows[start : start + block])) for start in starts])


def _together(parts: Mapping[str, Logits]) -> Logits:
    """Several kinds of altered scans as one; the group column `kind` tells them apart."""
    first = next(iter(parts.values()))
    count = len(first)

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts.values()])

    names = ["logits", "labels", "scans", "subjects", "features", "appearance"]
    names += [] if first.attention is None else ["attention"]
    groups = {name: np.tile(values, len(parts)) for name, values in first.groups.items()}
    return replace(
        first,
        **{name: joined(name) for name in names},
        groups={**groups, "kind": np.repeat(list(parts), count)},
        split=ALTERED,
    )
