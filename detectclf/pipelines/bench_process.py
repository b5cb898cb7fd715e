"""The processes of ``bench``, one for each runtime, as the command sees them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from detectclf.errors import one_line
from detectclf.progress import Progress


class Worker:
    """A process that runs the bundle by one runtime; see :mod:`detectclf.pipelines.bench_worker`.

    Args:
        runtime: its runtime.
        command: starts it, its job included.
        log: file for what it says on stderr.
        progress: gets a step for loading and one for each pass.
        environment: its environment variables; by default those of this process.

    Attributes:
        error: why it cannot run the bundle; empty where it can.
        model, device, threads: what it says of itself.
        loading_s: from its start until it could predict.
        memory: batch size -> peak of its resident memory, in MiB, after the first pass.
        seconds: batch size -> of each batch the slices and the seconds that it took.
        cpu_s: batch size -> seconds of processor time of each pass, over all threads.
    """

    def __init__(
        self,
        runtime: str,
        command: Sequence[str],
        log: Path,
        progress: Progress,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.runtime = runtime
        self.error: str = ""
        self._command, self._environment = command, environment
        self._log, self._progress = log, progress
        self.memory: dict[int, float | None] = {}
        self.seconds: dict[int, list[tuple[int, float]]] = {}
        self.cpu_s: dict[int, list[float]] = {}

    def __enter__(self) -> Worker:
        began = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=self._environment,
            )
        ready = self._answer()
        self.loading_s = time.perf_counter() - began
        if ready:
            self.model, self.device, self.threads = ready["model"], ready["device"], ready["threads"]
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # the other side may have gone
                if pipe is not None:
                    pipe.close()
        self._process.wait()

    def measure(self, batch_size: int, *, warm_up: bool) -> None:
        """One pass over the slices; of one that warms up only the memory is kept."""
        if self.error:
            self._progress.advance()
            return
        assert self._process.stdin is not None
        with suppress(OSError):  # where it has ended, _answer says why
            self._process.stdin.write(f"{batch_size}\n")
            self._process.stdin.flush()
        answer = self._answer()
        if answer is None:
            return
        if warm_up:
            self.memory[batch_size] = answer["peak_memory_mib"]
        else:
            self.seconds.setdefault(batch_size, []).extend((int(n), float(s)) for n, s in answer["seconds"])
            self.cpu_s.setdefault(batch_size, []).append(answer["cpu_s"])

    def _answer(self) -> dict[str, Any] | None:
        """The next answer of the process; ``None``, with the reason in ``error``, where it cannot go on."""
        self._progress.advance()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._death()}
        self.error = str(answer.get("error", ""))
        return None if self.error else answer

    def _death(self) -> str:
        """Why the process ended without an answer, such as an instruction that the processor lacks."""
        code = self._process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return one_line(f"its process ended with code {code}" + (f": {said[-1]}" if said else ""))


__all__ = ["Worker"]
