"""A network as one ONNX graph: uint8 pixels in; logits of every member, features and attention out; normalisation inside."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scanwise.bundle.draws import FINE, DropoutLayer
from scanwise.bundle.engines import Tokens
from scanwise.cohort.decoding.pixels import Pixels
from scanwise.errors import RunError
from scanwise.models import Network
from scanwise.models.dropout import CHANNELS, dropped

OPSET = 20


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A graph and what it asks for beside pixels.

    Attributes:
        model: the bytes of `model.onnx`.
        draws: T draws of dropout; 0 where the network draws none.
        layers: dropouts whose masks are inputs, in order.
    """

    model: bytes
    draws: int
    layers: tuple[DropoutLayer, ...]


def export_graph(network: Network, pixels: Pixels, tokens: Tokens | None) -> OnnxGraph:
    """Turn a network into a graph with a free number of rows.

    Args:
        network: in evaluation mode, on the CPU.
        pixels: (2, H, W, C) of any scans.
        tokens: (2, L) of the same, for a network that reads words or places; else None.

    Raises:
        RunError: if the network has an operation that ONNX has not.
    """
    images = torch.from_numpy(pixels)
    words = None if tokens is None else torch.from_numpy(np.asarray(tokens))
    module = _Exported(network.eval(), images, words)
    inputs = [images, *([] if words is None else [words]), *module.example_masks(len(images))]
    names = ["pixels", *([] if words is None else ["tokens"]), *module.mask_names]
    rows = torch.export.Dim("rows", min=1)
    try:
        with warnings.catch_warnings(), torch.inference_mode(), _quiet():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(inputs),
                input_names=names,
                output_names=["logits", "features", *(["attention"] if module.attends else [])],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(tuple({0: rows} for _ in inputs),),
                verbose=False,
                external_data=False,
            )
        assert program is not None  # noqa: S101 - for mypy: it is None for the exporter of the past
        model: bytes = program.model_proto.SerializeToString()
    except Exception as error:
        raise RunError(
            f"This network cannot be turned into an ONNX graph: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}. "
            "Predict with the run itself."
        ) from error
    return OnnxGraph(model, network.draws, module.layers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter prints and logs off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


class _Exported(nn.Module):
    """Inputs of the graph to its outputs."""

    def __init__(self, network: Network, images: Tensor, words: Tensor | None) -> None:
        super().__init__()
        self.network, self.reads = network, words is not None
        self.layers: tuple[DropoutLayer, ...] = ()
        self.late = True
        with torch.inference_mode():
            with _Recorder() as trunk:
                maps = self._trunk(images)
            features = network.forward_head(maps, pre_logits=True, tokens=words)
            self.attends = network.score_scans(features) is not None
            with _Recorder() as head:
                network.forward_head(maps, tokens=words)
        if network.draws:
            self.layers, self.late = (*trunk.layers, *head.layers), not trunk.layers

    @property
    def mask_names(self) -> list[str]:
        return [f"mask_{call}" for call in range(len(self.layers))]

    def example_masks(self, count: int) -> list[Tensor]:
        return [torch.ones(count, self.network.draws, *layer.units, dtype=torch.bool) for layer in self.layers]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        pixels, *rest = inputs
        tokens = rest.pop(0) if self.reads else None
        maps = self._trunk(pixels)
        features = self.network.forward_head(maps, pre_logits=True, tokens=tokens)
        if not self.layers:
            scores = self.network.score_scans(features)
            attention = [] if scores is None else [scores.float()]
            return self.network.head_members(maps, tokens).float(), features.float(), *attention
        draws = self.network.draws
        many = None if tokens is None else _repeated(tokens, draws)
        with _Masking(self.layers, rest):
            again = _repeated(maps, draws) if self.late else self._trunk(_repeated(pixels, draws))
            drawn = self.network.forward_head(again, tokens=many)
        return drawn.reshape(-1, draws, drawn.shape[1]).float(), features.float()

    def _trunk(self, pixels: Tensor) -> Any:
        return self.network.forward_features(pixels.permute(0, 3, 1, 2).float())


def _repeated(values: Tensor, draws: int) -> Tensor:
    """(N · T, …): each row T times, one after the other."""
    return values[:, None].expand(-1, draws, *[-1] * (values.ndim - 1)).flatten(0, 1)


class _Recorder(TorchFunctionMode):
    """Mode that records every dropout, and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[DropoutLayer] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values, share = dropped(func, args, kwargs)
        if share:
            units = values.shape[1:2] if func in CHANNELS else values.shape[1:]
            self.layers.append(DropoutLayer(tuple(units), share))
        return func(*args, **(kwargs or {}))


class _Masking(TorchFunctionMode):
    """Mode in which every dropout takes its mask (N, T, units…) from the inputs of the graph."""

    def __init__(self, layers: Sequence[DropoutLayer], masks: Sequence[Tensor]) -> None:
        super().__init__()
        self.waiting = list(zip(layers, masks, strict=True))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values, share = dropped(func, args, kwargs)
        if not share:
            return func(*args, **(kwargs or {}))
        layer, mask = self.waiting.pop(0)
        keep = mask.flatten(0, 1)
        keep = keep.reshape(*keep.shape, *[1] * (values.ndim - keep.ndim))
        return values * (FINE / (FINE - layer.cut)) * keep
