"""State of a server: the model, the limits, who may ask, and what is under way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scanwise.serving.settings import ServerLimits
from scanwise.serving.supervision import ServedModel


@dataclass(slots=True)
class Service:
    """A model that is served, and what it is doing.

    Attributes:
        model: that answers.
        limits: on requests.
        hosts: names of this server that a request may use.
        token: that a request must bear; "" for none.
        opened: is called when the model is open.
        waiting: scans that are answered or wait.
        held: bytes of requests that arrive, wait or are answered.
        folder: private, for temporary files.
        lost: jobs that had no answer when the server ended.
        refusal: why the model could not be opened.
    """

    model: ServedModel
    limits: ServerLimits
    hosts: tuple[str, ...]
    token: str = ""
    opened: Callable[[], object] = lambda: None
    waiting: int = 0
    held: int = 0
    folder: Path | None = None
    lost: int = 0
    refusal: Exception | None = None
