"""What each machine booted, as text and on disk."""

import asyncio
import dataclasses
import json
import threading
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.durable import replace_file
from config.exports import Writable
from pxeboot.exports import pins
from pxeboot.exports.pin_store import FILE, PinStore
from pxeboot.exports.pins import Pin
from pxeboot.written import HANGS_S

PIN = Pin("m1", "node", "ab" * 32, IPv4Address("10.0.0.1"), 5.5)
OTHER = dataclasses.replace(PIN, machine="m2", writable=Writable(where="file", limit_mib=7, keep="always"))


def line(**changes: object) -> str:
    whole = {"machine": "m1", "image": "node", "id": "ab" * 32, "address": "10.0.0.1", "since_s": 5.5}
    return json.dumps(whole | changes)


HEAD = '{"version": 1}\n'

KEPT = st.builds(
    Pin, st.text(), st.text(), st.text("0123456789abcdef", min_size=64, max_size=64), st.ip_addresses(v=4),
    st.floats(0, 2**40), st.none() | st.builds(Writable, limit_mib=st.integers(1, 1 << 24)),
)  # fmt: skip


@given(st.lists(KEPT, unique_by=lambda pin: pin.machine))
def test_pins_are_read_as_they_were_written(kept: list[Pin]) -> None:
    assert pins.parse(pins.dump(kept)) == ({pin.machine: pin for pin in kept}, 0)


@pytest.mark.parametrize(
    ("text", "found", "damaged"),
    [
        ("", [], 0),
        (HEAD, [], 0),
        (HEAD + line(), [PIN], 0),
        (HEAD + line() + "\n" + line(since_s=5.5), [PIN], 0),
        (HEAD + line()[:-9] + "\n" + line(machine="m2"), [dataclasses.replace(PIN, machine="m2")], 1),
        ("\x00\x00\x00\n" + line(), [PIN], 1),
        ('{"version": 2}\n' + line(), [PIN], 1),
        (HEAD + "[]\n7\nnull\n" + line(), [PIN], 3),
        (HEAD + line(address="10.0.0"), [], 1),
        (HEAD + line(since_s=True), [], 1),
        (HEAD + line(since_s="5"), [], 1),
        (HEAD + line(machine=5), [], 1),
        (HEAD + line(writable={"where": "moon"}), [], 1),
        (HEAD + "[" * 100_000, [], 1),
    ],
)
def test_a_damaged_line_is_left_out_and_counted(text: str, found: list[Pin], damaged: int) -> None:
    assert pins.parse(text) == ({pin.machine: pin for pin in found}, damaged)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    pins.parse(text)


def test_what_is_kept_is_there_after_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / FILE
    store = PinStore(path)
    assert store.every() == []
    store.put(OTHER).result(10)
    store.put(PIN).result(10)
    again = PinStore(path)
    assert (again.get("m1"), again.get("m2"), again.damaged) == (PIN, OTHER, 0)
    assert again.every() == [PIN, OTHER]
    again.drop(["m1", "nobody"]).result(10)
    assert PinStore(path).every() == [OTHER]
    assert not caplog.text
    path.write_text(path.read_text() + "half a li")
    assert (PinStore(path).every(), PinStore(path).damaged) == ([OTHER], 1)
    assert "1 lines are damaged" in caplog.text


def test_a_pin_counts_before_it_is_on_disk_and_a_later_one_of_the_same_machine_replaces_it(tmp_path: Path) -> None:
    store = PinStore(tmp_path / "pins")
    first = store.put(PIN)
    newer = dataclasses.replace(PIN, image_id="cd" * 32)
    second = store.put(newer)
    assert store.get("m1") == newer
    first.result(10)
    second.result(10)
    assert PinStore(tmp_path / "pins").every() == [newer]


