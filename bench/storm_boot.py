"""The boot of one simulated machine, from power-on to the report of its system, and a room full of them.

    python -m bench.storm_boot INTERFACE [--machines N] [--within SECONDS] [--patience SECONDS]

Each machine is what firmware, GRUB and our initramfs script are to a server: it asks for the same things in the same
order, waits as long as they would, and gives up where they would. Runs where the machines' addresses are; prints one
JSON object. `bench.http_storm` starts it.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import re
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address
from random import random

from bench import storm_tftp
from bench.dhcp_machines import FIRMWARE as UEFI
from bench.storm_http import Broken, Connection
from bench.storm_wire import BIOS, LINUX, Wire

SERVER = IPv4Address("10.28.0.1")
PROBE = IPv4Address("10.28.0.9")
"""Who measures delays meanwhile."""

GRUB_S = 30.0
"""How long GRUB waits for an answer."""
STILL_S = 20.0
"""After how long a standstill node/mountroot begins a download again."""
PAUSE_S = 2.0
"""How long it waits before it does."""
TRIES = 150
"""How often."""
REPORT_S = 5.0
"""How long it takes over a report, and how often it says how far it is."""
RANGE = 4 << 20
"""What a machine that reads its image piece by piece asks for at once."""
CHECKED = 50
"""Every so many machines check what they fetched of an image, as all real ones do."""

_KERNEL = re.compile(r"^if linux \$from(\S+)", re.MULTILINE)
_INITRDS = re.compile(r"^  if initrd \$from(\S+) \$from(\S+);", re.MULTILINE)
_ENV = re.compile(rb"(?:^|\0)(NAME|IMAGE_URL|SHA256|SIZE)='?([^'\n]*)'?$", re.MULTILINE)
"""In the archive, which is not compressed: a file begins after zeros."""
_LISTS = ("fs", "command", "fs", "crypto", "terminal")
"""What GRUB fetches once it knows where its modules are: pxeboot.bootfiles.grubcfg.first, then its own lists."""


class Fetches(IntEnum):
    """How a machine gets its image."""

    WHOLE = 0
    AGAIN = 1
    TORN = 2
    """Its connection is lost on the way, twice; it goes on where it was (node/mountroot)."""
    RANGES = 3
    """By ranges, one after another on one connection, as a block device over HTTP does."""


class Failed(Exception):
    """The machine does not boot; the text says why."""


def mac_of(number: int) -> bytes:
    """Return the MAC of a machine."""
    return b"\x52\x54\x00" + number.to_bytes(3, "big")


def address_of(number: int) -> IPv4Address:
    """Return the address that the farm's file gives it."""
    return IPv4Address(f"10.28.{number // 250 + 1}.{number % 250 + 1}")


@dataclass(slots=True)
class Story:
    """How a machine's boot went, with times in seconds since the first one was switched on."""

    number: int
    failed: str = ""
    address_s: float = 0.0
    """When it had an address,"""
    loader_s: float = 0.0
    """GRUB,"""
    system_s: float = 0.0
    """kernel, archive and initrd,"""
    image_s: float = 0.0
    """its image,"""
    end_s: float = 0.0
    """and when it was done."""
    menu_ms: float = 0.0
    """How long its grub.cfg took."""
    told_to_wait: int = 0
    waited_s: float = 0.0
    """How long it waited because it was told to."""
    lost: int = 0
    """Connections that it lost, or that stood still, and that we did not break ourselves."""
    repeated: int = 0
    """Packets of DHCP and TFTP that it had to send again."""
    unheard: int = 0
    """Reports that were not taken."""
    bytes_received: int = 0
    checked: bool = False
    """Whether it has checked the digest of what it fetched."""
    loader: str = field(default="")
    """The sha256 of its GRUB."""


