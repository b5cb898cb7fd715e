"""Downloads against a local server that speaks Roboflow's export API, and archives that mean harm."""

from __future__ import annotations

import base64
import errno
import gc
import hashlib
import io
import json
import random
import stat
import struct
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from detectclf.errors import DataError, DetectclfError, UnsafeError
from detectclf.formats.archive import ZipLimits, members, unpack
from detectclf.formats.fetch import DownloadLimits, disk_reason
from detectclf.formats.roboflow import download

KEY = "sekrit-key-4711"
HASTY = DownloadLimits(tries=2, timeout=0.2, stall=0.2, pause=0.01)
QUICK = DownloadLimits(tries=2, timeout=5, export_wait=0.3, pause=0.01)


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in files.items():
            pack.writestr(name, content)
    return buffer.getvalue()


class Server:
    """Roboflow's export API and its storage; the attributes say how it behaves."""

    def __init__(self) -> None:
        self.archive = packed({"train/_annotations.coco.json": b"{}", "train/a.jpg": bytes(range(256)) * 4000})
        self.making = 0  # answers 202 so many times
        self.api_status = 200
        self.cuts = 0  # connections cut half way
        self.ranges = True
        self.md5 = True
        self.storage_status = 200
        self.link: str | None = None
        self.answer: bytes | None = None
        self.redirect: str | None = None  # where the API sends whoever asks
        self.drips: str | None = None  # "header" or "body": a byte now and then, for ever
        self.asked: list[tuple[str, str | None]] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - two selves in one class
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Range")))
                server.storage(self) if self.path.startswith("/storage") else server.api(self)

        return Handler

    def reply(self, to: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        to.send_response(status)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    def api(self, to: BaseHTTPRequestHandler) -> None:
        if f"api_key={KEY}" not in to.path:
            self.reply(to, 401, json.dumps({"error": {"message": "This API key does not exist"}}).encode())
        elif self.redirect:
            to.send_response(302)
            to.send_header("Location", self.redirect.replace("QUERY", to.path))
            to.end_headers()
        elif self.drips == "api":
            self.drip(to, b"")
        elif self.api_status != 200:
            self.reply(to, self.api_status, json.dumps({"error": to.path}).encode())
        elif self.making:
            self.making -= 1
            self.reply(to, 202, json.dumps({"progress": 0.5}).encode())
        else:
            link = self.link or f"{self.base}/storage/export.zip"
            self.reply(to, 200, self.answer or json.dumps({"export": {"format": "coco", "link": link}}).encode())

    def drip(self, to: BaseHTTPRequestHandler, first: bytes) -> None:
        to.close_connection = True
        try:
            to.wfile.write(first)
            while True:
                to.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            pass  # who asked has gone

    def storage(self, to: BaseHTTPRequestHandler) -> None:
        if self.storage_status != 200:
            return self.reply(to, self.storage_status, b"")
        if self.drips:
            return self.drip(to, b"" if self.drips == "header" else b"HTTP/1.1 200 OK\r\n\r\n")
        asked = to.headers.get("Range")
        start = int(asked.split("=")[1].rstrip("-")) if asked and self.ranges else 0
        rest = self.archive[start:]
        to.send_response(206 if start else 200)
        to.send_header("Content-Length", str(len(rest)))
        to.send_header("ETag", '"one"')
        if start:
            to.send_header("Content-Range", f"bytes {start}-{len(self.archive) - 1}/{len(self.archive)}")
        digest = hashlib.md5(self.archive if self.md5 else b"other").digest()
        to.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={base64.b64encode(digest).decode()}")
        to.end_headers()
        if self.cuts:
            self.cuts -= 1
            to.wfile.write(rest[: len(rest) // 2])
            to.close_connection = True
            return None
        to.wfile.write(rest)
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    one = Server()
    monkeypatch.setenv("DETECTCLF_ROBOFLOW_URL", one.base)
    yield one
    one.http.shutdown()
    one.http.server_close()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download_unpacks_and_reports(server: Server, tmp_path: Path) -> None:
    server.making = 2
    seen: list[tuple[str, float]] = []
    out = download("work/brain/3", tmp_path / "out", progress=lambda *s: seen.append(s), limits=QUICK)
    assert (out / "train/a.jpg").read_bytes() == bytes(range(256)) * 4000
    assert left(tmp_path) == ["out"]
    assert seen[0] == ("export", 0.5) and ("download", 1.0) in seen and seen[-1] == ("unpack", 1.0)
    assert server.asked[0][0] == f"/work/brain/3/coco?api_key={KEY}"
    assert all(KEY not in path for path, _ in server.asked if path.startswith("/storage"))


def test_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cuts = 3  # more cuts than tries: each brought something new
    download("work/brain/3", tmp_path / "out", limits=QUICK)
    size = len(server.archive)
    starts = [int(r.split("=")[1].rstrip("-")) for _, r in server.asked if r]
    assert starts == [size // 2, size // 2 + (size - size // 2) // 2, starts[-1]] and starts[-1] > starts[1]


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.cuts, server.ranges = 1, False
    assert (download("work/brain/3", tmp_path / "out", limits=QUICK) / "train/a.jpg").stat().st_size == 1_024_000


def arrange(**values: object) -> Callable[[Server], None]:
    return lambda server: [setattr(server, name, value) for name, value in values.items()] and None


FAILURES = [
    ("no such version", arrange(api_status=404), DataError, "no such"),
    ("key without the right", arrange(api_status=403), DataError, "refuses the key"),
    ("bad request", arrange(api_status=400), DataError, "answers 400"),
    ("server down", arrange(api_status=503), DataError, "answers 503 after 2 attempts"),
    ("export never ready", arrange(making=10**6), DataError, "not ready after"),
    ("no link", arrange(answer=b"{}"), DataError, "no link"),
    ("no JSON", arrange(answer=b"<html>"), DataError, "not JSON"),
    ("deep JSON", arrange(answer=b"[" * 200_000), DataError, "not JSON"),
    ("link to a local file", arrange(link="file:///etc/passwd"), UnsafeError, "not a safe web address"),
    ("storage forgets", arrange(storage_status=410), DataError, "storage of the export answers 410"),
    ("storage fails", arrange(storage_status=500), DataError, "connection lost"),
    ("checksum", arrange(md5=False), DataError, "checksum"),
    ("not a zip", arrange(archive=b"hello" * 100), DataError, "not a whole zip"),
    ("redirect elsewhere", arrange(redirect="http://localhost:9QUERY"), UnsafeError, "with the key to another host"),
    ("redirect to another port", arrange(redirect="http://127.0.0.1:9/"), UnsafeError, "to another host"),
    ("link with the key", arrange(link=f"http://127.0.0.1:9/x?api%5Fkey={KEY}"), UnsafeError, "repeats the key"),
    ("link with it escaped", arrange(link=f"http://127.0.0.1:9/%{ord(KEY[0]):x}{KEY[1:]}"), UnsafeError, "repeats"),
    ("dripping answer", arrange(drips="api"), DataError, "no connection after 2 attempts"),
    ("dripping header", arrange(drips="header"), DataError, "connection lost"),
    ("dripping archive", arrange(drips="body"), DataError, "connection lost"),
    ("path escape", arrange(archive=packed({"../evil.txt": b"x"})), UnsafeError, "'..'"),
]


@pytest.mark.parametrize(("arranged", "kind", "words"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES])
def test_failures_say_why_and_leave_nothing(
    server: Server, tmp_path: Path, arranged: Callable[[Server], None], kind: type[DetectclfError], words: str
) -> None:
    arranged(server)
    with pytest.raises(kind, match=words) as caught:
        download("work/brain/3", tmp_path / "deep" / "out", limits=HASTY if server.drips else QUICK)
    assert left(tmp_path / "deep") == []
    assert not (tmp_path / "evil.txt").exists()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert KEY not in shown and "\n" not in str(caught.value)
    del caught
    gc.collect()  # a connection left open would be a warning now, not in some later test


def test_wrong_key_is_not_shown(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "another-secret")
    with pytest.raises(DataError, match="refuses the key") as caught:
        download("work/brain/3", tmp_path / "out", limits=QUICK)
    assert "another-secret" not in "".join(traceback.format_exception(caught.value))


def test_no_server_is_one_line_without_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    monkeypatch.setenv("DETECTCLF_ROBOFLOW_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="no connection after 2 attempts") as caught:
        download("a/b/1", tmp_path / "out", limits=QUICK)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("spec", ["a/b", "a/b/c/d", "../b/1", "a b/c/1", "", "a//1", "a/b/1?x=y"])
def test_bad_spec_is_refused_before_any_request(server: Server, tmp_path: Path, spec: str) -> None:
    with pytest.raises(DataError, match="WORKSPACE/PROJECT/VERSION"):
        download(spec, tmp_path / "out")
    assert server.asked == []


def test_missing_key_and_taken_folder_need_no_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="not an empty folder"):
        download("a/b/1", tmp_path / "out", limits=QUICK)
    monkeypatch.delenv("ROBOFLOW_API_KEY")
    with pytest.raises(DataError, match="ROBOFLOW_API_KEY is not set"):
        download("a/b/1", tmp_path / "new", limits=QUICK)
    assert server.asked == [] and left(tmp_path) == ["out"]


def test_size_limit(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match="limit of 100 bytes"):
        download("a/b/1", tmp_path / "out", limits=DownloadLimits(archive_bytes=100, pause=0.01))


@pytest.mark.parametrize("where", ["archive", "unpacked"])
def test_full_disk_is_one_line(server: Server, tmp_path: Path, where: str) -> None:
    if where == "archive":  # random bytes do not pack, so that the zip itself is over the limit
        server.archive = packed({"a.jpg": random.Random(0).randbytes(200_000)})
    resource = pytest.importorskip("resource")
    import signal

    # A file size limit stands in for a full disk: the same OSError comes out of the same write.
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            download("a/b/1", tmp_path / "out", limits=QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert left(tmp_path) == []


def test_full_disk_is_called_so() -> None:
    assert disk_reason(OSError(errno.ENOSPC, "No space left on device")) == "the disk is full"


def damaged() -> bytes:
    data = bytearray(packed({"a": random.Random(0).randbytes(500)}))
    data[60:200] = b"\xff" * 140
    return bytes(data)


def special(name: str, mode: int) -> bytes:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr(info, "/etc")
    return buffer.getvalue()


def lying(archive: bytes, claimed: int) -> bytes:
    """The archive, with every entry claiming to unpack to ``claimed`` bytes."""
    data = bytearray(archive)
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.find(signature)
        while place >= 0:
            struct.pack_into("<I", data, place + offset, claimed)
            place = data.find(signature, place + 4)
    return bytes(data)


HOSTILE = [
    ("bomb by ratio", packed({"zeros": bytes(20 << 20)}), UnsafeError, "zip bomb"),
    ("declares too little", lying(packed({"zeros": bytes(3 << 20)}), 10), DetectclfError, "in.zip"),
    ("declares too much", lying(packed({"a": b"abc"}), 900), DetectclfError, "in.zip"),
    ("too many files", packed({str(i): b"" for i in range(60)}), UnsafeError, "60 entries"),
    (
        "too large in all",
        packed({str(i): bytes(i for i in range(250)) * 4000 for i in range(40)}),
        UnsafeError,
        "bytes",
    ),
    ("parent folder", packed({"a/../../b": b"x"}), UnsafeError, "'..'"),
    ("absolute", packed({"/b": b"x"}), UnsafeError, "absolute"),
    ("Windows drive", packed({"C:\\b": b"x"}), UnsafeError, "absolute"),
    ("UNC", packed({"\\\\host\\b": b"x"}), UnsafeError, "absolute"),
    ("symlink", special("link", stat.S_IFLNK | 0o777), UnsafeError, "symlink"),
    ("FIFO", special("pipe", stat.S_IFIFO | 0o666), UnsafeError, "special"),
    ("file also a folder", packed({"a": b"x", "a/b": b"y"}), UnsafeError, "same path"),
    ("damaged inside", damaged(), DataError, "not a whole zip"),
    ("cut short", packed({"a": bytes(range(256)) * 99})[:-30], DataError, "not a whole zip"),
]


@pytest.mark.parametrize(("content", "kind", "words"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_archives(tmp_path: Path, content: bytes, kind: type[DetectclfError], words: str) -> None:
    archive, folder = tmp_path / "in.zip", tmp_path / "out"
    archive.write_bytes(content)
    folder.mkdir()
    limits = ZipLimits(files=50, total_bytes=30 << 20)
    with pytest.raises(kind, match=words):
        unpack(archive, folder, limits)
    assert left(tmp_path) == ["in.zip", "out"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1 << 20


def test_hidden_entries_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hidden = [".git/hooks/post-checkout", "train/.a.jpg", "__MACOSX/._a.jpg", "\u200c.git/config", "a\\.env", ".GIT/x"]
    shown = ["train/a.jpg", "a..b/c.jpg", "README.dataset.txt"]
    (tmp_path / "in.zip").write_bytes(packed(dict.fromkeys([*hidden, *shown], b"x")))
    (tmp_path / "out").mkdir()
    assert unpack(tmp_path / "in.zip", tmp_path / "out") == len(shown)
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()) == (
        sorted(shown)
    )
    assert "in.zip: 6 hidden entries are left out, such as '.git/hooks/post-checkout'" in caplog.text


IN_MEMORY = [
    row for row in HOSTILE if row[0] not in ("parent folder", "absolute", "Windows drive", "UNC", "file also a folder")
]


@pytest.mark.parametrize(("content", "kind", "words"), [h[1:] for h in IN_MEMORY], ids=[h[0] for h in IN_MEMORY])
def test_hostile_archives_in_memory(content: bytes, kind: type[DetectclfError], words: str) -> None:
    """Paths are no harm there, since nothing is written."""
    with pytest.raises(
        kind, match=f"in.zip: .*({words}|damaged|larger than it declares)" if words != "in.zip" else words
    ):
        for member in members(content, "in.zip", ZipLimits(files=50, total_bytes=30 << 20)):
            assert len(member.read()) <= 30 << 20


def test_a_list_of_files_that_is_too_long_is_not_read() -> None:
    with pytest.raises(UnsafeError, match="list of files"):
        members(packed({f"{i:0200}": b"" for i in range(60)}), "in.zip", ZipLimits(files=5))


def test_members_are_read_when_they_are_wanted() -> None:
    found = members(packed({"a/b.txt": b"x" * 500, "c/": b"", "d": b""}), "in.zip")
    assert [(each.name, each.head(), each.read()) for each in found] == [
        ("a/b.txt", b"x" * 132, b"x" * 500),
        ("d", b"", b""),
    ]


def test_file_named_twice_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr("a", "x")
        with pytest.warns(UserWarning, match="Duplicate"):
            pack.writestr("a", "y")
    (tmp_path / "in.zip").write_bytes(buffer.getvalue())
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsafeError, match="same path"):
        unpack(tmp_path / "in.zip", tmp_path / "out")


def test_odd_names_are_no_harm(tmp_path: Path) -> None:
    names = ["Train/-dash.JPG", "a b/\u00e9\U0001f9e0.png", "empty/"]
    (tmp_path / "in.zip").write_bytes(packed({name: b"" if name.endswith("/") else b"x" for name in names}))
    (tmp_path / "out").mkdir()
    assert unpack(tmp_path / "in.zip", tmp_path / "out") == 2
    assert (tmp_path / "out/empty").is_dir() and (tmp_path / "out" / names[1]).read_bytes() == b"x"
