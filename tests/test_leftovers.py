"""What killed processes leave is removed by the next one, and nothing that another process still uses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from detectclf import leftovers
from detectclf.cache import keep_library_folders
from detectclf.errors import DataError
from detectclf.files import atomic_folder, atomic_write

pytest.importorskip("fcntl")

# Each makes something temporary and waits in the middle of it.
WAITING = {
    "convert, split, download, export": "with atomic_folder('{out}') as made: (made / 'a').write_text('x'); wait()",
    "scratch": "with scratch_folder() as made: (made / 'patient').write_text('x'); wait()",
}
PROGRAM = """
import sys, time
from detectclf.files import atomic_folder
from detectclf.leftovers import scratch_folder

def wait():
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is that of temporary files too, for this process and those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(leftovers, "_cleaned", set())
    return tmp_path


def _waiting(what: str, place: Path) -> subprocess.Popen[str]:
    code = PROGRAM + WAITING[what].format(out=place / "out")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_an_unfinished_folder_goes_at_the_next_start(place: Path) -> None:
    first = _waiting("convert, split, download, export", place)
    with pytest.raises(DataError), atomic_folder(place / "out"):
        raise DataError("a second process, which fails")
    assert len(list(place.glob(".out.*.partial/a"))) == 1, "the first still works on it"
    _kill(first)
    assert len(list(place.glob(".out.*.partial/a"))) == 1
    (place / ".other.0123456789abcdef.partial").mkdir()  # of another --out
    with atomic_folder(place / "out") as made:
        (made / "b").write_text("x")
    assert sorted(p.name for p in place.iterdir()) == [".other.0123456789abcdef.partial", "out"]


def test_scratch_goes_at_the_next_start(place: Path) -> None:
    first = _waiting("scratch", place)
    with leftovers.scratch_folder() as made:
        assert len(list(place.iterdir())) == 2 and made.stat().st_mode & 0o777 == 0o700
    leftovers._cleaned.clear()
    _kill(first)
    (place / "detectclf-mine").mkdir()  # a name that we do not give
    with leftovers.scratch_folder() as made:
        assert sorted(p.name for p in place.iterdir()) == sorted(["detectclf-mine", made.name])
    assert [p.name for p in place.iterdir()] == ["detectclf-mine"]


@pytest.mark.parametrize(
    ("name", "age", "gone"),
    [
        (".0123456789abcdef.partial", 60, True),
        (".0123456789abcdef.partial", 0, False),  # its owner may be about to rename it
        (".0123456789abcde.partial", 60, False),  # another name
        ("a.partial", 60, False),
    ],
)
def test_unfinished_files_go_at_the_next_write(place: Path, name: str, age: float, gone: bool) -> None:
    left = place / name
    left.write_text("half")
    os.utime(left, (time.time() - age,) * 2)
    atomic_write(place / "a", "x")
    assert left.exists() is not gone


def test_a_file_that_is_being_written_stays(place: Path) -> None:
    left = place / ".0123456789abcdef.partial"
    with left.open("wb") as file:
        leftovers.hold(file.fileno())
        os.utime(left, (time.time() - 60,) * 2)
        atomic_write(place / "a", "x")
        assert left.exists()


def test_a_link_is_not_followed(place: Path) -> None:
    (place / "precious").mkdir()
    (place / "precious/a").write_text("x")
    (place / ".out.0123456789abcdef.partial").symlink_to("precious")
    with atomic_folder(place / "out"):
        pass
    assert (place / "precious/a").exists()


@pytest.mark.parametrize("cache", ["none", "read-only", "own"])
def test_libraries_keep_their_folders_in_ours(place: Path, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    for variable in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    home = place / "cache"
    monkeypatch.setenv("DETECTCLF_CACHE", "none" if cache == "none" else str(home))
    if cache == "read-only":
        home.write_text("a file in its place")
    closing: list[object] = []
    monkeypatch.setattr("atexit.register", closing.append)
    keep_library_folders()
    chosen = Path(os.environ["MPLCONFIGDIR"]).parent
    assert chosen == Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent
    if cache == "own":
        assert chosen == home and not home.exists() and not closing
    else:
        assert chosen.parent == place and chosen.name.startswith("detectclf-")
        (close,) = closing
        close()  # type: ignore[operator]
        assert not chosen.exists()
    for variable in ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.delenv(variable)
