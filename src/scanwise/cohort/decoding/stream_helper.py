"""The helper of `streams`: batches of files in, decoded scans out, until nothing more comes.

It loads the decoders and neither tables nor recipes nor networks, so that it starts in a fraction of a second.
"""

import os
import pickle  # of nothing but what this process and the one that started it tell each other
import sys
from typing import IO

from scanwise.cohort.decoding.helpers import receive, send
from scanwise.cohort.decoding.streams import decode_batch
from scanwise.workers.sharing import share_between


def answer_batches(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each batch; the first message says how to decode, and how many processes share the memory."""
    settings, measure, processes = pickle.loads(receive(questions) or b"")  # noqa: S301
    share_between(processes)
    send(answers, b"")
    while (batch := receive(questions)) is not None:
        decoded = decode_batch(pickle.loads(batch), settings, measure)  # noqa: S301
        send(answers, pickle.dumps(decoded, pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as stream:
        os.dup2(2, 1)  # whatever a library prints is no answer
        answer_batches(sys.stdin.buffer, stream)
