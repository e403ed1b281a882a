"""Which block sizes were lost on the way to a client, so that it is offered less on its next request (TQ5). Pure.

A tunnel in the middle of the path (VXLAN, IPIP) carries less than our own link, and where it drops fragments no
large block ever arrives. Nobody tells us, and a block size that was granted cannot be changed. The client gives up
and asks again, and that time the block fits.
"""

from collections import OrderedDict

from tftp.engine import Transfer

STEPS = (1468, 1400, 1024, 512)
"""What is tried in turn, in bytes: Ethernet, a tunnel with up to 68 bytes of headers, and then what all carry."""
KEPT_S = 3600.0
"""How long a size is held to after the last request that it was held for."""
CLIENTS = 4096
"""How many clients are remembered; then the one that was silent for longest is forgotten (A-55)."""
UNANSWERED_S = 1.0
"""How long the first block may be without an answer before a new request says that it was lost."""


def lost_blksize(transfer: Transfer, lasted_s: float) -> int | None:
    """Return the length of the block that seems not to fit the path of `transfer`; None if nothing says so.

    That is a first block that was sent again and never acknowledged, although the client answered our OACK: small
    packets pass, in both directions.
    """
    if transfer.acked or not transfer.answered or not transfer.resent or lasted_s < UNANSWERED_S:
        return None
    return min(transfer.terms.blksize, transfer.size_bytes)


class Memory:
    """The largest block to grant, by client address, of clients to which larger ones did not get through."""

    def __init__(self) -> None:
        self._most: OrderedDict[str, tuple[int, float]] = OrderedDict()  # the next one to forget first

    def __len__(self) -> int:
        return len(self._most)

    def lost(self, client: str, blksize: int, now: float) -> None:
        """Note that a block of `blksize` bytes did not reach `client`: from now on it gets the next smaller step."""
        smaller = [step for step in STEPS if step < blksize]
        if not smaller:
            return  # the size of a block is not what is wrong
        known = self.most(client, now)
        self._keep(client, smaller[0] if known is None else min(known, smaller[0]), now)
        while len(self._most) > CLIENTS:
            self._most.popitem(last=False)

    def most(self, client: str, now: float) -> int | None:
        """Return the largest block to grant `client`; None if nothing is known against any."""
        while self._most:  # forget what is over
            oldest = next(iter(self._most))
            if self._most[oldest][1] > now:
                break
            del self._most[oldest]
        if client not in self._most:
            return None
        most, _ = self._most[client]
        self._keep(client, most, now)
        return most

    def _keep(self, client: str, blksize: int, now: float) -> None:
        self._most[client] = (blksize, now + KEPT_S)
        self._most.move_to_end(client)
