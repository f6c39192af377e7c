"""Why this answer: heatmaps of what a network looks at, and the checks that each must pass before it is shown.

`explain_with_heatmaps` is the door: any network of `models`, scans as the store has them, one map a scan and target. The other modules
hold the methods (`cam`, `gradients`, `attention`), the checks (`sanity`), what the parts of a network say (`components`,
`words`), how far members differ (`uncertainty_map`), and pictures (`drawing`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from scanwise.errors import DataError, RecipeError, ShapeError, lookup
from scanwise.explanation import attention, cam, gradients
from scanwise.explanation.layers import MapLayer, borrowed, finest_last, layer_by_name, map_layers
from scanwise.explanation.query import ExplanationQuery
from scanwise.models import DeepEnsemble
from scanwise.records import FloatArray, Heatmap, IntArray, StrArray

if TYPE_CHECKING:
    from scanwise.models import Network

__all__ = [
    "AUTO_METHOD",
    "DEFAULT_METHOD",
    "METHODS",
    "Heatmap",
    "HeatmapExplainer",
    "explain_arrays",
    "explain_with_heatmaps",
]

AUTO_METHOD = "auto"
DEFAULT_METHOD = "pooled_gradients"
"""The method of `auto`: it needs no layer, so a last map of a single place does it no harm."""

METHODS: dict[str, Callable[[ExplanationQuery], Tensor]] = {
    "pooled_gradients": gradients.pooled_gradients,
    "integrated_gradients": gradients.integrated_gradients,
    "occlusion": gradients.occlusion,
    **{name: partial(cam.class_maps, name=name) for name in cam.CAMS},
    "rollout": attention.rollout,
    "gradient_rollout": attention.gradient_rollout,
    "query_key": attention.query_key,
}

Targets = int | Sequence[int] | IntArray | None


@dataclass(frozen=True, slots=True)
class HeatmapExplainer:
    """One method, ready for one network: where it looks is found once.

    Attributes:
        networks: of a deep ensemble all, else one.
        method: a name of `METHODS`.
        read: for each network the layer that is read, or None.
        half: the type to compute in under autocast, or None.
    """

    networks: tuple["Network", ...]
    method: str
    read: tuple[MapLayer | None, ...]
    half: torch.dtype | None = None

    @classmethod
    def of(
        cls,
        network: "Network",
        image: Tensor,
        *,
        method: str = AUTO_METHOD,
        layer: str = "",
        tokens: Tensor | None = None,
        half: torch.dtype | None = None,
    ) -> Self:
        """Settle method and layer.

        Args:
            network: any.
            image: (1, C, H, W), to ask the network with.
            method: of `METHODS`, or `auto`.
            layer: for class activation maps; unsaid, the last one with at least 7 × 7 places.
            tokens: (1, L), for a network that takes text.
            half: to compute in under autocast.

        Raises:
            RecipeError: for an unknown method or layer, or a method that this network has nothing for.
        """
        chosen = DEFAULT_METHOD if method == AUTO_METHOD else method
        lookup(METHODS, chosen, "method of explanation")
        if layer and chosen not in cam.CAMS:
            raise RecipeError(f"{chosen} reads no layer; leave the layer out, or choose one of {', '.join(cam.CAMS)}.")
        parts = tuple(network.networks) if isinstance(network, DeepEnsemble) else (network,)
        read: list[MapLayer | None] = []
        for part in parts:
            known = map_layers(part, image, tokens)
            if not known and not _sees(part):
                raise RecipeError(
                    "This network reads words alone, so no heatmap of a scan explains it. "
                    "What each word gives is told by scanwise.explanation.words."
                )
            if chosen in cam.CAMS and not known:
                raise RecipeError(
                    f"{chosen} reads a layer with a map, and this network has none. These apply to it: "
                    "pooled_gradients, integrated_gradients, occlusion."
                )
            place = (layer_by_name(known, layer) if layer else finest_last(known)) if chosen in cam.CAMS else None
            read.append(place)
        return cls(parts, chosen, tuple(read), half)

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        tokens: Tensor | None = None,
        *,
        member: int | None = None,
        draw: int | None = None,
    ) -> Tensor:
        """(N, K, H, W) float32 maps at the size of the scans; 0 is nothing.

        Args:
            images: (N, C, H, W), 0 to 255.
            targets: (N, K).
            tokens: (N, L), or None.
            member: of an ensemble, the one to explain; None for all together.
            draw: of dropout, the one to explain; None for none.
        """
        whole = len(self.networks) > 1
        chosen = [member] if whole and member is not None else range(len(self.networks))
        total: Tensor | None = None
        for index in chosen:
            network = self.networks[index]
            asked = ExplanationQuery(
                network,
                images.float().clone(),
                targets,
                tokens,
                self.read[index],
                None if whole else member,
                draw,
                self.half,
            )
            with borrowed(network):
                found = METHODS[self.method](asked).detach().float()
            total = found if total is None else total + found
        if total is None:
            raise ShapeError("An ensemble without networks has nothing to explain.")
        mean = total / len(chosen)
        if mean.shape[2:] != images.shape[2:]:
            mean = torch.nn.functional.interpolate(mean, size=images.shape[2:], mode="bilinear", align_corners=False)
        return mean


def explain_with_heatmaps(
    network: "Network",
    scans: Any,
    *,
    targets: Targets = None,
    method: str = AUTO_METHOD,
    layer: str = "",
    tokens: IntArray | None = None,
    names: StrArray | None = None,
    batch: int = 16,
    device: str | None = None,
    half: torch.dtype | None = None,
    progress: bool = False,
) -> tuple[Heatmap, ...]:
    """Heatmaps of scans, one a scan and target; the network is left as it was found.

    Args:
        network: of `models`, in whatever mode.
        scans: (N, H, W, C) uint8, as a store gives them.
        targets: the class to explain: None for the predicted one, one for all scans, several for all scans, or (N, K).
        method: a name of `METHODS`, or `auto`.
        layer: for class activation maps; unsaid, the last one with at least 7 × 7 places.
        tokens: (N, L), for a network that takes text.
        names: (N,) of the scans.
        batch: scans at a time; the maps do not depend on it.
        device: where the network runs for this; unsaid, where it is.
        half: the type to compute in under autocast, such as `torch.bfloat16`.
        progress: show a bar.

    Raises:
        RecipeError: for an unknown method or layer, or one that this network has nothing for.
        DataError: for a target that is no class.
        ShapeError: for scans that the network cannot take.
    """
    values, asked = explain_arrays(
        network, scans, targets=targets, method=method, layer=layer, tokens=tokens, batch=batch, device=device,
        half=half, progress=progress,
    )  # fmt: skip
    probs = uncalibrated_probs(network, scans, tokens=tokens, batch=batch, device=device)
    called = [str(row) for row in range(len(scans))] if names is None else [str(name) for name in names]
    if len(called) != len(asked):
        raise ShapeError(f"{len(called)} names were given for {len(asked)} scans; give one for each.")
    chosen = DEFAULT_METHOD if method == AUTO_METHOD else method
    return tuple(
        Heatmap(called[row], int(asked[row, k]), values[row, k], chosen, float(probs[row, asked[row, k]]))
        for row in range(len(asked))
        for k in range(asked.shape[1])
    )


@torch.inference_mode(False)
def explain_arrays(
    network: "Network",
    scans: Any,
    *,
    targets: Targets = None,
    method: str = AUTO_METHOD,
    layer: str = "",
    tokens: IntArray | None = None,
    batch: int = 16,
    device: str | None = None,
    half: torch.dtype | None = None,
    member: int | None = None,
    draw: int | None = None,
    progress: bool = False,
) -> tuple[FloatArray, IntArray]:
    """What `explain_with_heatmaps` gives, as arrays: maps (N, K, H, W) and targets (N, K).

    `member` and `draw` ask one member of an ensemble, or one draw of dropout.
    """
    pixels = _pixels(scans)
    _refuse(network, len(pixels), tokens, batch, member)
    with borrowed(network, device) as place:

        def shown(here: slice) -> tuple[Tensor, Tensor | None]:
            return _images(pixels[here], place), None if tokens is None else _numbers(tokens[here], place)

        first, few = shown(slice(1))
        ready = HeatmapExplainer.of(network, first, method=method, layer=layer, tokens=few, half=half)
        # What the network says is asked where it is wanted; one scan tells how many classes there are.
        known = slice(len(pixels) if targets is None else 1)
        words = None if tokens is None else tokens[known]
        asked = _targets(targets, len(pixels), uncalibrated_probs(network, pixels[known], tokens=words, batch=batch))
        found = []
        for start in tqdm(range(0, len(pixels), batch), "explaining", disable=not progress, leave=False, delay=0.5):
            here = slice(start, start + batch)
            images, read = shown(here)
            wanted = _numbers(asked[here], place)
            found.append(ready(images, wanted, read, member=member, draw=draw).cpu().numpy())
    return np.concatenate(found), asked


def uncalibrated_probs_of(network: "Network", images: Tensor, tokens: Tensor | None = None) -> Tensor:
    """(N, C) what the network says, uncalibrated, whatever mode it is in."""
    with borrowed(network), torch.no_grad():
        logits = network(images, tokens) if network.takes_text else network(images)
    found: Tensor = logits.float().softmax(1)
    return found


def predicted_classes(
    network: "Network", scans: Any, *, tokens: IntArray | None = None, batch: int = 64, device: str | None = None
) -> IntArray:
    """(N, 1) the class that the network names for each scan."""
    said = uncalibrated_probs(network, scans, tokens=tokens, batch=batch, device=device)
    return np.asarray(said.argmax(axis=1))[:, None]


@torch.inference_mode(False)
def uncalibrated_probs(
    network: "Network", scans: Any, *, tokens: IntArray | None = None, batch: int = 64, device: str | None = None
) -> FloatArray:
    """(N, C) what the network says of scans, uncalibrated."""
    pixels, found = np.asarray(scans), []
    with borrowed(network, device) as place:
        for start in range(0, len(pixels), batch):
            here = slice(start, start + batch)
            words = None if tokens is None else _numbers(tokens[here], place)
            found.append(uncalibrated_probs_of(network, _images(pixels[here], place), words).cpu().numpy())
    return np.concatenate(found)


def with_check_result(heatmap: Heatmap, reasons: Sequence[str] | None) -> Heatmap:
    """The map with its badge: passed, or the reasons why not.

    Args:
        reasons: of its method; None where that was not checked, and then nothing but an empty map fails.
    """
    told = list(reasons or ())
    if not np.isfinite(heatmap.values).all():
        told.append("the map has values that are no numbers")
    elif not heatmap.values.any():
        told.append("the map is empty: nothing in the scan speaks for the class")
    return replace(heatmap, passed=None if reasons is None and not told else not told, reason="; ".join(told))


def _sees(network: "Network") -> bool:
    from scanwise.explanation.layers import trunk_of

    return bool(trunk_of(network))


def _refuse(network: "Network", count: int, tokens: IntArray | None, batch: int, member: int | None) -> None:
    """What would end in an error of somebody else's, or in a wrong map, is told here."""
    if batch < 1:
        raise DataError(f"A batch has at least one scan; got {batch}.")
    if tokens is not None and (np.ndim(tokens) != 2 or len(tokens) != count):
        raise ShapeError(f"Tokens are a row for each of the {count} scans; got {np.shape(tokens)}.")
    if member is not None and not 0 <= member < network.members:
        raise DataError(f"There is no member {member}: the network has {network.members}, counted from 0.")


