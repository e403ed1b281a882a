"""Serves a client that reads without a pause in a thread of its own, which may wait: for the client, and for the disk.

So a batch of READs takes two system calls, and a read that is not in memory is answered by the thread that waited for
it. Only what reads is done here; what does not, the thread leaves to `nbd.connection`, with all else that is left
over. So it does after `lines.PATIENCE_S` without a request, or with a client that takes nothing for as long.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EIO
from functools import partial

from config.disks import DiskHangs
from nbd.actions import Action, BlockStatus, Cache, Read, Send
from nbd.engine import Session
from nbd.lines import Plain
from nbd.pieces import is_short
from nbd.pump import Desk
from nbd.steady import Reads, Steady
from nbd.wire import Errno
from nbd.work import CHANGED, FEW, SLOW_S, Work

QUICK_S = 60e-6
"""A client whose last request came within that many seconds of our answer is asked again and again for the next one
for as long: to sleep and be woken takes a thread about that."""

TOGETHER = 16
"""So many READs that wait for the disk are answered with one call, at most."""
WINDOW_BYTES = 1 << 16
"""A READ of so many bytes or more is sent from where it lies in the page cache: one copy less."""
TOGETHER_BYTES = 3 << 18
"""So much of that is sent with one system call, or a little more."""


_Read = tuple[int, int, int]


@dataclass(slots=True)
class Rest:
    """What is left over when a thread lets go of a client."""

    unsent: bytes = b""
    """The rest of a reply that was begun."""
    reads: Reads | tuple[()] = ()
    """READs without an answer."""
    actions: Sequence[Action] = ()
    """What the session wants after them."""
    data: bytes = b""
    """What was received after that."""
    has_ended: bool = False
    """The client sends no more."""


class Stay:
    """The time that a client has a thread of its own. Whoever owns the connection keeps away from it meanwhile."""

    def __init__(
        self, desk: Desk, line: Plain, session: Session, steady: Steady, work: Work, count: Callable[[int, int], None]
    ) -> None:
        """`count` is told of READs that were answered, and how many bytes they had."""
        self._desk = desk
        self._turns = desk.turns(work.device)
        self._is_cold = False  # whether the last READs had to wait for the disk
        self._line = line
        self._session = session
        self._steady = steady
        self._work = work
        self._count = count

    def serve(self, reads: Reads, is_over: Callable[[], bool]) -> Rest:
        """Answer `reads`, and what comes then, until something else is to be done.

        Raises `OSError` when the connection breaks.
        """
        if reads and (left := self._answer(reads)) is not None:
            return left
        inbox, is_alone, steady, work = self._desk.inbox, self._desk.is_alone, self._steady, self._work
        is_quick = is_single = False
        kept = 0  # of a request that has not come whole; it stands at the beginning
        while not is_over() and work.failed is None:
            received, is_quick = self._receive(inbox[kept:], is_quick and is_single and is_alone())
            if received is None:
                break
            if not received:
                return Rest(data=bytes(inbox[:kept]), has_ended=True)
            data = inbox[: kept + received]
            reads, used = steady.take(data)
            is_single = len(reads) == 1  # who has asked for more has other requests under way, which come together
            rest = self._answer(reads) if reads else None
            if rest is not None:
                rest.data = bytes(data[used:])
                return rest
            kept = len(data) - used
            if kept < steady.request_bytes:
                inbox[:kept] = bytes(data[used:])
                continue
            kept = 0
            actions = self._session.receive(bytes(data[used:]), time.monotonic())
            if (rest := self._carry_out(actions)) is not None:
                return rest
            if not self._session.at_boundary:
                break
        return Rest(data=bytes(inbox[:kept]))

    def _receive(self, room: memoryview, is_quick: bool) -> tuple[int | None, bool]:
        """Return how much has come, None for nothing, and whether at once; with `is_quick` that is what we expect."""
        line = self._line
        until = time.monotonic() + QUICK_S
        while is_quick and time.monotonic() < until:
            if (received := line.receive(room)) is not None:
                return received, True
        received = line.await_data(room)
        return received, time.monotonic() < until

    def _carry_out(self, actions: Sequence[Action]) -> Rest | None:
        """Do what the session wants, READs first, as far as it is done here; None when that is all."""
        short = {n: action for n, action in enumerate(actions) if isinstance(action, Read) and is_short(action)}
        others = [action for n, action in enumerate(actions) if n not in short]
        reads = [(action.cookie, action.offset, action.length) for action in short.values()]
        if reads and (rest := self._answer(reads)) is not None:
            rest.actions = others
            return rest
        for number, action in enumerate(others):
            match action:
                case Send(data):
                    answer = data
                case BlockStatus() | Cache():
                    answer = self._work.answer(action)
                case _:
                    return Rest(actions=others[number:])
            sent = self._line.send_all(memoryview(answer))
            if sent < len(answer):
                return Rest(answer[sent:], actions=others[number + 1 :])
        return None

    def _answer(self, reads: Reads) -> Rest | None:
        """Answer READs, in our turn if there are many of us; None when all is well."""
        self._desk.settle()
        if not self._desk.is_crowded:
            return self._answer_mixed(self._desk.batch, reads)
        with self._turns:
            if self._is_cold:
                return self._answer_together(self._desk.batch, reads)
            return self._answer_mixed(self._desk.batch, reads)

    def _answer_mixed(self, batch: memoryview, reads: Reads) -> Rest | None:
        """Answer READs, those from memory first, as many with one call as fit `batch`; None when all is well."""
        replies, export, most = self._work.replies, self._work.export, len(batch)
        read_warm = export.read_warm
        data, head_size = replies.data, replies.head_size
        filled = 0
        ends: list[int] = []
        taken: Reads = []
        cold: Reads = []
        windows: list[tuple[_Read, memoryview]] = []
        for number, read in enumerate(reads):
            cookie, offset, length = read
            if not cold and length >= WINDOW_BYTES and (window := export.window(offset, length)) is not None:
                windows.append((read, window))
                continue
            start = filled + head_size
            end = start + length
            if end > most:
                if (rest := self._leave(batch, taken, ends)) is not None:
                    rest.reads = [*rest.reads, *cold, *(read for read, _ in windows), *reads[number:]]
                    return rest
                start = head_size
                end = start + length
                filled, ends, taken = 0, [], []
            if not cold and read_warm(batch[start:end], offset):
                batch[filled:start] = data(cookie, offset, length)
                filled = end
                ends.append(end)
                taken.append(read)
            else:  # and not looked for what is in memory behind it: that would break the kernel's reading ahead
                cold.append(read)
        if taken and (rest := self._leave(batch, taken, ends)) is not None:
            rest.reads = [*rest.reads, *cold, *(read for read, _ in windows)]
            return rest
        if windows and (rest := self._leave_windows(batch, windows)) is not None:
            rest.reads = [*rest.reads, *cold]
            return rest
        if not cold:
            return None
        self._is_cold = True
        return self._answer_together(batch, cold) if self._desk.is_crowded else self._answer_cold(batch, cold)

    def _answer_together(self, batch: memoryview, reads: Reads) -> Rest | None:
        """Answer READs that wait for the disk, as many with one call as fit `batch`; None when all is well.

        What is in memory among them is not looked for: each look costs as much as a read, and the interpreter's lock
        once more.
        """
        work = self._work
        data, head_size, read_cold = work.replies.data, work.replies.head_size, work.export.read
        began_s, done = time.monotonic(), 0
        while done < len(reads):
            filled = 0
            ends: list[int] = []
            taken = reads[done : done + TOGETHER]
            try:
                for number, (cookie, offset, length) in enumerate(taken):
                    start = filled + head_size
                    end = start + length
                    if end > len(batch):
                        taken = taken[:number]
                        break
                    read_cold(batch[start:end], offset)
                    batch[filled:start] = data(cookie, offset, length)
                    filled = end
                    ends.append(end)
            except OSError:  # which of them it is, is told when each is read by itself
                return self._answer_cold(batch, reads[done:])
            work.cold_reads += len(taken)
            done += len(taken)
            if (rest := self._leave(batch, taken, ends)) is not None:
                rest.reads = [*rest.reads, *reads[done:]]
                return rest
        self._is_cold = time.monotonic() - began_s > SLOW_S * len(reads)
        return None

    def _send(self, data: memoryview) -> int:
        """Send what the client takes, if there are many of us: nobody waits for a client in our turn. Else wait."""
        return self._line.send(data) if self._desk.is_crowded else self._line.send_all(data)

    def _leave(self, batch: memoryview, taken: Reads, ends: list[int]) -> Rest | None:
        """Send the answers of `taken`, which lie in `batch` up to `ends`; return what a slow client leaves of them.

        Only what was begun is kept; the others are read again once it has gone.
        """
        if not self._work.export.intact():
            self._work.failed = CHANGED
            error = self._work.replies.error
            answer = b"".join(error(cookie, Errno.EIO, "", offset) for cookie, offset, _ in taken)
            sent = self._send(memoryview(answer))
            return None if sent == len(answer) else Rest(answer[sent:])
        filled = ends[-1]
        sent = self._send(batch[:filled])
        left = len(taken) if sent == filled else bisect_right(ends, sent) + 1
        self._count(left, ends[left - 1] - left * self._work.replies.head_size)
        if sent == filled:
            return None
        return Rest(bytes(batch[sent : ends[left - 1]]), taken[left:])

    def _leave_windows(self, batch: memoryview, windows: Sequence[tuple[_Read, memoryview]]) -> Rest | None:
        """Send READs with their windows; return what is left of it, if the client is slow or a window is gone."""
        data, count = self._work.replies.data, self._count
        done = 0
        while done < len(windows):
            if not self._work.export.intact():
                break
            parts: list[bytes | memoryview] = []
            ends = [0]
            for read, window in windows[done:]:
                head = data(*read)
                parts += head, window
                ends.append(ends[-1] + len(head) + len(window))
                if ends[-1] >= TOGETHER_BYTES:
                    break
            sent = self._line.send_parts(parts, wait=not self._desk.is_crowded)
            left = bisect_right(ends, sent) - 1  # so many have left whole
            count(left, sum(read[2] for read, _ in windows[done : done + left]))
            done += left
            if sent < ends[-1]:
                begun = sent - ends[left]
                if not begun:
                    break
                reply = self._read(batch[: ends[left + 1] - ends[left]], windows[done][0])
                if self._work.failed is not None:
                    raise OSError(EIO, "a reply that had begun cannot be finished")
                count(1, windows[done][0][2])
                return Rest(bytes(reply[begun:]), [read for read, _ in windows[done + 1 :]])
        else:
            return None
        return Rest(reads=[read for read, _ in windows[done:]])

    def _answer_cold(self, batch: memoryview, reads: Reads) -> Rest | None:
        """Answer READs that wait for the disk, each as soon as it can be; None when all is well.

        A client that is alone has several of them read at once.
        """
        work, head_size = self._work, self._work.replies.head_size
        others = []
        try:
            if len(reads) > 1 and self._desk.is_alone():
                pool = work.disk()
                others = [
                    pool.submit(work.aside, partial(self._read, bytearray(head_size + read[2]), read))
                    for read in reads[1:FEW]
                ]
        except (DiskHangs, RuntimeError):
            pass  # then one after the other; who hangs here is this client alone
        for number, read in enumerate(reads):
            aside = 0 < number <= len(others)
            reply = others[number - 1].result() if aside else self._read(batch[: head_size + read[2]], read)
            sent = self._send(memoryview(reply))
            work.cold_reads += 1
            self._count(1, read[2])
            if sent < len(reply):
                for other in others[number:]:
                    other.cancel()
                return Rest(bytes(reply[sent:]), reads[number + 1 :])
        return None

    def _read(self, reply: bytearray | memoryview, read: _Read) -> bytes | bytearray | memoryview:
        """Return a READ's answer, in `reply` if it is not an error."""
        cookie, offset, length = read
        work = self._work
        head_size = len(reply) - length
        try:
            work.export.read(memoryview(reply)[head_size:], offset)
            failed = None if work.export.intact() else CHANGED
        except OSError as error:
            failed = str(error) if work.export.intact() else CHANGED
        if failed is not None:
            work.failed = failed
            return work.replies.error(cookie, Errno.EIO, "", offset)
        reply[:head_size] = work.replies.data(cookie, offset, length)
        return reply
