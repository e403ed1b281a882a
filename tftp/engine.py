"""One transfer to one client: which packet is sent when (RFC 1350, 1123 section 4.2.3, 7440).

The engine handles numbers, the transport handles bytes: a block is named by its place in the file, so nothing is
kept for sending it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tftp import wire
from tftp.options import Terms
from tftp.steady import Steady

MOST_GOING_BACK = 2
"""How often in a row a gap within a window is believed at once; the third time it may be an echo of ours."""
RTO_FIRST_S = 1.0
"""How long we wait for an answer before we know how fast the client is (RFC 6298 section 2)."""
RTO_LIMITS_S = (0.02, 8.0)
"""How much longer than answers take we wait at least (G of RFC 6298 section 2), and how long at most.

Answers that take 0.2 ms are no reason to send again after 1 ms: EDK2 looks at its card every 10 ms, and a virtual
machine may be away for as long. Twice that is enough, because a client that is slower each time is waited for longer.
The RFC's second is for a path that many senders share; here one window is on its way, and at 10 % loss every fifth
block is waited for.
"""
RTO_BLOCK_S = 0.002
"""How much longer we wait at least for each further block of a window: 64 of them keep a line of 10 Mbit/s busy
for 0.1 s, and nobody answers before the last."""
AGAIN_S = 0.15
"""The shortest wait after something was sent again, twice that after the third time, and so on.

busybox says nothing to a copy of a block whose ACK was lost; it repeats that ACK once it has heard nothing for 0.1 s.
Copies that came more often would keep it silent. Also a machine that is away for 3 s gets five copies, not dozens.
"""
MOST_GUESSES = 8
"""How often in a row we presume from an answer's time that a packet was lost. A client that happens to take a little
longer than we wait would else be sent everything twice, and its speed never learnt."""
OACK_AGAIN_S = 10.5
"""How long we wait for the answer to an OACK of a client that asked for neither tsize nor timeout.

Silence may mean that the OACK was lost: then the client repeats its request, and is answered at once. Or its ACK 0
was: most repeat that, atftp after 5 and 10 s, and a second OACK would make atftp give up. GRUB never repeats its
ACK 0 and curl after 72 s, so both need the second OACK; both ask for tsize, and get it after `RTO_FIRST_S`.
"""
REQUEST_AGAIN_S = 0.05
"""How long after our answer a request is repeated by a client that lacks it; busybox, the quickest, waits 0.1 s.
Sooner comes only what the line doubled, and atftp would not survive a second OACK."""
UNANSWERED_PACKETS = 5
"""How many packets a client that never answered gets at most: its address may be forged (A-23)."""
SILENCE_S = 30.0
"""How long a client may be silent, whatever we send again."""
TRANSFER_S = 3600.0
"""How long a transfer may take in all, however eagerly its client acknowledges (A-26)."""
LAST_WINDOW_PACKETS = 5
LAST_WINDOW_S = 5.0
"""How often and how long the last window is sent at least: a client that does not acknowledge it most likely has
the file and is gone (T-07)."""


@dataclass(frozen=True, slots=True)
class SendOptionAck:
    """Send an OACK with these options."""

    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SendBlock:
    """Send `length` bytes of the file from `offset` as DATA number `block` (counted without limit)."""

    block: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class SendError:
    """Send an ERROR. It is never repeated and never answered."""

    code: wire.ErrorCode
    message: str


class Outcome(Enum):
    """How a transfer ended."""

    COMPLETE = "complete"
    """The client has acknowledged the whole file."""
    UNCONFIRMED = "unconfirmed"
    """Everything was sent, all but the last window acknowledged; the last ACK was lost or is not customary there."""
    DECLINED = "declined"
    """The client ended it before it took any data: it wanted the size only (TQ1), or not these options."""
    ABORTED = "aborted"
    """The client ended it with an ERROR."""
    UNANSWERED = "unanswered"
    """The client never answered."""
    SILENT = "silent"
    """The client stopped answering, or took longer than `TRANSFER_S`."""
    FAILED = "failed"
    """We could not go on; the client was told."""


@dataclass(frozen=True, slots=True)
class Finished:
    """It is over. `reason` is None when the peer has the whole file; text of the peer's is in it as `%r`."""

    outcome: Outcome
    reason: str | None


