"""The part of a probe that goes over HTTP and NBD: GRUB's menu, kernel, initrds, the root, reports."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from pxeboot.probe import disk, menu, mtu, web, words
from pxeboot.probe.transfer import Address
from pxeboot.probe.walk import Hop

HEAD = 4096
"""So much is read of each file; it takes several packets."""
PASSES = 1 << 16
"""So much has to arrive where only small packets do."""
SPEED_BYTES = 8 << 20
SLOW_BYTES_S = 3_000_000
_SQUASHFS = b"hsqs"
_LOST = "more is not tried, as large packets are lost"
_OFF_S = 60.0


@dataclass(slots=True)
class Files:
    """What there is to fetch, from `source`."""

    source: str
    server: Address
    hop: Callable[[str], AbstractContextManager[Hop]]
    narrow: bool = False
    """Whether large packets were found to vanish: then nothing large is tried any more."""

    def loader(self, url: str) -> bytes:
        """Fetch the boot loader as UEFI HTTP boot does: HEAD, then GET. Return it, b"" if it did not come."""
        parts = urlsplit(url)
        server = parts.hostname or "", parts.port or 80
        with self.hop("HTTP boot") as hop:
            head = web.fetch(server, parts.path.lstrip("/"), self.source, method="HEAD")
            got = web.fetch(server, parts.path.lstrip("/"), self.source, most=16 << 20)
            hop.detail = f"{url!r}: {got.status}, {len(got.body):,} bytes"
            if got.stuck is not None:
                hop.wrong(*words.stuck(got.stuck, "HTTP boot", *server))
                return b""
            if got.status != 200 or head.status != 200 or head.length != len(got.body):
                hop.wrong(f"HEAD says {head.status} and {head.length} bytes, GET {got.status} and {len(got.body)}",
                          "firmware breaks off there; see the server's log")  # fmt: skip
            return got.body

    def follow(self, loader: bytes) -> None:
        """Take note of the server that a boot loader of ours goes on from."""
        if (named := menu.server_in(loader)) is not None:
            host, _, port = named.partition(":")
            self.server = host, int(port or 80)

    def reached(self, nbd_port: int) -> None:
        """Only see whether the servers are there."""
        with self.hop("HTTP") as hop:
            self._reach(hop)
        with self.hop("NBD") as hop:
            self._nbd(hop, (self.server[0], nbd_port), "", b"")
            hop.detail = hop.detail.partition(";")[0]

    def machine(self, mac: bytes, boot_file: str, nbd_port: int) -> None:
        """Go on as GRUB, then the kernel and the initramfs do."""
        with self.hop("HTTP") as hop:
            reached = self._reach(hop)
        found = menu.Menu()
        if reached:
            with self.hop("GRUB's menu") as hop:
                found = self._menu(hop, mac, boot_file)
        if found.kernel:
            with self.hop("kernel") as hop:
                whole = self._file(hop, found.kernel)
            for name in found.initrds:
                with self.hop(name.rpartition("/")[2]) as hop:
                    self._initrd(hop, name)
            root = f"images/{found.image}/root.squashfs"
            with self.hop("root image") as hop:
                head = self._root(hop, root) if whole else b""
                if not whole:
                    hop.detail, hop.skipped = self._why_skipped("kernel"), True
            with self.hop("speed") as hop:
                if head:
                    self._speed(hop, root)
                else:
                    hop.detail, hop.skipped = self._why_skipped("root image"), True
        else:
            head = b""
        with self.hop("NBD") as hop:
            self._nbd(hop, (self.server[0], nbd_port), found.image, head)
        if reached:
            with self.hop("reports") as hop:
                self._report(hop)

    # --- steps ------------------------------------------------------------------------------------------------------

    def _why_skipped(self, before: str) -> str:
        return _LOST if self.narrow else f"not tried: see {before}"

    def _reach(self, hop: Hop) -> bool:
        got = web.fetch(self.server, "you", self.source)
        if got.stuck is not None:
            hop.detail = "no connection" if not got.status else "no answer"
            hop.wrong(*words.stuck(got.stuck, "HTTP", *self.server))
            return False
        host, port = self.server
        hop.detail = f"{host} port {port} answers in {got.seconds * 1000:.1f} ms"
        if got.status != 200:
            hop.notes.append(f"it does not say which address we have there ({got.status}): it is no pxeboot, or older")
            return True
        seen, _, name = got.body.decode("ascii", "replace").strip().partition(" ")
        if seen != self.source:
            hop.wrong(f"the server sees us as {seen}, and DHCP gave us {self.source}: something in between translates"
                      " addresses (NAT), so machines are not told apart, and TFTP cannot answer them",
                      f"take out the masquerading between here and {host}: route, and use a DHCP relay; in Kubernetes,"
                      " hostNetwork: true")  # fmt: skip
        elif name != "-":
            hop.detail += f", where we are {name!r}"
        self._clock(hop, got)
        return True

    def _clock(self, hop: Hop, got: web.Got) -> None:
        try:
            theirs = parsedate_to_datetime(got.headers.get("date", "")).timestamp()
        except (TypeError, ValueError):
            return
        off = theirs - time.time()
        if abs(off) > _OFF_S:
            how = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} ours"
            hop.notes.append(f"the server's clock is {how}: one of them is wrong, and join tokens are judged by it")

    def _menu(self, hop: Hop, mac: bytes, boot_file: str) -> menu.Menu:
        """Fetch what GRUB fetches, in its order: is there anybody, then the file of its card, then that of all."""
        platform = next((part for part in boot_file.split("/") if part.endswith(("-efi", "-pc"))), "x86_64-efi")
        there = web.fetch(self.server, f"grub/{platform}/fs.lst", self.source)
        if there.status != 200:
            hop.wrong(f"grub/{platform}/fs.lst is not there ({there.status}), so GRUB takes it that nobody is",
                      "is that server's pxeboot older than its boot loader?")  # fmt: skip
        for name in (f"grub/grub.cfg-01-{mac.hex('-')}", "grub/grub.cfg"):
            got = web.fetch(self.server, name, self.source)
            if got.stuck is not None:
                hop.wrong(*words.stuck(got.stuck, "GRUB's menu", *self.server))
                return menu.Menu()
            if got.status == 200:
                break
        found = menu.read(got.body.decode("utf-8", "replace"))
        hop.detail = (
            f"{name!r}: {len(got.body)} bytes, boots image {found.image[:12]!r}" if found.kernel else repr(name)
        )
        if got.status != 200:
            hop.wrong(f"there is no menu for this machine ({got.status})", "see the server's log")
        elif found.boots_disk:
            hop.notes.append(f"the machine goes on with its own disk; the menu says {found.reason!r}")
        elif not found.kernel:
            remedy = "see `pxeboot node` there" if "boot intent" in found.reason else "see `pxeboot status` there"
            hop.wrong(f"the menu boots nothing, and says {found.reason!r}", remedy)
        return found

    def _file(self, hop: Hop, name: str) -> bool:
        """Look at a file, and read its beginning. Return whether its bytes arrive."""
        if self.narrow:
            hop.detail, hop.skipped = _LOST, True
            return False
        head = web.fetch(self.server, name, self.source, method="HEAD")
        if head.stuck is not None or head.status != 200:
            self._not_there(hop, name, head)
            return False
        first = web.fetch(self.server, name, self.source, headers={"Range": f"bytes=0-{HEAD - 1}"})
        if first.stuck in (web.Stuck.STALLED, web.Stuck.SILENT):
            self._black_hole(hop, name)
            return False
        if first.stuck is not None or first.status != 206 or len(first.body) != min(HEAD, head.length or HEAD):
            hop.wrong(f"a Range of {name!r} is answered with {first.status} and {len(first.body)} bytes",
                      "is a proxy in between?")  # fmt: skip
            return False
        hop.detail = f"{name.rpartition('/')[2]!r}: {head.length:,} bytes; ranges work"
        return True

    def _black_hole(self, hop: Hop, name: str) -> None:
        size = mtu.passes(self.server, name, self.source, PASSES)
        if size is None:
            hop.wrong(*words.stuck(web.Stuck.SILENT, "HTTP", *self.server))
            return
        self.narrow, most = True, size + mtu.HEADERS
        what = f"small answers arrive and large ones do not: something between drops packets above some {most} bytes"
        remedy = f"raise that MTU, let ICMP 'fragmentation needed' through to {self.server[0]}, or lower its MTU"
        hop.wrong(f"{what}, and does not say so (its MTU is less, and ICMP is filtered)", remedy)

    def _initrd(self, hop: Hop, name: str) -> None:
        """Look at an initrd. The archive of a machine may be good once, so it is only looked at."""
        if not name.endswith("/node.cpio"):
            self._file(hop, name)
            return
        got = web.fetch(self.server, name, self.source, method="HEAD")
        if got.stuck is not None or got.status != 200:
            self._not_there(hop, "node.cpio", got)
        else:
            size = f"{got.length:,} bytes" if got.length else "good once"
            hop.detail = f"made for this machine, {size}; looked at only"

    def _not_there(self, hop: Hop, name: str, got: web.Got) -> None:
        if got.stuck is not None:
            hop.wrong(*words.stuck(got.stuck, "HTTP", *self.server))
        else:
            hop.wrong(f"{name!r} is not there: {got.status}", "see the server's log; `pxeboot image list` there")

    def _root(self, hop: Hop, name: str) -> bytes:
        """Look at the root image as the initramfs fetches it: its digest, a range, and going on where it broke off."""
        if not self._file(hop, name):
            return b""
        digest = web.fetch(self.server, f"{name}.sha256", self.source)
        if digest.status != 200 or len(digest.body.split(maxsplit=1)[0] if digest.body.split() else b"") != 64:
            hop.wrong(f"its digest, {name.rpartition('/')[2]}.sha256, is not there ({digest.status})")
        first = web.fetch(self.server, name, self.source, headers={"Range": f"bytes=0-{HEAD - 1}"})
        etag = first.headers.get("etag", "")
        if not first.body.startswith(_SQUASHFS):
            hop.wrong(f"it is no squashfs: it begins with {first.body[:4]!r}", "add the image again")
        goes_on = web.fetch(
            self.server, name, self.source, headers={"Range": "bytes=1024-2047", "If-Range": etag}, most=1024
        )
        other = web.fetch(
            self.server, name, self.source, headers={"Range": "bytes=1024-2047", "If-Range": '"another"'}, most=1024
        )
        if not etag or etag.startswith("W/") or goes_on.status != 206 or goes_on.body != first.body[1024:2048]:
            hop.wrong("a download that breaks off cannot go on: If-Range with its ETag does not give the rest",
                      "is a proxy in between?")  # fmt: skip
        if other.status != 200:
            hop.wrong(f"an If-Range of another image is answered with {other.status}: two images could be mixed",
                      "is a proxy in between?")  # fmt: skip
        return first.body

    def _speed(self, hop: Hop, name: str) -> None:
        wanted = {"Range": f"bytes=0-{SPEED_BYTES - 1}"}
        got = web.fetch(self.server, name, self.source, headers=wanted, most=SPEED_BYTES)
        if got.stuck in (web.Stuck.STALLED, web.Stuck.SILENT):
            hop.detail = f"it stops after {len(got.body):,} bytes"
            self._black_hole(hop, name)
        elif got.stuck is not None:
            hop.wrong(*words.stuck(got.stuck, "HTTP", *self.server))
        elif got.status == 503:
            hop.detail, hop.skipped = "the server sends as many root images as it may now", True
        else:
            rate = len(got.body) / max(got.seconds, 1e-6)
            hop.detail = f"{len(got.body):,} bytes at {rate / 1e6:.1f} MB/s"
            if len(got.body) > SLOW_BYTES_S and rate < SLOW_BYTES_S:
                hop.notes.append("that is slow: see the duplex of the ports on the way, and http.rate_mbit_s there")

    def _nbd(self, hop: Hop, server: Address, image: str, head: bytes) -> None:
        if self.narrow:
            image = ""  # its answer is large
        got = disk.read(server, image or None, self.source)
        if got.stuck is not None:
            if got.why and got.stuck is web.Stuck.BROKEN:
                hop.wrong(f"TCP port {server[1]} of {server[0]} (NBD): {got.why}", "see the server's log")
            else:
                hop.wrong(*words.stuck(got.stuck, "NBD", *server))
        elif got.needs_tls:
            hop.detail, hop.skipped = f"port {server[1]} wants TLS, which is not tried", True
        elif not image:
            hop.detail = f"port {server[1]} answers; {_LOST if self.narrow else 'there is no image to ask for'}"
        elif got.refused:
            hop.notes.append(f"image {image[:12]!r} is not given to us: {got.why!r}")
        else:
            hop.detail = f"{got.size_bytes:,} bytes by NBD_OPT_GO on port {server[1]}"
            if head and got.head[:HEAD] != head[: len(got.head)]:
                hop.wrong("NBD and HTTP give different bytes for the same image", "is another server at that port?")

    def _report(self, hop: Hop) -> None:
        got = web.fetch(self.server, "report/probe", self.source, method="POST", body=b"")
        if got.stuck is not None:
            hop.wrong(*words.stuck(got.stuck, "reports by POST", *self.server))
        elif got.status in (204, 404):
            hop.detail = "what machines report arrives (POST); of this one nothing is noted"
        else:
            hop.wrong(f"a POST is answered with {got.status}", "is a proxy in between?")
