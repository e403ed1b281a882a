"""Whose turn it is at a disk."""

from hypothesis import given
from hypothesis import strategies as st

from httpimage.turns import Line, Lines

PER_FILE, PER_DISK = 2, 3


@given(st.lists(st.one_of(st.tuples(st.integers(0, 2), st.sampled_from("abc")), st.integers(0, 20)), max_size=60))
def test_limits_hold_and_nobody_waits_in_vain(steps: list[tuple[int, str] | int]) -> None:
    lines: Lines[int] = Lines(per_file=PER_FILE, per_disk=PER_DISK)
    where: dict[int, tuple[int, str]] = {}
    running: dict[int, Line[int]] = {}
    waiting: list[int] = []
    for number, step in enumerate([*steps, *([0] * len(steps))]):
        if isinstance(step, tuple):
            where[number] = step
            line = lines.of(*step)
            if line.enter(number):
                running[number] = line
            else:
                waiting.append(number)
        elif running:
            following = running.pop(sorted(running)[step % len(running)]).leave()
            if following is not None:
                line, item = following
                waiting.remove(item)
                running[item] = line
        files = [where[item] for item in running]
        disks = [device for device, _ in files]
        assert all(files.count(file) <= PER_FILE for file in files)
        assert all(disks.count(device) <= PER_DISK for device in disks if device)
        for item in waiting:
            full = files.count(where[item]) == PER_FILE
            assert full or (where[item][0] and disks.count(where[item][0]) == PER_DISK)
    assert not waiting


def test_a_file_of_an_unknown_disk_waits_for_itself_only() -> None:
    lines: Lines[str] = Lines(per_file=1, per_disk=1)
    assert [lines.of(0, name).enter(name) for name in ("a", "b")] == [True, True]
