"""What ``predict`` can be pointed at: manifests, containers, stores; and what is wrong with each of them."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from volume_examples import slice_pixels

from detectclf.errors import ConfigError, DataError, DetectclfError, StorageError
from detectclf.formats.tf_example import write_example
from detectclf.formats.tfrecord import _framed
from detectclf.inference.containers import Container
from detectclf.inference.items import item_names, items_alone, items_of
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import Encoded, FileSlice, StoredFile
from detectclf.storage import StoredFolder, read_stored


def picture(number: int = 0) -> bytes:
    content = io.BytesIO()
    Image.fromarray(slice_pixels(number)).save(content, "PNG")
    return content.getvalue()


def write_tar(file: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as pack:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            pack.addfile(entry, io.BytesIO(content))
    return file


def write_zip(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members.items():
            pack.writestr(name, content)
    return file


def write_records(file: Path, members: dict[str, bytes]) -> Path:
    rows = ({"image/encoded": [content], "image/filename": [name.encode()]} for name, content in members.items())
    file.write_bytes(b"".join(_framed(write_example(row)) for row in rows))
    return file


MEMBERS = {"a.png": picture(1), "a.json": b"{}", "sub/b.png": picture(2), ".hidden.png": b"x"}


def names_alone(file: Path) -> list[str]:
    """The names of the items in one file, a slice of one that holds several as ``NAME[NUMBER]``."""
    items = items_alone(str(file))
    return [
        f"{item.path}[{item.frame}]" if isinstance(item, FileSlice) else item.name  # type: ignore[union-attr]
        for item in items
    ]


WRITERS = {
    "s.tar": write_tar,
    "s.tar.gz": lambda file, members: write_tar(file, members, "w:gz"),
    "s.zip": write_zip,
    "s.tfrecord-00000-of-00001": lambda file, members: write_records(
        file, {name: content for name, content in members.items() if content.startswith(b"\x89PNG")}
    ),
}


def read_from(file: Path) -> list[tuple[str, bytes | DetectclfError]]:
    return [(each.name, each.content) for each in Container(str(file))]


@pytest.mark.parametrize("name", WRITERS)
def test_the_pictures_of_a_container(tmp_path: Path, name: str) -> None:
    file = WRITERS[name](tmp_path / name, MEMBERS)
    assert read_from(file) == [(f"{file}/{member}", MEMBERS[member]) for member in ("a.png", "sub/b.png")]
    assert [type(each) for each in items_alone(str(file))] == [Container]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("keep", [0.02, 0.6, -20])
def test_a_container_that_is_cut_short_says_so(tmp_path: Path, name: str, keep: float) -> None:
    """Whole pictures before the cut are read. Of a zip archive nothing is: its list of files is at its end."""
    file = WRITERS[name](tmp_path / name, {f"{number}.png": picture(number) for number in range(6)})
    content = file.read_bytes()
    if name == "s.tar" and keep < 0:
        keep = -9500  # tar pads with more zeros than are needed
    file.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    *whole, (last, error) = read_from(file)
    assert last == str(file) and isinstance(error, DetectclfError) and "\n" not in str(error)
    assert whole == [(f"{file}/{number}.png", picture(number)) for number in range(len(whole))]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.zip"])
@pytest.mark.parametrize("members", [{"read.me": b"x"}, {"in.zip": b"PK\5\6" + bytes(18), ".a.png": b"x"}])
def test_a_container_without_pictures_says_so(tmp_path: Path, name: str, members: dict[str, bytes]) -> None:
    file = WRITERS[name](tmp_path / name, members)
    ((said, error),) = read_from(file)
    assert said == str(file) and isinstance(error, DataError) and "no pictures in it" in str(error)


@pytest.mark.parametrize("name", WRITERS)
def test_only_a_zip_that_is_empty_is_a_mistake(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Programs that write many shards leave empty ones."""
    file = WRITERS[name](tmp_path / name, {})
    found = read_from(file)
    assert [type(error) for _, error in found] == [DataError] * name.endswith(".zip")
    assert ("no pictures in it" in caplog.text) is not name.endswith(".zip")


def test_a_tar_that_is_cut_between_two_files_says_so(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "s.tar", MEMBERS)
    with tarfile.open(file) as pack:
        end = pack.getmembers()[2].offset
    file.write_bytes(file.read_bytes()[:end])
    *_, (last, error) = read_from(file)
    assert last == str(file) and "cut short" in str(error)


