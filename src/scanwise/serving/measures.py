"""Counts and times of a server, for Prometheus; no text of a user stands in any of them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from scanwise.bundle import BundlePredictions


class ServerMeasures:
    """Counts of one server.

    Args:
        digest: of the model.
        waiting: gives the scans that are answered or wait.
    """

    def __init__(self, digest: str, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        shared = {"namespace": "scanwise", "registry": self.registry}
        self._requests = Counter("requests", "Requests, by route and status.", ["route", "status"], **shared)  # type: ignore[arg-type]
        self._scans = Counter("scans", "Scans that were answered, by class.", ["predicted"], **shared)  # type: ignore[arg-type]
        self._abstained = Counter("abstained", "Scans left to a person.", **shared)  # type: ignore[arg-type]
        self._unlike = Counter("unlike_training", "Scans unlike training.", **shared)  # type: ignore[arg-type]
        self._quarantined = Counter("quarantined", "Files that could not be read.", **shared)  # type: ignore[arg-type]
        self._seconds = Histogram("answer_seconds", "Time to answer a request.", **shared)  # type: ignore[arg-type]
        Gauge("waiting_scans", "Scans that are answered or wait.", **shared).set_function(waiting)  # type: ignore[arg-type]
        Gauge("model_info", "The model, by its digest.", ["digest"], **shared).labels(digest).set(1)  # type: ignore[arg-type]

    def count_request(self, route: str, status: int) -> None:
        """One more request to a route."""
        self._requests.labels(route, str(status)).inc()

    def count_answer(self, answer: BundlePredictions, seconds: float) -> None:
        """One more answer."""
        scans = answer.scans
        for predicted in scans.predicted.tolist():
            self._scans.labels(scans.classes[predicted]).inc()
        self._abstained.inc(int(scans.abstain.sum()))
        self._unlike.inc(0 if scans.ood_flag is None else int(scans.ood_flag.sum()))
        self._quarantined.inc(len(answer.quarantine))
        self._seconds.observe(seconds)

    def to_text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
