"""Reads the farm's file again when it changed or somebody says so, and has another farm served, or the old one stay.

Reading 10,000 machines takes half a second of a processor. It is done in a thread, which gives the interpreter to
the event loop within half a millisecond (`pxeboot.daemon.SWITCH_S`); what the loop does itself is to swap what was
made ready. The collector of garbage would stop everybody for 75 ms meanwhile, and there is no garbage in a farm.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from config.mistakes import ConfigErrors
from config.model import Farm
from pxeboot import systemd
from pxeboot.reloading.state import Reloads
from pxeboot.reloading.watching import Source, Watched, facts

LOOK_S = 0.5
"""How often to look whether the file changed, in seconds."""
STILL_S = 0.15
"""What changed is looked at again so soon, and read if it stands still."""
AGAIN_S = 30.0
"""A file that is wrong is read again so often: a file that it names may be there by now."""
MOST_LINES = 20
"""So many mistakes are logged; all are in the status."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of reading the file again."""

    result: Literal["taken", "unchanged", "refused"]
    mistakes: Sequence[str]
    needs_restart: Sequence[str]
    took_s: float
    swap_s: float = 0.0
    """For how long of that the event loop did nothing else."""


@dataclass(frozen=True, slots=True)
class Same:
    """The file says what is served."""

    needs_restart: tuple[str, ...]


class New(Protocol):
    """Another farm, made ready to be swapped in."""

    @property
    def farm(self) -> Farm:
        """What is to be served."""

    @property
    def needs_restart(self) -> tuple[str, ...]:
        """What of the file does not count before a restart, a line for each setting."""


N = TypeVar("N", bound=New)


def nothing(_: Farm) -> None:
    """Do nothing beforehand."""


class Reloader(Generic[N]):
    """Follows one file. Made, and used, in the event loop."""

    def __init__(
        self,
        source: Source,
        reloads: Reloads,
        farm: Callable[[], Farm],
        prepare: Callable[[Path, Farm], N | Same],
        swap: Callable[[N], None],
        *,
        asked: asyncio.Event,
        beforehand: Callable[[Farm], None] = nothing,
        name: str = "pxeboot",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Follow `source`, the file of the `farm` that is served, and note in `reloads` how it stands.

        `prepare` reads it, to follow the farm that is served, and raises `ConfigErrors`; `beforehand` does what may
        block: both in a thread. `swap` does the rest in the event loop. `asked` is set by who wants it read now;
        `name` is that of our log.
        """
        self._path = source.path
        self._watched = Watched(source.read)
        self._reloads = reloads
        self._farm = farm
        self._prepare = prepare
        self._beforehand = beforehand
        self._swap = swap
        self._asked = asked
        self._log = logging.getLogger(name)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._again_s = 0.0
        self._failed = ""
        self._told: asyncio.Task[None] | None = None
        reloads.path = str(source.path)

    async def run(self) -> None:
        """Follow the file until cancelled. What fails here, such as a thread that cannot be made, stops no server."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(STILL_S if self._watched.moves else LOOK_S):
                    await self._asked.wait()
            try:
                await self._look()
            except Exception as error:
                if repr(error) != self._failed:
                    self._log.exception("whether %s changed cannot be told now, and is tried again", self._path)
                self._failed = repr(error)
                await asyncio.sleep(LOOK_S)
            else:
                self._failed = ""

    async def _look(self) -> None:
        """Read the file if somebody asks for it, it changed, or it is wrong and its time has come."""
        if self._asked.is_set():
            self._asked.clear()
            await asyncio.to_thread(systemd.notify, f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            await self.reload()
            self._told = asyncio.create_task(systemd.insist("READY=1"), name="reloaded")
        elif self._watched.look(await asyncio.to_thread(facts, self._path)):
            await self.reload()
        elif self._reloads.refused is None or time.monotonic() < self._again_s:
            return
        else:
            await self.reload()
        self._again_s = time.monotonic() + AGAIN_S

    async def reload(self) -> Outcome:
        """Read the file; have its farm served if it is right and another one. Raises nothing."""
        async with self._lock:
            began = time.monotonic()
            outcome = await self._reload(began)
            if outcome.result == "taken":
                self._say_taken(outcome)
            return outcome

    async def _reload(self, began: float) -> Outcome:
        gc.disable()
        try:
            self._watched.was_read(await asyncio.to_thread(facts, self._path))
            found = await asyncio.to_thread(self._prepare, self._path, self._farm())
            if isinstance(found, Same):
                return self._same(found.needs_restart, began)
            await asyncio.to_thread(self._beforehand, found.farm)
            swapping = time.monotonic()
            self._swap(found)
            gc.freeze()
            now = time.monotonic()
            self._reloads.taken(self._clock(), found.needs_restart)
            return Outcome("taken", (), found.needs_restart, now - began, now - swapping)
        except ConfigErrors as errors:
            return self._refused([str(mistake) for mistake in errors.mistakes], began)
        except Exception as error:
            line = f"{self._path}: a fault of pxeboot itself ({type(error).__name__})"
            if self._reloads.refused != (line,):  # it is tried again and again
                self._log.exception("the farm cannot be reloaded: a fault of pxeboot")
            return self._refused([line], began)
        finally:
            gc.enable()

    def _same(self, needs_restart: Sequence[str], began: float) -> Outcome:
        before = self._reloads.needs_restart
        if self._reloads.refused is not None:
            self._log.info("%s is right again, and is what is served", self._path)
        self._reloads.unchanged(needs_restart)
        if tuple(needs_restart) != before:
            self._say_what_needs_a_restart(needs_restart)
        return Outcome("unchanged", (), needs_restart, time.monotonic() - began)

    def _refused(self, mistakes: list[str], began: float) -> Outcome:
        if self._reloads.refuse(mistakes, self._clock()):
            self._log.error("%s is refused, and what was served before stays; mistakes: %d", self._path, len(mistakes))
            for line in mistakes[:MOST_LINES]:
                self._log.error("%s", line)
            if len(mistakes) > MOST_LINES:
                self._log.error("... and %d more: pxeboot check %s", len(mistakes) - MOST_LINES, self._path)
        return Outcome("refused", mistakes, self._reloads.needs_restart, time.monotonic() - began)

    def _say_taken(self, outcome: Outcome) -> None:
        farm = self._farm()
        self._log.info(
            "%s was read again, and is served from now on: %d nodes, read in %.2f s, swapped in %.0f ms",
            *(self._path, sum(len(pool.nodes) for pool in farm.pools)),
            *(outcome.took_s - outcome.swap_s, outcome.swap_s * 1000),
        )
        self._say_what_needs_a_restart(outcome.needs_restart)

    def _say_what_needs_a_restart(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._log.warning("%s needs a restart: %s", self._path, line)
