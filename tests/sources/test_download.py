"""Downloads against a server on this machine that breaks off, lies and stalls; archives that attack."""

import contextlib
import errno
import hashlib
import io
import random
import shutil
import socket
import stat
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sources import download
from helpers.sources.download import DownloadError, Source, fetch, unpack

CONTENT = random.Random(0).randbytes(300_000)  # several chunks, and nothing in it repeats
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = 9 * download.CHUNK  # whole chunks, so that it is known what a broken stream leaves


# A local server


@dataclass
class Request:
    """What one request wanted, and how many bytes of body it was sent."""

    path: str
    start: int | None  # first byte of its Range header; None without one
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers every path by the behaviour registered for it."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.request_seen = Request(self.path, int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else None)
        self.server.requests_seen.append(self.request_seen)
        # A client that hangs up early is what several tests are about.
        with contextlib.suppress(ConnectionError):
            self.server.behaviours[self.path](self)

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.request_seen.sent += len(data)  # before it is: the client may be done before this thread goes on
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


class Server(ThreadingHTTPServer):
    """Serves on a free port, counts what it is asked for, and can be told how to misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours: dict[str, Callable[[Handler], None]] = {}
        self.requests_seen: list[Request] = []
        self.closing = threading.Event()

    def source(self, behaviour: Callable[[Handler], None], path: str = "/data.zip") -> Source:
        """Promise CONTENT at a path that behaves so."""
        self.behaviours[path] = behaviour
        url = f"http://127.0.0.1:{self.server_port}{path}"
        return Source(name=f"mirror {path}", url=url, sha256=SHA256, size=len(CONTENT))

    @property
    def starts(self) -> list[int | None]:
        """Where each request so far asked to start."""
        return [request.start for request in self.requests_seen]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.closing.set()
        running.shutdown()


def serve(handler: Handler) -> None:
    """Behave: whole file, or the range asked for."""
    serve_until(len(CONTENT))(handler)


def serve_until(end: int) -> Callable[[Handler], None]:
    """Behave, but hang up before the byte at position end; from there on, as often as asked."""

    def behaviour(handler: Handler) -> None:
        start = handler.request_seen.start
        begin_range(handler, start)
        handler.send(CONTENT[start or 0 : end])

    return behaviour


def begin_range(handler: Handler, start: int | None) -> None:
    left = len(CONTENT) - (start or 0)
    if start is None:
        handler.begin(Content_Length=left)
    else:
        last = len(CONTENT) - 1
        handler.begin(206, Content_Length=left, Content_Range=f"bytes {start}-{last}/{len(CONTENT)}")


def ignore_range(handler: Handler) -> None:
    handler.begin(Content_Length=len(CONTENT))
    handler.send(CONTENT)


def lie(handler: Handler) -> None:
    """Send wrong bytes of the right length."""
    start = handler.request_seen.start
    begin_range(handler, start)
    handler.send(bytes(len(CONTENT) - (start or 0)))


def lie_and_break_off(handler: Handler) -> None:
    begin_range(handler, handler.request_seen.start)
    handler.send(bytes(HALF if handler.request_seen.start is None else 0))


def never_end(handler: Handler) -> None:
    handler.begin()  # no Content-Length: only counting tells
    while not handler.server.closing.is_set():
        handler.send(bytes(64_000))


def stall(handler: Handler) -> None:
    begin_range(handler, handler.request_seen.start)
    if handler.request_seen.start is None:
        handler.send(CONTENT[:HALF])
    handler.wfile.flush()
    handler.server.closing.wait(5)


def answer(status: int) -> Callable[[Handler], None]:
    return lambda handler: handler.begin(status, Content_Length=0)


def web_page(handler: Handler) -> None:
    page = b"<html>Google Drive - Quota exceeded</html>"
    handler.begin(Content_Type="text/html; charset=utf-8", Content_Length=len(page))
    handler.send(page)


def get(folder: Path, *sources: Source, timeout: float = 5.0) -> Path:
    return fetch(sources, folder, timeout=timeout, progress=False)


def failure_of(folder: Path, source: Source, timeout: float = 5.0) -> str:
    """Give the line that the error has for the only source."""
    with pytest.raises(DownloadError) as caught:
        get(folder, source, timeout=timeout)
    return str(caught.value).splitlines()[1]


def part_in(folder: Path, data: bytes) -> Path:
    path = folder / f"{SHA256}.part"
    path.write_bytes(data)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Fetching


def test_a_file_arrives_under_its_sha256_with_the_suffix_of_its_url(server, tmp_path):
    path = get(tmp_path / "made" / "on the way", server.source(serve, "/data.zip?download=true"))
    assert path == tmp_path / "made" / "on the way" / f"{SHA256}.zip"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == [path.name], "the part file is gone"


def test_a_second_fetch_asks_no_server(server, tmp_path):
    source = server.source(serve)
    assert get(tmp_path, source) == get(tmp_path, source)
    assert len(server.requests_seen) == 1


def test_a_cached_file_of_a_later_source_is_used_without_asking_the_first(server, tmp_path):
    first, second = server.source(answer(404), "/first.zip"), server.source(serve, "/second?no=suffix")
    path = get(tmp_path, first, second)
    asked = len(server.requests_seen)
    assert get(tmp_path, first, second) == path
    assert len(server.requests_seen) == asked


def test_a_damaged_cached_file_is_downloaded_again(server, tmp_path):
    source = server.source(serve)
    get(tmp_path, source).write_bytes(CONTENT[:-1] + b"?")
    assert get(tmp_path, source).read_bytes() == CONTENT
    assert server.starts == [None, None]


def test_the_final_name_does_not_exist_before_the_last_byte_is_verified(server, tmp_path):
    seen = []

    def look_at_half(handler: Handler) -> None:
        handler.begin(Content_Length=len(CONTENT))
        handler.send(CONTENT[:HALF])
        seen.extend(names(tmp_path))
        handler.send(CONTENT[HALF:])

    get(tmp_path, server.source(look_at_half))
    assert f"{SHA256}.zip" not in seen


def test_the_file_is_asked_for_as_it_is_not_compressed(server, tmp_path):
    """Positions in a compressed answer are not positions in the file."""
    encodings = []

    def note_encoding(handler: Handler) -> None:
        encodings.append(handler.headers["Accept-Encoding"])
        serve(handler)

    get(tmp_path, server.source(note_encoding))
    assert encodings == ["identity"]


def test_a_redirect_is_followed_with_its_range(server, tmp_path):
    part_in(tmp_path, CONTENT[:HALF])
    server.source(serve, "/cdn")
    moved = server.source(lambda handler: handler.begin(302, Location="/cdn", Content_Length=0))
    assert get(tmp_path, moved).read_bytes() == CONTENT
    assert server.starts == [HALF, HALF]


def test_a_stream_that_breaks_off_is_resumed_where_it_ended(server, tmp_path):
    def break_off_once(handler: Handler) -> None:
        serve_until(HALF + 1 if handler.request_seen.start is None else len(CONTENT))(handler)

    assert get(tmp_path, server.source(break_off_once)).read_bytes() == CONTENT
    assert server.starts == [None, HALF], "of a broken stream, the last unfinished chunk is lost"
    assert server.requests_seen[1].sent == len(CONTENT) - HALF


def test_what_an_earlier_run_left_is_not_asked_for_again(server, tmp_path):
    part_in(tmp_path, CONTENT[:HALF])
    assert get(tmp_path, server.source(serve)).read_bytes() == CONTENT
    assert [(request.start, request.sent) for request in server.requests_seen] == [(HALF, len(CONTENT) - HALF)]


def test_a_second_mirror_goes_on_where_the_first_broke_off(server, tmp_path):
    first, second = server.source(serve_until(HALF), "/first.zip"), server.source(serve, "/second")
    assert get(tmp_path, first, second).read_bytes() == CONTENT
    last = server.requests_seen[-1]
    assert (last.path, last.start, last.sent) == ("/second", HALF, len(CONTENT) - HALF)


def test_a_server_that_ignores_the_range_starts_from_zero(server, tmp_path):
    part_in(tmp_path, bytes(HALF))  # wrong bytes: kept, they would spoil the file
    assert get(tmp_path, server.source(ignore_range)).read_bytes() == CONTENT
    assert server.starts == [HALF]


@pytest.mark.parametrize("header", [{"Content_Range": "bytes 7-299999/300000"}, {}])
def test_a_range_that_was_not_asked_for_is_refused_and_the_part_kept(server, tmp_path, header):
    part = part_in(tmp_path, CONTENT[:HALF])
    line = failure_of(tmp_path, server.source(lambda handler: handler.begin(206, **header)))
    assert f"asked for the bytes from {HALF} on" in line
    assert part.read_bytes() == CONTENT[:HALF]


def test_a_complete_part_file_needs_no_request(server, tmp_path):
    part_in(tmp_path, CONTENT)
    assert get(tmp_path, server.source(answer(416))).read_bytes() == CONTENT
    assert server.starts == []


def test_a_416_to_an_incomplete_part_is_reported_and_the_part_kept(server, tmp_path):
    part = part_in(tmp_path, CONTENT[:HALF])
    assert "HTTP 416" in failure_of(tmp_path, server.source(answer(416)))
    assert part.read_bytes() == CONTENT[:HALF]


def test_a_part_file_that_is_too_long_is_dropped(server, tmp_path):
    part_in(tmp_path, CONTENT + b"?")
    assert get(tmp_path, server.source(serve)).read_bytes() == CONTENT
    assert server.starts == [None]


def test_a_stream_that_keeps_breaking_off_is_resumed_three_times_at_most(server, tmp_path):
    def a_little_more(handler: Handler) -> None:
        serve_until((handler.request_seen.start or 0) + download.CHUNK)(handler)

    line = failure_of(tmp_path, server.source(a_little_more))
    assert server.starts == [None, *(n * download.CHUNK for n in (1, 2, 3))]
    assert "the connection broke off (65,536 of 300,000 bytes are here)" in line


def test_a_stream_that_makes_no_progress_is_not_tried_again(server, tmp_path):
    assert failure_of(tmp_path, server.source(serve_until(0))).endswith(": the connection broke off")
    assert len(server.requests_seen) == 1


def test_wrong_bytes_are_reported_deleted_and_the_next_source_is_asked(server, tmp_path):
    liar, honest = server.source(lie, "/liar"), server.source(serve, "/honest")
    wrong = hashlib.sha256(bytes(len(CONTENT))).hexdigest()
    assert f"SHA-256 mismatch: expected {SHA256}, got {wrong}" in failure_of(tmp_path, liar)
    assert names(tmp_path) == []
    assert get(tmp_path, liar, honest).read_bytes() == CONTENT


def test_wrong_bytes_of_one_mirror_are_not_held_against_the_next(server, tmp_path):
    """The honest mirror resumes a part that cannot become right: it gets one try from zero."""
    liar, honest = server.source(lie_and_break_off, "/liar"), server.source(serve, "/honest")
    assert get(tmp_path, liar, honest).read_bytes() == CONTENT
    assert server.starts == [None, HALF, HALF, None]


def test_a_stream_longer_than_promised_is_cut_and_its_part_deleted(server, tmp_path):
    line = failure_of(tmp_path, server.source(never_end))  # returns at all: it stopped
    assert "sends more than the 300,000 bytes expected" in line
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_file_announced_with_another_length_is_refused_unread(server, tmp_path, length):
    line = failure_of(tmp_path, server.source(lambda handler: handler.begin(Content_Length=length)))
    assert f"offers a file of {length} bytes instead of 300000" in line
    assert names(tmp_path) == []


def test_a_stall_ends_the_try_after_the_timeout_and_keeps_what_came(server, tmp_path):
    stalling, second = server.source(stall, "/stalling"), server.source(serve, "/second")
    assert "no answer for 0.2 s" in failure_of(tmp_path, stalling, timeout=0.2)
    assert get(tmp_path, second).read_bytes() == CONTENT
    assert server.starts[-1] == HALF


def test_a_server_that_accepts_but_never_answers_is_given_up(server, tmp_path):
    silent = server.source(lambda handler: handler.server.closing.wait(5))
    began = time.monotonic()
    assert failure_of(tmp_path, silent, timeout=0.2).endswith(": no answer for 0.2 s")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(("status", "words"), [(404, "HTTP 404 Not Found"), (500, "HTTP 500 Internal Server Error")])
def test_an_http_error_is_named(server, tmp_path, status, words):
    assert failure_of(tmp_path, server.source(answer(status))) == f"  mirror /data.zip: {words}"


def test_a_web_page_instead_of_the_file_is_called_that(server, tmp_path):
    assert "a web page (HTML) came instead of the file" in failure_of(tmp_path, server.source(web_page))
    assert names(tmp_path) == []


def test_a_refused_connection_is_called_that(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as unheard:  # bound, but not listening
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/data.zip"
        source = Source(name="closed", url=url, sha256=SHA256, size=1)
        assert failure_of(tmp_path, source) == "  closed: connection refused"


def test_an_unknown_host_is_called_that(monkeypatch, tmp_path):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    source = Source(name="nowhere", url="https://nowhere.invalid/data.zip", sha256=SHA256, size=1)
    assert "host name not found" in failure_of(tmp_path, source)


def test_when_every_source_fails_the_error_has_a_line_for_each_in_order_and_what_to_do(server, tmp_path):
    sources = [server.source(answer(404), "/a.zip"), server.source(web_page, "/b"), server.source(answer(500), "/c")]
    with pytest.raises(DownloadError) as caught:
        get(tmp_path, *sources)
    _, *lines, again, by_hand = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == [source.name for source in sources]
    assert "run this again" in again
    assert sources[0].url in by_hand and str(tmp_path / f"{SHA256}.zip") in by_hand


def disk_with(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - free, free))


def test_a_disk_without_room_for_ten_percent_more_is_full_before_anything_is_asked(server, tmp_path, monkeypatch):
    part = part_in(tmp_path, CONTENT[:100_000])
    disk_with(monkeypatch, free=219_999)
    assert "disk full: 220,000 bytes needed, 219,999 free" in failure_of(tmp_path, server.source(serve))
    assert server.starts == []
    disk_with(monkeypatch, free=220_000)
    assert get(tmp_path, server.source(serve)).read_bytes() == CONTENT
    assert not part.exists()


def test_a_disk_that_fills_up_on_the_way_is_reported_and_the_part_resumed_later(server, tmp_path, monkeypatch):
    class FullDisk(io.FileIO):
        def write(self, data: bytes) -> int:
            if self.tell() + len(data) > HALF:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: FullDisk(path, mode))
        assert "disk full: " in failure_of(tmp_path, server.source(serve))
    kept = (tmp_path / f"{SHA256}.part").stat().st_size
    assert 0 < kept <= HALF
    assert get(tmp_path, server.source(serve)).read_bytes() == CONTENT
    assert server.starts == [None, kept]


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_shows_the_source_when_asked_for(server, tmp_path, capsys, progress):
    fetch([server.source(serve)], tmp_path, progress=progress)
    assert ("mirror /data.zip: 100%" in capsys.readouterr().err) == progress


# Unpacking


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip with just these members, whatever they are called."""
    with zipfile.ZipFile(path, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a duplicate name is what some tests want
        for member, data in members:
            if isinstance(member, str):
                name, member = member, zipfile.ZipInfo("placeholder")
                member.filename = name  # the constructor would cut it at a NUL
                member.compress_type = compression
            archive.writestr(member, data)
    return path


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    return member


def unpack_here(archive: Path, max_bytes: int = 10_000, max_files: int = 10) -> Path:
    return unpack(archive, archive.parent / "unpacked", max_bytes=max_bytes, max_files=max_files)


def assert_refused(archive: Path, match: str, **limits: int) -> None:
    """It raises, and leaves neither the folder nor a temporary one."""
    with pytest.raises(ValueError, match=match):
        unpack_here(archive, **limits)
    assert names(archive.parent) == [archive.name]


def test_an_archive_is_unpacked_with_folders_and_without_what_macos_adds(tmp_path):
    archive = zip_of(
        tmp_path / "good.zip",
        ("spider/", b""),
        ("spider/dev.json", b"[]"),
        ("spider/database/concert/concert.sqlite", b"db"),
        ("spider/.DS_Store", b"junk"),
        ("__MACOSX/spider/._dev.json", b"junk"),
    )
    folder = unpack(archive, tmp_path / "made" / "data", max_bytes=4, max_files=3)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {"spider/dev.json": b"[]", "spider/database/concert/concert.sqlite": b"db"}
    assert names(folder.parent) == ["data"]


def test_an_existing_folder_is_left_as_it_is(tmp_path):
    archive = zip_of(tmp_path / "good.zip", ("a", b"new"))
    (tmp_path / "unpacked").mkdir()
    with pytest.raises(FileExistsError, match="remove it"):
        unpack_here(archive)
    assert names(tmp_path / "unpacked") == []


@pytest.mark.parametrize(
    "name",
    ["/etc/x", "//host/x", "../x", "a/../../x", "a/..", "a\\..\\x", "\\x", "C:/x", "C:x", "a/.. /x", "a\0b", "", "."],
)
def test_a_name_that_could_leave_the_folder_is_refused_and_named(tmp_path, name):
    archive = zip_of(tmp_path / "bad.zip", ("good", b""), (name, b"x"))
    with pytest.raises(ValueError) as caught:
        unpack_here(archive)
    assert repr(name) in str(caught.value)
    assert names(tmp_path) == ["bad.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_a_member_that_is_no_regular_file_is_refused(tmp_path, kind):
    archive = zip_of(tmp_path / "bad.zip", (with_mode("link", kind | 0o777), b"/etc/passwd"))
    assert_refused(archive, "'link': it is a link or device")


def test_permissions_in_the_archive_are_not_taken_over(tmp_path):
    archive = zip_of(tmp_path / "setuid.zip", (with_mode("tool", stat.S_IFREG | 0o4777), b"x"))
    assert not (unpack_here(archive) / "tool").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


@pytest.mark.parametrize(("first", "second"), [("a/b", "a/b"), ("a/b", "A/B"), ("a/b", "a/./b"), ("é", "e\u0301"), ("a", "a/")])
def test_two_names_that_some_file_system_takes_for_one_are_refused(tmp_path, first, second):
    assert_refused(zip_of(tmp_path / "bad.zip", (first, b""), (second, b"")), "another member has this name")


@pytest.mark.parametrize("order", [("a", "A/b"), ("A/b", "a")])
def test_a_file_where_another_member_needs_a_folder_is_refused(tmp_path, order):
    assert_refused(zip_of(tmp_path / "bad.zip", *((name, b"") for name in order)), "'A/b': another member is a file")


def test_a_name_too_long_for_some_file_system_is_refused(tmp_path):
    assert_refused(zip_of(tmp_path / "bad.zip", ("é" * 128, b"")), "longer than 255 bytes")


def test_an_encrypted_member_is_refused(tmp_path):
    archive = zip_of(tmp_path / "bad.zip", ("secret", b"x"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # general purpose flags, bit 0 (APPNOTE 4.4.4)
    archive.write_bytes(data)
    assert_refused(archive, "'secret': it is encrypted")


def test_a_compression_that_can_ask_for_gigabytes_is_refused(tmp_path):
    assert_refused(zip_of(tmp_path / "bad.zip", ("a", b"x"), compression=zipfile.ZIP_LZMA), "neither stored nor")


def test_a_zip_bomb_is_stopped_at_max_bytes(tmp_path, monkeypatch):
    archive = zip_of(tmp_path / "bomb.zip", ("small", bytes(10)), ("bomb", bytes(50_000_000)))
    written = []
    real_write = download._write

    def watch(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, budget: int) -> int:
        try:
            return real_write(opened, member, target, budget)
        finally:
            written.append(target.stat().st_size)

    monkeypatch.setattr(download, "_write", watch)
    assert archive.stat().st_size < 100_000
    assert_refused(archive, "'bomb': with it, the archive holds more than max_bytes", max_bytes=1_000_000)
    assert sum(written) <= 1_000_000


def test_a_header_that_understates_the_size_does_not_get_a_bomb_past(tmp_path):
    archive = zip_of(tmp_path / "bomb.zip", ("bomb", bytes(100_000)))
    archive.write_bytes(archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert_refused(archive, "'bomb'")


def test_max_bytes_and_max_files_are_themselves_allowed(tmp_path):
    archive = zip_of(tmp_path / "good.zip", ("a", b"12345"), ("b", b"12345"))
    assert_refused(archive, "max_files is 1", max_files=1)
    assert_refused(archive, "'b': with it", max_bytes=9)
    assert names(unpack_here(archive, max_bytes=10, max_files=2)) == ["a", "b"]


def test_a_member_with_a_bad_crc_is_refused(tmp_path):
    archive = zip_of(tmp_path / "bad.zip", ("a", b"12345"), compression=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"12345", b"12346"))
    assert_refused(archive, "'a': it is damaged .Bad CRC-32")


def test_a_member_that_starts_before_the_archive_is_refused(tmp_path):
    archive = zip_of(tmp_path / "bad.zip", ("a", b"x"))
    data = bytearray(archive.read_bytes())
    data[-6:-2] = (int.from_bytes(data[-6:-2], "little") + 9).to_bytes(4, "little")  # where the directory is to be
    archive.write_bytes(data)
    assert_refused(archive, "'a': its place in the archive is impossible")


@pytest.mark.parametrize("data", [b"", b"no zip at all", b"PK\5\6" + b"\xff" * 18])
def test_what_is_not_a_zip_is_called_that(tmp_path, data):
    archive = tmp_path / "bad.zip"
    archive.write_bytes(data)
    assert_refused(archive, "is not a zip that can be read")


@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_damaged_archive_is_unpacked_whole_or_refused(flips):
    with tempfile.TemporaryDirectory() as folder:
        archive = zip_of(Path(folder) / "a.zip", ("a/b", b"123" * 9), ("c", b"4"))
        data = bytearray(archive.read_bytes())
        for place, value in flips:
            data[place % len(data)] = value
        archive.write_bytes(data)
        with contextlib.suppress(ValueError):
            unpack_here(archive)
            archive.with_name("unpacked").rename(archive.with_name("moved"))
            shutil.rmtree(archive.with_name("moved"))
        assert names(Path(folder)) == ["a.zip"]


PIECES = st.sampled_from(["..", ".", "/", "//", "\\", "C:", "~", " ", "\0", "a", "A", "é", "e\u0301", "ROOT/"])
MEMBER_NAMES = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=8).map("".join)


@given(members=st.lists(MEMBER_NAMES, min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_no_member_name_is_written_outside_of_the_folder(members):
    with tempfile.TemporaryDirectory() as root:
        archive = Path(root, "b", "c", "a.zip")  # room above, so that a name that climbs is seen
        archive.parent.mkdir(parents=True)
        zip_of(archive, *((name.replace("ROOT", root), b"x") for name in members))
        folder = archive.parent / "unpacked"
        try:
            unpack(archive, folder, max_bytes=10, max_files=10)
        except ValueError:
            assert not folder.exists()
        outside = {path for path in Path(root).rglob("*") if not path.is_relative_to(folder)}
        assert outside == {archive, archive.parent, archive.parent.parent}
