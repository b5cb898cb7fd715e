"""The process that ``bench`` starts for each runtime: it opens the bundle, then times a pass whenever it is asked.

It reads a job as JSON from its argument and batch sizes from stdin, one a line, and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.version import install_fault

if TYPE_CHECKING:
    from detectclf.inference.predictor import Predictor


def main() -> None:
    """Serves the job of the command line until stdin ends."""
    job = json.loads(sys.argv[1])
    try:
        predictor = _open(job)
    except Exception as error:
        # Any error, such as a broken installation of the runtime, is the answer.
        _say({"error": _reason(error)})
        return
    _say({"model": predictor.name, "device": predictor.device, "threads": _threads(job["runtime"])})
    for line in sys.stdin:
        try:
            busy = time.process_time()
            seconds = list(timed(predictor, job["files"], int(line)))
            _say({"seconds": seconds, "cpu_s": time.process_time() - busy, "peak_memory_mib": peak_memory_mib()})
        except Exception as error:
            _say({"error": _reason(error)})
            return


def _open(job: dict[str, Any]) -> Predictor:
    from detectclf.config import PredictConfig
    from detectclf.pipelines.opening import predictor_of

    model = None if job["model"] is None else Path(job["model"])
    return predictor_of(model, {}, PredictConfig(runtime=job["runtime"], device=job["device"]))


def timed(predictor: Predictor, files: Sequence[str], batch_size: int) -> Iterator[tuple[int, float]]:
    """Predicts ``files``: for each batch its number of slices and the seconds that it took, up to the records.

    A batch size of 1 is one slice after the other, as a service predicts; larger ones are as a folder is predicted,
    where the next slices are decoded meanwhile.
    """
    if batch_size == 1:
        for file in files:
            began = time.perf_counter()
            predictor.predict(file).to_record()
            yield 1, time.perf_counter() - began
        return
    began = time.perf_counter()
    made = predictor.predict_many(files, batch_size=batch_size)
    for start in range(0, len(files), batch_size):
        batch = [next(made).to_record() for _ in files[start : start + batch_size]]
        now = time.perf_counter()
        yield len(batch), now - began
        began = now


def peak_memory_mib() -> float | None:
    """The most memory, in MiB, that this process has had resident; ``None`` where the system does not tell."""
    try:
        # Not getrusage: there a process starts with the peak of the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(row.split()[1]) / 1024 for row in status.splitlines() if row.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _threads(runtime: str) -> int:
    """The threads that compute on the CPU."""
    if runtime == "torch":
        import torch

        return torch.get_num_threads()
    from detectclf.cores import usable_cores
    from detectclf.inference.runtimes.processor import thread_limit

    return thread_limit() or usable_cores()


def _reason(error: Exception) -> str:
    from detectclf.errors import DetectclfError, one_line

    if isinstance(error, DetectclfError):
        return str(error)
    return install_fault(error) or one_line(f"{type(error).__name__}: {error}")


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