def _images(pixels: Any, place: torch.device) -> Tensor:
    """(N, C, H, W) of scans (N, H, W, C)."""
    return torch.from_numpy(pixels).to(place).permute(0, 3, 1, 2).contiguous()


def _numbers(values: IntArray, place: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.int64)).to(place)


def _pixels(scans: Any) -> Any:
    pixels = np.asarray(scans)
    if pixels.ndim != 4 or not len(pixels) or pixels.shape[3] not in (1, 3):
        raise ShapeError(f"Scans must be (N, H, W, channels), at least one, with 1 or 3 channels; got {pixels.shape}.")
    if pixels.dtype != np.uint8:
        raise DataError(f"Scans must be bytes from 0 to 255, as a store gives them; got {pixels.dtype}.")
    return pixels


def _targets(targets: Targets, count: int, probs: FloatArray) -> IntArray:
    """(N, K) of as many scans, each a class that there is; those of the highest probability where none are given."""
    classes = probs.shape[1]
    if targets is None:
        return np.asarray(probs.argmax(axis=1))[:, None]
    given = np.asarray(targets)
    if not np.issubdtype(given.dtype, np.integer) or given.ndim > 2:
        raise DataError("Targets are class numbers: one, several, or a row of them for each scan.")
    rows = given if given.ndim == 2 else np.broadcast_to(np.atleast_1d(given), (count, given.size))
    if rows.shape[0] != count or not rows.shape[1]:
        raise ShapeError(f"Targets of {rows.shape[0]} scans were given for {count} scans; give a row for each.")
    if rows.min() < 0 or rows.max() >= classes:
        wrong = int(rows.max() if rows.max() >= classes else rows.min())
        raise DataError(f"There is no class {wrong}: the network tells {classes} classes, 0 to {classes - 1}.")
    return np.array(rows, dtype=np.int64)
