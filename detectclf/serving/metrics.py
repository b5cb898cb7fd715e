"""Figures of the running server, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PICTURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_HELP = {
    "detectclf_requests_total": "Requests by route, method and status.",
    "detectclf_pictures_total": "Pictures by outcome: predicted, flagged, unreadable or cancelled.",
    "detectclf_request_seconds": "Seconds from the head of a request to the end of its answer.",
    "detectclf_batch_pictures": "Pictures of one forward pass.",
    "detectclf_batch_seconds": "Seconds of one forward pass with the decoding of its pictures.",
    "detectclf_waiting_pictures": "Pictures that wait for the model now.",
}


class Histogram:
    """Counts of values up to each bound.

    Args:
        bounds: of the buckets, in ascending order; one without a bound is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = tuple(bounds), [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Counts ``value``."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> list[str]:
        """The samples of Prometheus, whose buckets are cumulative."""
        total, lines = 0, []
        for bound, count in zip((*(f"{b:g}" for b in self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self.sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """Counters and histograms; may be used by several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._pictures: Counter[str] = Counter({"predicted": 0, "flagged": 0, "unreadable": 0, "cancelled": 0})
        self._request_seconds = Histogram(_SECONDS)
        self._batch_pictures, self._batch_seconds = Histogram(_PICTURES), Histogram(_SECONDS)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answer. ``route`` is the pattern of a path and never what a client wrote."""
        with self._lock:
            self._requests[route, method, status] += 1
            self._request_seconds.add(seconds)

    def batch(self, outcomes: Mapping[str, int], seconds: float) -> None:
        """Counts a forward pass: how many pictures had which outcome."""
        with self._lock:
            self._pictures.update(outcomes)
            self._batch_pictures.add(sum(outcomes.values()))
            self._batch_seconds.add(seconds)

    def cancelled(self, pictures: int) -> None:
        """Counts pictures that nobody waits for any more."""
        with self._lock:
            self._pictures["cancelled"] += pictures

    def text(self, waiting: int) -> str:
        """All figures; ``waiting`` pictures are in the queue."""
        with self._lock:
            requests = [
                f'{{route="{route}",method="{method}",status="{status}"}} {count}'
                for (route, method, status), count in sorted(self._requests.items())
            ]
            samples = {
                "detectclf_requests_total": [f"detectclf_requests_total{each}" for each in requests],
                "detectclf_pictures_total": [
                    f'detectclf_pictures_total{{outcome="{outcome}"}} {count}'
                    for outcome, count in sorted(self._pictures.items())
                ],
                "detectclf_request_seconds": self._request_seconds.lines("detectclf_request_seconds"),
                "detectclf_batch_pictures": self._batch_pictures.lines("detectclf_batch_pictures"),
                "detectclf_batch_seconds": self._batch_seconds.lines("detectclf_batch_seconds"),
                "detectclf_waiting_pictures": [f"detectclf_waiting_pictures {waiting}"],
            }
        lines: list[str] = []
        for name, values in samples.items():
            kind = "counter" if name.endswith("_total") else "gauge" if "waiting" in name else "histogram"
            lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} {kind}", *values]
        return "\n".join(lines) + "\n"


__all__ = ["CONTENT_TYPE", "Histogram", "Metrics"]
