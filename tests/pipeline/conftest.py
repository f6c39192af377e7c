"""Files of logits for tests of the commands that read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logit_arrays import Write, arrays


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write `NAME.npz` of arrays with some changed; None leaves one out."""

    def put(name: str, given: Mapping[str, Any], **changes: Any) -> Path:
        kept = {key: value for key, value in {**given, **changes}.items() if value is not None}
        np.savez(tmp_path / f"{name}.npz", **kept)
        return tmp_path / f"{name}.npz"

    return put


@pytest.fixture
def files(write: Write) -> dict[str, Path]:
    """Three sides with one scan a subject."""
    return {name: write(name, arrays(seed, 120)) for seed, name in enumerate(("valid", "known", "test"))}
