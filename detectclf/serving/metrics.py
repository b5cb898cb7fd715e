"""Figures of the running server, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PICTURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Metrics:
    """Counters and histograms of one application; may be used by several threads at once."""

    def __init__(self) -> None:
        # One of its own, since the library's is one for the process, and refuses the same name twice.
        own = self._registry = CollectorRegistry()
        ProcessCollector(registry=own)
        self._requests = Counter(
            "detectclf_requests", "Requests by route, method and status.", ["route", "method", "status"], registry=own
        )
        self._pictures = Counter(
            "detectclf_pictures",
            "Pictures by outcome: predicted, flagged, unreadable or cancelled.",
            ["outcome"],
            registry=own,
        )
        for outcome in ("predicted", "flagged", "unreadable", "cancelled"):
            self._pictures.labels(outcome)  # there from the beginning, at 0
        self._request_seconds = Histogram(
            "detectclf_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            registry=own,
            buckets=_SECONDS,
        )
        self._batch_pictures = Histogram(
            "detectclf_batch_pictures", "Pictures of one forward pass.", registry=own, buckets=_PICTURES
        )
        self._batch_seconds = Histogram(
            "detectclf_batch_seconds",
            "Seconds of one forward pass with the decoding of its pictures.",
            registry=own,
            buckets=_SECONDS,
        )
        self._waiting = Gauge("detectclf_waiting_pictures", "Pictures that wait for the model now.", registry=own)
        self._in_hand = Gauge(
            "detectclf_requests_in_hand", "Requests with files that are received or worked on now.", registry=own
        )

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answer. ``route`` is the pattern of a path and never what a client wrote."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.observe(seconds)

    def batch(self, outcomes: Mapping[str, int], seconds: float) -> None:
        """Counts a forward pass: how many pictures had which outcome."""
        for outcome, count in outcomes.items():
            self._pictures.labels(outcome).inc(count)
        self._batch_pictures.observe(sum(outcomes.values()))
        self._batch_seconds.observe(seconds)

    def cancelled(self, pictures: int) -> None:
        """Counts pictures that nobody waits for any more."""
        self._pictures.labels("cancelled").inc(pictures)

    def text(self, waiting: int, in_hand: int) -> bytes:
        """All figures; ``waiting`` pictures are in the queue, ``in_hand`` requests with files are not answered yet."""
        self._waiting.set(waiting)
        self._in_hand.set(in_hand)
        return generate_latest(self._registry)


__all__ = ["CONTENT_TYPE", "Metrics"]
