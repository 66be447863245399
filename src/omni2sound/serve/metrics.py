"""What a server counts, for Prometheus.

In:   jobs, requests, the state of queue and store.
Out:  its text format.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """Counters of one server, apart from those of the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        name = "omni2sound_"
        self.accepted = Counter(
            f"{name}jobs_accepted", "Jobs that were taken.", ["kind"], registry=self.registry
        )
        self.ended = Counter(
            f"{name}jobs_ended", "Jobs that ended.", ["kind", "state"], registry=self.registry
        )
        self.seconds = Histogram(
            f"{name}job_seconds",
            "Time on the device.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.requests = Counter(
            f"{name}http_requests", "Requests by status.", ["status"], registry=self.registry
        )
        self.waiting = Gauge(f"{name}jobs_waiting", "Jobs in the queue.", registry=self.registry)
        self.listeners = Gauge(
            f"{name}event_streams", "Open streams of events.", registry=self.registry
        )
        self.stored = Gauge(
            f"{name}stored_bytes", "Bytes of uploads and results.", registry=self.registry
        )

    def text(self) -> bytes:
        """Return all values in the text format of Prometheus."""
        return generate_latest(self.registry)
