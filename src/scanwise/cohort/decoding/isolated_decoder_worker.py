"""The helper of `apart`: one-frame DICOM files in, arrays out, until nothing more comes.

It is run as a script, so that it loads pydicom and its decoders and nothing of scanwise.
"""

import io
import struct
import sys
import warnings
from typing import BinaryIO


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each file with an npy array, or with nothing where no decoder takes it."""
    while len(length := questions.read(8)) == 8:
        answer = _decode(questions.read(struct.unpack("<Q", length)[0]))
        answers.write(struct.pack("<Q", len(answer)) + answer)
        answers.flush()


def _decode(file: bytes) -> bytes:
    import numpy as np
    from pydicom.pixels.utils import pixel_array

    stream = io.BytesIO()
    try:
        np.save(stream, pixel_array(io.BytesIO(file)), allow_pickle=False)
    except Exception:  # noqa: BLE001 - whatever a decoder makes of a damaged frame, the next one is another's
        return b""
    return stream.getvalue()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(sys.stdin.buffer, sys.stdout.buffer)
