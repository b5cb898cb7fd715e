"""Use from other programs: pictures in memory, several threads, forked processes; what is opened is closed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from detectclf.errors import ConfigError, DataError, UnsafeError
from detectclf.inference.loading import load
from detectclf.inference.predictor import Predictor
from detectclf.prediction import Prediction
from detectclf.sample_data.slices import sample_slice

RUNTIMES: tuple[Literal["openvino", "onnx", "torch"], ...] = ("openvino", "onnx", "torch")


def same(one: Prediction, other: Prediction) -> None:
    assert (one.label, one.flags) == (other.label, other.flags)
    np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-5)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.02)


def tensor(pixels: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.array(pixels))


def test_pictures_in_memory_give_what_their_file_gives(predictor: Predictor, slices: list[Path]) -> None:
    path = slices[1]
    content = path.read_bytes()
    with Image.open(path) as opened:
        pixels = np.array(opened)
    with path.open("rb") as file:
        sources: dict[str, tuple[Any, str]] = {
            "bytes": (content, "bytes"),
            "a view of bytes": (memoryview(content), "bytes"),
            "a buffer": (io.BytesIO(content), "file"),
            "an open file": (file, str(path)),
            "a tensor": (tensor(pixels), "tensor"),
            "a tensor with one channel": (tensor(pixels[None]), "tensor"),
            "a tensor with gradients off its memory order": (tensor(pixels.T).T, "tensor"),
            "an RGB tensor": (tensor(np.stack([pixels] * 3)), "tensor"),
        }
        expected = predictor.predict(path)
        for source, name in sources.values():
            found = predictor.predict(source)
            same(found, expected)
            assert found.image == name
            assert found.draw().size == expected.draw().size
        assert not file.closed


def deep_file(values: np.ndarray, folder: Path) -> Path:
    file = folder / "deep.png"
    Image.fromarray(values).save(file)
    return file


def test_deeper_values_become_grey_levels_by_the_rule_of_files(
    predictor: Predictor, slices: list[Path], tmp_path: Path
) -> None:
    """Whether a slice comes as a file or from memory, and in which type, must not change what is found on it."""
    with Image.open(slices[1]) as opened:
        pixels = np.array(opened.convert("L"))
    expected = predictor.predict(pixels)
    for values in (
        pixels / 255,
        (pixels / 255).astype(np.float32),
        pixels.astype(np.float16),
        pixels.astype(np.int64),
        pixels.astype(">u2") * 257,
        (pixels / 255)[..., None],
        np.stack([pixels / 255] * 3, axis=-1),
        tensor(pixels / 255),
        tensor(pixels).bfloat16(),
        tensor(pixels / 255)[None],
    ):
        found = predictor.predict(values)
        same(found, expected)
        assert found.draw().size == expected.draw().size
    odd = (pixels.astype(np.uint16) * 199 + 77).astype(np.uint16)  # more levels than 8 bits hold
    same(predictor.predict(odd), predictor.predict(deep_file(odd, tmp_path)))
    hole = pixels / 255
    hole[:3] = np.nan
    assert predictor.predict(hole).error is None


def test_the_bytes_of_a_dicom_file_are_a_picture(predictor: Predictor, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    file = Path(get_testdata_file("MR_small.dcm", download=False))
    assert pydicom is not None
    same(predictor.predict(file.read_bytes()), predictor.predict(file))
    with file.open("rb") as stream:
        same(predictor.predict(stream), predictor.predict(file))


def test_the_channels_of_a_tensor_are_red_green_and_blue(predictor: Predictor) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    same(predictor.predict(tensor(np.moveaxis(colour, -1, 0))), predictor.predict(colour))


class Counting(io.BytesIO):
    """A file that can be read once, as a pipe or an upload, which give what has arrived; it counts what it gave."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.given = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(5000 if size is None or size < 0 else min(size, 5000))
        self.given += len(content)
        return content

    def seek(self, *_: Any) -> int:
        raise OSError("cannot seek")


def test_a_file_object_is_read_once_from_where_it_stands(predictor: Predictor, slices: list[Path]) -> None:
    content = slices[0].read_bytes()
    file = Counting(content)
    same(predictor.predict(file), predictor.predict(slices[0]))
    assert file.given == len(content) > 5000 and not file.closed
    after_a_header = io.BytesIO(b"head" + content)
    after_a_header.read(4)
    same(predictor.predict(after_a_header), predictor.predict(slices[0]))


