"""Heatmaps of the evidence behind a prediction, and the checks that a method must pass before its maps are shown.

`explain_with_heatmaps` is the entry point: any network of `models`, scans as the store has them, one map a scan and target. The other modules
hold the methods (`cam`, `gradients`, `attention`), the checks (`sanity`), the parts of a network (`components`,
`words`), how far members differ (`uncertainty_map`), and pictures (`drawing`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from scanwise.errors import DataError, RecipeError, ShapeError, lookup
from scanwise.explanation import attention, cam, gradients, linear
from scanwise.explanation.layers import MapLayer, borrowed, finest_last, layer_by_name, map_layers
from scanwise.explanation.query import ExplanationQuery
from scanwise.models import DeepEnsemble
from scanwise.progress_bar import track
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
"""The method of `auto`: it needs no layer, so it also works where the last map is a single place."""

METHODS: dict[str, Callable[[ExplanationQuery], Tensor]] = {
    "pooled_gradients": gradients.pooled_gradients,
    "integrated_gradients": gradients.integrated_gradients,
    "occlusion": gradients.occlusion,
    **{name: partial(cam.class_maps, name=name) for name in cam.CAMS},
    "rollout": attention.rollout,
    "gradient_rollout": attention.gradient_rollout,
    "query_key": attention.query_key,
    "contributions": linear.contributions,
}

Targets = int | Sequence[int] | IntArray | None


@dataclass(frozen=True, slots=True)
class HeatmapExplainer:
    """One method, ready for one network; the layer is found once.

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
        """Choose method and layer.

        Args:
            network: any.
            image: (1, C, H, W), one scan to run the network on.
            method: of `METHODS`, or `auto`.
            layer: for class activation maps; default: the last one with at least 7 × 7 places.
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
            layers = map_layers(part, image, tokens)
            if not layers and not _takes_images(part):
                raise RecipeError(
                    "This network reads words alone, so no heatmap of a scan explains it. "
                    "scanwise.explanation.words gives the contribution of each word."
                )
            if chosen in cam.CAMS and not layers:
                raise RecipeError(
                    f"{chosen} reads a layer with a map, and this network has none. These apply to it: "
                    "pooled_gradients, integrated_gradients, occlusion."
                )
            layer_read = (
                (layer_by_name(layers, layer) if layer else finest_last(layers)) if chosen in cam.CAMS else None
            )
            read.append(layer_read)
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
            query = ExplanationQuery(
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
                values = METHODS[self.method](query).detach().float()
            total = values if total is None else total + values
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
    """Heatmaps of scans, one a scan and target; the network is left unchanged.

    Args:
        network: of `models`, in whatever mode.
        scans: (N, H, W, C) uint8, as a store gives them.
        targets: the class to explain: None for the predicted one, one for all scans, several for all scans, or (N, K).
        method: a name of `METHODS`, or `auto`.
        layer: for class activation maps; default: the last one with at least 7 × 7 places.
        tokens: (N, L), for a network that takes text.
        names: (N,) of the scans.
        batch: scans at a time; the maps do not depend on it.
        device: where the network runs; default: where it is.
        half: the type to compute in under autocast, such as `torch.bfloat16`.
        progress: show a bar.

    Raises:
        RecipeError: for an unknown method or layer, or one that this network has nothing for.
        DataError: for a target that is no class.
        ShapeError: for scans that the network cannot take.
    """
    values, target_rows = explain_arrays(
        network, scans, targets=targets, method=method, layer=layer, tokens=tokens, batch=batch, device=device,
        half=half, progress=progress,
    )  # fmt: skip
    probs = uncalibrated_probs(network, scans, tokens=tokens, batch=batch, device=device)
    scan_names = [str(row) for row in range(len(scans))] if names is None else [str(name) for name in names]
    if len(scan_names) != len(target_rows):
        raise ShapeError(f"{len(scan_names)} names were given for {len(target_rows)} scans; give one for each.")
    chosen = DEFAULT_METHOD if method == AUTO_METHOD else method
    return tuple(
        Heatmap(
            scan_names[row], int(target_rows[row, k]), values[row, k], chosen, float(probs[row, target_rows[row, k]])
        )
        for row in range(len(target_rows))
        for k in range(target_rows.shape[1])
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
    """Maps (N, K, H, W) and targets (N, K) of `explain_with_heatmaps`, as arrays.

    `member` and `draw` choose one member of an ensemble, or one draw of dropout.
    """
    pixels = _pixels(scans)
    _check_request(network, len(pixels), tokens, batch, member)
    with borrowed(network, device) as run_device:

        def shown(here: slice) -> tuple[Tensor, Tensor | None]:
            return _images(pixels[here], run_device), None if tokens is None else _numbers(tokens[here], run_device)

        first, few = shown(slice(1))
        ready = HeatmapExplainer.of(network, first, method=method, layer=layer, tokens=few, half=half)
        # All scans are predicted only where targets depend on it; one scan gives the number of classes.
        first_rows = slice(len(pixels) if targets is None else 1)
        words = None if tokens is None else tokens[first_rows]
        target_rows = _targets(
            targets, len(pixels), uncalibrated_probs(network, pixels[first_rows], tokens=words, batch=batch)
        )
        batches = []
        starts = range(0, len(pixels), batch)
        for start in track(starts, "explaining", len(starts), progress):
            here = slice(start, start + batch)
            images, read = shown(here)
            wanted = _numbers(target_rows[here], run_device)
            batches.append(ready(images, wanted, read, member=member, draw=draw).cpu().numpy())
    return np.concatenate(batches), target_rows


def uncalibrated_probs_of(network: "Network", images: Tensor, tokens: Tensor | None = None) -> Tensor:
    """(N, C) uncalibrated probabilities of images on the device, whatever mode the network is in."""
    with borrowed(network), torch.no_grad():
        logits = network(images, tokens) if network.takes_tokens else network(images)
    probs: Tensor = logits.float().softmax(1)
    return probs


def predicted_classes(
    network: "Network", scans: Any, *, tokens: IntArray | None = None, batch: int = 64, device: str | None = None
) -> IntArray:
    """(N, 1) the predicted class of each scan."""
    probs = uncalibrated_probs(network, scans, tokens=tokens, batch=batch, device=device)
    return np.asarray(probs.argmax(axis=1))[:, None]


@torch.inference_mode(False)
def uncalibrated_probs(
    network: "Network", scans: Any, *, tokens: IntArray | None = None, batch: int = 64, device: str | None = None
) -> FloatArray:
    """(N, C) uncalibrated probabilities of scans."""
    pixels, batches = np.asarray(scans), []
    with borrowed(network, device) as run_device:
        for start in range(0, len(pixels), batch):
            here = slice(start, start + batch)
            words = None if tokens is None else _numbers(tokens[here], run_device)
            batches.append(uncalibrated_probs_of(network, _images(pixels[here], run_device), words).cpu().numpy())
    return np.concatenate(batches)


def with_check_result(heatmap: Heatmap, reasons: Sequence[str] | None) -> Heatmap:
    """The map with the result of its checks: passed, or the reasons why not.

    Args:
        reasons: of its method; None where it was not checked, and then only an empty map fails.
    """
    messages = list(reasons or ())
    if not np.isfinite(heatmap.values).all():
        messages.append("the map has values that are not numbers")
    elif not heatmap.values.any():
        messages.append("the map is empty: nothing in the scan speaks for the class")
    return replace(
        heatmap, passed=None if reasons is None and not messages else not messages, reason="; ".join(messages)
    )


def _takes_images(network: "Network") -> bool:
    from scanwise.explanation.layers import trunk_of

    return bool(trunk_of(network))


def _check_request(network: "Network", count: int, tokens: IntArray | None, batch: int, member: int | None) -> None:
    """Check batch, tokens and member, which would otherwise fail deep in the network or give a wrong map."""
    if batch < 1:
        raise DataError(f"A batch has at least one scan; got {batch}.")
    if tokens is not None and (np.ndim(tokens) != 2 or len(tokens) != count):
        raise ShapeError(f"Tokens are a row for each of the {count} scans; got {np.shape(tokens)}.")
    if member is not None and not 0 <= member < network.members:
        raise DataError(f"There is no member {member}: the network has {network.members}, counted from 0.")


def _images(pixels: Any, device: torch.device) -> Tensor:
    """(N, C, H, W) of scans (N, H, W, C)."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).contiguous()


def _numbers(values: IntArray, device: torch.device) -> Tensor:
    numbers = np.asarray(values)
    return torch.from_numpy(numbers if numbers.dtype.kind == "f" else numbers.astype(np.int64)).to(device)


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
        raise DataError(f"There is no class {wrong}: the network has {classes} classes, 0 to {classes - 1}.")
    return np.array(rows, dtype=np.int64)
