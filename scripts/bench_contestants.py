"""The processes of ``bench_predict.py``: each is one contestant, loads itself and times a pass whenever it is asked.

They speak as :mod:`detectclf.pipelines.bench_worker` does, but need none of it: a contestant may be another checkout.
Only the standard library is imported before the cores are chosen.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

PEER_SIZES = {"detector": 320, "classifier": 224}
"""Input sizes of peers whose files leave them open."""
LEAST_SCORE = 0.05


def main() -> None:
    """Serves the job of the command line until stdin ends."""
    job = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    contestant = Peers(job) if job["kind"] == "peers" else Detectclf(job)
    if job.get("profile") and isinstance(contestant, Detectclf):
        contestant.profile(job["files"])  # warms up
        say(contestant.profile(job["files"]))
        return
    say({"model": contestant.name, "device": "cpu", "threads": job["threads"]})
    for line in sys.stdin:
        busy = time.process_time()
        seconds = list(timed(contestant, job["files"], int(line)))
        say({"seconds": seconds, "cpu_s": time.process_time() - busy, "peak_memory_mib": peak_memory_mib()})


def timed(contestant: Detectclf | Peers, files: Sequence[str], size: int) -> Iterator[tuple[int, float]]:
    """For each batch its number of slices and seconds: one slice after the other, or batches decoded ahead."""
    if size == 1:
        for file in files:
            began = time.perf_counter()
            contestant.one(file)
            yield 1, time.perf_counter() - began
        return
    began = time.perf_counter()
    records = contestant.many(files, size)
    for start in range(0, len(files), size):
        count = len(list(islice(records, len(files[start : start + size]))))
        now = time.perf_counter()
        yield count, now - began
        began = now


class Detectclf:
    """A bundle in the package of a checkout.

    Args:
        job: ``checkout``, which ``PYTHONPATH`` names; ``runtime``, ``None`` for a checkout from before it had several;
            ``model``, ``None`` for the packaged one.

    Raises:
        SystemExit: another installation of the package was imported.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        import detectclf
        from detectclf.inference.loading import load

        if not Path(detectclf.__file__).is_relative_to(job["checkout"]):
            raise SystemExit(f"{job['checkout']} has no package detectclf")
        chosen = {} if job["runtime"] is None else {"runtime": job["runtime"]}
        self.predictor = load(job["model"], device="cpu", **chosen)
        self.name: str = self.predictor.name

    def one(self, file: str) -> Any:
        """The record of one slice."""
        return self.predictor.predict(file).to_record()

    def many(self, files: Sequence[str], size: int) -> Iterator[Any]:
        """The records of many."""
        return (p.to_record() for p in self.predictor.predict_many(files, batch_size=size))

    def profile(self, files: Sequence[str]) -> dict[str, float]:
        """Median milliseconds of each step of one slice, done one after the other; runtimes with graphs only."""
        from detectclf.imaging.framing import framed
        from detectclf.imaging.images import resize_pad
        from detectclf.inference.sources import pixels_of

        engines = self.predictor.runtime
        sizes = {kind: self.predictor.bundle.stages[kind].preprocessing.size for kind in PEER_SIZES}
        spent: dict[str, list[float]] = {}

        def step(name: str, work: Callable[[], Any]) -> Any:
            began = time.perf_counter()
            done = work()
            spent.setdefault(name, []).append(1000 * (time.perf_counter() - began))
            return done

        for file in files:
            pixels = step("decode", lambda file=file: pixels_of(file))
            shown = step("framing", lambda pixels=pixels: framed(pixels).pixels)
            small = step("resize", lambda shown=shown: [resize_pad(shown, sizes[kind])[0] for kind in sizes])
            for kind, engine, image in zip(sizes, (engines._detector, engines._classifier), small, strict=True):
                step(f"{kind} graph", lambda engine=engine, image=image: engine(image[None, None]))
            step("all of it", lambda file=file: self.one(file))
        medians = {name: statistics.median(each) for name, each in spent.items()}
        rest = medians["all of it"] - sum(ms for name, ms in medians.items() if name != "all of it")
        return {**medians, "fusion and the rest": rest}


