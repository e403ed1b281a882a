"""nbdkit for one farm, put together: whether it is there, what it asks, which machines are sent to it."""

import logging
from pathlib import Path

from config.events import Report
from config.model import Farm, Pool
from nbd.exports import Catalogue
from pxeboot.nbdkit.door import Door
from pxeboot.nbdkit.engine import Engine, absent, wanted, warning

FOLDER = "nbdkit"
"""Below the state folder: links to the certificates."""
DOOR = ".nbdkit"
"""What the name of the socket at which it asks ends with; else it is that of the control socket."""

log = logging.getLogger("pxeboot")


class Second:
    """The second engine of a farm. Without nbdkit, or images for it, everything is served by the first one."""

    def __init__(self, farm: Farm) -> None:
        """Look for nbdkit, if an image wants it. Blocks for as long as that takes to start."""
        self._farm = farm
        self.wanted = wanted(farm.images)
        """The images that it is to serve."""
        self.absent = absent(farm)
        """Why it cannot, in words."""
        self.engine: Engine | None = None
        self.door: Door | None = None
        self._at = farm.server.control.with_suffix(DOOR)
        if self.absent is not None:
            log.warning("%s", warning(farm, self.absent))
        elif self.wanted:
            own: Path = farm.server.state / FOLDER
            self.engine = Engine(farm.nbd.nbdkit, farm.images, self._at, farm.nbd.tls, own)

    def swap(self, farm: Farm) -> None:
        """Serve another farm's images from now on, if nbdkit runs. Its settings, and its start, need a restart."""
        self._farm, self.wanted = farm, wanted(farm.images)
        if self.engine is not None:
            self.engine.swap(farm.images)

    @property
    def port(self) -> int | None:
        """The port to listen on for it; None if it does not serve."""
        return None if self.engine is None else self._farm.nbd.nbdkit.port

    def port_of(self, pool: Pool) -> int:
        """Return the port at which the machines of a pool find their root now.

        A disk that is written to is on ours, as nbdkit only reads; so is everything while an nbdkit does not run.
        """
        if self.engine is not None and pool.writable is None and self.engine.has(pool.image):
            return self.engine.settings.port
        return self._farm.server.nbd_port

    async def open(self, catalogue: Catalogue, report: Report) -> None:
        """Have nbdkit ask `catalogue`; `report` hears who opens what. Raises `OSError` if it cannot reach us."""
        if self.engine is not None:
            self.door = Door(self._at, catalogue, report, self.engine)
            await self.door.open()

    async def run(self) -> None:
        """Answer nbdkit until cancelled."""
        if self.door is not None:
            await self.door.run()
