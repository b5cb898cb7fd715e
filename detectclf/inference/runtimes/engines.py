"""Opens an ONNX graph in OpenVINO or ONNX Runtime."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from detectclf.errors import DeviceError, ModelError
from detectclf.types import Pixels

EngineName = Literal["openvino", "onnx"]

Arrays = dict[str, npt.NDArray[Any]]
"""Name of an output of a graph -> its value."""


_OPEN: weakref.WeakSet[Engine] = weakref.WeakSet()
"""The engines of this process."""


class Engine(ABC):
    """A graph that is ready to run, from several threads at once, and in processes forked off this one.

    A forked process has no copy of the threads of the engine, which waits for them for ever when it is used or freed
    there. So it opens the graph again when it first uses it, and never frees what it inherited.

    Args:
        file: the graph, its weights beside it.
        device: ``cpu``, or ``cuda`` in ONNX Runtime.

    Raises:
        ModelError: the graph is damaged.
        DeviceError: the device is not available.
    """

    def __init__(self, file: Path, device: str) -> None:
        self._file, self._device = file, device
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._open_or_say_why()
        _OPEN.add(self)

    def __call__(self, images: Pixels) -> Arrays:
        """The outputs for ``images`` ``(B, 1, S, S)`` uint8."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._open_or_say_why()
                    self._process = os.getpid()
        return self._run(images)

    def _open_or_say_why(self) -> None:
        try:
            self._open()
        except (DeviceError, ModelError):
            raise
        except Exception as error:
            # Both engines raise errors of many kinds.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[-1] if lines else type(error).__name__
            raise ModelError(
                f"the graph cannot be opened: {reason}",
                file=self._file,
                remedy="bundle the runs again, or predict with --runtime torch",
            ) from error

    def leave_behind(self) -> None:
        """Keeps what was inherited by a fork from being freed, even when the process ends."""
        self._lock = threading.Lock()  # a thread that is gone may have held it
        for each in self._natives():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _natives(self) -> list[Any]:
        """The objects of the engine."""

    @abstractmethod
    def _run(self, images: Pixels) -> Arrays: ...


def _after_fork() -> None:
    for engine in list(_OPEN):
        engine.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class OpenVINO(Engine):
    """OpenVINO on the CPU, in float32."""

    def _open(self) -> None:
        if self._device != "cpu":
            raise DeviceError(f"OpenVINO does not run on {self._device!r} here", remedy="use --device cpu")
        import openvino

        core = openvino.Core()
        # f32: on CPUs with bfloat16 the default is not exact enough to agree with torch.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads := thread_limit():
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(core.read_model(self._file), "CPU", settings)
        self._names = [output.get_any_name() for output in self._compiled.outputs]
        self._requests = threading.local()

    def _natives(self) -> list[Any]:
        return [self._compiled, getattr(self._requests, "own", None)]

    def _run(self, images: Pixels) -> Arrays:
        # One request per thread: a request holds the buffers of one call.
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._compiled.create_infer_request()
        outputs = request.infer({0: images}, share_inputs=True)
        return dict(zip(self._names, (np.array(value) for value in outputs.values()), strict=True))


class ONNXRuntime(Engine):
    """ONNX Runtime on the CPU or, where the package ``onnxruntime-gpu`` is installed, on an NVIDIA GPU."""

    def _open(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors: its warnings are about how it optimises
        if threads := thread_limit():
            options.intra_op_num_threads = threads
        providers: list[Any] = ["CPUExecutionProvider"]
        kind, _, number = self._device.partition(":")
        if kind == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise DeviceError(
                    f"device {self._device!r}: this ONNX Runtime has no CUDA",
                    remedy="install onnxruntime-gpu, or use --runtime torch",
                )
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
        elif kind != "cpu":
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


def thread_limit() -> int | None:
    """Threads that the user allows by ``OMP_NUM_THREADS``, which torch obeys as well; ``None`` without a limit."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


__all__ = ["ENGINES", "MODULES", "Engine", "EngineName", "thread_limit"]
