"""The intents on disk: a change is there before it counts."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from config.durable import replace_file
from config.model import Farm
from pxeboot import intents
from pxeboot.intents import Boot, Intent, Intents, Origin

log = logging.getLogger("pxeboot")

FILE = "intents.json"
"""Below the state folder."""
_NAMED = 5


class IntentStore:
    """The intents of a farm's machines, kept in a file. For use from several threads.

    What changes blocks on the disk: call it in a thread. What only looks does not.
    """

    def __init__(self, path: Path, farm: Farm, clock: Callable[[], float] = time.time) -> None:
        """Read what was kept at `path`. Raises `intents.DamagedRecords` and `OSError`, both naming the file."""
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        try:
            records = intents.parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            records = {}
        except ValueError as error:  # also text that is not UTF-8
            raise intents.DamagedRecords(f"{path} is damaged: {error}; repair it, or remove it") from None
        self._intents = Intents({}, records)
        self.steered: frozenset[str] = frozenset()
        """The machines that are not to boot from the network whenever they are switched on."""
        self.configure(farm)

    def configure(self, farm: Farm) -> None:
        """Take what another farm's file says. Records stay, those of machines that it does not list too."""
        configured = {node.name: Boot(node.boot) for pool in farm.pools for node in pool.nodes}
        with self._lock:
            self._intents = Intents(configured, self._intents.records)
            self.steered = self._intents.steered
        unlisted = self._intents.unlisted
        if unlisted:
            named = ", ".join(unlisted[:_NAMED]) + (", ..." if len(unlisted) > _NAMED else "")
            log.warning("%s keeps boot intents of machines that the farm does not list: %s", self._path, named)

    def of(self, name: str) -> Intent:
        """Return what the machine `name` is to do."""
        return self._intents.of(name)

    def configured(self, name: str) -> Boot | None:
        """Return what the farm's file says of `name`; None if it does not list it."""
        return self._intents.configured.get(name)

    @property
    def unlisted(self) -> list[str]:
        """The machines that have an intent of their own and are not in the farm's file."""
        return self._intents.unlisted

    def say(
        self,
        names: Iterable[str],
        boot: Boot | None,
        *,
        image: str | None = None,
        once: bool = False,
        origin: Origin = Origin.COMMAND,
        by: str = "",
    ) -> None:
        """Let these machines do `boot`, with `image`, from now on: all of them, or none. None: as it is.

        Raises `OSError`: nothing changed.
        """
        with self._lock:
            said = self._intents.said(names, boot, self._clock(), image=image, once=once, origin=origin, by=by)
            self._keep(said)

    def booting(self, image_id: str) -> list[tuple[str, str]]:
        """Return the machines that were told to boot this very version of an image, and as which image."""
        said = self._intents.records.items()
        return [(name, intent.image) for name, intent in said if intent.image.endswith(f"@{image_id}")]

    def start(self, name: str) -> bool:
        """Return whether `name`, which has its kernel and initrd, may start; uses up a `once`. Raises `OSError`."""
        with self._lock:
            if not self._intents.may_start(name):
                return False
            self._keep(self._intents.started(name, self._clock()))
            return True

    def _keep(self, changed: Intents) -> None:
        if changed.records != self._intents.records:
            replace_file(self._path, intents.dump(changed.records).encode())
            self.steered = changed.steered
        self._intents = changed
