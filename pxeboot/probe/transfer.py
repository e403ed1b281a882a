"""What can be told of a TFTP transfer by whoever sees its datagrams, and what is wrong with it, in words. Pure.

The client itself is somebody else's (`pxeboot.probe.tftp`). A `Witness` stands at its socket, takes note of what goes
by, and keeps from the client what firmware would drop as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tftp import wire
from tftp.wire import ErrorCode

Address = tuple[str, int]

HEADERS = 32
"""What a block is wrapped in, in bytes: IPv4, UDP, and TFTP's own four."""
_BLOCKS = 1 << 16
_ERRORS: Mapping[int, str] = {
    ErrorCode.NOT_DEFINED: "not defined",
    ErrorCode.FILE_NOT_FOUND: "file not found",
    ErrorCode.ACCESS_VIOLATION: "access violation",
    ErrorCode.DISK_FULL: "disk full",
    ErrorCode.ILLEGAL_OPERATION: "illegal operation",
    ErrorCode.UNKNOWN_TRANSFER_ID: "unknown transfer ID",
    ErrorCode.FILE_ALREADY_EXISTS: "file already exists",
    ErrorCode.NO_SUCH_USER: "no such user",
    ErrorCode.OPTION_REFUSED: "option refused",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what came of it. Text in it is the server's, and not to be trusted: show it with `%r`."""

    server: Address
    """Who was asked."""
    asked: Mapping[str, str]
    """The options of the request."""
    complete: bool
    """Whether the whole file arrived."""
    failure: str = ""
    """Why not, in the client's words, where it had any beside silence."""
    granted: Mapping[str, str] | None = None
    """The options of the OACK, by their names as the server writes them; None without an OACK."""
    answered: Address | None = None
    """Where the transfer came from."""
    strangers: tuple[Address, ...] = ()
    """Who else answered. Firmware drops such answers, and so did we."""
    error: tuple[int, str] | None = None
    """The ERROR that ended it."""
    requests: int = 1
    first_answer_s: float | None = None
    """From the last request before it."""
    seconds: float = 0.0
    """From the first request to the last answer."""
    silence_s: float = 0.0
    """How long was waited for an answer that did not come."""
    size_bytes: int = 0
    blocks: int = 0
    blocks_again: int = 0
    """Blocks that came more than once."""
    options_again: int = 0
    """OACKs that came more than once."""
    sent_again: int = 0
    """Requests and ACKs that were sent more than once."""
    jumped: tuple[int, int] | None = None
    """A block that was expected, and the later one that came in its place."""
    malformed: int = 0
    """Datagrams that are no TFTP."""

    @property
    def blksize(self) -> int:
        """The size of its blocks."""
        return _number((self.granted or {}).get("blksize", "")) or 512

    @property
    def stuck(self) -> bool:
        """Whether the server granted options and then no block came: either the blocks or our ACK are lost."""
        return not self.complete and self.granted is not None and not self.blocks and self.error is None

    @property
    def too_large(self) -> bool:
        """Whether smaller blocks may arrive: it is stuck, and the server has heard us, as it says nothing twice."""
        return self.stuck and not self.options_again and not self.failure and self.blksize > 512


@dataclass(slots=True)
class Witness:
    """Sees every datagram of one attempt. Times are seconds of one clock."""

    server: Address
    _asked: Mapping[str, str] = field(default_factory=dict)
    _granted: dict[str, str] | None = None
    _answered: Address | None = None
    _strangers: dict[Address, None] = field(default_factory=dict)
    _error: tuple[int, str] | None = None
    _requests: int = 0
    _began: float = 0.0
    _requested: float = 0.0
    _first_answer: float | None = None
    _last: float = 0.0
    _heard: float = 0.0
    _acknowledged: int | None = None
    _size_bytes: int = 0
    _blocks: int = 0
    _blocks_again: int = 0
    _options_again: int = 0
    _sent_again: int = 0
    _jumped: tuple[int, int] | None = None
    _malformed: int = 0

    @property
    def answered(self) -> bool:
        """Whether the server has said anything."""
        return self._answered is not None

    def sent(self, datagram: bytes, now: float) -> None:
        """Take note of what the client sends."""
        match wire.decode(datagram):
            case wire.ReadRequest(options=options):
                self._asked = options
                self._began = now if not self._requests else self._began
                self._heard = self._heard or now
                self._sent_again += bool(self._requests)
                self._requests += 1
                self._requested = now
            case wire.Ack(block):
                self._sent_again += block == self._acknowledged
                self._acknowledged = block
            case _:
                pass

    def received(self, datagram: bytes, sender: Address, now: float) -> bool:
        """Take note of what came; return whether the client is to have it.

        It is not if it comes from another address than was asked, or from another port than the transfer's: firmware
        drops that. Nor is an OACK that comes again, or a block from before the numbers began again: tftpy would break
        off, and as it is sends its last ACK again.
        """
        if sender[0] != self.server[0] or (self._answered is not None and sender != self._answered):
            self._strangers[sender] = None
            return False
        try:
            packet = wire.decode(datagram)
        except wire.MalformedPacket:
            self._malformed += 1
            return False
        if self._answered is None:
            self._answered, self._first_answer = sender, now - self._requested
        self._heard = now
        match packet:
            case wire.OptionAck():
                if self._granted is not None:
                    self._options_again += 1
                    return False
                self._granted = _as_written(datagram)
            case wire.Data(block, data):
                return self._block(block, len(data), now)
            case wire.Error(code, message):
                self._error = (code, message)
            case wire.Ack() | wire.ReadRequest() | wire.WriteRequest():
                pass
        return True

    def _block(self, block: int, length: int, now: float) -> bool:
        expected = (self._blocks + 1) % _BLOCKS
        if block == expected:
            self._blocks += 1
            self._size_bytes += length
            self._last = now
            return True
        if (expected - block) % _BLOCKS < _BLOCKS // 2:
            self._blocks_again += 1
            return block < expected
        self._jumped = self._jumped or (expected, block)
        return True

    def attempt(self, now: float, *, complete: bool, failure: str = "") -> Attempt:
        """Return what was seen. `failure` is what the client says of its end, "" if it only heard nothing."""
        return Attempt(
            server=self.server,
            asked=self._asked,
            complete=complete,
            failure=failure,
            granted=self._granted,
            answered=self._answered,
            strangers=tuple(self._strangers),
            error=self._error,
            requests=self._requests,
            first_answer_s=self._first_answer,
            seconds=max(0.0, (self._last or self._heard) - self._began),
            silence_s=0.0 if complete else max(0.0, now - self._heard),
            size_bytes=self._size_bytes,
            blocks=self._blocks,
            blocks_again=self._blocks_again,
            options_again=self._options_again,
            sent_again=self._sent_again,
            jumped=self._jumped,
            malformed=self._malformed,
        )


def _as_written(oack: bytes) -> dict[str, str]:
    """Return the options of an OACK with the letters of their names as they are: some clients compare them."""
    strings = [string.decode("latin-1") for string in oack[2:].split(b"\0")]
    return dict(zip(strings[::2], strings[1::2], strict=False))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person is told of a probe."""

    problems: tuple[str, ...]
    """What is wrong and what to do; the file did not arrive, or firmware would not take it."""
    notes: tuple[str, ...]
    """What is worth knowing though it works."""


def judge(attempts: Sequence[Attempt], mtu: int) -> Verdict:
    """Say what is wrong and what is worth knowing. `attempts` are in order, the later ones with smaller blocks.

    `mtu` is what a packet to the server may have here, in bytes.
    """
    first, last = attempts[0], attempts[-1]
    problems: list[str] = []
    if first.too_large:
        problems.append(_lost_blocks(first, last))
    elif not first.complete:
        problems.append(_why_not(first))
    problems += [problem for attempt in attempts for problem in _grants(attempt)]
    return Verdict(tuple(dict.fromkeys(problems)), tuple(_notes(last, mtu)))


def _lost_blocks(first: Attempt, last: Attempt) -> str:
    lost = f"blksize {first.blksize} was granted, and no block of it arrives"
    if not last.complete:
        return f"{lost}, nor a smaller one: something between here and the server drops them; see its log, a firewall"
    return (
        f"{lost}; with {last.blksize} all is well. Something on the way drops packets of {first.blksize + HEADERS}"
        f" bytes (its MTU is less: a tunnel, a VXLAN, a switch); let the server grant no more: tftp.blksize"
        f" {last.blksize}, or raise that MTU"
    )


def _why_not(attempt: Attempt) -> str:
    host, port = attempt.server
    if attempt.error is not None:
        return _refusal(*attempt.error)
    if attempt.failure and attempt.answered is None:
        return attempt.failure
    if attempt.answered is None:
        asked = f"was asked {attempt.requests} times in {attempt.silence_s:.0f} s"
        others = [stranger for stranger in attempt.strangers if stranger[0] != host]
        if others:
            return (
                f"the answer comes from {others[0][0]}, but {host} was asked: firmware drops it. Ask that address, or"
                " have the server answer from the address that it was asked at"
            )
        return (
            f"no answer: UDP port {port} of {host} {asked}. Is a TFTP server running there, on that address? Else a"
            " firewall drops its port 69 or its answers, which come from another port (tftp.single_port: true avoids"
            " that), or there is no way back to us"
        )
    if attempt.jumped is not None:
        expected, came = attempt.jumped
        if (expected, came) == (0, 1):
            return "the server goes from block 65535 to 1, this client to 0: tftp.rollover, if the server is ours"
        return f"block {came} came where {expected} was due"
    if attempt.failure:
        return attempt.failure
    if attempt.stuck and attempt.options_again:
        return (
            f"the server does not hear us at port {attempt.answered[1]}, where its answer came from: it says the same"
            f" {attempt.options_again + 1} times. A firewall lets only port {port} through; open the others for UDP,"
            " or use one port: tftp.single_port: true"
        )
    lossy = f" {attempt.blocks_again} blocks had come twice: packets are lost on the way." * bool(attempt.blocks_again)
    return (
        f"it stopped: nothing came for {attempt.silence_s:.0f} s after block {attempt.blocks}"
        f" ({attempt.size_bytes} bytes).{lossy} The server's log says more"
    )


def _refusal(code: int, message: str) -> str:
    words = _ERRORS.get(code, "of no known code")
    match code:
        case ErrorCode.FILE_NOT_FOUND:
            hint = ". Is the name right, in small and capital letters, and for this machine's address?"
        case ErrorCode.ACCESS_VIOLATION:
            hint = ". The name leads out of what is served, or the server may not read the file"
        case ErrorCode.OPTION_REFUSED:
            hint = ". Try --blksize 0 --no-tsize"
        case ErrorCode.NOT_DEFINED:
            hint = ". The server's log says more"
        case _:
            hint = ""
    return f"the server refuses: ERROR {code} ({words}), {message!r}{hint}"


def _grants(attempt: Attempt) -> list[str]:
    """Say what firmware would break off for (RFC 2347, 2348): EDK2 compares every option with what it asked."""
    problems = []
    for name, value in (attempt.granted or {}).items():
        asked = attempt.asked.get(name.lower())
        if asked is None:
            problems.append(f"the server grants {name!r}, which was not asked for; UEFI firmware breaks off at that")
        elif name != name.lower():
            problems.append(f"the server writes {name!r} in capital letters, where GRUB knows only small ones")
        if name.lower() == "blksize" and asked is not None and not _is_at_most(value, int(asked)):
            problems.append(f"the server grants blksize {value!r}, of {asked} that were asked for")
        if name.lower() == "tsize" and attempt.complete and value != str(attempt.size_bytes):
            problems.append(f"the server announced {value!r} bytes (tsize) and sent {attempt.size_bytes}")
    return problems


def _is_at_most(value: str, limit: int) -> bool:
    return 8 <= (_number(value) or 0) <= limit


def _number(text: str) -> int | None:
    """Return what a server wrote as a number of a sane length, or None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _notes(attempt: Attempt, mtu: int) -> list[str]:
    if attempt.answered is None:
        return []
    notes = []
    asked = attempt.asked.get("blksize", "512")
    if attempt.granted is None and attempt.asked and attempt.blocks:
        notes.append("the server knows none of the options (RFC 2347): blocks of 512 bytes, the slowest way")
    elif attempt.granted is not None and attempt.blksize < int(asked):
        notes.append(f"blksize {asked} was asked and {attempt.blksize} granted: the server takes no more, or its path")
    if attempt.blocks and attempt.blksize + HEADERS > mtu:
        notes.append(
            f"blocks of {attempt.blksize} bytes travel in pieces, as a packet here has {mtu} at most; many a PXE ROM"
            " cannot put them together"
        )
    lost = attempt.blocks_again + attempt.options_again + attempt.sent_again
    if lost and attempt.complete:
        notes.append("packets were lost or late on the way; each costs a machine that boots a wait")
    if attempt.strangers:
        listed = ", ".join(f"{host} port {port}" for host, port in attempt.strangers[:5])
        notes.append(f"what also answered was dropped, as firmware would: {listed}")
    if attempt.malformed:
        notes.append(f"{attempt.malformed} datagrams of the server are no TFTP")
    return notes
