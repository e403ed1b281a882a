"""Keeps an nbdkit running on each interface that is served, and says which machines are sent to it.

Each interface has a child of its own: nbdkit takes its listening sockets at its start only, and the clients of one
interface are not to be cut off because another one came. The listening socket is ours, so clients that come while a
child is started again wait, and are not refused.
"""

import asyncio
import logging
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.exports import Nbdkit, NbdTls
from config.model import Farm, Image
from pxeboot.nbdkit import command
from pxeboot.nbdkit.backoff import Backoff

PLUGIN = Path(__file__).parent / "plugin.py"
PROBE_S = 20.0
STOP_S = 2.0
"""How long a child may take to end, in seconds; then it is killed."""
LOOK_S = 2.0
"""How often to look whether there is another certificate, in seconds."""
LINES_A_MINUTE = 30
"""How much of what nbdkit says is logged."""
LINE_BYTES = 500

_REFUSED = b": open: error: refused: "
"""What nbdkit says of an export that our plugin did not get."""

_RENEWED = "was ended for its new certificate"

log = logging.getLogger("pxeboot")


def absent(farm: Farm) -> str | None:
    """Return in words why no image can be served by nbdkit; None if all can be, or none is to be. Blocks."""
    names = wanted(farm.images)
    if not names:
        return None
    if shutil.which(command.PROGRAM) is None:
        return f"it is not installed; apt-get install {command.PACKAGES}"
    try:
        tried = subprocess.run(
            command.probe(farm.nbd.nbdkit), stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it does not start: {error}"
    if tried.returncode == 0:
        return None
    said = tried.stderr.decode(errors="replace").strip().partition("\n")[0]
    hint = f"; apt-get install {command.PACKAGES}" if "'python'" in said else ""
    return f"{said[:LINE_BYTES]}{hint}"


def wanted(images: Mapping[str, Image]) -> list[str]:
    """Return the images that nbdkit is to serve."""
    return sorted(name for name, image in images.items() if image.engine == "nbdkit")


def warning(farm: Farm, why: str) -> str:
    """Return what people are told when there is no nbdkit."""
    return f"nbdkit cannot serve {', '.join(wanted(farm.images))}, so pxeboot does, without its filters: {why}"


@dataclass(slots=True, eq=False)
class Child:
    """The nbdkit of one interface."""

    interface: str
    pid: int | None = None
    ready: bool = False
    """Whether it serves."""
    since_s: float = 0.0
    """Since when it runs, in seconds since 1970."""
    starts: int = 0


class Engine:
    """The children, and what they have in common."""

    def __init__(
        self, settings: Nbdkit, images: Mapping[str, Image], door: Path, tls: NbdTls | None, own: Path
    ) -> None:
        """`door` is where the plugin asks us; `own` a folder that is ours, for links to the certificates."""
        self.settings = settings
        self.children: set[Child] = set()
        self.counts: Counter[str] = Counter()
        self._images = images
        self._tls = tls
        self._own = own
        self._argv = command.start(settings, PLUGIN, door, tls, own)
        self._minute = 0
        self._lines = 0

    def swap(self, images: Mapping[str, Image]) -> None:
        """Serve these images from now on."""
        self._images = images

    @property
    def serves(self) -> bool:
        """Whether every interface has an nbdkit that is ready, so that machines may be sent to them.

        From any thread.
        """
        children = tuple(self.children)  # at once: the loop adds and takes away
        return bool(children) and all(child.ready for child in children)

    def has(self, image: str) -> bool:
        """Return whether machines find this image at nbdkit's port now."""
        setting = self._images.get(image)
        return setting is not None and setting.engine == "nbdkit" and self.serves

    def ours(self, pid: int) -> bool:
        """Return whether a process is a child of ours."""
        return any(child.pid == pid for child in self.children)

    def ready(self, pid: int) -> None:
        """Take note that a child serves from now on."""
        for child in self.children:
            if child.pid == pid:
                child.ready = True
                log.info("%s: nbdkit serves on port %d", child.interface, self.settings.port)

    async def run(self, sock: socket.socket, interface: str) -> None:
        """Have nbdkit serve on a listening socket until cancelled. Starts it anew whenever it ended."""
        child = Child(interface)
        backoff = Backoff()
        self.children.add(child)
        try:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await asyncio.to_thread(self._link_certificates)
                    why = await self._once(child, sock)
                except OSError as error:
                    why = f"cannot be started: {error.strerror or error}"
                self.counts["ended"] += 1
                wait_s = backoff.after(asyncio.get_running_loop().time() - began)
                level = logging.INFO if why is _RENEWED else logging.ERROR
                log.log(level, "%s: nbdkit %s; started again in %.1f s", interface, why, wait_s)
                await asyncio.sleep(wait_s)
        finally:
            self.children.discard(child)

    async def _once(self, child: Child, sock: socket.socket) -> str:
        """Run it once; return how it ended. Raises `OSError` if it cannot be started."""
        process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=sock.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        child.pid, child.since_s = process.pid, time.time()
        child.starts += 1
        self.counts["started"] += 1
        renewal = asyncio.create_task(self._renewed(process))
        try:
            assert process.stderr is not None
            await self._pass_on(child.interface, process.stderr)
            status = await process.wait()
            if renewal.done():
                return _RENEWED
            return f"ended with status {status}" if status >= 0 else f"was ended by signal {-status}"
        finally:
            renewal.cancel()
            child.ready = False
            await _end(process)
            child.pid = None

    async def _renewed(self, process: asyncio.subprocess.Process) -> None:
        """End a process when the files of its certificate have changed and stand still: it reads them at its start."""
        if self._tls is None:
            await asyncio.get_running_loop().create_future()
        used = last = await asyncio.to_thread(self._certificates)
        while True:
            await asyncio.sleep(LOOK_S)
            now = await asyncio.to_thread(self._certificates)
            if now == last and now != used and None not in now:
                break
            last = now
        asyncio.get_running_loop().call_later(STOP_S, _kill, process)
        with suppress(ProcessLookupError):
            process.terminate()

    def _certificates(self) -> list[tuple[int, int, int] | None]:
        """Return what tells one version of the certificate's files from another; None for one that is not there."""
        facts: list[tuple[int, int, int] | None] = []
        for _, path in command.links(self._tls) if self._tls is not None else ():
            try:
                status = Path(path).stat()
                facts.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                facts.append(None)
        return facts

    async def _pass_on(self, interface: str, said: asyncio.StreamReader) -> None:
        """Log what it says, in moderation, until it says no more."""
        while True:
            try:
                line = await said.readline()
            except ValueError:  # longer than a reader's limit; the rest of it follows
                continue
            if not line:
                return
            if _REFUSED in line:  # the catalogue has told it, and who asks often is not to hide what else is said
                continue
            self.counts["lines"] += 1
            minute = int(time.monotonic() // 60)
            if minute != self._minute:
                if self._lines > LINES_A_MINUTE:
                    log.warning("nbdkit: %d more lines were not logged", self._lines - LINES_A_MINUTE)
                self._minute, self._lines = minute, 0
            self._lines += 1
            if self._lines <= LINES_A_MINUTE:
                log.warning("%s: nbdkit says %r", interface, line.decode(errors="replace").rstrip()[:LINE_BYTES])

    def _link_certificates(self) -> None:
        """Make the folder of certificates as nbdkit wants it. Raises `OSError`."""
        if self._tls is None:
            return
        self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, target in command.links(self._tls):
            with suppress(FileNotFoundError):
                (self._own / name).unlink()
            (self._own / name).symlink_to(Path(target).absolute())


def _kill(process: asyncio.subprocess.Process) -> None:
    """End a process that waits for its clients."""
    with suppress(ProcessLookupError):
        process.kill()


async def _end(process: asyncio.subprocess.Process) -> None:
    """See to it that a process has ended."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError) as error:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
