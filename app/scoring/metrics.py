"""What Prometheus is told. One registry per app; one worker process, so nothing has to be added up."""

import time

from flask import Flask, Response, g, request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from scoring.loader import Loader
from scoring.settings import Settings


class Metrics:
    """Counts requests, how long they took, and what was predicted."""

    def __init__(self, settings: Settings, loader: Loader) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "app_requests", "Requests answered", ["endpoint", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "app_request_seconds", "Time to answer", ["endpoint"], registry=self.registry
        )
        self._predictions = Counter("app_predictions", "Pictures scored", ["label"], registry=self.registry)
        ready = Gauge("app_model_ready", "1 once the model can score", registry=self.registry)
        ready.set_function(lambda: float(loader.ready))
        release = Gauge(
            "app_release_info",
            "What this release is made of",
            ["commit", "model", "model_version", "model_digest"],
            registry=self.registry,
        )
        release.labels(
            settings.commit, settings.model_name, settings.model_version, settings.model_digest
        ).set(1)

    def watch(self, app: Flask) -> None:
        """Count every request of `app`."""
        app.before_request(self._started)
        app.after_request(self._answered)

    def predicted(self, label: str) -> None:
        self._predictions.labels(label).inc()

    @staticmethod
    def _started() -> None:
        g.started = time.perf_counter()

    def _answered(self, response: Response) -> Response:
        # Paths that do not exist share one name: a scanner must not be able to make series without end.
        endpoint = (request.endpoint or "none").rpartition(".")[2]
        known = request.method if request.method in {"GET", "HEAD", "POST", "OPTIONS"} else "other"
        self._requests.labels(endpoint, known, response.status_code).inc()
        self._seconds.labels(endpoint).observe(time.perf_counter() - g.started)
        return response