class Peers:
    """A YOLO detector and a YOLO classifier in OpenVINO, float32, with the work round them that we do round ours.

    Args:
        job: ``detector`` and ``classifier``, ``.xml`` or ``.onnx`` files whose batch may change.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        import openvino

        self.name = "+".join(Path(job[kind]).stem for kind in PEER_SIZES)
        core = openvino.Core()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        settings["INFERENCE_NUM_THREADS"] = job["threads"]
        self.sizes: dict[str, int] = {}
        self._requests: dict[tuple[str, int], Any] = {}
        for kind, size in PEER_SIZES.items():
            for batch in job["batch_sizes"]:
                model = core.read_model(job[kind])
                shape = model.inputs[0].partial_shape
                self.sizes[kind] = size if shape[2].is_dynamic else shape[2].get_length()
                model.reshape([batch, 3, self.sizes[kind], self.sizes[kind]])
                self._requests[kind, batch] = core.compile_model(model, "CPU", settings).create_infer_request()

    def one(self, file: str) -> Any:
        """The record of one slice."""
        return self._records([self._read(file)])[0]

    def many(self, files: Sequence[str], size: int) -> Iterator[Any]:
        """The records of many; the next slices are decoded meanwhile, as detectclf does."""
        remaining, pending = iter(files), deque()
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            while True:
                pending.extend(pool.submit(self._read, file) for file in islice(remaining, 2 * size - len(pending)))
                if not pending:
                    return
                yield from self._records([pending.popleft().result() for _ in range(min(size, len(pending)))])

    def _read(self, file: str) -> tuple[str, tuple[int, int], float, Any, Any]:
        import cv2
        import numpy as np

        image = cv2.imread(file)
        height, width = image.shape[:2]
        side = self.sizes["detector"]
        scale = side / max(height, width)
        inside = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
        padded = np.full((side, side, 3), 114, np.uint8)
        padded[: inside.shape[0], : inside.shape[1]] = inside
        side = self.sizes["classifier"]
        factor = side / min(height, width)
        small = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_LINEAR)
        top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
        return file, (width, height), scale, padded, small[top : top + side, left : left + side]

    def _records(self, read: Sequence[Any]) -> list[Any]:
        found = self._run("detector", [each[3] for each in read])
        logits = self._run("classifier", [each[4] for each in read])
        return [self._record(*row) for row in zip(read, found, logits, strict=True)]

    def _run(self, kind: str, images: Sequence[Any]) -> Any:
        import numpy as np

        batch = np.stack(images)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255
        request = self._requests[kind, len(images)]
        request.infer({0: np.ascontiguousarray(batch)}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data)

    def _record(self, read: Any, found: Any, probabilities: Any) -> dict[str, Any]:
        import cv2
        import numpy as np

        file, (width, height), scale = read[:3]
        if found.shape[-1] != 6:  # one column per anchor: xywh and the scores of the classes
            scores, labels = found[4:].max(axis=0), found[4:].argmax(axis=0)
            likely = scores > LEAST_SCORE
            xywh, scores, labels = found[:4, likely].T, scores[likely], labels[likely]
            corners = np.concatenate([xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, :2] + xywh[:, 2:] / 2], axis=1)
            lefts = np.concatenate([corners[:, :2], xywh[:, 2:]], axis=1)
            kept = np.array(cv2.dnn.NMSBoxesBatched(lefts.tolist(), scores, labels, LEAST_SCORE, 0.5), dtype=int)
            found = np.column_stack([corners[kept], scores[kept], labels[kept]])
        found = found[found[:, 4] > LEAST_SCORE]
        boxes = np.clip(found[:, :4] / scale, 0, [width, height, width, height])
        best = int(probabilities.argmax())
        return {"image": file, "class": best, "confidence": float(probabilities[best]), "boxes": boxes.tolist()}


def peak_memory_mib() -> float | None:
    """The most memory, in MiB, that this process has had resident; ``None`` beside Linux."""
    try:
        rows = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith("VmHWM:")), None)


def say(answer: dict[str, Any]) -> None:
    """One answer, as a line of JSON."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