def test_a_file_may_be_closed_as_soon_as_it_was_handed_over(predictor: Predictor, slices: list[Path]) -> None:
    def opened() -> Iterator[Any]:
        for path in slices * 3:
            with path.open("rb") as file:
                yield file

    expected = [predictor.predict(path) for path in slices] * 3
    for found, wanted in zip(predictor.predict_many(opened()), expected, strict=True):
        same(found, wanted)


def in_one_array(pixels: list[np.ndarray]) -> Iterator[np.ndarray]:
    frame = np.empty_like(pixels[0])
    for each in pixels:
        frame[:] = each
        yield frame


def in_one_tensor(pixels: list[np.ndarray]) -> Iterator[Any]:
    frame = tensor(pixels[0])
    for each in pixels:
        frame[:] = tensor(each)
        yield frame


def in_one_buffer(pixels: list[np.ndarray]) -> Iterator[memoryview]:
    buffer = bytearray(2**20)
    for content in map(as_png, pixels):
        buffer[: len(content)] = content
        yield memoryview(buffer)[: len(content)]


def as_closing_images(pixels: list[np.ndarray]) -> Iterator[Any]:
    for content in map(as_png, pixels):
        with Image.open(io.BytesIO(content)) as image:
            yield image


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("stream", [in_one_array, in_one_tensor, in_one_buffer, as_closing_images])
def test_memory_may_be_used_again_as_soon_as_it_was_handed_over(
    predictor: Predictor, stream: Callable[[list[np.ndarray]], Iterator[Any]]
) -> None:
    """Threads decode later: without a copy, all slices of a camera's one frame would get the class of the last."""
    first = sample_pixels()[0]
    pixels = [first, first[:, ::-1].copy(), 255 - first, np.roll(first, 90, axis=0)]
    for found, each in zip(predictor.predict_many(stream(pixels), batch_size=2), pixels, strict=True):
        same(found, predictor.predict(each))
        np.testing.assert_array_equal(found.origin.pixels, each)  # which draw() shows


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_no_slices_is_refused(predictor: Predictor, slices: list[Path], size: int) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        list(predictor.predict_many(slices, batch_size=size))


def closed_image() -> Any:
    image = Image.new("L", (5, 5))
    image.close()
    return image


def cut_image() -> Any:
    noise = np.random.default_rng(0).integers(0, 256, (99, 99), dtype=np.uint8)
    return Image.open(io.BytesIO(as_png(noise)[:3000]))


def closed_file() -> Any:
    file = io.BytesIO(b"x")
    file.close()
    return file


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no bytes": (lambda: b"", DataError, "empty"),
    "text": (lambda: b"no image", DataError, "bytes"),
    "an empty file": (lambda: io.BytesIO(), DataError, "empty"),
    "a file of text": (lambda: io.StringIO("no image"), DataError, "binary"),
    "a closed file": (closed_file, DataError, "closed"),
    "a closed image": (closed_image, DataError, "closed image"),
    "an image whose file is cut short": (cut_image, DataError, "truncated"),
    "a bomb": (lambda: b"P5 200000 200000 255\n" + bytes(64), UnsafeError, "bomb"),
    "a tensor of complex numbers": (lambda: tensor(np.zeros((5, 5), np.complex64)), DataError, "complex64"),
    "an array of texts": (lambda: np.array([["a"]]), DataError, "not a slice"),
    "deep colour with transparency": (lambda: np.zeros((5, 5, 4), np.uint16), DataError, "uint16"),
    "a batch": (lambda: tensor(np.zeros((1, 1, 5, 5), np.uint8)), DataError, "shape"),
    "channels last": (lambda: tensor(np.zeros((5, 5, 3), np.uint8)), DataError, r"\(3, H, W\)"),
    "an empty tensor": (lambda: tensor(np.zeros((0, 5), np.uint8)), DataError, "no pixels"),
    "a tensor without values": (lambda: tensor(np.zeros((5, 5), np.uint8)).to("meta"), DataError, "tensor"),
    "a sparse tensor": (lambda: tensor(np.ones((5, 5), np.uint8)).to_sparse(), DataError, "tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line(predictor: Predictor, name: str, slices: list[Path]) -> None:
    make, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text) as caught:
        predictor.predict(make())
    assert "\n" not in str(caught.value)
    failed, good = predictor.predict_many([make(), slices[0]])
    assert failed.error is not None and good.error is None