class Boot:
    """One machine."""

    def __init__(self, number: int, wire: Wire, began: float) -> None:
        """`began` is when the first machine was switched on, by the loop's clock."""
        self.story = Story(number)
        self._number = number
        self._mac = mac_of(number)
        self._address = address_of(number)
        self._wire = wire
        self._began = began
        self._loop = asyncio.get_running_loop()
        self._told_s = 0.0

    async def run(self, patience_s: float) -> Story:
        """Boot, for at most `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._boot()
        except TimeoutError:
            self.story.failed = f"not done after {patience_s:.0f} s"
        except (Failed, Broken, storm_tftp.Refused, storm_tftp.Silent, OSError) as error:
            self.story.failed = f"{type(error).__name__}: {error}"
        self.story.end_s = self._now()
        return self.story

    def _now(self) -> float:
        return self._loop.time() - self._began

    async def _boot(self) -> None:
        uefi = self._number % 2 == 0
        file = await self._lease(UEFI if uefi else BIOS, 0x5EED0000)
        self.story.address_s = self._now()
        await self._firmware(file, uefi)
        self.story.loader_s = self._now()
        env = await self._grub("x86_64-efi" if uefi else "i386-pc")
        self.story.system_s = self._now()
        await self._lease(LINUX, 0x11110000)
        await self._report("network", f"6.1.0-sim, {self._address} by DHCP")
        await self._image(env)
        self.story.image_s = self._now()
        for stage in ("verified", "root", "prepared", "system"):
            await self._report(stage, f"simulated machine {self._number}")

    async def _lease(self, says: bytes, xid: int) -> str:
        lease = await self._wire.lease(self._mac, xid + self._number, says, self._number % 4 < 2)
        if lease.address != self._address:
            raise Failed(f"was given {lease.address}, and the farm says {self._address}")
        self.story.repeated += lease.repeated
        return lease.file

    async def _firmware(self, file: str, uefi: bool) -> None:
        """Load GRUB, and a module or two as a GRUB without ours built in does: one is not there."""
        if uefi:
            await self._tftp(file, storm_tftp.EDK2, probe=True)
        loader = await self._tftp(file, storm_tftp.EDK2 if uefi else storm_tftp.IPXE)
        self.story.loader = loader.sha256
        folder = f"/{file.rpartition('/')[0]}"
        await self._tftp(f"{folder}/regexp.mod", storm_tftp.GRUB)
        await self._tftp(f"{folder}/partmap.lst", storm_tftp.GRUB)
        try:
            await self._tftp(f"{folder}/no-such.mod", storm_tftp.GRUB)
        except storm_tftp.Refused:
            return
        raise Failed("a module that is not there was sent")

    async def _tftp(self, name: str, options: dict[str, int], *, probe: bool = False) -> storm_tftp.Fetched:
        got = await storm_tftp.fetch(self._address, SERVER, name, options, probe=probe)
        self.story.repeated += got.repeated
        self.story.bytes_received += 0 if probe else got.size_bytes
        return got

    async def _grub(self, platform: str) -> dict[str, str]:
        """Do what GRUB does; return what the archive for this machine says of its image."""
        for name in _LISTS:
            await self._small(f"/grub/{platform}/{name}.lst")
        asked = self._loop.time()
        menu = (await self._small(f"/grub/grub.cfg-01-{self._mac.hex('-')}")).decode()
        self.story.menu_ms = (self._loop.time() - asked) * 1000
        kernel, initrds = _KERNEL.search(menu), _INITRDS.search(menu)
        if kernel is None or initrds is None or f"m{self._number} " not in menu:
            raise Failed(f"no menu of this machine: {menu[:200]!r}")
        await self._large(kernel[1])
        archive = await self._small(initrds[1])
        env = {name.decode(): value.decode() for name, value in _ENV.findall(archive)}
        if env.get("NAME") != f"m{self._number}" or len(env) != 4:
            raise Failed(f"no archive of this machine: {env}")
        await self._large(initrds[2])
        return env

    async def _small(self, path: str) -> bytes:
        with await Connection.open(self._address, SERVER, GRUB_S) as connection:
            head = await connection.ask(_request("GET", path, "User-Agent: GRUB 2.06"), GRUB_S)
            body = await connection.read(head.length, GRUB_S)
        if head.status != 200:
            raise Failed(f"GRUB got {head.status} for {path.rpartition('/')[2]}")
        self.story.bytes_received += len(body)
        return body

    async def _large(self, path: str) -> None:
        with await Connection.open(self._address, SERVER, GRUB_S) as connection:
            head = await connection.ask(_request("GET", path, "User-Agent: GRUB 2.06"), GRUB_S)
            if head.status != 200:
                raise Failed(f"GRUB got {head.status} for {path.rpartition('/')[2]}")
            got = await connection.discard(head.length, GRUB_S)
        self.story.bytes_received += got
        if got < head.length:
            raise Failed(f"GRUB got {got} of {head.length} bytes of {path.rpartition('/')[2]}")

    async def _image(self, env: dict[str, str]) -> None:
        """Fetch the image as node/mountroot does: again and again, from where it was."""
        path, size = "/" + env["IMAGE_URL"].split("/", 3)[3], int(env["SIZE"])
        digest = hashlib.sha256() if self._number % CHECKED == 0 else None
        fetches = Fetches(self._number % len(Fetches))
        breaks = [size // 5, size // 2] if fetches is Fetches.TORN else []
        step = RANGE if fetches is Fetches.RANGES else size
        await self._report("fetch", f"{size >> 20} MiB from {SERVER}")
        have, tries = 0, 0
        while have < size:
            if tries == TRIES:
                raise Failed(f"the image cannot be fetched: {have} of {size} bytes after {TRIES} tries")
            enough = next((place for place in breaks if place > have), size)
            with suppress(Broken):  # no connection, and nothing gained
                have = await self._connection(path, have, step, enough, size, digest)
            if have < size and self._told_s:
                await self._wait()
            elif have < size:
                tries += 1
                self.story.lost += enough == size
                await asyncio.sleep(PAUSE_S)
        if digest is not None:
            if digest.hexdigest() != env["SHA256"]:
                raise Failed("the image has a wrong sha256")
            self.story.checked = True

    async def _wait(self) -> None:
        self.story.told_to_wait += 1
        began = self._loop.time()
        await asyncio.sleep(self._told_s)
        self.story.waited_s += self._loop.time() - began
        self._told_s = 0.0

    async def _connection(
        self, path: str, have: int, step: int, enough: int, size: int, digest: "hashlib._Hash | None"
    ) -> int:
        """Fetch from `have` on, `step` bytes a request, until there is `enough`; return how much there is.

        May be told to wait: then `_told_s` says how long. Raises `Broken` if there is no connection.
        """
        with await Connection.open(self._address, SERVER, STILL_S) as connection:
            while have < enough:
                last = min(have + step, size) - 1
                ranged = step < size or have > 0
                whole = step >= size
                fields = ["User-Agent: Wget"] + (["Connection: close"] if whole else [])
                if ranged:
                    fields.append(f"Range: bytes={have}-{'' if whole else last}")
                try:
                    head = await connection.ask(_request("GET", path, *fields), STILL_S)
                except Broken:
                    return have
                if head.turn_s is not None:
                    self._told_s = head.turn_s + random()
                    return have
                if head.status != (206 if ranged else 200):
                    raise Failed(f"{head.status} for the image")
                said = head.fields.get("content-range", "")
                if ranged and said != f"bytes {have}-{last}/{size}":
                    raise Failed(f"asked for bytes {have}-{last} of {size}, got {said!r}")
                if head.length != last + 1 - have:
                    raise Failed(f"{head.length} bytes for {have}-{last} of the image")
                wanted = min(last + 1, enough) - have
                got = await self._with_progress(connection.discard(wanted, STILL_S, digest), have, size)
                have += got
                self.story.bytes_received += got
                if got < wanted:
                    return have
                if not head.keeps:
                    break
        return have

    async def _with_progress(self, download: Coroutine[None, None, int], have: int, size: int) -> int:
        """Say every few seconds how far we are, while `download` goes on."""
        task = asyncio.create_task(download)
        try:
            while not (await asyncio.wait((task,), timeout=REPORT_S))[0]:
                await self._report("fetch", f"{have * 100 // size} % of {size >> 20} MiB")
            return task.result()
        finally:
            task.cancel()

    async def _report(self, stage: str, text: str) -> None:
        """Say how far we are; nothing depends on it."""
        fields = ("User-Agent: Wget", "Connection: close", f"Content-Length: {len(text)}")
        try:
            async with asyncio.timeout(REPORT_S):
                with await Connection.open(self._address, SERVER, REPORT_S) as connection:
                    head = await connection.ask(_request("POST", f"/report/{stage}", *fields, body=text), REPORT_S)
            self.story.unheard += head.status != 204
        except (Broken, TimeoutError):
            self.story.unheard += 1


def _request(method: str, path: str, *fields: str, body: str = "") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {SERVER}", *fields, "", body)).encode()


async def storm(interface: str, machines: int, within_s: float, patience_s: float) -> list[Story]:
    """Switch `machines` on, evenly over `within_s`, and return their stories."""
    loop = asyncio.get_running_loop()
    wire = Wire(interface)
    began = loop.time()

    async def switched_on(number: int) -> Story:
        await asyncio.sleep(within_s * (number - 1) / machines)
        return await Boot(number, wire, began).run(patience_s)

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(switched_on(number)) for number in range(1, machines + 1)]
        return [task.result() for task in running]
    finally:
        wire.close()


def main() -> int:
    """Play, and print how it went."""
    parser = argparse.ArgumentParser(description="Simulated machines that boot together.")
    parser.add_argument("interface")
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--within", type=float, default=2.0)
    parser.add_argument("--patience", type=float, default=200.0)
    options = parser.parse_args()
    gc.freeze()
    stories = asyncio.run(storm(options.interface, options.machines, options.within, options.patience))
    print(json.dumps([asdict(story) for story in stories]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
