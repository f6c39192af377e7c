"""Types that all decoders share: pixels, slices, and the error that quarantines a file."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


MAX_PIXELS = 100_000_000


Kind = Literal["dicom", "nifti", "picture"]


Slices = Sequence[int | None]


class UnreadableScan(Exception):  # noqa: N818 - it never leaves the cohort room: it becomes a line of quarantine.csv
    """A file that is not a scan; the message is the reason."""
