"""Opens an ONNX graph in OpenVINO or ONNX Runtime."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from detectclf.errors import DeviceError, ModelError
from detectclf.inference.runtimes.graph_files import in_one_folder, state_of
from detectclf.inference.runtimes.openvino_library import import_openvino
from detectclf.inference.runtimes.processor import cpu_lacks, thread_limit
from detectclf.types import Pixels

EngineName = Literal["openvino", "onnx"]

Arrays = dict[str, npt.NDArray[Any]]
"""Name of an output of a graph -> its value."""


_OPEN: weakref.WeakSet[Engine] = weakref.WeakSet()
"""The engines of this process."""


class Engine(ABC):
    """A graph that is ready to run, from several threads at once, and in processes forked off this one.

    A forked process has no copy of the threads of the engine, which waits for them for ever when it is used or freed
    there. So it opens the graph again when it first uses it, if its files are still the same, and never frees what it
    inherited.

    Args:
        file: the graph, its weights beside it.
        device: ``cpu``, or ``cuda`` in ONNX Runtime.
        outputs: names of the outputs that the graph must have.

    Raises:
        ModelError: the graph is damaged, or the engine is not installed as it should be.
        DeviceError: the device is not available.
    """

    name: ClassVar[str]
    """As users know it."""

    def __init__(self, file: Path, device: str, outputs: Collection[str]) -> None:
        self._file, self._device, self._outputs = file, device, frozenset(outputs)
        self._names: list[str] = []
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._opened = state_of(file)
        self._open_or_say_why()
        _OPEN.add(self)

    def __call__(self, images: Pixels) -> Arrays:
        """The outputs for ``images`` ``(B, 1, S, S)`` uint8; raises ModelError where the graph cannot take them."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._open_again()
                    self._process = os.getpid()
        try:
            return self._run(images)
        except MemoryError:
            raise
        except Exception as error:
            raise self._fault("run", error) from error

    def _open_again(self) -> None:
        if state_of(self._file) != self._opened:  # it would predict otherwise than the process that opened it
            raise ModelError(
                "the graph was changed or removed before this forked process used it",
                file=self._file,
                remedy="load the bundle again",
            )
        self._open_or_say_why()

    def _open_or_say_why(self) -> None:
        try:
            self._open()
        except (DeviceError, MemoryError):
            raise
        except ImportError as error:
            raise ModelError(
                f"{self.name} cannot be imported: {_reason(error)}", remedy="install it again, or use --runtime torch"
            ) from error
        except Exception as error:
            raise self._fault("opened", error) from error
        if missing := sorted(self._outputs - set(self._names)):
            raise self._fault("used", ValueError(f"it has no output {', '.join(missing)}"))

    def _fault(self, done: str, error: Exception) -> ModelError:
        """Both engines raise errors of many kinds, of many lines."""
        return ModelError(
            f"the graph cannot be {done} by {self.name}: {_reason(error)}",
            file=self._file,
            remedy="bundle the runs again, or use --runtime torch",
        )

    def leave_behind(self) -> None:
        """Keeps what was inherited by a fork from being freed, even when the process ends."""
        self._lock = threading.Lock()  # a thread that is gone may have held it
        for each in self._natives():
            _never_free(each)

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _natives(self) -> list[Any]:
        """The objects of the engine."""

    @abstractmethod
    def _run(self, images: Pixels) -> Arrays: ...


def _never_free(native: Any) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


