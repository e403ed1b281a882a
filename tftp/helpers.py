"""What the servers of all interfaces share: the threads that read, and the processes that carry transfers."""

from dataclasses import dataclass

from tftp.carriers import Carriers
from tftp.disks import Disks


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs at once. What is above a limit takes the place of a transfer that was never answered, or is told
    that we are busy; what runs is not touched (A-25).
    """

    transfers: int = 4096
    """On each interface. Each may take three descriptors, so fewer where the process may not have that many. A
    thousand machines that are switched on together are more than a thousand: firmware asks anew before what it gave
    up has ended."""
    per_source: int = 64
    """For one client address; more than one, because many machines may share an address behind a router."""
    readers: int = 8
    """Threads that read what is not in the page cache, for each disk."""
    carriers: int = 8
    """Processes that carry on transfers in which all goes well, started when there is work for them."""


class Helpers:
    """Make them inside a running event loop, and close them after every server that has them."""

    def __init__(self, limits: Limits) -> None:
        """Start none of them yet."""
        self.disks = Disks(limits.readers, waiting=2 * limits.transfers)
        self.carriers = Carriers(limits.carriers)

    def close(self) -> None:
        """End the processes, and the threads as soon as they are done."""
        self.disks.close()
        self.carriers.close()
