"""Boots on disk: what a menu tells is there before the menu leaves, and nobody else may read it."""

import threading
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.durable import replace_file
from pxeboot.joining.once import LATE_S, Boot, Refused, State, Why
from pxeboot.joining.store import FILE, BootStore
from tests.support.initramfs import mode

WHO = ("m1", "prod", "52:54:00:00:00:01", IPv4Address("10.0.0.10"))


def test_a_boot_is_on_disk_when_its_menu_may_leave(tmp_path: Path) -> None:
    store = BootStore(tmp_path / FILE)
    boot, kept = store.begin(*WHO)
    kept.result(10)
    assert mode(tmp_path / FILE) == 0o600
    again = BootStore(tmp_path / FILE)
    assert (again.newest("m1"), again.open()) == (boot, [boot])
    fetched = again.fetch("folder", boot.folder, "m1")
    assert not isinstance(fetched, Refused)
    fetched[1].result(10)
    third = BootStore(tmp_path / FILE)
    assert third.may("folder", boot.folder, "m1") == Refused(Why.SPENT, third.newest("m1"))
    given = third.fetch("join", boot.join, "m1", "abcdef", 2e9)
    assert not isinstance(given, Refused)
    given[1].result(10)
    last = BootStore(tmp_path / FILE).get(boot.id)
    assert last is not None
    assert (last.state, last.token_id, last.expires_s, last.seed) == (State.GIVEN, "abcdef", 2e9, boot.seed)


def test_the_seed_of_a_boot_that_is_over_is_kept_nowhere(tmp_path: Path) -> None:
    store = BootStore(tmp_path / FILE)
    boot, _ = store.begin(*WHO)
    store.over(boot.id, "its Node is Ready").result(10)
    assert boot.seed not in (tmp_path / FILE).read_text()
    assert store.over(boot.id, "again").done()
    assert store.end("m1", "again").done()


def test_no_two_boots_have_a_name_in_common(tmp_path: Path) -> None:
    store = BootStore(tmp_path / FILE)
    boots = [store.begin(f"m{number}", *WHO[1:])[0] for number in range(100)]
    store.close()
    assert len({name for boot in boots for name in (boot.id, boot.folder, boot.join, boot.seed)}) == 400


def test_a_machine_is_late_by_a_clock_that_nobody_sets(tmp_path: Path) -> None:
    clock, now = [1e9], [50.0]
    store = BootStore(tmp_path / FILE, lambda: clock[0], lambda: now[0])
    boot, _ = store.begin(*WHO)
    clock[0] += 1e6
    assert isinstance(store.may("join", boot.join, "m1"), Boot)
    now[0] += LATE_S + 1
    assert store.may("join", boot.join, "m1") == Refused(Why.LATE, boot)


def test_a_disk_that_hangs_keeps_nobody_from_being_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def hanging(path: Path, data: bytes, permissions: int) -> None:
        go.wait(10)
        replace_file(path, data, permissions)

    monkeypatch.setattr("pxeboot.written.replace_file", hanging)
    store = BootStore(tmp_path / FILE)
    boot, kept = store.begin(*WHO)
    assert store.may("join", boot.join, "m2") == Refused(Why.ADDRESS, boot)
    assert not kept.done()
    go.set()
    kept.result(10)


def test_a_damaged_file_costs_what_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = BootStore(tmp_path / FILE)
    boot, kept = store.begin(*WHO)
    kept.result(10)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + b'{"seed": "\xff\n' + boot.seed.encode() + b"\n")
    again = BootStore(path)
    assert (again.damaged, again.newest("m1")) == (2, boot)
    assert "2 lines are damaged" in caplog.text
    assert boot.seed not in caplog.text
