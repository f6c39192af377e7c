"""Arrays of logits that a network might have given, to be written to files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Write = Callable[..., Path]
CLASSES = ("well", "mild", "severe")


def arrays(seed: int, count: int, each: int = 1) -> dict[str, Any]:
    """Logits of an overconfident network, `each` scans of every subject; names say the seed, so that none repeat."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count // each) % 3).repeat(each)
    own = random.normal(size=(count // each, 3)).repeat(each, axis=0)
    logits = 3 * (own + 0.4 * random.normal(size=(count, 3)) + 1.6 * np.eye(3)[labels])
    return {
        "logits": logits.astype(np.float32),
        "labels": labels,
        "scans": np.array([f"{seed}/{row}.png" for row in range(count)]),
        "subjects": np.array([f"{seed}:{row // each}" for row in range(count)]),
        "classes": np.array(CLASSES),
        "group_site": np.array(["north", "south"])[np.arange(count) // each % 2],
    }
