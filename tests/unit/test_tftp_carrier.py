"""tftp.carrier: the windows of a part, made all at once, are those that `Steady` makes block by block."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftp.carrier import MOST, READ, _Part
from tftp.steady import Steady

EDGE = 4 * READ
SIZE = (80 << 20) + EDGE


def steady(size_bytes: int, blksize: int, rollover: int, sent: int, windowsize: int = 1) -> Steady:
    return Steady(
        size_bytes, blksize, windowsize, rollover, sent - 1, sent, 0, 0, 0, 0, 0, 0, deadline=1.0, ends_at=9.0
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of 80 MiB, with something at its two ends only."""
    with (tmp_path_factory.mktemp("carrier") / "file").open("wb+") as file:
        file.write(os.urandom(EDGE))
        file.seek(SIZE - EDGE)
        file.write(os.urandom(EDGE))
        file.flush()
        yield file.fileno()


@given(st.data())
def test_a_part_is_what_its_windows_are(file: int, data: st.DataObject) -> None:
    blksize = data.draw(st.sampled_from((8, 31, 512, 1024, 1408, 1428, 8192, 32768, 65464)))
    windowsize = data.draw(st.sampled_from((1, 1, 2, 16, 64, MOST, MOST + 1)[: 5 if blksize > 1428 else 7]))
    last = SIZE // blksize
    turns = [number for turn in (65536, 131071) for number in range(turn - MOST - 3, turn + 3) if number <= last]
    sent = data.draw(st.one_of(st.integers(1, 40), st.integers(last - 80, last), st.sampled_from(turns or [1])))
    rollover = data.draw(st.sampled_from((0, 1)))
    part = _Part(blksize, windowsize)
    assert part.read(steady(SIZE, blksize, rollover, sent, windowsize), file)
    exchanges = [(bytes(ack), bytes(window)) for ack, window in zip(part.acks, part.windows, strict=True)]
    blocks = len(exchanges) * windowsize
    content = os.pread(file, blocks * blksize, sent * blksize)
    expected = steady(SIZE, blksize, rollover, sent, windowsize).exchanges(content)
    assert blocks >= min(READ // blksize - windowsize, MOST, last + 1 - sent)
    assert exchanges
    assert exchanges == [(ack, b"".join(window)) for ack, window in expected[: len(exchanges)]]


def test_a_file_that_was_cut_off_gives_no_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1024))
    with path.open("rb") as file:
        assert not _Part(512).read(steady(1 << 20, 512, 0, 1), file.fileno())
