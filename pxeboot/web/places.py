"""Places of those who follow something live: so many at once, shared between the addresses that they come from.

One colleague with a broken script could have all of them. When all are taken, a newcomer is given one of whoever has
most, but never so that its own address would then have as many: so nobody who was put out puts out others in turn, and
behind a proxy, where all come from one address, who came first stays.
"""

from collections.abc import Iterable
from typing import TypeVar

from aiohttp import web

T = TypeVar("T")


def is_gone(reader: web.Request) -> bool:
    """Tell whether the connection of a reader has ended."""
    return reader.transport is None or reader.transport.is_closing()


def most_of(held: Iterable[tuple[object, T]]) -> list[T]:
    """Return what the address has that has most, in the order of `held`, which names the address of each.

    >>> most_of([("a", 1), ("b", 2), ("b", 3)])
    [2, 3]
    """
    of: dict[object, list[T]] = {}
    for address, one in held:
        of.setdefault(address, []).append(one)
    return max(of.values(), key=len, default=[])


class Places:
    """So many readers at once."""

    def __init__(self, most: int) -> None:
        """Have `most` places."""
        self._most = most
        self._readers: list[web.Request] = []

    def __len__(self) -> int:
        """Return how many have a place. Those whose connection has ended are about to leave, and count no more."""
        return sum(not is_gone(reader) for reader in self._readers)

    def take(self, reader: web.Request) -> bool:
        """Give `reader` a place, if need be one of whoever has most, whose oldest connection then ends."""
        here = [one for one in self._readers if not is_gone(one)]
        if len(here) >= self._most:
            most = most_of((one.remote, one) for one in here)
            own = sum(one.remote == reader.remote for one in here)
            if own + 1 >= len(most) or most[0].transport is None:
                return False
            most[0].transport.abort()
        self._readers.append(reader)
        return True

    def leave(self, reader: web.Request) -> None:
        """Take the place of `reader` back."""
        self._readers.remove(reader)
