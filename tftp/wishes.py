"""Which requests are being granted, by the client's address and port, and which one makes room for the next. Pure.

Whoever sends from a forged address leaves a transfer behind that nobody answers. A thousand such, and no machine
would get anything for half a minute. So when there is no room, the oldest transfer whose client never answered goes:
a machine answers within milliseconds, and is safe from then on (A-25).
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from tftp import wire
from tftp.engine import Transfer
from tftp.errors import Busy

Address = tuple[str, int]

HELD_BYTES = 64 * 1024 * 1024
"""How much content that was made for one request each (a node.cpio is 512 KiB) those may hold that never answered."""
LOOKS = 32
"""At how many requests whose file is still being looked for we look, in search of one that can go."""


class Running(Protocol):
    """A transfer with its port, its timer and its file."""

    transfer: Transfer
    started_at: float
    bytes_sent: int

    def received(self, datagram: bytes) -> None:
        """Act on a datagram of its client's."""

    def close(self) -> None:
        """Stop without a word to anybody."""


@dataclass(slots=True)
class Wish:
    """A request that is being granted. `running` is None until its file is found."""

    request: wire.ReadRequest
    name: str
    begun_at: float
    running: Running | None = None
    held_bytes: int = 0
    said: str = ""
    """The name as it may be told; the same, unless something else is given."""

    def __post_init__(self) -> None:
        self.said = self.said or self.name

    @property
    def can_go(self) -> bool:
        """Whether nobody may be waiting for it. What is still looked for stays: a thread works on it."""
        return self.running is not None and not self.running.transfer.answered


class Wishes:
    """At most `most` wishes, and `per_source` of one address."""

    def __init__(self, most: int, per_source: int) -> None:
        self.most = most
        self._per_source = per_source
        self._wishes: dict[Address, Wish] = {}
        self._sources: dict[str, dict[Address, Wish]] = {}
        # Those that may never have answered, the oldest first; which of them did is seen when room is needed.
        self._unproven: OrderedDict[Address, Wish] = OrderedDict()
        self._holding: OrderedDict[Address, Wish] = OrderedDict()  # those of them that hold something, likewise
        self._held_bytes = 0  # by these together

    def __len__(self) -> int:
        return len(self._wishes)

    def get(self, peer: Address) -> Wish | None:
        """Return what `peer` is being granted."""
        return self._wishes.get(peer)

    def all(self) -> list[Wish]:
        """Return every wish."""
        return list(self._wishes.values())

    def of(self, source: str) -> Iterable[Wish]:
        """Return the wishes of one client address."""
        return self._sources.get(source, {}).values()

    def admit(self, peer: Address, wish: Wish) -> Wish | None:
        """Take in the wish of a `peer` that has none, and return the one that made room for it, which is out.

        Raises `Busy` when there is no room and none can go.
        """
        gone = self._make_room(peer[0], wish.said)
        self._wishes[peer] = self._unproven[peer] = wish
        self._sources.setdefault(peer[0], {})[peer] = wish
        return gone

    def remove(self, peer: Address) -> Wish:
        """Take out the wish of `peer` and return it. Raises `KeyError` if it has none."""
        wish = self._wishes.pop(peer)
        self._unproven.pop(peer, None)
        self._let_go(peer)
        others = self._sources[peer[0]]
        del others[peer]
        if not others:
            del self._sources[peer[0]]
        return wish

    def hold(self, peer: Address, held_bytes: int) -> list[Wish]:
        """Note that the transfer of `peer` runs and holds so much; return those that made room for it and are out."""
        wish = self._holding[peer] = self._wishes[peer]
        wish.held_bytes = held_bytes
        self._held_bytes += held_bytes
        gone = []
        while self._held_bytes > HELD_BYTES and len(self._holding) > 1:
            oldest, other = next(iter(self._holding.items()))
            if other.can_go:
                gone.append(self.remove(oldest))
            else:
                self._let_go(oldest)
        return gone

    def _let_go(self, peer: Address) -> None:
        wish = self._holding.pop(peer, None)
        if wish is not None:
            self._held_bytes -= wish.held_bytes

    def _make_room(self, source: str, name: str) -> Wish | None:
        own = self._sources.get(source, {})
        if len(own) >= self._per_source:
            oldest = next((peer for peer, wish in own.items() if wish.can_go), None)
            if oldest is None:
                raise Busy(f"asked for {name!r}, but has {len(own)} transfers running")
            return self.remove(oldest)
        if len(self._wishes) >= self.most:
            oldest = self._oldest_unproven()
            if oldest is None:
                raise Busy(f"asked for {name!r}, but {len(self._wishes)} transfers are running")
            return self.remove(oldest)
        return None

    def _oldest_unproven(self) -> Address | None:
        """Return the first that can go. Each that has answered is looked at once and never again."""
        looks = LOOKS
        while self._unproven and looks:
            peer, wish = next(iter(self._unproven.items()))
            if wish.can_go:
                return peer
            if wish.running is None:
                self._unproven.move_to_end(peer)
                looks -= 1
            else:
                del self._unproven[peer]
        return None
