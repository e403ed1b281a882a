"""Writes of a machine are carried out whole, one after the other, in the order in which they came."""

import os
import threading
from pathlib import Path

from config.content import OpenFile
from nbd.exports import FileExport
from nbd.overlay_disk import BLOCK, Disk
from nbd.overlay_files import Files
from nbd.overlay_store import InMemory
from nbd.overlay_turns import Turns


class SlowImage(FileExport):
    """An image on a disk whose first read takes until it is told to end."""

    __slots__ = ("go_on", "reading")

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY)
        super().__init__("image", OpenFile("image", fd, os.fstat(fd).st_size, "x", None))
        self.reading = threading.Event()
        self.go_on = threading.Event()

    def read(self, into: memoryview, offset: int) -> None:
        first = not self.reading.is_set()
        super().read(into, offset)
        if first:
            self.reading.set()
            assert self.go_on.wait(10)


def test_two_writes_to_one_block_keep_what_the_other_wrote(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"-" * 2 * BLOCK)
    image = SlowImage(tmp_path / "image")
    store = InMemory(Files(), "m", image.size_bytes, lambda: None)
    disk = Disk(image, store, bytearray(2), 1 << 20)
    first = threading.Thread(target=lambda: disk.write(memoryview(b"a" * 2048), 0, fua=False))
    second = threading.Thread(target=lambda: disk.write(memoryview(b"b" * 2048), 2048, fua=False))
    first.start()
    assert image.reading.wait(10)  # the first one has the old block now
    second.start()
    second.join(0.1)
    image.go_on.set()
    first.join(10)
    second.join(10)
    into = bytearray(2 * BLOCK)
    disk.read(memoryview(into), 0)
    assert into == b"a" * 2048 + b"b" * 2048 + b"-" * BLOCK
    disk.close()
    image.close()


def test_whoever_came_first_has_the_first_turn() -> None:
    turns, order = Turns(), list[int]()

    def take(number: int) -> None:
        with turns:
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(20)]
    with turns:
        for thread in threads:
            thread.start()
            thread.join(0.005)  # it waits by now
    for thread in threads:
        thread.join(10)
    assert order == [*range(20)]


def test_a_turn_that_ends_in_an_error_is_over() -> None:
    turns = Turns()
    for _ in range(2):
        try:
            with turns:
                raise OSError
        except OSError:
            continue
