"""Checkpoints: under their name only once they are whole, and read without executing anything."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from scanwise.errors import RunError
from scanwise.run import writing

LAST, BEST = "last.ckpt", "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """What Lightning reads and writes checkpoints with."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with writing(Path(path)) as temporary:
            try:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:  # torch buries what the disk said
                buried: BaseException | None = error
                while buried is not None and not isinstance(buried, OSError):
                    buried = buried.__context__
                raise buried or error from None

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        try:
            found: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:  # a damaged file raises what it likes
            raise RunError(
                f"The checkpoint {path} is damaged ({type(error).__name__}). "
                f"Delete {Path(path).parent} to train this fit anew."
            ) from error
        return found


def checkpoint_weights(checkpoint: dict[str, Any], part: str = "network") -> dict[str, torch.Tensor]:
    """The state dict of a part of the module that a checkpoint holds: `network`, or its running mean, `average`."""
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
