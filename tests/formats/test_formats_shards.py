"""Training data in shards: tar files as WebDataset has them, patterns of files, and stores; read a few at a time."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from detectclf import stored_shards
from detectclf.config import ClassifierConfig, ClassifierRecipe, DataConfig, TrainingConfig
from detectclf.datasets.batches import Batches
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.shard_order import Shards, shards_of
from detectclf.errors import ConfigError, DataError
from detectclf.formats import detect_format, files, read, write
from detectclf.formats.faults import Faults
from detectclf.formats.shards import read_shards
from detectclf.imaging.images import read_pixels
from detectclf.pipelines.train import train_classifier
from detectclf.sample_data.export import write_sample_data
from detectclf.types import Dataset, Sample

fsspec = pytest.importorskip("fsspec", reason="stores need fsspec (extra cloud)")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn slices as COCO."""
    return write_sample_data(tmp_path_factory.mktemp("data") / "coco", n=24, seed=0)


@pytest.fixture(scope="module")
def shards(export: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same as shards of a few slices, by format."""
    dataset = read(export, Faults(export))
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_SHARD_BYTES", 40_000)
        for format in ("webdataset", "tfrecord"):
            folders[format] = tmp_path_factory.mktemp(format)
            write(dataset, folders[format], format)
            assert len(list(folders[format].glob("train/slices-*"))) > 3
    return folders


def told(dataset: Dataset) -> list[object]:
    """What is known of each slice, whatever its file."""
    return sorted((s.split, Path(s.name).stem, s.label, s.boxes_xyxy.round(2).tolist()) for s in dataset.samples)


@pytest.mark.parametrize("format", ["webdataset", "tfrecord"])
@pytest.mark.parametrize("name", ["{}", "{}/*/slices-*", "file://{}", "file://{}/**/slices-*"])
def test_shards_hold_what_the_export_held(export: Path, shards: dict[str, Path], format: str, name: str) -> None:
    wanted = open_dataset(DataConfig(sources=(str(export),)))
    found = open_dataset(DataConfig(sources=(name.format(shards[format]),)))
    assert told(found) == told(wanted)
    assert (found.classes, found.negative) == (wanted.classes, wanted.negative)
    pixels = {Path(s.name).stem: read_pixels(s) for s in wanted.samples}
    for sample in found.samples[:5]:
        assert np.array_equal(read_pixels(sample), pixels[Path(sample.name).stem])


def test_webdataset_keeps_patients_unknown_boxes_and_names_with_points(export: Path, tmp_path: Path) -> None:
    whole = read(export, Faults(export))
    first, second, third, *_ = (s for s in whole.samples if s.split == "train")
    changed = (
        replace(first, patient="anon-" + "a" * 20, name="a.b.png"),
        replace(second, boxed=False, boxes_xyxy=first.boxes_xyxy[:0], box_labels=(), label="glioma", name="a_b.png"),
        replace(third, boxed=False, boxes_xyxy=first.boxes_xyxy[:0], box_labels=(), label=None),
    )
    write(replace(whole, samples=changed), tmp_path / "out", "webdataset")
    found = {s.name: s for s in read(tmp_path / "out", Faults(tmp_path)).samples}
    assert len(found) == 3
    assert sorted((s.patient or "", s.label or "", s.boxed) for s in found.values()) == sorted(
        (s.patient or "", s.label or "", s.boxed) for s in changed
    )


def tar(path: Path, **members: bytes) -> bytes:
    """A tar file; ``__`` in a name stands for a point."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as pack:
        for name, data in members.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(data)
            pack.addfile(member, io.BytesIO(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return content.getvalue()


NOTE = json.dumps({"class": "glioma"}).encode()
BAD = {
    "no picture": ({"a__json": NOTE}, "there is no picture"),
    "nothing said of it": ({"a__png": b"PNG"}, "neither .json nor .cls"),
    "two pictures of one key": (
        {"a__png": b"PNG", "a__mask__png": b"PNG", "a__cls": b"glioma"},
        "a.mask.png: a second",
    ),
    "no JSON": ({"a__png": b"PNG", "a__json": b"{"}, "its .json is no object"),
    "JSON of another kind": ({"a__png": b"PNG", "a__json": b"[1]"}, "its .json is no object"),
    "boxes of another kind": ({"a__png": b"PNG", "a__json": b'{"boxes": 3}'}, "its boxes are no list"),
    "a box of three numbers": (
        {"a__png": b"P", "a__json": b'{"boxes": [{"xyxy": [1, 2, 3]}]}'},
        "not of the form xyxy",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_slice_is_one_fault(case: str, tmp_path: Path) -> None:
    members, text = BAD[case]
    tar(tmp_path / "train" / "a.tar", **members)
    faults = Faults(tmp_path)
    tar(tmp_path / "train" / "b.tar", c__png=b"PNG", c__cls=b"glioma")  # by which the format is known
    read(tmp_path, faults)
    assert text in " ".join(p.detail for p in faults.problems)


def test_an_archive_beside_an_export_is_no_shard(export: Path, tmp_path: Path) -> None:
    shutil.copytree(export, tmp_path / "coco")
    tar(tmp_path / "coco" / "train" / "original.tar", a__png=b"PNG", b__png=b"PNG")
    assert detect_format(tmp_path / "coco") == ("coco", None)


@pytest.mark.parametrize("kept", [0.2, 0.6])
def test_a_shard_cut_short_is_said(kept: float, shards: dict[str, Path], tmp_path: Path) -> None:
    content = next(shards["webdataset"].glob("train/*.tar")).read_bytes()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.tar").write_bytes(content[: int(len(content) * kept)])
    shutil.copy(next(shards["webdataset"].glob("valid/*.tar")), tmp_path / "train" / "b.tar")
    faults = Faults(tmp_path)
    read(tmp_path, faults, "webdataset")
    assert any(p.severity == "error" and ("cut short" in p.detail or "damaged" in p.detail) for p in faults.problems)


def test_a_store_without_shards_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"there are no TFRecord or tar files; name shards, such as"):
        open_dataset(DataConfig(sources=(f"file://{tmp_path}",)))
    with pytest.raises(DataError, match="no TFRecord or tar files"):
        open_dataset(DataConfig(sources=(f"{tmp_path}/*.tar",)))


@pytest.mark.parametrize(
    ("folder", "name", "count"),
    [
        ("a [1]", "{}", 2),
        ("a [1]", "{}/*/*.tar", 2),
        ("a", "{}/train/1[0].tar", 1),
        ("a [1]", "file://{}", 2),
        ("a [1]", "file://{}/train/1[0].tar", 1),
        ("a [1]", "~/*/*.tar", 2),
    ],
)
def test_a_name_that_is_there_is_no_pattern(
    folder: str, name: str, count: int, shards: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / folder))
    source = next(shards["webdataset"].glob("train/*.tar"))
    for file in ("train/1[0].tar", "valid/2.tar"):
        (tmp_path / folder / file).parent.mkdir(parents=True)
        shutil.copy(source, tmp_path / folder / file)
    dataset = open_dataset(DataConfig(sources=(name.format(tmp_path / folder),)))
    assert len({s.path for s in dataset.samples}) == count
    assert read_pixels(dataset.samples[0]).ndim == 2


@pytest.mark.parametrize("place", ["{}", "{}/*/*.tar", "file://{}"])
def test_shards_that_count_their_slices_from_0_lose_none(place: str, export: Path, tmp_path: Path) -> None:
    pictures = sorted(export.glob("train/*.jpg"))
    for number, picture in enumerate(pictures[:3]):
        tar(tmp_path / "train" / f"{number}.tar", a__jpg=picture.read_bytes(), a__cls=b"glioma")
    dataset = open_dataset(DataConfig(sources=(place.format(tmp_path),)))
    assert sorted(s.name for s in dataset.samples) == ["a.jpg", "train/1/a.jpg", "train/2/a.jpg"]


@pytest.mark.parametrize("name", ["{}/train/*.tfrecord", "file://{}/train/*.tfrecord"])
def test_label_maps_beside_shards_are_read_whatever_the_pattern(
    name: str, shards: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(shards["tfrecord"] / "train", tmp_path / "train")
    (tmp_path / "train" / "map.pbtxt").write_text('item { id: 9 name: "schwannoma" }')
    assert "schwannoma" in read_shards(name.format(tmp_path), Faults(tmp_path)).classes


@pytest.mark.parametrize("name", ["{}/*/*.tar", "file://{}", "file://{}/*/*.tar"])
def test_a_damaged_shard_is_named_as_it_was_given_and_others_are_listed(
    name: str, shards: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(shards["webdataset"], tmp_path, dirs_exist_ok=True)
    for file in ("train/a.tar", "train/b.tar"):
        (tmp_path / file).write_bytes(b"")
    start = f"{name.format(tmp_path).partition('*')[0].rstrip('/')}/train/a.tar: the tar file is damaged"
    with caplog.at_level("DEBUG"), pytest.raises(DataError) as error:
        open_dataset(DataConfig(sources=(name.format(tmp_path),)))
    assert str(error.value).startswith(start) and "--verbose" in str(error.value)
    assert "train/b.tar: the tar file is damaged" in caplog.text


def test_compressed_shards_are_said(shards: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(shards["webdataset"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "train" / "z.tar.gz").write_bytes(b"packed")
    open_dataset(DataConfig(sources=(f"file://{tmp_path}",)))
    assert "1 compressed shards are not read" in caplog.text


def test_an_empty_name_is_not_the_working_directory() -> None:
    with pytest.raises(DataError, match="no data given"):
        open_dataset(DataConfig(sources=("",)))


def test_a_copy_that_was_cut_is_made_again(shards: dict[str, Path]) -> None:
    shard = next(shards["webdataset"].glob("train/*.tar"))
    first = open_dataset(DataConfig(sources=(f"file://{shard}",))).samples[0]
    wanted = read_pixels(first)
    for copy in stored_shards.copies_folder().glob("*.shard"):
        copy.write_bytes(copy.read_bytes()[:100])
    assert np.array_equal(read_pixels(first), wanted)


def test_without_a_cache_folder_shards_of_a_store_are_refused(
    shards: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTCLF_CACHE", "none")
    with pytest.raises(ConfigError, match="need a cache folder; set DETECTCLF_CACHE"):
        open_dataset(DataConfig(sources=(f"file://{shards['tfrecord']}",)))


def test_a_shard_that_changed_is_not_read_as_if_it_had_not(shards: dict[str, Path], tmp_path: Path) -> None:
    source = next(shards["webdataset"].glob("train/*.tar"))
    shard = tmp_path / "train-1.tar"
    shard.write_bytes(source.read_bytes())
    dataset = open_dataset(DataConfig(sources=(f"file://{shard}",)))
    for copy in stored_shards.copies_folder().glob("*.shard"):
        copy.unlink()
    shard.write_bytes(source.read_bytes() + bytes(512))
    with pytest.raises(DataError, match="has changed since it was listed"):
        read_pixels(dataset.samples[0])


class Copies:
    """Counts how often shards are copied, and how many copies there are after each."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made, self.most = 0, 0
        patch.setattr(stored_shards, "read_stored", self._read)
        patch.setattr(stored_shards, "MOST_SHARDS", 4)
        patch.setattr("detectclf.datasets.shard_order.MOST_SHARDS", 4)

    def _read(self, uri: str, limit: int) -> bytes:
        from detectclf.storage import read_stored

        self.made += 1
        return read_stored(uri, limit)

    def look(self) -> None:
        """Counts now."""
        self.most = max(self.most, len(list(stored_shards.copies_folder().glob("*.shard"))))


def test_few_shards_are_kept_at_a_time_and_each_is_copied_once_an_epoch(
    shards: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DETECTCLF_CACHE", str(tmp_path))
    copies = Copies(monkeypatch)
    whole = open_dataset(DataConfig(sources=(f"file://{shards['webdataset']}",)))
    assert copies.made == len({s.path for s in whole.samples}), "a start copies every shard once"
    dataset = whole.split("train")
    count = len({s.path for s in dataset.samples})
    assert count > 4, "more shards than are kept"
    SliceIndex().look_up(dataset.samples)
    batches = Batches(len(dataset.samples), 4, 0, shards=shards_of(dataset.samples, 6))
    before = copies.made
    for epoch in range(2):
        batches.begin(epoch)
        for index in (i for batch in batches for i in batch):
            read_pixels(dataset.samples[index])
            copies.look()
    assert copies.most <= 4
    assert copies.made - before <= 2 * count


def test_an_epoch_takes_every_slice_once_from_window_to_window() -> None:
    of_slice = np.repeat(np.arange(30), 10)
    batches = Batches(300, 7, 5, shards=Shards(of_slice, buffer=40))
    batches.begin(2)
    order = [i for batch in batches for i in batch]
    assert sorted(order[:300]) == list(range(300))
    visits = [of_slice[order[start : start + 40]] for start in range(0, 280, 40)]
    assert all(len(set(visit)) == 4 for visit in visits), "four shards of ten slices each fill a window"
    batches.begin(2, first=11)
    assert [i for batch in batches for i in batch] == order[77:], "a resumed epoch goes on where it was"
    batches.begin(3)
    assert [i for batch in batches for i in batch] != order


def test_balance_stays_within_windows() -> None:
    of_slice = np.repeat(np.arange(20), 10)
    weights = np.where(np.arange(200) % 10 == 0, 9.0, 1.0)  # one of ten is rare
    batches = Batches(200, 10, 1, weights, Shards(of_slice, buffer=40))
    order = [i for batch in batches for i in batch]
    assert 0.4 < np.mean([i % 10 == 0 for i in order]) < 0.6
    positions = [of_slice[i] for i in order]
    assert max(len(set(positions[start : start + 20])) for start in range(0, 180, 20)) <= 8


@pytest.mark.parametrize("buffer", [None, 0, 5])
def test_loose_files_keep_their_order(buffer: int | None) -> None:
    samples = [Sample(Path(f"{n}.png"), f"{n}.png", "train", "glioma") for n in range(4)]
    assert shards_of(samples, buffer) is None


def recipe(source: str) -> ClassifierRecipe:
    """A training of seconds."""
    return ClassifierRecipe(
        data=DataConfig(sources=(source,), shuffle_buffer=6, workers=0, cache="none"),
        model=ClassifierConfig(arch="mlp", weights="none", image_size=32),
        training=TrainingConfig(epochs=2, batch_size=4, device="cpu", precision="fp32"),
    )


def stop_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes after so many steps."""
    from detectclf.progress import Progress

    advance: Callable[..., None] = Progress.advance
    done = 0

    def counting(self: Progress, *arguments: object, **named: object) -> None:
        nonlocal done
        done += 1
        advance(self, *arguments, **named)
        if done == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(Progress, "advance", counting)


def test_a_training_from_a_store_is_that_from_local_shards_and_resumes_within_an_epoch(
    shards: dict[str, Path], tmp_path: Path
) -> None:
    folder = shards["webdataset"]
    train_classifier(recipe(str(folder)), tmp_path / "local", quiet=True)
    SliceIndex().look_up(open_dataset(DataConfig(sources=(f"file://{folder}",))).samples)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(recipe(f"file://{folder}"), tmp_path / "stored", quiet=True)
    assert not (tmp_path / "stored" / "metrics.jsonl").exists()
    train_classifier(recipe(f"file://{folder}"), tmp_path / "stored", resume=True, quiet=True)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("local", "stored")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
