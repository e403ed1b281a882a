import os
from pathlib import Path

import pytest

from config.content import OpenFile
from nbd import mappings
from nbd.exports import FileExport
from nbd.mappings import Mappings


def opened(path: Path, content: bytes) -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY)


def test_everybody_who_reads_a_file_has_the_same_mapping(tmp_path: Path) -> None:
    ours = Mappings(lambda: 5.0)
    first = opened(tmp_path / "image", b"a" * 5000)
    second = os.open(tmp_path / "image", os.O_RDONLY)
    mapping = ours.take(first)
    assert mapping is not None
    assert ours.take(second) is mapping
    assert bytes(mapping.view) == b"a" * 5000
    ours.give(mapping)
    ours.give(mapping)
    assert ours.take(first) is mapping, "it is kept for a while"
    os.close(first)
    os.close(second)


def test_few_that_nobody_uses_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Mappings(lambda: 5.0)
    files = [opened(tmp_path / str(number), b"x") for number in range(mappings.UNUSED + 1)]
    taken = [ours.take(file) for file in files]
    for mapping in taken:
        assert mapping is not None
        ours.give(mapping)
    assert ours.take(files[0]) is not taken[0]
    assert ours.take(files[-1]) is taken[-1]
    monkeypatch.setattr(mappings, "UNUSED_S", -1.0)
    last = taken[-1]
    assert last is not None
    ours.give(last)
    assert ours.take(files[-1]) is not last, "its time was over"
    for file in files:
        os.close(file)


def test_a_file_that_was_changed_is_another_one_and_an_empty_one_has_none(tmp_path: Path) -> None:
    ours = Mappings(lambda: 5.0)
    file = opened(tmp_path / "image", b"a" * 5000)
    before = ours.take(file)
    os.truncate(tmp_path / "image", 4000)
    after = ours.take(file)
    assert after is not None
    assert after is not before
    os.truncate(tmp_path / "image", 0)
    assert ours.take(file) is None
    os.close(file)


def test_a_window_shows_what_is_in_memory_and_nothing_beyond_the_file(tmp_path: Path) -> None:
    content = os.urandom(1 << 20) + b"end"
    fd = opened(tmp_path / "image", content)
    os.pread(fd, len(content), 0)
    ours = Mappings(lambda: 5.0)
    export = FileExport("node", OpenFile("node", fd, len(content), "x", None), mappings=ours)
    window = export.window(4096, 1 << 17)
    assert window is not None
    assert bytes(window) == content[4096 : 4096 + (1 << 17)]
    assert export.window((1 << 20) - 4096, 8192) is None, "what follows the file has to be made"
    del window
    os.truncate(tmp_path / "image", 1 << 16)
    assert export.window(1 << 17, 1 << 17) is None
    export.close()
    assert all(not mapping.users for mapping in ours._mappings.values())


def test_one_that_nobody_uses_goes_when_its_time_is_over_though_nobody_comes(tmp_path: Path) -> None:
    now = [5.0]
    ours = Mappings(lambda: now[0])
    file = opened(tmp_path / "image", b"x")
    mapping = ours.take(file)
    assert mapping is not None
    ours.give(mapping)
    timer = ours._timer
    assert timer is not None, "or nobody would look"
    timer.cancel()
    ours._tidy_now()
    assert ours._mappings
    assert ours._timer is not None
    ours._timer.cancel()
    now[0] += mappings.UNUSED_S + 1
    ours._tidy_now()
    assert not ours._mappings
    assert ours._timer is None
    os.close(file)
