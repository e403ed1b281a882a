"""What has arrived on a connection, and was not understood yet."""

from nbd.actions import Action


class Inbox:
    """A stream of bytes, of which at most one unfinished message is kept: long data nobody needs are only counted."""

    __slots__ = ("_missing", "_then", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        """What arrived and was not taken yet."""
        self._missing = 0
        self._then: list[Action] = []

    def add(self, data: bytes | memoryview) -> None:
        """Take what arrived."""
        if self._missing:
            dropped = min(self._missing, len(data))
            self._missing -= dropped
            data = data[dropped:]
        self.data += data

    def take(self, length: int) -> bytes:
        """Return the next bytes, which must be there."""
        taken = bytes(memoryview(self.data)[:length])
        del self.data[:length]
        return taken

    def drop(self, length: int, then: list[Action]) -> None:
        """Drop the next `length` bytes, also those that have yet to come; after the last one, `then` is due."""
        here = min(length, len(self.data))
        del self.data[:here]
        self._missing = length - here
        self._then = then

    def dropped(self, actions: list[Action]) -> bool:
        """Return whether there is nothing left to drop; then add what was due after it to `actions`."""
        if self._missing:
            return False
        if self._then:
            actions += self._then
            self._then = []
        return True

    @property
    def empty(self) -> bool:
        """Whether everything that arrived was taken, and all of what is to be dropped has arrived."""
        return not self.data and not self._missing

    def clear(self) -> None:
        """Forget everything."""
        self.data.clear()
        self._missing = 0
        self._then = []
