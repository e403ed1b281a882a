"""TFTP as firmware speaks it: a client so light that a thousand of them fit into one process.

`Fetch` is one transfer, pure: datagrams in, datagrams out. `fetch` gives it a socket and the firmware's patience.
"""

import asyncio
import hashlib
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

_PORT = 69
_RRQ, _DATA, _ACK, _ERROR, _OACK = 1, 3, 4, 5, 6
_WORDS = struct.Struct("!HH")
_USER_ABORTED = b"\x00\x05\x00\x08User aborted the transfer\x00"

PATIENCE_S = 4.0
"""How long firmware waits before it repeats itself (EDK2: PXEBC_MTFTP_TIMEOUT)."""
TRIES = 6
"""How often it does, without an answer, before it gives up (EDK2: PXEBC_MTFTP_RETRIES)."""

EDK2 = {"blksize": 1468, "windowsize": 4}
IPXE = {"blksize": 1432, "tsize": 0}
GRUB = {"blksize": 1024, "tsize": 0}


class Refused(Exception):
    """The server answered with an ERROR; the text says which."""


class Silent(Exception):
    """No answer, for as long as firmware waits; or one that firmware does not take."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is there."""

    size_bytes: int
    sha256: str
    repeated: int
    """How often we had to repeat ourselves."""


class Fetch:
    """One transfer of the file `name`. Pure. With `probe`, it ends once the server has said how large the file is."""

    def __init__(self, name: str, options: Mapping[str, int], *, probe: bool = False) -> None:
        self._asked = {"tsize": 0, **options} if probe else dict(options)
        self._probe = probe
        self._window = 1
        self._blksize = 512
        self._next = 1
        self._unacknowledged = 0
        self._complained = -1
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self.done = False
        words = [name, "octet", *(str(word) for option in self._asked.items() for word in option)]
        self.said = struct.pack("!H", _RRQ) + b"".join(word.encode() + b"\0" for word in words)
        """What it said last, to be repeated when nothing comes."""

    def receive(self, datagram: bytes) -> bytes | None:
        """Return what is answered; None if nothing. Raises `Refused`, and `Silent` for what breaks a rule."""
        opcode, number = _WORDS.unpack_from(datagram)
        if opcode == _DATA:
            return self._data(number, datagram)
        if opcode == _ERROR:
            raise Refused(f"error {number}: {datagram[4:-1]!r}")
        if opcode != _OACK or self._next != 1 or self.size_bytes:
            return None
        self._take(datagram[2:])
        if self._probe:
            self.done = True
            return _USER_ABORTED
        return self._say(0)

    def result(self, repeated: int) -> Fetched:
        """Return what was fetched."""
        return Fetched(self.size_bytes, self._digest.hexdigest(), repeated)

    def _take(self, text: bytes) -> None:
        words = text.split(b"\0")[:-1]
        for option, value in zip(words[::2], words[1::2], strict=True):
            name, number = option.decode(), int(value)
            if name not in self._asked or (name != "tsize" and number > self._asked[name]):
                raise Silent(f"the OACK says {name} {number}, which firmware does not take")
            if name == "blksize":
                self._blksize = number
            elif name == "windowsize":
                self._window = number
            elif self._probe:
                self.size_bytes = number

    def _data(self, number: int, datagram: bytes) -> bytes | None:
        if number != self._next & 0xFFFF:
            if self._complained == self._next:
                return None  # said already which one is wanted
            self._complained = self._next
            return self._say(self._next - 1)
        piece = memoryview(datagram)[4:]
        self._digest.update(piece)
        self.size_bytes += len(piece)
        self._next += 1
        self._unacknowledged += 1
        self.done = len(piece) < self._blksize
        return self._say(number) if self.done or self._unacknowledged == self._window else None

    def _say(self, number: int) -> bytes:
        self._unacknowledged = 0
        self.said = _WORDS.pack(_ACK, number & 0xFFFF)
        return self.said


async def fetch(
    source: IPv4Address, server: IPv4Address, name: str, options: Mapping[str, int], *, probe: bool = False
) -> Fetched:
    """Fetch `name` from `server`, as the machine whose address is `source`. Raises `Refused`, `Silent`, `OSError`."""
    loop = asyncio.get_running_loop()
    transfer = Fetch(name, options, probe=probe)
    over: asyncio.Future[None] = loop.create_future()
    peer = (str(server), _PORT)
    tid: tuple[str, int] | None = None  # the port that answers
    heard = 0

    def readable() -> None:
        nonlocal tid, heard
        try:
            while not over.done():
                datagram, origin = sock.recvfrom(2048)
                if tid is None and origin[0] == peer[0]:
                    tid = origin
                if origin != tid or len(datagram) < 4:
                    continue
                heard += 1
                said = transfer.receive(datagram)
                if said is not None:
                    sock.sendto(said, origin)
                if transfer.done:
                    over.set_result(None)
        except BlockingIOError:
            return
        except (OSError, Refused, Silent) as error:
            over.set_exception(error)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((str(source), 0))
        loop.add_reader(sock, readable)
        repeated = tries = 0
        try:
            sock.sendto(transfer.said, peer)
            while not over.done():
                before = heard
                await asyncio.wait((over,), timeout=PATIENCE_S)
                if over.done() or heard != before:
                    tries = 0
                    continue
                tries += 1
                repeated += 1
                if tries > TRIES:
                    raise Silent(f"no answer to {TRIES + 1} packets, after {transfer.size_bytes} bytes of {name!r}")
                sock.sendto(transfer.said, tid or peer)
            over.result()
            return transfer.result(repeated)
        finally:
            loop.remove_reader(sock)
            over.cancel()