def sample_pixels() -> list[np.ndarray]:
    kinds = ("glioma", "meningioma", "no_tumor", "pituitary")
    return [sample_slice(n, kinds[n % 4], ("axial", "coronal", "sagittal")[n % 3]).pixels for n in range(6)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_four_threads_get_what_one_gets(runtime: Literal["openvino", "onnx", "torch"]) -> None:
    """Each thread with slices and batches of its own, so that buffers that they share would show."""
    model = load(runtime=runtime, device="cpu")
    pixels = sample_pixels()
    expected = [model.predict(each) for each in pixels]
    start = threading.Barrier(4)

    def work(first: int) -> list[Prediction]:
        start.wait()
        turned = pixels[first:] + pixels[:first]
        return list(model.predict_many(turned, batch_size=1 + first % 2))

    with ThreadPoolExecutor(4) as pool:
        for first, found in enumerate(pool.map(work, range(4))):
            for one, wanted in zip(found, expected[first:] + expected[:first], strict=True):
                same(one, wanted)


def test_class_activation_maps_of_several_threads_do_not_mix(predictor: Predictor, slices: list[Path]) -> None:
    expected = [predictor.predict(path, explain=True).heatmap for path in slices]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda path: predictor.predict(path, explain=True).heatmap, slices * 3)
        for one, wanted in zip(found, expected * 3, strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-5)  # type: ignore[arg-type]


FORK = """
import multiprocessing, os, sys
import numpy as np
import detectclf
from detectclf.sample_data.slices import sample_slice

runtime, *ways = sys.argv[1:]
explain = "explain" in ways
model = detectclf.load(runtime=runtime, device="cpu")
pixels = [sample_slice(n, "meningioma", "axial").pixels for n in range(2)]
expected = [list(model.predict(each, explain=explain).probabilities.values()) for each in pixels]

def child():
    found = [list(each.probabilities.values()) for each in model.predict_many(pixels, explain=explain)]
    np.testing.assert_allclose(found, expected, atol=1e-5)

def fork(work):
    forked = os.fork()
    if forked == 0:
        work()
        sys.exit(0)
    assert os.waitpid(forked, 0)[1] == 0

if "process" in ways:
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(600)
    assert process.exitcode == 0, process.exitcode
if "exit" in ways or explain:
    fork(child)
# Workers of OpenVINO and OpenCV that are on their way to sleep at a fork have kept one exit in thirty from ending.
for number in range(20 if "idle" in ways else 0):
    model.predict(pixels[number % 2])
    fork(lambda: None)
child()
print("same")
"""


FORKS = ["openvino process exit idle", "openvino explain", "onnx process", "torch exit"]


# In a plain exit of a forked process ONNX Runtime waits for its own threads, which Python cannot prevent.
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("way", FORKS)
def test_a_forked_process_predicts_the_same(way: str) -> None:
    # With more threads than one, which is what does not survive a fork.
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, *way.split()]
    # The limit is for one that hangs: on a busy machine threads wait minutes for each other.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.stdout == "same\n", done.stderr[-2000:]


def decoders() -> int:
    return sum(thread.name.startswith("decoding-") for thread in threading.enumerate())


def test_a_dropped_stream_reads_two_batches_ahead_and_ends_its_threads(
    predictor: Predictor, slices: list[Path]
) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield slices[taken % len(slices)]

    before = decoders()
    stream = predictor.predict_many(endless(), batch_size=2)
    for seen in range(1, 6):
        next(stream)
        assert taken <= seen + 2 * 2 + 2, "two batches ahead of the batch that is given out"
    assert decoders() > before
    del stream
    assert decoders() == before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files cannot be counted here")
def test_no_file_stays_open(predictor: Predictor, slices: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(slices[0].read_bytes()[:200])

    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = files()
    for _ in range(2):
        model = load(runtime="openvino")
        list(predictor.predict_many([*slices, bad, tmp_path / "none.png", bad.read_bytes()]))
        predictor.predict(slices[0]).draw()
        del model
    assert files() <= before


SIGNAL = """
import faulthandler, gc, os, signal
import numpy as np
import detectclf
faulthandler.enable()  # as pytest and many services do: from then on, handlers run on a stack of their own
for _ in range(3):
    model = detectclf.load(runtime="openvino")
    list(model.predict_many([np.zeros((64, 64), np.uint8)] * 3))
    del model
    gc.collect()
caught = []
signal.signal(signal.SIGTERM, lambda *_: caught.append(1))
os.kill(os.getpid(), signal.SIGTERM)
print("caught", caught)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_after_a_predictor_is_gone_is_handled() -> None:
    """OpenVINO takes the stack of signal handlers away when its core is freed."""
    done = subprocess.run([sys.executable, "-c", SIGNAL], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "caught [1]"), done.stderr
