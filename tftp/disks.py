"""Threads that read files: a few for each disk, so that one that hangs stops only what is on it (F-17)."""

import config.disks
from config.content import Content, OpenFile
from tftp.errors import Busy


class DiskHangs(Busy):
    """As many reads as we keep wait for the disk of this file."""


class Disks:
    """The threads of every disk: at most `threads` for each, and `waiting` reads that are not done."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._disks = config.disks.Disks(threads, waiting, "tftp-read")

    def of(self, content: Content) -> config.disks.Pool:
        """Return the threads that read `content`. Raises `DiskHangs`."""
        try:
            return self._disks.of(content.device if isinstance(content, OpenFile) else 0, content.name)
        except config.disks.DiskHangs as error:
            raise DiskHangs(str(error)) from None

    def close(self) -> None:
        """End the threads that are idle, and the others when they are done. What waits is not begun."""
        self._disks.close()
