"""Bytes that clients and attackers send, against aiohttp's C parser and its Python one (reference H-, HQ, A-3n)."""

import email.utils
import os
import re
import time
from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest

from tests.support.http_client import Answer, Client, ServerProcess, exchange, get

pytestmark = pytest.mark.net

TEN = b"0123456789"
HOST = b"Host: 198.51.100.1\r\n"


@pytest.fixture(scope="module", params=["C", "Python"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("httpimage")
    (folder / "ten").write_bytes(TEN)
    (folder / "vmlinuz").write_bytes(b"k" * 1048576 + b"THE END")
    (folder / "Image").write_bytes(b"I" * 3000)
    (folder / "empty").write_bytes(b"")
    (folder / "boot.efi").write_bytes(b"MZ")
    (folder / "images").mkdir()
    (folder / "images" / "root.squashfs").write_bytes(b"hsqs" * 1000)
    with ServerProcess(folder, parser=request.param) as running:
        yield running


# What boot loaders send, as in the fixtures H-GRUB, H-GRUB-SEEK and H-UBOOT.
GRUB = b"GET /vmlinuz HTTP/1.1\r\n" + HOST + b"User-Agent: GRUB 2.06-13+deb12u2\r\n"


def test_grub_gets_a_kernel(server: ServerProcess) -> None:
    answer = exchange(server.port, GRUB + b"\r\n")
    assert answer.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 1048583" in answer.head
    assert b"chunked" not in answer.head
    assert answer.body.endswith(b"THE END")


def test_grub_seeks(server: ServerProcess) -> None:
    answer = exchange(server.port, GRUB + b"Range: bytes=1048576-\r\n\r\n\r\n")  # 2.06 adds an empty line
    assert answer.head.startswith(b"HTTP/1.1 206 Partial Content\r\n")
    assert answer.header("Content-Range") == "bytes 1048576-1048582/1048583"
    assert answer.body == b"THE END"


@pytest.mark.parametrize("stray", [b"\r\n", b"\r\n\r\n"])
def test_an_empty_line_between_requests_is_nothing(server: ServerProcess, stray: bytes) -> None:
    with Client(server.port) as client:
        client.send(stray)
        for _ in range(3):
            client.send(GRUB + b"Range: bytes=-7\r\n\r\n" + stray)
            assert client.answer().body == b"THE END"


def test_uboot_gets_an_image_without_any_header(server: ServerProcess) -> None:
    with Client(server.port) as client:
        client.send(b"HEAD /Image HTTP/1.0\r\n\r\n")
        head = client.answer("HEAD")
        assert client.is_closed()
    answer = exchange(server.port, b"GET /Image HTTP/1.0\r\n\r\n")
    assert (head.status, answer.status) == (200, 200)
    assert answer.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.header("Content-Length") == answer.header("Content-Length") == "3000"
    assert len(answer.head) + 4 < 2048
    assert answer.body == b"I" * 3000


def test_the_connection_stays_open_from_head_to_get(server: ServerProcess) -> None:  # HQ1, HQ2
    with Client(server.port) as client:
        client.send(b"HEAD /boot.efi HTTP/1.1\r\n" + HOST + b"\r\n")
        head = client.answer("HEAD")
        client.send(b"GET /boot.efi HTTP/1.1\r\n" + HOST + b"\r\n")
        answer = client.answer()
    assert answer.body == b"MZ"
    assert head.header("Content-Length") == answer.header("Content-Length") == "2"
    assert head.header("Content-Type") == "application/efi"


def test_edk2_resumes_with_the_etag_it_was_given(server: ServerProcess) -> None:  # HQ6
    etag = get(server.port, "/ten", method="HEAD").header("ETag")
    answer = get(server.port, "/ten", "Range: bytes=4-", f"If-Match: {etag}")
    assert (answer.status, answer.body) == (206, b"456789")
    assert get(server.port, "/ten", "Range: bytes=4-", 'If-Match: "other"').status == 412


# Conformance.


def test_get_and_head_say_the_same(server: ServerProcess) -> None:  # H-01
    answers = [get(server.port, "/images/root.squashfs", method=method) for method in ("GET", "HEAD")]
    for answer in answers:
        assert answer.status == 200
        assert answer.header("Content-Length") == "4000"
        assert answer.header("Accept-Ranges") == "bytes"
        assert answer.header("Cache-Control") == "public, max-age=31536000, immutable"
        assert re.fullmatch(r'"[^"]+"', answer.header("ETag") or "")
        for date in (answer.header("Date"), answer.header("Last-Modified")):
            assert email.utils.parsedate_to_datetime(date or "").timestamp() <= time.time()
        assert answer.header("Server") is None
        assert b": \r\n" not in answer.head  # HQ3
    assert answers[0].header("ETag") == answers[1].header("ETag")
    assert answers[1].body == b""


def test_head_ignores_range(server: ServerProcess) -> None:  # H-02
    assert get(server.port, "/ten", "Range: bytes=0-4", method="HEAD").status == 200


@pytest.mark.parametrize(
    ("ranges", "content_range", "body"),
    [
        ("0-4", "bytes 0-4/10", b"01234"),
        ("5-", "bytes 5-9/10", b"56789"),
        ("-3", "bytes 7-9/10", b"789"),
        ("0-0", "bytes 0-0/10", b"0"),
        ("-100", "bytes 0-9/10", TEN),
        ("5-99999999999999999999", "bytes 5-9/10", b"56789"),
        ("0-1,100-", "bytes 0-1/10", b"01"),
    ],
)
def test_a_range_is_exact(server: ServerProcess, ranges: str, content_range: str, body: bytes) -> None:  # H-03
    answer = get(server.port, "/ten", f"Range: bytes={ranges}")
    assert (answer.status, answer.body) == (206, body)
    assert answer.header("Content-Range") == content_range
    assert answer.header("Content-Length") == str(len(body))


@pytest.mark.parametrize("ranges", ["10-", "-0", "10-12,20-"])
def test_a_range_past_the_end_is_416(server: ServerProcess, ranges: str) -> None:  # H-04
    answer = get(server.port, "/ten", f"Range: bytes={ranges}")
    assert (answer.status, answer.header("Content-Range")) == (416, "bytes */10")


@pytest.mark.parametrize(
    "header",
    ["Range: bytes=4-2", "Range: lines=0-1", "Range: bytes=a-b", "Range: bytes=0-1\r\nRange: bytes=2-3"],
)
def test_a_range_that_means_nothing_is_ignored(server: ServerProcess, header: str) -> None:  # H-05, H-06, H-10
    answer = get(server.port, "/ten", header)
    assert (answer.status, answer.body) == (200, TEN)


def test_several_ranges_come_in_parts(server: ServerProcess) -> None:  # H-08
    answer = get(server.port, "/ten", "Range: bytes=7-8, 0-1, -1")
    assert (answer.status, answer.header("Content-Range")) == (206, None)
    head = f"Content-Type: {answer.header('Content-Type')}\r\n\r\n".encode()
    message = message_from_bytes(head + answer.body, policy=policy.HTTP)
    parts = [part for part in message.walk() if not part.is_multipart()]
    assert message.get_content_type() == "multipart/byteranges"
    assert [part.get_payload(decode=True) for part in parts] == [b"789", b"01"]
    assert [part["Content-Range"] for part in parts] == ["bytes 7-9/10", "bytes 0-1/10"]
    assert all(part.get_content_type() == "application/octet-stream" for part in parts)


@pytest.mark.parametrize("element", ["0-", "0-0", "5-1", "-1", "0-5000"])
def test_a_range_bomb_is_bounded(server: ServerProcess, element: str) -> None:  # H-09, A-32
    answer = get(server.port, "/vmlinuz", "Range: bytes=" + ",".join([element] * 400))
    assert answer.status in (200, 206, 416)
    assert len(answer.body) <= 1048583 + 200
    assert get(server.port, "/ten", "Range: bytes=" + ",".join([element] * 20000)).status == 431


def test_if_range_is_compared_strongly(server: ServerProcess) -> None:  # H-11
    etag = get(server.port, "/ten").header("ETag")
    for if_range, status in ((etag, 206), (f"W/{etag}", 200), ('"old"', 200), ("junk", 200)):
        assert get(server.port, "/ten", "Range: bytes=0-0", f"If-Range: {if_range}").status == status


def test_a_known_version_is_304_with_its_headers(server: ServerProcess) -> None:  # H-15
    etag = get(server.port, "/images/root.squashfs").header("ETag")
    for known in (etag, f"W/{etag}", "*"):
        answer = get(server.port, "/images/root.squashfs", f"If-None-Match: {known}")
        assert (answer.status, answer.body) == (304, b"")
        assert answer.header("ETag") == etag
        assert answer.header("Date")
        assert answer.header("Cache-Control")


def dated(server: ServerProcess, name: str, content: bytes, modified_s: float) -> str:
    """Write a file of a given age; return its ETag."""
    (server.folder / name).write_bytes(content)
    os.utime(server.folder / name, (modified_s, modified_s))
    time.sleep(0.1)  # before, it has a tag that nothing will ever have again
    return get(server.port, f"/{name}").header("ETag") or ""


BEFORE, AT, AFTER = (f"Sun, 06 Nov 1994 08:49:{second} GMT" for second in (36, 37, 38))


def test_dates_are_compared_exactly_and_in_any_of_the_three_forms(server: ServerProcess) -> None:  # H-12, H-13, HQ6
    dated(server, "dated", TEN, 784111777)
    assert get(server.port, "/dated").header("Last-Modified") == AT
    for header, status in (
        (f"If-Range: {AT}", 206),
        (f"If-Range: {AFTER}", 200),
        (f"If-Range: {BEFORE}", 200),
        (f"If-Unmodified-Since: {AT}", 206),
        (f"If-Unmodified-Since: {BEFORE}", 412),
        (f"If-Modified-Since: {BEFORE}", 206),
        (f"If-Modified-Since: {AT}", 304),
        ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("If-Modified-Since: Sun Nov  6 08:49:37 1994", 304),
        ("If-Modified-Since: yesterday", 206),
    ):
        assert get(server.port, "/dated", "Range: bytes=4-", header).status == status, header


def test_preconditions_come_in_their_order(server: ServerProcess) -> None:  # H-13, H-16
    tag = dated(server, "ordered", TEN, 784111777)
    for headers, status in (
        ((f"If-Match: {tag}", f"If-Unmodified-Since: {BEFORE}"), 206),  # nginx says 412
        (('If-Match: "other"', f"If-None-Match: {tag}"), 412),
        ((f"If-Match: {tag}", f"If-None-Match: {tag}"), 304),
        ((f"If-Match: W/{tag}",), 412),
        (("If-Match: *",), 206),
        (('If-None-Match: "other"', f"If-Modified-Since: {AFTER}"), 206),
        ((f'If-None-Match: "other", W/{tag}',), 304),
        ((f"If-Match: {tag}", 'If-Range: "other"'), 200),
        (('If-Match: "other"', f"If-Range: {tag}"), 412),
        (('If-None-Match: "a"', f"If-None-Match: {tag}"), 304),
    ):
        assert get(server.port, "/ordered", "Range: bytes=4-", *headers).status == status, headers


def test_the_etag_changes_with_every_content(server: ServerProcess) -> None:  # H-17
    """Twice within a second, of the same size, and with the old time put back; nginx shows the same tag for all."""
    tags = [dated(server, "changing", content, 784111777) for content in (b"one", b"two", b"six")]
    assert len(set(tags)) == 3
    for tag in tags[:2]:
        answer = get(server.port, "/changing", "Range: bytes=1-", f"If-Range: {tag}")
        assert (answer.status, answer.body) == (200, b"six")


def test_a_file_from_the_future_is_as_old_as_the_answer(server: ServerProcess) -> None:  # H-18
    dated(server, "tomorrow", TEN, time.time() + 86400)
    answer = get(server.port, "/tomorrow")
    assert answer.header("Last-Modified") == answer.header("Date")
    weak = get(server.port, "/tomorrow", "Range: bytes=4-", f"If-Range: {answer.header('Last-Modified')}")
    assert (weak.status, weak.body) == (200, TEN)


def test_a_date_of_this_second_is_no_strong_validator(server: ServerProcess) -> None:  # H-18
    for _ in range(60):
        time.sleep(1 - time.time() % 1)  # a second begins
        now = time.time()
        dated(server, "young", TEN, now)
        answer = get(server.port, "/young", "Range: bytes=4-", f"If-Range: {email.utils.formatdate(now, usegmt=True)}")
        if answer.header("Date") == answer.header("Last-Modified"):
            assert (answer.status, answer.body) == (200, TEN)
            return
    raise AssertionError("this machine takes a second for each answer")


def test_no_preconditions_on_what_is_not_there(server: ServerProcess) -> None:  # H-14
    assert get(server.port, "/nothing", "If-None-Match: *").status == 404
    assert get(server.port, "/ten", 'If-Match: "x"', method="DELETE").status == 405


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_405_with_allow(server: ServerProcess, method: str) -> None:  # H-19
    answer = get(server.port, "/ten", method=method)
    assert (answer.status, answer.header("Allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["FOO", "PROPFIND"])
def test_an_unknown_method_is_501(server: ServerProcess, method: str) -> None:  # H-19
    assert get(server.port, "/ten", method=method).status == 501


def test_connect_never_connects(server: ServerProcess) -> None:  # H-19
    assert exchange(server.port, b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n").status == 405


POST = b"POST /report/system HTTP/1.1\r\n" + HOST
SMUGGLED = [
    pytest.param(b"GET /ten HTTP/1.1\r\n\r\n", id="H-20-no-host"),
    pytest.param(b"GET /ten HTTP/1.1\r\n" + HOST + HOST + b"\r\n", id="H-20-two-hosts"),
    pytest.param(b"GET /ten HTTP/1.1\r\nHost: a b\r\n\r\n", id="H-20-bad-host"),
    pytest.param(
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="H-21-length-and-encoding"
    ),
    pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="H-21-two-lengths"),
    pytest.param(POST + b"Content-Length: 3, 4\r\n\r\nabcd", id="H-21-length-list"),
    pytest.param(POST + b"Content-Length: +5\r\n\r\nabcde", id="H-21-plus"),
    pytest.param(POST + b"Content-Length: -1\r\n\r\nabcde", id="H-21-minus"),
    pytest.param(POST + b"Transfer-Encoding: fish\r\n\r\n0\r\n\r\n", id="H-21-unknown-encoding"),
    pytest.param(POST + b"Transfer-Encoding: fish, chunked\r\n\r\n0\r\n\r\n", id="H-21-two-encodings"),
    pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", id="H-21-bad-chunk"),
    pytest.param(
        b"POST /report/system HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="H-21-chunked-1.0"
    ),
    pytest.param(b"GET /ten HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n", id="H-21-blank-before-colon"),
    pytest.param(b"GET /ten HTTP/1.1\r\n" + HOST + b"X: y\r\n z\r\n\r\n", id="H-21-folded"),
    pytest.param(b"GET /ten HTTP/1.1\r\n" + HOST + b"X: y\rz\r\n\r\n", id="H-21-bare-cr"),
    pytest.param(b"GET /ten HTTP/1.1\r\n" + HOST + b"X: y\0z\r\n\r\n", id="H-21-nul"),
    pytest.param(b"GET /ten HTTP/1.1\nHost: a\n\n", id="H-22-bare-lf"),
    pytest.param(b"GET /ten HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", id="H-22-one-bare-lf"),
    pytest.param(b"GET /t en HTTP/1.1\r\n" + HOST + b"\r\n", id="blank-in-target"),
]


@pytest.mark.parametrize("request_bytes", SMUGGLED)
def test_an_ambiguous_request_is_refused_and_the_connection_closed(
    server: ServerProcess, request_bytes: bytes
) -> None:
    with Client(server.port) as client:
        client.send(request_bytes)
        answer = client.answer()
        assert answer.status in (400, 501)
        assert answer.header("Connection") == "close"
        assert client.is_closed()


def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:  # H-23
    paths = ["/ten", "/boot.efi", "/nothing", "/vmlinuz", "/made/x"] * 20  # more than aiohttp queues
    with Client(server.port) as client:
        client.send(b"".join(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n" for path in paths))
        answers = [client.answer() for _ in paths]
    bodies = {"/ten": TEN, "/boot.efi": b"MZ", "/made/x": b"made/x" * 100}
    for path, answer in zip(paths, answers, strict=True):
        assert answer.status == (404 if path == "/nothing" else 200)
        if path in bodies:
            assert answer.body == bodies[path]


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET /ten HTTP/1.1\r\n" + HOST + b"Connection: close\r\n", True),
        (b"GET /ten HTTP/1.0\r\n", True),
        (b"GET /ten HTTP/1.0\r\nConnection: keep-alive\r\n", False),
    ],
)
def test_connection_close_and_http_1_0_are_obeyed(server: ServerProcess, head: bytes, closes: bool) -> None:  # H-23
    with Client(server.port) as client:
        client.send(head + b"\r\n")
        assert client.answer().header("Connection") == ("close" if closes else "keep-alive")
        if closes:
            assert client.is_closed()
        else:
            client.send(head + b"\r\n")
            assert client.answer().body == TEN


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, id="target"),
        pytest.param(b"GET /ten HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431, id="one-header"),
        pytest.param(b"GET /ten HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 103 + b"\r\n", 431, id="many-headers"),
        pytest.param(b"GET /ten HTTP/1.1\r\n" + (b"X: " + b"a" * 3000 + b"\r\n") * 60, 431, id="all-headers"),
        pytest.param(b"GET /ten HTTP/1.1\r\n" + (b"X: " + b"a" * 3000 + b"\r\n") * 6, 431, id="headers-of-18-kB"),
        pytest.param(b"GET /ten HTTP/2.0\r\n" + HOST + b"\r\n", 505, id="version"),
    ],
)
def test_limits_are_told(server: ServerProcess, request_bytes: bytes, status: int) -> None:  # H-24
    with Client(server.port) as client:
        client.send(request_bytes)
        assert client.answer().status == status
        assert client.is_closed()


def test_a_hundred_headers_are_not_too_many(server: ServerProcess) -> None:
    assert get(server.port, "/ten", *["X: y"] * 99).status == 200


def test_expect_is_answered(server: ServerProcess) -> None:  # H-25
    assert get(server.port, "/ten", "Expect: 100-continue").status == 200
    assert get(server.port, "/ten", "Expect: fish").status == 417
    with Client(server.port) as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.answer().status == 100
        client.send(b"ok")
        assert client.answer().status == 204


@pytest.mark.parametrize("head", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"])
def test_a_get_with_a_body_is_refused(server: ServerProcess, head: bytes) -> None:
    with Client(server.port) as client:
        client.send(b"GET /ten HTTP/1.1\r\n" + HOST + head)
        assert client.answer().status == 413
        assert client.is_closed()


@pytest.mark.parametrize(
    "target",
    ["/../ten", "/%2e%2e/etc/passwd", "/..%5cten", "/ten%00", "/%c0%ae%c0%ae/x", "/images/", "/", "/images", "/ten/"],
)
def test_what_leads_out_or_is_no_file_is_404(server: ServerProcess, target: str) -> None:
    assert get(server.port, target).status == 404


@pytest.mark.parametrize("target", ["//ten", "///ten", "/%74en", "http://198.51.100.1//ten", "/ten?x=y"])
def test_slashes_are_collapsed_in_place(server: ServerProcess, target: str) -> None:  # HQ4
    assert get(server.port, target).body == TEN


def test_what_is_made_is_not_kept_by_others(server: ServerProcess) -> None:
    assert get(server.port, "/secret/lts.conf").header("Cache-Control") == "no-store"
    made = get(server.port, "/made/grub.cfg", "Range: bytes=5-8")
    assert (made.status, made.body) == (206, b"grub")
    assert made.header("Cache-Control") == "private, no-cache"


def test_an_empty_file_is_empty(server: ServerProcess) -> None:
    answer = get(server.port, "/empty")
    assert (answer.status, answer.header("Content-Length"), answer.body) == (200, "0", b"")
    assert get(server.port, "/empty", "Range: bytes=0-").status == 416


def report(server: ServerProcess, stage: str, text: bytes) -> Answer:
    head = f"POST /report/{stage} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(text)}\r\n\r\n"
    return exchange(server.port, head.encode() + text)


def test_a_report_is_handed_on(server: ServerProcess) -> None:
    assert report(server, "system", b"root\xff ok").status == 204
    told = server.told()
    while told[1] != "report" or told[3] != "root\ufffd ok":  # what other tests left behind comes first
        told = server.told()
    assert told == ["127.0.0.1", "report", "system", "root\ufffd ok"]
    assert report(server, "nowhere", b"").status == 404
    assert report(server, "system", b"x" * 65536).status == 204
    assert report(server, "system", b"x" * 65537).status == 413
    assert get(server.port, "/report/system").status == 405
    assert get(server.port, "/report/system").header("Allow") == "POST"


def test_an_endless_chunked_report_is_cut_off(server: ServerProcess) -> None:
    with Client(server.port) as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        client.send((b"1000\r\n" + b"x" * 4096 + b"\r\n") * 17)
        assert client.answer().status == 413
        assert client.is_closed()


def test_a_compressed_report_is_not_unpacked(server: ServerProcess) -> None:
    head = b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    assert exchange(server.port, POST + head).status == 415


def test_what_a_peer_sends_is_one_escaped_line_in_the_log(server: ServerProcess) -> None:
    time.sleep(1.1)  # the log takes a few such lines a second, and the tests before have had them
    assert get(server.port, "/log%0d%0aERROR%1b[31m" + "x" * 5000).status == 404
    assert server.logged("/log")
    line = next(line for line in server.log().splitlines() if "/log" in line)
    assert line.startswith("INFO http 127.0.0.1 asked for '/log%0d%0aERROR%1b[31mxxx")
    assert len(line) < 400
