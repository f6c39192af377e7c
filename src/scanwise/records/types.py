"""Types of arrays, and the few literals that records share."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
StrArray = NDArray[np.str_]

SIDES = ("train", "validation", "calibration", "test")
Unit = Literal["scan", "subject"]
Severity = Literal["note", "warning", "leak"]
