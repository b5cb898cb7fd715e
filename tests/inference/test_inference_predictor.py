"""Prediction of real files, arrays and samples, with tiny untrained models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from volume_examples import write_nifti

from detectclf.config import PredictConfig
from detectclf.drawing.predictions import draw_prediction
from detectclf.errors import DataError, DeviceError, ModelError, UnsafeError
from detectclf.files import ByteSpan
from detectclf.inference.loading import load, load_runs
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import FileSlice
from detectclf.models.bundle import Bundle, save_bundle
from detectclf.models.stage_files import save_stage
from detectclf.prediction import Prediction
from detectclf.types import Sample


def same(one: Prediction, other: Prediction) -> None:
    assert one.label == other.label
    np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-5)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.02)


def test_predictions_are_whole_and_inside_the_image(predictor: Predictor, slices: list[Path]) -> None:
    sizes = [(80, 80), (120, 50), (40, 130), (96, 64), (200, 200)]
    boxed = 0
    for path, size, prediction in zip(slices, sizes, predictor.predict_many(slices), strict=True):
        assert (prediction.image, prediction.model, prediction.error) == (str(path), "tiny 1", None)
        assert (prediction.width, prediction.height) == size
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert sum(prediction.classifier_probabilities.values()) == pytest.approx(1)
        boxes = prediction.boxes_xyxy
        assert boxes.dtype == np.float32
        boxed += len(boxes)
        assert (boxes >= 0).all() and (boxes[:, 2] <= size[0]).all() and (boxes[:, 3] <= size[1]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (np.diff(prediction.scores) <= 0).all()
        assert prediction.to_record()["confidence"] == prediction.confidence
    assert boxed > 5


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_the_batch_size_does_not_change_predictions(predictor: Predictor, slices: list[Path], batch_size: int) -> None:
    alone = [predictor.predict(path) for path in slices]
    for one, other in zip(alone, predictor.predict_many(slices, batch_size=batch_size), strict=True):
        same(one, other)


def test_a_slice_twice_the_size_has_boxes_twice_the_size(predictor: Predictor) -> None:
    """Resizing back to the original is right: a 96 px slice repeated pixel by pixel gives the same network input."""
    noise = np.random.default_rng(1).integers(0, 256, (96, 72), dtype=np.uint8)
    small = np.asarray(cv2.blur(noise, (3, 3)))  # without single white and black pixels, which would be removed
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    one, two = predictor.predict(small), predictor.predict(large)
    np.testing.assert_allclose(two.stages.boxes_xyxy, 2 * one.stages.boxes_xyxy, atol=0.05)  # type: ignore[union-attr]


@pytest.mark.parametrize("high", [False, True], ids=["wide", "high"])
def test_a_slice_on_a_wide_or_high_page_is_found_there(bundle: Bundle, high: bool) -> None:
    """The networks see the very same pixels, so that only the position of boxes and maps differs."""
    predictor = Predictor(bundle, PredictConfig(device="cpu"))
    inside = np.random.default_rng(3).integers(0, 256, (80, 80), dtype=np.uint8)
    lines = np.full((200, 80), 120, dtype=np.uint8)
    place = (0, 70) if high else (70, 0)
    page = lines if high else lines.T.copy()
    page[place[1] : place[1] + 80, place[0] : place[0] + 80] = inside
    alone, there = predictor.predict_many([inside, page], explain=True)
    assert there.probabilities == pytest.approx(alone.probabilities, abs=1e-6) and len(alone.boxes_xyxy) > 2
    np.testing.assert_allclose(there.boxes_xyxy, alone.boxes_xyxy + np.array([*place, *place]), atol=1e-3)
    assert (there.width, there.height) == page.shape[::-1]
    assert there.heatmap is not None and alone.heatmap is not None and there.heatmap.shape == page.shape
    shown = np.zeros(page.shape, dtype=np.float32)
    shown[place[1] : place[1] + 80, place[0] : place[0] + 80] = alone.heatmap
    np.testing.assert_allclose(there.heatmap, shown, atol=1e-4)


def test_every_kind_of_input_gives_the_same(predictor: Predictor, slices: list[Path]) -> None:
    path = slices[1]
    with Image.open(path) as opened:
        opened.load()
        picture = opened.copy()
    pixels = np.asarray(picture)
    packed = path.with_name("container.bin")
    packed.write_bytes(b"head" + path.read_bytes() + b"tail")
    span = ByteSpan(4, path.stat().st_size)
    sources = {
        "text": str(path),
        "grey array": pixels,
        "array with one channel": pixels[..., None],
        "RGB array": np.stack([pixels] * 3, axis=-1),
        "PIL": picture,
        "PIL RGB": picture.convert("RGB"),
        "sample": Sample(path, "a.png", "test", None),
        "sample in a container": Sample(packed, "b.png", "test", None, span=span),
    }
    expected = predictor.predict(path)
    for source in sources.values():
        same(predictor.predict(source), expected)
    assert predictor.predict(sources["sample"]).image == "a.png"


def test_arrays_and_pil_images_can_be_drawn(predictor: Predictor) -> None:
    picture = predictor.predict(np.zeros((40, 60), np.uint8)).draw()
    assert picture.mode == "RGB"


def test_deep_pil_images_follow_the_rule_of_files(predictor: Predictor, tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    same(predictor.predict(Image.fromarray(deep)), predictor.predict(tmp_path / "deep.png"))


def bad_inputs(folder: Path) -> dict[str, object]:
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8)).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:900])
    return {
        "zero bytes": folder / "empty.png",
        "text named .jpg": folder / "text.jpg",
        "truncated": folder / "cut.jpg",
        "not there": folder / "none.png",
        "a folder": folder,
        "complex array": np.zeros((5, 5), complex),
        "array of a volume": np.zeros((5, 5, 5), np.uint8),
        "array without pixels": np.zeros((0, 5), np.uint8),
        "no image at all": 7,
    }


def test_bad_input_gives_a_record_with_one_line_and_the_rest_goes_on(
    predictor: Predictor, slices: list[Path], tmp_path: Path
) -> None:
    inputs: list[object] = [slices[0]]
    for bad in bad_inputs(tmp_path).values():
        inputs += [bad, slices[1]]
    done = list(predictor.predict_many(inputs, batch_size=2))  # type: ignore[arg-type]
    assert len(done) == len(inputs)
    for source, prediction in zip(inputs, done, strict=True):
        assert (prediction.error is None) == (source in slices if isinstance(source, Path) else False)
    failed = [p for p in done if p.error is not None]
    for prediction in failed:
        assert prediction.error and "\n" not in prediction.error
        record = prediction.to_record()
        assert [key for key, value in record.items() if value is not None] == ["image", "error"]
        with pytest.raises(DataError):
            prediction.draw()
    same(done[-1], predictor.predict(slices[1]))


def test_one_bad_input_raises(predictor: Predictor, slices: list[Path], tmp_path: Path) -> None:
    for source in bad_inputs(tmp_path).values():
        with pytest.raises((DataError, UnsafeError)) as caught:
            predictor.predict(source)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        with pytest.raises((DataError, UnsafeError)):
            list(predictor.raw_many([slices[0], source]))  # type: ignore[list-item]


def test_inputs_are_read_lazily_and_stopping_early_is_clean(predictor: Predictor, slices: list[Path]) -> None:
    taken = []

    def endless():  # type: ignore[no-untyped-def]
        while True:
            taken.append(1)
            yield slices[0]

    stream = predictor.predict_many(endless())
    for _ in range(4):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(taken) <= 6 * predictor.config.batch_size


def test_no_inputs_no_predictions(predictor: Predictor) -> None:
    assert list(predictor.predict_many([])) == []


def test_raw_outputs_are_those_of_the_predictions(predictor: Predictor, slices: list[Path]) -> None:
    for raw, prediction in zip(predictor.raw_many(slices), predictor.predict_many(slices), strict=True):
        assert prediction.stages is not None
        np.testing.assert_array_equal(raw.classifier_logits, prediction.stages.classifier_logits)
        np.testing.assert_array_equal(raw.boxes_xyxy, prediction.stages.boxes_xyxy)
        assert raw.features is not None and raw.features.ndim == 1


def test_a_saved_bundle_and_two_runs_load(bundle: Bundle, predictor: Predictor, slices: list[Path]) -> None:
    folder = slices[0].parent
    save_bundle(folder / "bundle", bundle, half=False)
    same(load(folder / "bundle", device="cpu").predict(slices[0]), predictor.predict(slices[0]))
    save_stage(folder / "boxes", bundle.stages["detector"])
    save_stage(folder / "classes", bundle.stages["classifier"])
    unbundled = load_runs({"detector": folder / "boxes", "classifier": folder / "classes"}, PredictConfig(device="cpu"))
    same(unbundled.predict(slices[0]), predictor.predict(slices[0]))
    assert unbundled.name == "boxes+classes unbundled"


def test_what_is_not_a_model_is_refused(bundle: Bundle, tmp_path: Path) -> None:

    with pytest.raises(ModelError):
        load(tmp_path)
    with pytest.raises(ModelError):
        load_runs({"detector": tmp_path, "classifier": tmp_path})
    with pytest.raises(DeviceError):
        Predictor(bundle, PredictConfig(device="cuda:99"))
    detector = bundle.stages["detector"]
    meta = detector.meta.model_copy(update={"classes": ("glioma", "haemorrhage", "pituitary")})
    foreign = bundle.stages | {"detector": replace(detector, meta=meta)}
    with pytest.raises(ModelError, match="haemorrhage"):
        Predictor(replace(bundle, stages=foreign), PredictConfig(device="cpu"))


def test_one_picture_of_a_file_with_several_is_chosen_and_drawn(predictor: Predictor, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    pages = [random.integers(0, 256, (60, 60 + 20 * i), dtype=np.uint8) for i in range(2)]
    first, second = (Image.fromarray(page) for page in pages)
    file = tmp_path / "pages.tif"
    first.save(file, save_all=True, append_images=[second])
    done, missing, unchosen = predictor.predict_many([FileSlice(file, 1), FileSlice(str(file), 2), file])
    same(done, predictor.predict(pages[1]))
    assert (done.image, done.width) == (str(file), 80)
    assert "no frame 2 among 2 frames; choose a frame from 0 to 1" in str(missing.error)
    assert "choose a frame from 0 to 1" in str(unchosen.error)
    expected = draw_prediction(pages[1], done, title="pages.tif (1)", model="tiny 1")
    assert np.array_equal(np.asarray(done.draw()), np.asarray(expected))


def test_the_slice_that_is_read_of_a_volume_is_named(predictor: Predictor, tmp_path: Path) -> None:
    pytest.importorskip("nibabel", reason="the extra medical is not installed")
    file = write_nifti(tmp_path / "head.nii.gz", 5)
    for source in (file, file.read_bytes(), FileSlice(file)):
        assert predictor.predict(source).to_record()["frame"] == 2, "the middle one"
    assert predictor.predict(FileSlice(file, 4)).to_record()["frame"] == 4
    assert "frame" not in predictor.predict(np.zeros((40, 40), np.uint8)).to_record()


def test_a_slice_inside_a_container_is_drawn(predictor: Predictor, slices: list[Path], tmp_path: Path) -> None:
    packed = tmp_path / "records.bin"
    packed.write_bytes(b"head" + slices[1].read_bytes() + b"tail")
    sample = Sample(packed, "a.png", "train", None, span=ByteSpan(4, slices[1].stat().st_size))
    # Equal but for the name in the header.
    drawn = [predictor.predict(source).draw().crop((0, 60, 500, 200)) for source in (sample, slices[1])]
    assert drawn[0].tobytes() == drawn[1].tobytes()
