"""The storm's machines, and what its table and that of the cold disk say."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from bench.http_cold import Measured, Phase
from bench.http_cold import rows as cold_rows
from bench.http_storm import Storm, failures, rows
from bench.storm_boot import Story, address_of, mac_of
from bench.storm_http import Broken, parse_head
from bench.storm_probe import KNOWN, known_address, known_mac
from bench.storm_pull import Pulled
from bench.storm_report import Delays, Row, missed
from bench.storm_wire import boot_file, payload_of

FAST = {"static OFFER": Delays.of([1.0] * 100), "file": Delays.of([500.0] * 100)}
STORY = Story(1, address_s=1, loader_s=2, system_s=3, image_s=4, end_s=5, loader="ours", bytes_received=10**9)
STORM = Storm(
    (STORY, replace(STORY, number=2)), 5.0, FAST, (70, 90, 80), 100, 10, 0.1, 0.0, (20, 20), frozenset({"ours"})
)


def test_machines_have_macs_and_addresses_of_their_own() -> None:
    numbers = range(1, 2001)
    assert len({mac_of(n) for n in numbers} | {known_mac(n) for n in range(KNOWN)}) == 2000 + KNOWN
    assert len({address_of(n) for n in numbers} | {known_address(n) for n in range(KNOWN)}) == 2000 + KNOWN


@pytest.mark.parametrize(
    ("storm", "good"),
    [
        (STORM, True),
        (replace(STORM, stories=(STORY, replace(STORY, failed="Silent: no answer"))), False),
        (replace(STORM, loaders=frozenset({"another"})), False),
        (replace(STORM, delays=FAST | {"static OFFER": Delays.of([1.0] * 97, lost=3)}), False),
        (replace(STORM, delays=FAST | {"static OFFER": Delays.of([999.0] * 100)}), True),
        (replace(STORM, delays=FAST | {"static OFFER": Delays.of([1000.0] * 100)}), False),
        (replace(STORM, stories=(replace(STORY, failed="all of them"),)), False),
    ],
)
def test_a_storm_is_good_if_none_fails_and_dhcp_stays_fast(storm: Storm, good: bool) -> None:
    assert missed(rows(storm)) is not good


def test_reasons_are_told_with_how_often_and_where() -> None:
    stories = [replace(STORY, number=n, failed="busy" if n < 4 else "silent") for n in range(1, 5)]
    assert failures(stories) == ["    3 x busy   (m1)", "    1 x silent   (m4)"]
    assert failures([STORY]) == []


def measured(delays: Mapping[str, Delays]) -> Measured:
    return Measured(dict(delays), Pulled(cached=[0.0, math.nan]), 10, 0.5, 0.1, 70, Delays.of([1.0]), 0.0)


def verdict(table: list[Row], name: str) -> bool | None:
    return next(row.good for row in table if name in row.label)


@pytest.mark.parametrize(
    ("phase", "delays", "good"),
    [
        (Phase.COLD, Delays.of([19.9] * 100), True),
        (Phase.COLD, Delays.of([20.0] * 100), False),
        (Phase.COLD, Delays.of([1.0] * 98, lost=2), False),
        (Phase.SLOW, Delays.of([20.0] * 100), False),
        (Phase.WARM, Delays.of([50.0] * 100), True),
        (Phase.IDLE, Delays.of([50.0] * 100), True),
    ],
)
def test_dhcp_is_judged_under_cold_downloads_and_on_the_slow_disk(phase: Phase, delays: Delays, good: bool) -> None:
    results = {each: measured({"static OFFER": Delays.of([1.0] * 100)}) for each in Phase}
    results[phase] = measured({"static OFFER": delays, "file": Delays.of([900.0])})
    table = cold_rows(results)
    assert verdict(table, "static OFFER") is good
    assert verdict(table, "small file") is None


def test_a_phase_that_asked_nothing_of_a_kind_has_not_reached_it() -> None:
    assert verdict(cold_rows({Phase.IDLE: measured(FAST), Phase.COLD: measured({})}), "static OFFER") is False


def test_a_machine_that_is_told_to_wait_reads_it_in_the_status_line() -> None:
    head = parse_head(b"HTTP/1.1 503 Wait. Retry-After: 7\r\nRetry-After: 7\r\nContent-Length: 0")
    assert (head.status, head.turn_s, head.length, head.keeps) == (503, 7, 0, True)
    assert parse_head(b"HTTP/1.1 503 Retry-After: 900").turn_s == 60
    assert parse_head(b"HTTP/1.1 503 Retry-After: 0").turn_s == 1
    assert parse_head(b"HTTP/1.1 503 Busy\r\nRetry-After: 7").turn_s is None
    assert parse_head(b"HTTP/1.1 200 OK\r\nConnection: close").keeps is False


@pytest.mark.parametrize("text", [b"", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nnonsense"])
def test_what_is_no_head_is_refused(text: bytes) -> None:
    with pytest.raises(Broken):
        parse_head(text)


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(Broken):
        _ = parse_head(b"HTTP/1.1 200 OK").length
    assert parse_head(b"HTTP/1.1 204 No Content").length == 0


def test_the_boot_file_is_that_of_the_field_or_of_option_67() -> None:
    cookie = bytes((99, 130, 83, 99))
    assert boot_file(bytes(108) + b"core.0".ljust(128, b"\0") + cookie + b"\x43\x03abc\xff") == "core.0"
    assert boot_file(bytes(236) + cookie + b"\0\x35\x01\x05\x43\x03abc\xff") == "abc"
    assert boot_file(bytes(236) + cookie + b"\xff") == ""


def test_a_payload_is_found_behind_ip_options() -> None:
    assert payload_of(bytes([0x46]) + bytes(23) + bytes(8) + b"payload") == b"payload"
