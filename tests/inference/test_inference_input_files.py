"""Files, folders, globs and paths on stdin become one list."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from detectclf.errors import DataError
from detectclf.inference.input_files import collect_inputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.jpg",
        "a.PNG",
        "deep/er/c.nii.gz",
        "deep/a.dcm",
        "notes.txt",
        "a.pred.png",
        ".hidden.jpg",
        ".git/x.jpg",
        "odd/[1].jpg",
        "odd/-x.jpg",
        "odd/new\nline.jpg",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected", "reason"),
    [
        (["b.jpg"], ["b.jpg"], "a file"),
        (["b.jpg", "a.PNG"], ["b.jpg", "a.PNG"], "the order given"),
        (["notes.txt", "none.png"], ["notes.txt", "none.png"], "named files are judged when they are read"),
        (["deep"], ["deep/a.dcm", "deep/er/c.nii.gz"], "a folder is recursive and sorted"),
        (["b.jpg", ".", "deep"], ["b.jpg", "a.PNG", "deep/a.dcm", "deep/er/c.nii.gz"], "each file once"),
        (["*.jpg"], ["b.jpg"], "a glob"),
        (["**/*.gz"], ["deep/er/c.nii.gz"], "a recursive glob"),
        (["?.*"], ["a.PNG", "b.jpg"], "a glob over several kinds"),
        (["odd/[1].jpg"], ["odd/[1].jpg"], "a file whose name looks like a glob is that file"),
        (["odd/-x.jpg"], ["odd/-x.jpg"], "a leading dash"),
    ],
)
def test_arguments(folder: Path, arguments: list[str], expected: list[str], reason: str) -> None:
    found = [path.as_posix() for path in collect_inputs(arguments)]
    assert [name for name in found if not name.startswith("odd/") or arguments[0].startswith("odd")] == expected, reason


def test_own_pictures_and_hidden_files_are_not_inputs(folder: Path) -> None:
    names = {path.name for path in collect_inputs(["."])}
    assert names == {"a.PNG", "b.jpg", "c.nii.gz", "a.dcm", "[1].jpg", "-x.jpg", "new\nline.jpg"}


@pytest.mark.parametrize(
    ("content", "expected", "reason"),
    [
        (b"b.jpg\na.PNG\n", ["b.jpg", "a.PNG"], "lines"),
        (b"b.jpg\r\n\r\n  \na.PNG", ["b.jpg", "a.PNG"], "Windows line ends, blank lines, no end"),
        (b"odd/new\nline.jpg\0b.jpg\0", ["odd/new\nline.jpg", "b.jpg"], "NUL-separated"),
        (b"deep\n", ["deep/a.dcm", "deep/er/c.nii.gz"], "a folder"),
        (b"*.jpg\n", ["*.jpg"], "no globs: the name is exact"),
        (b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")], "bytes that are no UTF-8"),
    ],
)
def test_stdin(folder: Path, content: bytes, expected: list[str], reason: str) -> None:
    assert [path.as_posix() for path in collect_inputs(["-"], io.BytesIO(content))] == expected, reason


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [([], None), (["-"], None), (["-"], b"\n"), (["empty"], None), (["*.bmp"], None), (["empty/**/*.png"], None)],
)
def test_nothing_there(folder: Path, arguments: list[str], stdin: bytes | None) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        collect_inputs(arguments, None if stdin is None else io.BytesIO(stdin))
    assert "\n" not in str(caught.value)


def test_dicom_files_of_any_name_are_found_in_folders(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Scanners number their files; DICOMDIR is not a slice; the log counts the files left out."""
    begin = b"\0" * 128 + b"DICM"
    for name in ("disk/IM0001", "disk/1.2.840.113", "disk/DICOMDIR", "disk/.IM0002"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(begin)
    (folder / "disk" / "report.pdf").write_bytes(b"%PDF-1.7")
    os.mkfifo(folder / "disk" / "pipe")
    with caplog.at_level("INFO"):
        found = [path.as_posix() for path in collect_inputs(["disk"])]
    assert found == ["disk/1.2.840.113", "disk/IM0001"]
    assert "2 images; 3 other files are not read" in caplog.text
    assert [path.as_posix() for path in collect_inputs(["disk/*"])] == found


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0..", b"\x89PNG\r\n", b"\0" * 128 + b"DICM"])
def test_a_picture_on_stdin_is_not_a_list_of_paths(folder: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="stdin holds a picture; name the file instead of -"):
        collect_inputs(["-"], io.BytesIO(content))


def test_a_name_that_is_too_long_is_an_input_like_others(folder: Path) -> None:
    assert len(collect_inputs(["-"], io.BytesIO(b"x" * 5000 + b"\nb.jpg\n"))) == 2


def test_a_loop_of_symlinks_ends(folder: Path) -> None:
    (folder / "deep" / "loop").symlink_to(folder / "deep", target_is_directory=True)
    assert len(collect_inputs(["deep"])) == 2