Action = SendOptionAck | SendBlock | SendError | Finished


class Transfer:
    """Sends a file of `size_bytes` by `terms` to a client that acknowledges.

    Blocks are counted without limit and only their low 16 bits travel, so a file of any size passes (T-08). `acked`
    is the last block that the client has, `sent` the last one that we sent.

    An ACK that repeats the last one is answered with nothing when the window is one block: only the timer sends
    again, or one delayed packet would double every later one (RFC 1123 section 4.2.3.1, T-05). With a larger window
    it is how a client reports a gap (RFC 7440 section 4), one ACK for each block after it, so the window goes out
    once more, then not again before there is progress (TQ3). A repetition that comes sooner after the window than
    any answer ever took cannot be about that window, and is ignored as well.

    An ACK in the middle of a window says that the next block is lost, so we go back there (RFC 7440 section 4). But
    it may also answer a copy of a block that the client has, while the rest of the window is on its way; sending
    that rest again would draw the same answer further on, and so every block twice to the end of the file. So after
    a time-out, and after going back `MOST_GOING_BACK` times in a row, we send only what follows the window, and
    go back if the client insists.
    """

    def __init__(self, size_bytes: int, terms: Terms) -> None:
        self.size_bytes = size_bytes
        self.terms = terms
        self.deadline: float | None = None
        """When `expire` is due; None before the start and after the end."""
        self.blocks = size_bytes // terms.blksize + 1
        """How many blocks the file has; the last one is shorter than the others, and may be empty (T-01)."""
        self.acked = 0
        self.sent = 0
        self.resent = 0
        """How many blocks were sent more than once."""
        self._answered = False  # the client has acknowledged something, so its address is its own
        self._awaits_oack = bool(terms.accepted)
        self._window_repeated = False  # since the last progress
        self._timed_out = False  # what is outstanding was sent because of silence
        self._went_back = 0  # how often in a row
        self._sent_before = 0  # the last block sent before we last went back
        self._tries = 0  # how often what is outstanding was sent
        self._heard_at = 0.0
        self._sent_at = 0.0
        self._ends_at = 0.0
        may_repeat = "tsize" in terms.accepted or terms.timeout_s is not None
        self._rto_s = OACK_AGAIN_S if self._awaits_oack and not may_repeat else RTO_FIRST_S
        self._rto_least_s = RTO_LIMITS_S[0] + RTO_BLOCK_S * (terms.windowsize - 1)
        self._guesses = 0  # how often we presumed a loss since something was timed
        self._fresh = 1  # from this block on, what is outstanding was sent once only
        self._srtt_s: float | None = None  # smoothed round-trip time and its variation (RFC 6298)
        self._rttvar_s = 0.0
        self._least_rtt_s = 0.0

    @property
    def answered(self) -> bool:
        """Whether the client has acknowledged anything, so that its address is its own."""
        return self._answered

    def start(self, now: float) -> list[Action]:
        """Return the one packet that begins it: an OACK, or block 1 when no option was accepted (T-10)."""
        self._heard_at = now
        self._ends_at = now + TRANSFER_S
        return self._send(now)

    def receive(self, packet: wire.Packet, now: float) -> list[Action]:
        """Act on a packet from the client's own port. What makes no sense here is ignored."""
        if self.deadline is None:
            return []
        match packet:
            case wire.Ack(block):
                return self._acknowledge(block, now)
            case wire.Error(code, message):
                outcome = Outcome.ABORTED if self.acked else Outcome.DECLINED
                return self._finish(outcome, f"the client ended it with error {code}: {message[:80]!r}")
            case wire.ReadRequest():
                return self._asked_again(now)
            case wire.Data() | wire.OptionAck() | wire.WriteRequest():
                return []

    def expire(self, now: float) -> list[Action]:
        """Act on silence: send the outstanding window again, or give up. Does nothing before `deadline`."""
        if self.deadline is None or now < self.deadline:
            return []
        if now >= self._ends_at:
            message = "the transfer took too long"
            return [
                SendError(wire.ErrorCode.NOT_DEFINED, message),
                *self._finish(Outcome.SILENT, f"not done after {TRANSFER_S:.0f} s"),
            ]
        if not self._answered and self._tries >= UNANSWERED_PACKETS:
            return self._finish(Outcome.UNANSWERED, "the client never answered")
        silence_s = now - self._heard_at
        at_the_end = self._answered and self.sent == self.blocks
        if at_the_end and self._tries >= LAST_WINDOW_PACKETS and silence_s >= LAST_WINDOW_S:
            return self._finish(Outcome.UNCONFIRMED, "the last block was not acknowledged")
        if silence_s >= self._patience_s():
            outcome = Outcome.SILENT if self._answered else Outcome.UNANSWERED
            return self._finish(outcome, f"the client was silent for {silence_s:.0f} s")
        self._rto_s = min(2 * self._rto_s, RTO_LIMITS_S[1])
        self._timed_out = True
        return self._send(now)

    def steady(self) -> Steady | None:
        """Return what is going on, if that is a window on its way to a client that has got all before it.

        Only the ACK of the whole window may be told to it; before anything else happens here, `resume`.
        """
        if not (self.deadline and self._fresh == self.acked + 1 and self._answered) or self._srtt_s is None:
            return None
        terms, most_s = self.terms, RTO_LIMITS_S[1]
        return Steady(
            *(self.size_bytes, terms.blksize, terms.windowsize, terms.rollover, self.acked, self.sent),
            *(self._sent_at, self._srtt_s, self._rttvar_s, self._least_rtt_s, self._rto_least_s),
            *(
                most_s if terms.timeout_s is None else min(most_s, float(terms.timeout_s)),
                self.deadline,
                self._ends_at,
            ),
        )

    def resume(self, steady: Steady) -> None:
        """Go on from where `steady` has come to since this was asked for it."""
        if steady.acked == self.acked:
            return
        self.acked, self.sent, self.deadline = steady.acked, steady.sent, steady.deadline
        self._sent_at = self._heard_at = steady.sent_at
        self._srtt_s, self._rttvar_s, self._least_rtt_s = steady.srtt_s, steady.rttvar_s, steady.least_rtt_s
        self._fresh = self.acked + 1
        self._guesses = 0
        self._went_back = 0
        self._set_rto(steady.srtt_s)

    def postponed(self, now: float) -> None:
        """Note that what was to be sent leaves only now, because it had to be read first.

        That is no silence of the client's: until then `expire` is not to be called, nor `receive` but for an ERROR.
        """
        if self.deadline is not None:
            self._heard_at += now - self._sent_at
            self._await(now)

    def fail(self, message: str, reason: str | None = None) -> list[Action]:
        """End it because we cannot go on; `message` is told to the client, so it holds no path (T-23).

        `reason` is for whoever reads the log, when that can be told more.
        """
        if self.deadline is None:
            return []
        return [SendError(wire.ErrorCode.NOT_DEFINED, message), *self._finish(Outcome.FAILED, reason or message)]

    def _acknowledge(self, low_bits: int, now: float) -> list[Action]:
        """Act on an ACK of the block whose number ends with `low_bits`."""
        advance = wire.advance(low_bits, self.acked, self.terms.rollover)
        if advance is None:
            return []
        if self._awaits_oack:
            if advance:
                return []
            self._awaits_oack = False
            # A late ACK 0 was repeated (OACK_AGAIN_S), and of a repeated OACK nobody knows which one it answers.
            self._progress(now, timed=self._tries == 1 and now - self._sent_at <= RTO_FIRST_S)
            if self._srtt_s is None:
                self._rto_s = RTO_FIRST_S
            return self._send(now)
        if advance > self.sent - self.acked:
            return []  # an old block's, or one that we have not sent
        if not advance:
            return self._repeated_ack(now)
        self.acked += advance
        echo = self._went_back == MOST_GOING_BACK and self.acked <= self._sent_before
        on_its_way = self._timed_out or echo
        self._progress(now, timed=self.acked >= self._fresh)
        if self.acked == self.blocks:
            return self._finish(Outcome.COMPLETE, None)
        if self.acked == self.sent or on_its_way:
            self._went_back = 0
            return self._send(now, after=self.sent)
        self._went_back = min(self._went_back + 1, MOST_GOING_BACK)
        self._sent_before = self.sent
        # The client may report the gap again for each later block: what we send now is the answer to those too.
        self._window_repeated = True
        return self._send(now)

    def _asked_again(self, now: float) -> list[Action]:
        """Act on the request that began this transfer, once more: our answer to it was lost, so it is sent again."""
        if self._answered or self._tries >= UNANSWERED_PACKETS or now - self._sent_at < REQUEST_AGAIN_S:
            return []
        return self._send(now)

    def _repeated_ack(self, now: float) -> list[Action]:
        """Act on an ACK that says nothing new: a report of a gap, or a ghost."""
        if self.terms.windowsize == 1 or self._window_repeated:
            return []
        if now - self._sent_at < 0.9 * self._least_rtt_s:
            return []
        self._heard_at = now
        self._window_repeated = True
        return self._send(now)

    def _progress(self, now: float, *, timed: bool) -> None:
        """Note that the client answered what is outstanding. It is `timed` if what it counts was sent once only.

        Otherwise we cannot know which sending it answers (RFC 6298 section 3), so the wait stays as long as silence
        has made it. But when it comes as soon after the repetition as answers usually do, what came before was lost
        and the client is no slower than it was.
        """
        took_s = now - self._sent_at
        if timed:
            self._measure(took_s)
            self._guesses = 0
        elif self._srtt_s is not None and took_s <= self._srtt_s + 4 * self._rttvar_s and self._guesses < MOST_GUESSES:
            self._set_rto(self._srtt_s)
            self._guesses += 1
        self._answered = True
        self._heard_at = now
        self._tries = 0
        self._window_repeated = False
        self._timed_out = False

    def _measure(self, rtt_s: float) -> None:
        """Take one round-trip time into the timer (RFC 6298 section 2)."""
        if self._srtt_s is None:
            self._srtt_s, self._rttvar_s, self._least_rtt_s = rtt_s, rtt_s / 2, rtt_s
        else:
            self._rttvar_s += (abs(self._srtt_s - rtt_s) - self._rttvar_s) / 4
            self._srtt_s += (rtt_s - self._srtt_s) / 8
            self._least_rtt_s = min(self._least_rtt_s, rtt_s)
        self._set_rto(self._srtt_s)

    def _set_rto(self, srtt_s: float) -> None:
        self._rto_s = min(srtt_s + max(4 * self._rttvar_s, self._rto_least_s), RTO_LIMITS_S[1])

    def _send(self, now: float, after: int | None = None) -> list[Action]:
        """Send the window that follows the last acknowledged block, or its part `after` a block, and wait."""
        self._tries += 1
        self._await(now)
        if self._awaits_oack:
            return [SendOptionAck(self.terms.accepted)]
        blksize, first = self.terms.blksize, (self.acked if after is None else after) + 1
        last = min(self.acked + self.terms.windowsize, self.blocks)
        self.resent += max(0, self.sent + 1 - first)
        self._fresh = self.sent + 1
        self.sent = last
        offsets = ((block, (block - 1) * blksize) for block in range(first, last + 1))
        return [SendBlock(block, offset, min(blksize, self.size_bytes - offset)) for block, offset in offsets]

    def _await(self, now: float) -> None:
        """Wait for the answer to what is sent now."""
        self._sent_at = now
        self.deadline = min(now + self._wait_s(), self._heard_at + self._patience_s(), self._ends_at)

    def _wait_s(self) -> float:
        """Return how long to wait for the answer to what is sent now.

        The time-out that a client asked for (RFC 2349) is the longest wait. Taken for the shortest as well, each lost
        packet would cost curl 6 s and U-Boot 5 s, where the answers take a millisecond.
        """
        wait_s = self._rto_s
        if self._tries > 1:
            wait_s = min(max(wait_s, AGAIN_S * 2.0 ** (self._tries - 2)), RTO_LIMITS_S[1])
        return wait_s if self.terms.timeout_s is None else min(wait_s, float(self.terms.timeout_s))

    def _patience_s(self) -> float:
        """Return how long the client may be silent. Who asks for long waits gets them once the address is proved."""
        if self.terms.timeout_s is None or not self._answered:
            return SILENCE_S
        return max(SILENCE_S, 3.0 * self.terms.timeout_s)

    def _finish(self, outcome: Outcome, reason: str | None) -> list[Action]:
        self.deadline = None
        return [Finished(outcome, reason)]
