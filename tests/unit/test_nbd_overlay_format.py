"""The map of changed blocks: what was written is read, and what is damaged is told and never guessed."""

import json
import zlib
from pathlib import PurePath
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbd.overlay_disk import BASE, BLOCK, DATA, ZERO
from nbd.overlay_format import COMMIT, HEADER, KEEP, KEEPS, RECORD, About, Damaged, head, read, record

PATH = PurePath("m.map")
BLOCKS = 50
ABOUT = About("m", "image", BLOCKS * BLOCK, "boot")
STATES = bytes([BASE, DATA, ZERO] * 16 + [BASE, BASE])


def written(records: list[tuple[int, int, int]], boot_id: str = "a") -> bytes:
    """Return a file with these records; a COMMIT covers all before it."""
    data, seed = head(ABOUT, boot_id, STATES)
    for first, count, kind in records:
        data += record(len(data) if kind == COMMIT else first, count, kind, len(data), seed)
    return data


changes = st.tuples(st.integers(0, BLOCKS - 1), st.integers(1, BLOCKS), st.sampled_from([DATA, ZERO])).map(
    lambda one: (one[0], min(one[1], BLOCKS - one[0]), one[2])
)
keeps = st.tuples(st.sampled_from(range(len(KEEPS))), st.just(0), st.just(KEEP))
records = st.lists(changes | keeps | st.just((0, 0, COMMIT)), max_size=12)


def states_after(records: list[tuple[int, int, int]]) -> tuple[bytes, str]:
    states, keep = bytearray(STATES), ABOUT.keep
    for first, count, kind in records:
        if kind == KEEP:
            keep = KEEPS[first]
        elif kind != COMMIT:
            states[first : first + count] = bytes([kind]) * count
    return bytes(states), keep


@given(records)
def test_the_next_process_finds_everything_that_was_written(records: list[tuple[int, int, int]]) -> None:
    data = written(records)
    found = read(data, "a", PATH)
    assert (bytes(found.states), found.about.keep) == states_after(records)
    assert (found.flushed, found.end) == (False, len(data))


@given(records, st.sampled_from(["b", ""]))
def test_another_boot_finds_what_a_flush_had_covered(records: list[tuple[int, int, int]], boot_id: str) -> None:
    commits = [at for at, one in enumerate(records) if one[2] == COMMIT]
    found = read(written(records, boot_id="a" if boot_id else ""), boot_id, PATH)
    assert found.flushed
    assert (bytes(found.states), found.about.keep) == states_after(records[: max(commits, default=0)])


@given(records, st.integers(0, 23), st.binary(min_size=1, max_size=60))
def test_a_torn_end_is_left_out(records: list[tuple[int, int, int]], taken: int, garbage: bytes) -> None:
    data = written(records)
    torn = record(0, 1, DATA, len(data), 1)[:taken]
    for end in (torn, bytes(48), garbage):
        found = read(data + end, "a", PATH)
        assert (bytes(found.states), found.end) == (states_after(records)[0], len(data))


@given(records.filter(bool), st.data())
def test_one_wrong_byte_is_told_or_takes_away_the_end(
    records: list[tuple[int, int, int]], chosen: st.DataObject
) -> None:
    data = bytearray(written(records))
    at = chosen.draw(st.integers(0, len(data) - 1))
    data[at] ^= chosen.draw(st.integers(1, 255))
    for boot_id in "ab":
        try:
            found = read(bytes(data), boot_id, PATH)
        except Damaged:
            continue
        whole = (at - found.begin) // RECORD.size
        assert at >= found.begin
        if boot_id == "a":
            assert bytes(found.states) == states_after(records[:whole])[0]
            assert whole == len(records) - 1, "only the last record may have been torn"
        else:
            commits = [number for number, one in enumerate(records) if one[2] == COMMIT and number != whole]
            assert bytes(found.states) == states_after(records[: max(commits, default=0)])[0]


@given(st.binary(max_size=200) | st.binary(max_size=200).map(HEADER.__add__))
def test_any_other_file_is_called_damaged(data: bytes) -> None:
    with pytest.raises(Damaged, match=r"m\.map: not a map"):
        read(data, "a", PATH)


HEADS = [
    {"size_bytes": -4096},
    {"size_bytes": 4097},
    {"size_bytes": float("inf")},
    {"size_bytes": 1 << 70},
    {"size_bytes": "x"},
    {"size_bytes": 8192},
    {"states_bytes": -1},
    {"states_bytes": 1 << 70},
    {"keep": "never"},
    {"keep": []},
    {"machine": None, "size_bytes": None},
]


@pytest.mark.parametrize("wrong", HEADS, ids=str)
def test_a_head_that_we_never_write_is_called_damaged(wrong: dict[str, object]) -> None:
    deflated = zlib.compress(bytes(1))
    line = {"machine": "m", "image_id": "i", "size_bytes": 4096, "keep": "boot", "boot_id": "a"}
    data = HEADER + json.dumps({**line, "states_bytes": len(deflated), **wrong}).encode() + b"\n" + deflated
    with pytest.raises(Damaged):
        read(data + pack(">L", zlib.crc32(data)), "a", PATH)


@pytest.mark.parametrize("states", [b"\x07", b"\0\0", b""], ids=["state-7", "too-many", "too-few"])
def test_blocks_that_the_disk_does_not_have_are_called_damaged(states: bytes) -> None:
    data, _ = head(About("m", "i", BLOCK, "boot"), "a", states)
    with pytest.raises(Damaged):
        read(data, "a", PATH)


@pytest.mark.parametrize("one", [(BLOCKS, 1, DATA), (0, BLOCKS + 1, ZERO), (0, 0, DATA), (0, 1, 9), (7, 0, KEEP)])
def test_a_record_of_blocks_that_there_are_not_is_called_damaged(one: tuple[int, int, int]) -> None:
    with pytest.raises(Damaged, match="does not have"):
        read(written([one]), "a", PATH)
