"""Counts and times of a server, for Prometheus; no text of a user stands in any of them."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from scanwise.serving.service import Service


class ServerMeasures:
    """Counts of one server.

    Args:
        service: that they are of.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.registry = CollectorRegistry()
        shared = {"namespace": "scanwise", "registry": self.registry}
        self._requests = Counter("requests", "Requests, by route and status.", ["route", "status"], **shared)  # type: ignore[arg-type]
        self._scans = Counter("scans", "Scans that were answered, by class.", ["predicted"], **shared)  # type: ignore[arg-type]
        self._abstained = Counter("abstained", "Scans left to a person.", **shared)  # type: ignore[arg-type]
        self._unlike = Counter("unlike_training", "Scans unlike training.", **shared)  # type: ignore[arg-type]
        self._quarantined = Counter("quarantined", "Files that could not be read.", **shared)  # type: ignore[arg-type]
        self._seconds = Histogram("answer_seconds", "Time to answer a request.", **shared)  # type: ignore[arg-type]
        gauges = {
            "waiting_scans": ("Scans that are answered or wait.", lambda: service.waiting),
            "held_bytes": ("Bytes of requests that arrive, wait or are answered.", lambda: service.held),
            "ready": ("Whether the model answers.", lambda: service.model.ready),
            "restarts": ("How often the process of the model was started again.", lambda: service.model.restarts),
        }
        for name, (text, value) in gauges.items():
            Gauge(name, text, **shared).set_function(value)  # type: ignore[arg-type]
        self._model = Gauge("model_info", "The model, by its digest.", ["digest"], **shared)  # type: ignore[arg-type]

    def count_request(self, route: str, status: int) -> None:
        """One more request to a route."""
        self._requests.labels(route, str(status)).inc()

    def count_answer(self, counts: Mapping[str, Any], seconds: float) -> None:
        """One more answer, of which the model gives the counts."""
        for predicted in counts["predicted"]:
            self._scans.labels(predicted).inc()
        self._abstained.inc(counts["abstained"])
        self._unlike.inc(counts["unlike"])
        self._quarantined.inc(counts["quarantined"])
        self._seconds.observe(seconds)

    def to_text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        self._model.labels(self._service.model.about["digest"]).set(1)
        return generate_latest(self.registry)