def test_a_farm_that_boots_at_once_costs_a_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, written = threading.Event(), []

    def slow(path: Path, data: bytes, _: int) -> None:
        go.wait(10)
        written.append(data)

    monkeypatch.setattr("pxeboot.written.replace_file", slow)
    store = PinStore(tmp_path / "pins")
    futures = [store.put(dataclasses.replace(PIN, machine=f"m{n}")) for n in range(500)]
    assert not any(future.done() for future in futures)
    go.set()
    for future in futures:
        future.result(10)
    assert len(written) <= 2
    assert len(written[-1].splitlines()) == 501


def test_who_no_more_waits_for_the_disk_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr("pxeboot.written.replace_file", lambda *_: go.wait(10))
    store = PinStore(tmp_path / "pins")

    async def leave() -> None:
        waiting = asyncio.wrap_future(store.put(PIN))
        waiting.cancel()
        await asyncio.sleep(0)

    asyncio.run(leave())
    go.set()
    store.put(OTHER).result(10)


def test_what_cannot_be_kept_is_told_and_kept_with_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = PinStore(folder / "pins")
    with pytest.raises(FileNotFoundError):
        store.put(PIN).result(10)
    assert store.get("m1") == PIN, "its image is not to be removed"
    folder.mkdir()
    store.put(OTHER).result(10)
    assert PinStore(folder / "pins").every() == [PIN, OTHER]


def test_nobody_waits_for_a_disk_that_hangs_and_all_is_kept_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, began, now = threading.Event(), threading.Event(), [0.0]

    def hanging(path: Path, data: bytes, mode: int) -> None:
        began.set()
        go.wait(10)
        replace_file(path, data, mode)

    monkeypatch.setattr("pxeboot.written.replace_file", hanging)
    store = PinStore(tmp_path / "pins", lambda: now[0])
    first = store.put(PIN)
    assert began.wait(10)
    now[0] = HANGS_S + 1
    for _ in range(3):
        with pytest.raises(TimeoutError, match="hangs, since 9 s"):
            store.put(OTHER).result(0)
    assert not first.done()
    go.set()
    first.result(10)
    store.close()
    assert PinStore(tmp_path / "pins").every() == [PIN, OTHER]


def test_a_state_folder_that_is_full_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = PinStore(tmp_path / "missing" / "pins")
    for machine in ("m1", "m2", "m3"):
        assert store.put(dataclasses.replace(PIN, machine=machine)).exception(10) is not None
    assert len(caplog.messages) == 1
    assert "cannot be written" in caplog.text


def test_a_pin_is_dropped_only_while_it_is_its_machines(tmp_path: Path) -> None:
    store = PinStore(tmp_path / "pins")
    store.put(PIN)
    newer = dataclasses.replace(PIN, since_s=6.0)
    store.put(newer)
    assert not store.drop_pin(PIN)
    assert store.get("m1") == newer
    assert store.drop_pin(newer)
    store.close()
    assert PinStore(tmp_path / "pins").every() == []


def test_to_forget_nobody_writes_nothing(tmp_path: Path) -> None:
    PinStore(tmp_path / "pins").drop(["m1"]).result(0)
    assert not (tmp_path / "pins").exists()


def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    store = PinStore(tmp_path / "pins")
    store.put(PIN)
    store.close()
    assert PinStore(tmp_path / "pins").every() == [PIN]


def test_a_pin_is_found_by_the_address_that_its_machine_has_now(tmp_path: Path) -> None:
    store = PinStore(tmp_path / "pins")
    assert store.at(PIN.address) is None
    store.put(PIN)
    store.put(OTHER)
    assert store.at(PIN.address) == OTHER, "it was given to another machine"
    store.drop(["m1"])
    assert store.at(PIN.address) == OTHER
    elsewhere = dataclasses.replace(OTHER, address=IPv4Address("10.0.0.9"))
    store.put(elsewhere).result(10)
    assert (store.at(PIN.address), store.at(elsewhere.address)) == (None, elsewhere)
    again = PinStore(tmp_path / "pins")
    assert again.at(elsewhere.address) == elsewhere
    again.drop(["m2"])
    assert again.at(elsewhere.address) is None
