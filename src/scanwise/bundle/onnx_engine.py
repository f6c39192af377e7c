"""An exported network as ONNX Runtime runs it; it needs no torch."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from scanwise.bundle.draws import DropoutLayer, draw_masks
from scanwise.bundle.engines import Outputs, Tokens
from scanwise.cohort.decoding.pixels import Pixels
from scanwise.errors import RunError

_TYPES: dict[str, Any] = {
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}


class OnnxEngine:
    """A graph on a CPU: every run on one core, in float32.

    Args:
        session: of ONNX Runtime.
        layers: dropouts whose masks the graph takes.
        draws: T.

    Attributes:
        cores: number of batches to run at once.
    """

    def __init__(self, session: Any, layers: tuple[DropoutLayer, ...], draws: int) -> None:
        self._session, self._layers, self._draws = session, layers, draws
        self._inputs = {given.name: given.type for given in session.get_inputs()}
        self._outputs = [given.name for given in session.get_outputs()]
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @classmethod
    def open(cls, model: Path | bytes, about: Mapping[str, Any]) -> Self:
        """Load a graph.

        Args:
            model: `model.onnx`, or its bytes.
            about: of `describe_graph`.

        Raises:
            RunError: if ONNX Runtime is not installed, or cannot read it.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise RunError(
                "An exported model needs ONNX Runtime: pip install 'scanwise[onnx]'. Or give the run itself."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "0")  # it changes answers
        source = model if isinstance(model, bytes) else str(model)
        try:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RunError(
                f"ONNX Runtime cannot read the exported network: {type(error).__name__}. Export it again."
            ) from error
        _give_back_memory()
        if fixed := [given.name for given in session.get_inputs() if isinstance(given.shape[0], int)]:
            raise RunError(
                f"This network cannot be turned into an ONNX graph: its {fixed[0]} would have a fixed number of rows. Predict with the "
                "run itself."
            )
        layers = tuple(DropoutLayer(tuple(units), share) for units, share in about["layers"])
        return cls(session, layers, about["draws"])

    def run(self, pixels: Pixels | None, tokens: Tokens | None) -> Outputs:
        """Logits (N, T, C), features (N, D) and attention (N, T) or None of pixels (N, H, W, C) and tokens (N, L)."""
        feed: dict[str, Any] = {}
        if pixels is not None and "pixels" in self._inputs:
            feed["pixels"] = pixels
        if "tokens" in self._inputs:
            if tokens is None:
                raise RunError("This network reads tokens beside the pixels, and none were given.")
            feed["tokens"] = tokens.astype(_TYPES[self._inputs["tokens"]])
        if self._draws:
            rows = pixels if pixels is not None else tokens
            if rows is None:
                raise RunError("Neither pixels nor tokens were given.")
            masks = draw_masks(rows, self._layers, self._draws)
            feed |= {f"mask_{call}": mask for call, mask in enumerate(masks)}
        outputs = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        return outputs["logits"], outputs["features"], outputs.get("attention")

    @contextmanager
    def one_core_each(self) -> Iterator[Callable[[], None]]:
        """Nothing to do: the session has one thread."""
        yield _nothing


def _give_back_memory() -> None:
    """Give the system what loading a graph has left behind, 1.5 times the weights, which the allocator of Linux else keeps."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


def _nothing() -> None:
    return None
