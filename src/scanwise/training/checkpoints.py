"""Checkpoints: written atomically, and read without executing anything."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from scanwise.errors import RunError
from scanwise.migrations import FORMATS, check_format
from scanwise.run import writing

LAST, BEST = "last.ckpt", "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's reader and writer of checkpoints."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with writing(Path(path)) as temporary:
            try:
                with temporary.open("wb") as file:
                    torch.save(checkpoint | {"scanwise_format": FORMATS["checkpoint"]}, file)
            except RuntimeError as error:  # torch hides the error of the disk
                cause: BaseException | None = error
                while cause is not None and not isinstance(cause, OSError):
                    cause = cause.__context__
                raise cause or error from None

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:  # a damaged file raises errors of any kind
            raise RunError(
                f"The checkpoint {path} is damaged ({type(error).__name__}). "
                f"Delete {Path(path).parent} to train this fit anew."
            ) from error
        check_format("checkpoint", checkpoint.get("scanwise_format"), path)
        return checkpoint


def checkpoint_weights(checkpoint: dict[str, Any], part: str = "network") -> dict[str, torch.Tensor]:
    """State dict of one part of the module in a checkpoint: `network`, or its running mean, `average`."""
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