def _after_fork() -> None:
    global _CORES_LOCK
    _CORES_LOCK = threading.Lock()  # a thread that is gone may have held it
    for core in _CORES.values():  # which outlives its engines
        _never_free(core)
    for engine in list(_OPEN):
        engine.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class OpenVINO(Engine):
    """OpenVINO on the CPU, in float32, slice by slice: batches save it no computation, and cost memory.

    A single slice is computed by all cores together. Several are computed side by side, each by one or a few of the
    cores, which wastes less; what does that is compiled when it is first needed.

    Nothing is computed or compiled in the caller's thread. There OpenVINO would keep an observer of its worker threads
    for the thread's lifetime; a process forked off while a worker is on its way to sleep would wait for that worker, of
    which it has no copy, when it exits. For the same reason a forked process frees nothing that it opened either.
    """

    name = "OpenVINO"

    def _open(self) -> None:
        if self._device != "cpu":
            raise DeviceError(
                f"OpenVINO does not run on {self._device!r} here", remedy="use --device cpu, or --runtime torch"
            )
        if lacking := cpu_lacks():
            raise DeviceError(f"OpenVINO needs {lacking}, which this CPU lacks", remedy="use --runtime torch")
        self._made: list[Any] = []
        self._idle_one: deque[list[Any]] = deque()
        self._idle_several: deque[list[Any]] = deque()
        self._several: Any = None
        # Kept, since what computes several is of the same file, whatever becomes of that meanwhile.
        self._model = self._read()
        self._keep(self._model)
        self._one = self._compiled("LATENCY")
        self._names = [output.get_any_name() for output in self._one.outputs]

    def _read(self) -> Any:
        with in_one_folder(self._file) as file:
            model = _core().read_model(file)
        model.reshape([1, *list(model.input().get_partial_shape())[1:]])
        return model

    def _compiled(self, hint: Literal["LATENCY", "THROUGHPUT"]) -> Any:
        # f32: on CPUs with bfloat16 the default is not exact enough to agree with torch.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
        if threads := thread_limit():
            settings["INFERENCE_NUM_THREADS"] = threads
        with ThreadPoolExecutor(1) as thread:
            compiled = thread.submit(_core().compile_model, self._model, "CPU", settings).result()
        self._keep(compiled)
        return compiled

    def _keep(self, native: Any) -> None:
        self._made.append(native)
        _keep_if_forked(native)

    def _natives(self) -> list[Any]:
        return self._made

    def _requests(self, idle: deque[list[Any]], compiled: Any, count: int) -> list[Any]:
        """Requests that no other thread uses: each holds the buffers of one call. Put them back into ``idle``."""
        try:
            return idle.pop()
        except IndexError:
            made = [compiled.create_infer_request() for _ in range(count)]
            for each in made:
                self._keep(each)
            return made

    def _for_several(self) -> Any:
        with self._lock:
            if self._several is None:
                self._several = self._compiled("THROUGHPUT")
            return self._several

    def _run(self, images: Pixels) -> Arrays:
        if len(images) == 1:
            idle, compiled, count = self._idle_one, self._one, 1
        else:
            idle, compiled = self._idle_several, self._for_several()
            count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        requests, rows = self._requests(idle, compiled, count), []
        for number in range(len(images) + count):
            request = requests[number % count]
            if 0 <= number - count < len(images):
                request.wait()
                rows.append(_values(request))
            if number < len(images):
                request.start_async({0: images[number : number + 1]}, share_inputs=True)
        idle.append(requests)
        return {name: np.concatenate(column) for name, column in zip(self._names, zip(*rows, strict=True), strict=True)}


_CORES: dict[int, Any] = {}
_CORES_LOCK = threading.Lock()


def _core() -> Any:
    """The core of OpenVINO of this process, which is never freed.

    Its plugin gives the thread that opens it a stack for signals. Freed by another thread, it takes that one's stack
    away, and the next signal, such as one that stops a training, ends the process.
    """
    with _CORES_LOCK:
        if os.getpid() not in _CORES:
            core = _CORES[os.getpid()] = import_openvino().Core()
            _keep_if_forked(core)
        return _CORES[os.getpid()]


def _keep_if_forked(native: Any) -> None:
    """Keeps ``native`` from being freed where this process was forked off one that had opened OpenVINO."""
    if any(process != os.getpid() for process in _CORES):
        _never_free(native)


def _values(request: Any) -> list[npt.NDArray[Any]]:
    """Copies of a request's outputs, since its next call overwrites them."""
    return [np.array(tensor.data) for tensor in request.output_tensors]


class ONNXRuntime(Engine):
    """ONNX Runtime on the CPU or, where the package ``onnxruntime-gpu`` is installed, on an NVIDIA GPU."""

    name = "ONNX Runtime"

    def _open(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # none: its warnings are about how it optimises, and errors are raised
        if threads := thread_limit():
            options.intra_op_num_threads = threads
        providers: list[Any] = ["CPUExecutionProvider"]
        kind, _, number = self._device.partition(":")
        if kind == "cuda" and (number.isdecimal() or not number):
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise DeviceError(
                    f"device {self._device!r}: this ONNX Runtime has no CUDA",
                    remedy="use --device cpu, or install onnxruntime-gpu where there is a GPU",
                )
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
        elif self._device != "cpu":
            raise DeviceError(f"ONNX Runtime does not run on {self._device!r} here", remedy="use --device cpu or cuda")
        self._session = onnxruntime.InferenceSession(self._file, options, providers=providers)
        if kind == "cuda" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            # It goes on without the GPU where the driver does not suit it, and only logs that.
            raise DeviceError(f"device {self._device!r} cannot be used by ONNX Runtime", remedy="use --runtime torch")
        self._names = [output.name for output in self._session.get_outputs()]

    def _natives(self) -> list[Any]:
        return [self._session]

    def _run(self, images: Pixels) -> Arrays:
        (source,) = self._session.get_inputs()
        return dict(zip(self._names, self._session.run(None, {source.name: images}), strict=True))


ENGINES: dict[EngineName, type[Engine]] = {"openvino": OpenVINO, "onnx": ONNXRuntime}
MODULES: dict[EngineName, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
"""Engine -> the module that it needs."""


def _reason(error: Exception) -> str:
    """The last line of an error, where both engines say what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


__all__ = ["ENGINES", "MODULES", "Arrays", "Engine", "EngineName"]
