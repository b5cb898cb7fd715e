"""The slice index: each slice is read once, and what is kept of it is never out of date or damaged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf import cache
from detectclf.cache import FILE, Cache
from detectclf.datasets import index as index_module
from detectclf.datasets.index import SliceIndex
from detectclf.duplicates.copies import find_copies
from detectclf.duplicates.fingerprints import fingerprint
from detectclf.errors import DataError, UnsafeError
from detectclf.imaging.images import Examined, examine_image, read_pixels
from detectclf.types import Sample

OLD_S = 1_600_000_000


def _write(path: Path, seed: int, *, settled: bool = True) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    if settled:
        os.utime(path, (OLD_S, OLD_S))
    return path


@pytest.fixture(autouse=True)
def _trust_new_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's change time cannot be set, so these files are all seconds old."""
    monkeypatch.setattr(index_module, "_SETTLED_S", -1.0)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    data = tmp_path / "data"
    data.mkdir()
    for i in range(6):
        _write(data / f"{i}.png", i % 5)  # the last is a copy of the first
    (data / "6.png").write_bytes(b"no picture")
    return [Sample(data / f"{i}.png", f"{i}.png", "train", None, source=str(data)) for i in range(7)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that the index decodes, in the order of decoding."""
    names: list[str] = []

    def counting(path: Path, **options: object) -> Examined:
        names.append(Path(path).name)
        return examine_image(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "examine_image", counting)
    return names


def test_entries_are_what_decoding_tells(samples: list[Sample], tmp_path: Path) -> None:
    for again in (False, True):  # the second time from disk
        found = SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
        for i, sample in enumerate(samples):
            examined = examine_image(sample.path)
            assert found.faults[i] == tuple(examined.faults), (again, i)
            assert found.sha256[i] == examined.sha256 and found.readable[i] == examined.readable
            if examined.pixels is not None:
                assert found.rows[i].tobytes() == fingerprint(examined.pixels).tobytes()
        assert found.fingerprints.readable.tolist() == [True] * 6 + [False]
        assert found.fingerprints.names == tuple(s.name for s in samples)


def test_a_slice_is_decoded_once(samples: list[Sample], tmp_path: Path, decoded: list[str]) -> None:
    first = SliceIndex(Cache(tmp_path / "cache"))
    for sample in samples[:3]:
        assert (first.read(sample) == read_pixels(sample)).all()
    first.look_up(samples)
    first.look_up(samples)
    assert sorted(decoded) == [s.name for s in samples]
    decoded.clear()
    SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    assert decoded == ["6.png"]  # another command takes all from disk but the one that failed, which it tries again


def test_without_a_cache_one_command_decodes_once_too(samples: list[Sample], decoded: list[str]) -> None:
    index = SliceIndex(Cache(None))
    index.look_up(samples)
    index.look_up(samples)
    assert len(decoded) == len(samples)


def test_a_changed_slice_is_read_anew(samples: list[Sample], tmp_path: Path, decoded: list[str]) -> None:
    before = SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    _write(samples[2].path, 77)
    os.utime(samples[2].path, (OLD_S, OLD_S))  # its modification time does not tell
    decoded.clear()
    after = SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    assert sorted(decoded) == [samples[2].name, "6.png"]
    assert after.sha256[2] != before.sha256[2] and after.rows[2].tobytes() != before.rows[2].tobytes()


def test_a_slice_written_a_moment_ago_is_not_trusted_later(
    samples: list[Sample], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_SETTLED_S", 3600.0)
    index = SliceIndex(Cache(tmp_path / "cache"))
    index.look_up(samples)
    index.look_up(samples)
    assert len(decoded) == len(samples)  # within a command it is
    SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    assert len(decoded) == 2 * len(samples)


def _garbage(file: Path) -> None:
    file.write_bytes(b"not a database at all" * 500)


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def _flipped(file: Path) -> None:
    connection = sqlite3.connect(file)
    for key, value in connection.execute("SELECT key, value FROM entries").fetchall():
        changed = bytes([*value[:200], value[200] ^ 1, *value[201:]])
        connection.execute("UPDATE entries SET value = ? WHERE key = ?", (changed, key))
    connection.commit()
    connection.close()


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _other_table(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE entries (name TEXT)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _truncated, _flipped, _empty, _other_table])
def test_a_damaged_cache_is_made_again(
    samples: list[Sample], tmp_path: Path, damage: Callable[[Path], None], decoded: list[str]
) -> None:
    before = SliceIndex(Cache(tmp_path / "cache"))
    wanted = before.look_up(samples)
    before.cache.close()
    damage(tmp_path / "cache" / FILE)
    found = SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    assert found.rows.tobytes() == wanted.rows.tobytes() and found.faults == wanted.faults
    decoded.clear()
    SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    assert decoded == ["6.png"]


def test_another_version_is_not_read(
    samples: list[Sample], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    monkeypatch.setattr(index_module, "version", lambda: b"0")
    SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    assert len(decoded) == 2 * len(samples)


def test_a_folder_that_cannot_be_made_costs_one_line(
    samples: list[Sample], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    found = SliceIndex(Cache(tmp_path / "cache")).look_up(samples)
    assert found.readable.sum() == 6
    assert len(caplog.records) == 1 and "without the cache" in caplog.text


def test_a_full_disk_costs_one_line(
    samples: list[Sample], tmp_path: Path, caplog: pytest.LogCaptureFixture, decoded: list[str]
) -> None:
    index = SliceIndex(Cache(tmp_path / "cache"))
    index.cache.get([b"opens the file"])
    assert index.cache._connection is not None
    index.cache._connection.execute("PRAGMA max_page_count = 3")  # as SQLite sees a disk without room
    index.look_up(samples)
    found = index.look_up(samples)
    assert found.readable.sum() == 6 and len(decoded) == len(samples)
    assert len(caplog.records) == 1 and "without the cache" in caplog.text


def test_the_oldest_entries_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 10)
    kept = Cache(tmp_path)
    kept.put({bytes([i]): b"value" for i in range(15)})
    kept.close()
    assert sorted(kept.get([bytes([i]) for i in range(15)])) == [bytes([i]) for i in range(6, 15)]


def test_two_processes_share_a_cache(samples: list[Sample], tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from detectclf.cache import Cache
from detectclf.datasets.index import SliceIndex
from detectclf.types import Sample
folder = Path({str(samples[0].path.parent)!r})
samples = [Sample(folder / f"{{i}}.png", f"{{i}}.png", "train", None, source=str(folder)) for i in range(7)]
for _ in range(20):
    index = SliceIndex(Cache(Path({str(tmp_path / "cache")!r})))
    assert index.look_up(samples).readable.sum() == 6
    index.cache.put({{bytes([i]): b"x" * 4000 for i in range(200)}})
    index.cache.close()
"""
    running = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and errors == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_opens_the_cache_itself(samples: list[Sample], tmp_path: Path) -> None:
    index = SliceIndex(Cache(tmp_path / "cache"))
    index.look_up(samples)
    parent = index.cache._connection
    child = os.fork()
    if child == 0:
        right = index.look_up(samples).readable.sum() == 6 and index.cache._connection is not parent
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_groups_of_copies_are_kept(samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = SliceIndex(Cache(tmp_path / "cache"))
    prints = index.look_up(samples).fingerprints
    found = index.find_copies(prints)
    assert found == find_copies(prints) and [g.members for g in found] == [(0, 5)]
    monkeypatch.setattr(index_module, "find_copies", lambda prints: pytest.fail("looked for again"))
    again = SliceIndex(Cache(tmp_path / "cache"))
    assert again.find_copies(prints) == found
    with pytest.raises(pytest.fail.Exception):
        again.find_copies(again.look_up(samples[:5]).fingerprints)


def test_a_link_out_of_the_source_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    outside = _write(tmp_path / "outside.png", 9)
    link = samples[0].path.with_name("link.png")
    link.symlink_to(outside)
    sample = Sample(link, "link.png", "train", None, source=str(link.parent))
    index = SliceIndex(Cache(tmp_path / "cache"))
    assert [code for code, _ in index.look_up([sample]).faults[0]] == ["unsafe"]
    with pytest.raises(UnsafeError, match="leads out"):
        index.read(sample)


def test_several_frames_are_indexed_and_not_readable(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((20, 20), level, np.uint8)) for level in (10, 200)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    sample = Sample(tmp_path / "a.tif", "a.tif", "train", None, source=str(tmp_path))
    index = SliceIndex(Cache(tmp_path / "cache"))
    with pytest.raises(DataError, match="frames"):
        index.read(sample)
    found = index.look_up([sample])
    assert [code for code, _ in found.faults[0]] == ["multi_frame", "constant"]
    assert not found.readable[0] and found.rows["size"][0].tolist() == [20, 20]
    assert found.fingerprints.rows["size"][0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("value", "folder"),
    [("none", None), ("/somewhere/else", Path("/somewhere/else")), ("", "user")],
    ids=["no cache", "another folder", "the user's"],
)
def test_where_the_cache_lies(value: str, folder: Path | str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTCLF_CACHE", value)
    found = cache.cache_folder()
    assert found == folder if folder != "user" else found is not None and found.name == "detectclf"


def test_damage_on_a_disk_that_cannot_be_mended_costs_one_line(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = SliceIndex(Cache(tmp_path / "cache"))
    index.look_up(samples)
    index.cache.get([b"opens the file"])

    def refuse(path: Path, **options: bool) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    index.cache._discard()
    assert index.look_up(samples).readable.sum() == 6
    assert len(caplog.records) == 1 and "without the cache" in caplog.text


def test_a_failure_is_tried_again_by_the_next_command(samples: list[Sample], tmp_path: Path) -> None:
    content = samples[0].path.read_bytes()
    samples[0].path.write_bytes(b"")
    before = samples[0].path.stat()
    assert not SliceIndex(Cache(tmp_path / "cache")).look_up(samples).readable[0]
    assert not Cache(tmp_path / "cache").get([index_module._key(samples[0])[0]]), before
    samples[0].path.write_bytes(content)
    assert SliceIndex(Cache(tmp_path / "cache")).look_up(samples).readable[0]
    assert ((tmp_path / "cache" / FILE).stat().st_mode & 0o077) == 0, "for the user alone"
