"""Metrics: what Prometheus reads at /metrics. Every service has a registry of its own."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGES = ("decode", "queue", "embed", "search")


class Metrics:
    """The counters and histograms of a service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "embedx_requests", "Requests by route and status.", ["route", "method", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "embedx_request_seconds", "Seconds of a request.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.stages = Histogram(
            "embedx_stage_seconds", "Seconds of a stage.", ["stage"], buckets=SECONDS, registry=self.registry
        )
        self.rows = Gauge("embedx_rows", "Rows of a collection.", ["collection"], registry=self.registry)
        self.generation = Gauge(
            "embedx_generation", "Generation of a collection.", ["collection"], registry=self.registry
        )
        self.available = Gauge(
            "embedx_available", "Whether a collection can be read.", ["collection"], registry=self.registry
        )
        self.queue = Gauge("embedx_queue_length", "Windows that wait for the model.", registry=self.registry)
        self.models = Gauge("embedx_loaded_models", "Models in memory.", registry=self.registry)
        self._stages = {stage: self.stages.labels(stage) for stage in STAGES}
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # `labels` takes longer than counting

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; a client that has gone has the status 0, counted as 499."""
        known = method if method in ("GET", "POST", "OPTIONS", "HEAD") else "other"
        key = route, known, status or 499
        if key not in self._series:
            self._series[key] = self.requests.labels(*key), self.seconds.labels(route)
        count, histogram = self._series[key]
        count.inc()
        histogram.observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        """Count the time that a stage of a request has taken."""
        self._stages[stage].observe(seconds)

    def text(self, refreshes: Iterable[Callable[[], None]]) -> bytes:
        """Return all metrics in the text format of Prometheus, after the gauges were set."""
        for refresh in refreshes:
            refresh()
        return generate_latest(self.registry)