def test_hostile_containers(tmp_path: Path) -> None:
    bomb = write_tar(tmp_path / "bomb.tar.gz", {"a.png": bytes(200 * 2**20)}, "w:gz")
    assert "bomb" in str(read_from(bomb)[-1][1])
    with tarfile.open(tmp_path / "links.tar", "w") as pack:
        for kind, name in ((tarfile.SYMTYPE, "a.png"), (tarfile.FIFOTYPE, "b.png"), (tarfile.CHRTYPE, "c.png")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            pack.addfile(entry)
    assert "no pictures in it" in str(read_from(tmp_path / "links.tar")[0][1])
    assert "zip bomb" in str(read_from(write_zip(tmp_path / "bomb.zip", {"a.png": bytes(50 * 2**20)}))[-1][1])
    (tmp_path / "gone.tar").symlink_to(tmp_path / "nowhere")
    assert isinstance(read_from(tmp_path / "gone.tar")[0][1], DataError)


def test_a_volume_in_a_container_is_not_read_as_one_slice(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    from volume_examples import write_nifti

    write_nifti(tmp_path / "a.nii.gz", 4)
    file = write_tar(tmp_path / "s.tar", {"a.nii.gz": (tmp_path / "a.nii.gz").read_bytes()})
    ((_, error),) = read_from(file)
    assert "4 slices" in str(error)
    assert names_alone(tmp_path / "a.nii.gz") == [str(tmp_path / "a")]


AXIAL, SAGITTAL, CORONAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]


@pytest.mark.parametrize(
    ("frames", "expected", "reason"),
    [
        ([{"z": 0.0}, {"z": 5.0}], ["e.dcm"], "one volume, called after the file"),
        (
            [{"z": 0.0, "echo": 1.0}, {"z": 5.0, "echo": 1.0}, {"z": 0.0, "echo": 2.0}, {"z": 5.0, "echo": 2.0}],
            ["e.dcm-1", "e.dcm-2"],
            "two volumes, told apart",
        ),
        (
            [{"orientation": plane} for plane in (AXIAL, SAGITTAL, CORONAL)],
            ["e.dcm[0]", "e.dcm[1]", "e.dcm[2]"],
            "no volume: a picture each",
        ),
    ],
)
def test_a_file_of_several_frames_by_itself(
    tmp_path: Path, frames: list[dict[str, Any]], expected: list[str], reason: str
) -> None:
    pytest.importorskip("pydicom")
    from volume_examples import write_enhanced

    file = write_enhanced(tmp_path / "e.dcm", frames)
    assert names_alone(file) == [f"{tmp_path}/{name}" for name in expected], reason
    assert len(items_alone(str(file), frame=1)) == len([each for each in expected if "[" not in each] or [1]), reason


@pytest.mark.parametrize(
    ("name", "content", "expected", "reason"),
    [
        ("m.csv", "image,label\na.png,x\nsub/b.png,y\n", ["a.png", "sub/b.png"], "below the manifest's folder"),
        ("m.csv", '\ufefffile\r\n"a, b.png"\r\n\r\n', ["a, b.png"], "as Excel writes it"),
        ("m.csv", "path,image\nx,a.png\n", ["a.png"], "the first of the known columns"),
        ("m.jsonl", '{"image": "a.png"}\n\n{"uri": "s3://b/c.png"}\n', ["a.png", "s3://b/c.png"], "a URI"),
        ("m.ndjson", '{"image": "s.tar"}', ["s.tar"], "a container; no line end"),
        ("m.csv", "image\na.png\na.png\n", ["a.png", "a.png"], "each row is a record"),
    ],
)
def test_manifests(tmp_path: Path, name: str, content: str, expected: list[str], reason: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    wanted = [each if "://" in each else str(tmp_path / each) for each in expected]
    assert list(item_names([str(tmp_path / name)])) == wanted, reason


def test_a_parquet_manifest(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "m.parquet"
    pq.write_table(pa.table({"n": [1, 2], "uri": ["a.png", "/b.png"]}), file)
    assert list(item_names([str(file)])) == [str(tmp_path / "a.png"), "/b.png"]
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe("/manifests/m.parquet", file.read_bytes())
    assert next(item_names(["memory://manifests/m.parquet"])) == "memory://manifests/a.png"
    memory.store.clear()
    pq.write_table(pa.table({"n": [1]}), file)
    with pytest.raises(DataError, match="no column with pictures"):
        list(item_names([str(file)]))
    pq.write_table(pa.table({"uri": ["a", None]}), file)
    with pytest.raises(DataError, match="names no picture"):
        list(item_names([str(file)]))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        list(item_names([str(file)]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", "id,label\n1,x\n", "m.csv: has no column with pictures (it has id, label); name one of them image"),
        ("m.csv", "", "has no column with pictures (it has none)"),
        ("m.csv", "image,label\na.png\n", "m.csv:2: names no picture"),
        ("m.csv", "image\n \n", "m.csv:2: names no picture"),
        ("m.csv", 'image\n"a.png\nb.png\n', "not a CSV table"),
        ("m.jsonl", '{"image": "a.png"}\n{"label": 1}\n', "has no column"),
        ("m.jsonl", '{"image": 3}\n', "m.jsonl:1: names no picture"),
        ("m.jsonl", "[1]\n", "m.jsonl:1: not a JSON object"),
        ("m.jsonl", "{" * 100_000, "m.jsonl:1: not a JSON object"),
        ("gone.csv", None, "cannot be read"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        list(item_names([str(tmp_path / name)]))
    assert said in str(caught.value)


@pytest.fixture
def store() -> Iterator[Any]:
    """fsspec's store in memory, with two pictures, a text and a container."""
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe({"/b/x/2.png": picture(2), "/b/x/1.png": picture(1), "/b/x/notes.txt": b"x", "/b/s.zip": b"PK"})
    yield memory
    memory.store.clear()


@pytest.mark.parametrize(
    ("uri", "expected", "reason"),
    [
        ("memory://b", ["b/s.zip", "b/x/1.png", "b/x/2.png"], "a folder: pictures and containers, sorted"),
        ("memory://b/x/*.png", ["b/x/1.png", "b/x/2.png"], "a glob"),
        ("memory://b/x/notes.txt", ["b/x/notes.txt"], "a file that is named is judged when it is read"),
    ],
)
def test_what_a_uri_means(store: Any, uri: str, expected: list[str], reason: str) -> None:
    assert [name.removeprefix("memory://").lstrip("/") for name in item_names([uri])] == expected, reason


def test_pictures_of_a_store_are_predicted(store: Any, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture(1))
    near = predictor.predict(FileSlice(tmp_path / "1.png")).to_record()
    far = predictor.predict(StoredFile("memory://b/x/1.png")).to_record()
    assert far == near | {"image": "memory://b/x/1.png"}
    names = ["memory://b/x/1.png", "memory://b/x/gone.png", "memory://b/x/notes.txt"]
    found = list(predictor.predict_many(each for each in items_of(names)))  # type: ignore[misc]
    assert [each.error is None for each in found] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("nowhere://a.png", StorageError, "cannot be reached by fsspec"),
        ("s3://key:secret@bucket/a.png", ConfigError, "must not hold credentials"),
        ("memory://none/", DataError, "no images"),
        ("memory://none/*.png", DataError, "nothing matches"),
    ],
)
def test_uris_that_cannot_be_used(store: Any, name: str, kind: type[DetectclfError], said: str) -> None:
    with pytest.raises(kind) as caught:
        for each in item_names([name]):
            read_stored(each, 100)
    assert (said in str(caught.value) or "is not there" in str(caught.value)) and "secret" not in str(caught.value)


def test_a_store_that_does_not_answer_stops_the_prediction(predictor: Predictor) -> None:
    """Its pictures are not bad ones: a record of each with an error would be wrong, and for ever."""
    pytest.importorskip("aiohttp")
    with pytest.raises(StorageError) as caught, contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("detectclf.store_calls._PAUSES_S", (0.01,))
        list(predictor.predict_many([StoredFile("http://127.0.0.1:9/a.png?secret")]))
    assert "does not answer" in str(caught.value) and "secret" not in str(caught.value)


def test_a_folder_of_a_store_is_written_and_listed(store: Any, tmp_path: Path) -> None:
    for folder in (StoredFolder("memory://out/deep"), StoredFolder(str(tmp_path / "out"))):
        assert folder.sizes("a") == {} and not folder.exists("run.json")
        folder.write("a/1.json", json.dumps({"n": 1}))
        folder.write("a/2.json", b"22")
        folder.write("run.json", b"{}")
        assert folder.sizes("a") == {"1.json": 8, "2.json": 2} and folder.exists("run.json")
        assert folder.read_all(["a/2.json", "a/1.json"]) == {"a/2.json": b"22", "a/1.json": b'{"n": 1}'}
        assert folder.read("a/2.json") == b"22"
        for _ in range(2):
            folder.remove("a/2.json")
            assert folder.sizes("a") == {"1.json": 8}, "also where it is not there any more"


def test_encoded_pictures_are_sources(predictor: Predictor) -> None:
    assert predictor.predict(Encoded("x/a.png", picture(1))).image == "x/a.png"


def test_credentials_that_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError, match="no credentials for it") as caught:
        list(item_names(["s3://bucket/slices/"]))
    assert "check credentials" in str(caught.value)
