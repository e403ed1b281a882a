"""What is to be sent to one client: actions, carried out in order as far as there is room for what comes of them."""

from collections import deque
from collections.abc import Callable

from nbd.actions import (
    Action,
    BlockStatus,
    Cache,
    Close,
    Flush,
    ListExports,
    OpenExport,
    Read,
    Send,
    StartTls,
    Trim,
    Write,
    WriteZeroes,
)
from nbd.pieces import PIECE_BYTES, Piece, Pieces, is_short
from nbd.steady import Reads
from nbd.work import CHANGED, Work

ERROR_BYTES = 64
"""Room for an error, or for one instead of success."""

Order = OpenExport | ListExports | StartTls | Close
"""What is the connection's own to do."""


class Output:
    """The queue of one connection. Nothing here waits: what has to, is begun again with the next `fill`."""

    def __init__(self, actions: list[Action], obey: Callable[[Order, bool], bool]) -> None:
        """`obey` carries out what is the connection's own, and is told whether nothing is in front of it that has not
        been sent; it returns false if it cannot be done yet.
        """
        self.queue: deque[Action] = deque(actions)
        self.work: Work | None = None
        """The work on the export, once there is one."""
        self.reads = 0
        self.read_bytes = 0
        self._obey = obey
        self._pieces: Pieces | None = None  # of the READ that is being answered

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing left to do."""
        return not (self.queue or self._pieces or (self.work is not None and self.work.answers))

    @property
    def has_only_short_reads(self) -> bool:
        """Whether there is nothing to do but READs of one piece each, none of them begun."""
        if self._pieces is not None or (self.work is not None and self.work.answers):
            return False
        return all(isinstance(action, Read) and is_short(action) for action in self.queue)

    def take_short_reads(self) -> Reads:
        """Return those, as somebody else's to answer."""
        reads = [(action.cookie, action.offset, action.length) for action in self.queue if isinstance(action, Read)]
        self.queue.clear()
        return reads

    def clear(self) -> None:
        """Forget everything."""
        self.queue.clear()
        self._pieces = None

    def working(self) -> Work:
        """Return `work`, without which the session asks for nothing that needs it."""
        if self.work is None:
            raise RuntimeError("the session has commands before an export was opened")
        return self.work

    def fill(self, room: memoryview) -> int | None:
        """Carry out actions, as far as their output fits `room`; return how much of it is filled.

        None: nothing could be done, until some work is done or the connection is told what it asked for.
        """
        filled, idle = 0, True
        while True:
            took: int | None
            if self.work is not None and self.work.answers:
                took = self.work.take(room[filled:])
            elif self._pieces is not None:
                took = self._put(self._pieces, room[filled:])
            elif self.queue:
                took = self._carry_out(self.queue[0], room[filled:], is_first=not filled)
                if took is not None and self.queue:  # empty if that was the end of the connection
                    self.queue.popleft()
            else:
                break
            if took is None:
                break
            filled, idle = filled + took, False
        return None if idle else filled

    def read_cold(self, asked: Read) -> None:
        """Do a short READ that has to wait for the disk, or queue it if too many wait."""
        work = self.working()
        if self.queue or self._pieces or not work.has_room(asked.length):
            self.queue.append(asked)
            return
        pieces = Pieces(asked, work.replies)
        work.read(pieces.piece(), pieces)
        self.reads += 1
        self.read_bytes += asked.length

    def _carry_out(self, action: Action, room: memoryview, is_first: bool) -> int | None:
        """Carry out or begin an action; return how much of `room` it took, or None if it has to wait."""
        match action:
            case Read():
                return self._begin(action)
            case Send(data):
                if len(data) > len(room):
                    return None
                room[: len(data)] = data
                return len(data)
            case Cache():
                if not self.working().has_room(0):
                    return None
                self.working().cache(action)
            case Write() | Flush() | Trim() | WriteZeroes() | BlockStatus():
                if self.working().is_full:
                    return None
                self.working().order(action)
            case Close() if self.work is not None and self.work.jobs:
                return None
            case OpenExport() | ListExports() | StartTls() | Close():
                return 0 if self._obey(action, is_first) else None
        return 0

    def _begin(self, asked: Read) -> int | None:
        if asked.length > PIECE_BYTES and self.working().jobs:
            return None  # its pieces must not be mixed with the replies that the threads are preparing
        self._pieces = Pieces(asked, self.working().replies)
        self.reads += 1
        return 0

    def _put(self, pieces: Pieces, room: memoryview) -> int | None:
        """Put the next piece of a reply into `room`; return its size, or None if it has to wait."""
        work = self.working()
        if work.jobs and not pieces.at_start:
            return None  # the piece before it is still being read, and nothing may be between them
        if pieces.is_over:
            self._pieces = None
            return 0
        piece = pieces.piece()
        start = len(piece.head)
        end = start + piece.length
        size = end + len(piece.tail)
        if size + ERROR_BYTES > len(room):  # an error is longer than the end of a chunk
            return None
        if pieces.broken:
            room[start:end] = bytes(piece.length)
        elif not work.is_slow and work.export.read_warm(room[start:end], piece.offset):
            if not work.export.intact():
                return self._changed(work, piece, pieces, room)
        elif work.has_room(piece.length):
            work.read(piece, pieces)
            size = start = end = 0
        else:
            return None
        room[:start] = piece.head[:start]
        room[end:size] = piece.tail[: size - end]
        self.read_bytes += piece.length
        pieces.advance()
        if pieces.is_short:
            self._pieces = None
        return size

    def _changed(self, work: Work, piece: Piece, pieces: Pieces, room: memoryview) -> int:
        """Tell that the image is not what it was; the connection is hung up if there is no way left to say so."""
        work.failed = CHANGED
        instead = pieces.fail(piece)
        if instead is None:
            work.torn = True
            self.clear()
            return 0
        room[: len(instead)] = instead
        pieces.advance()
        return len(instead)
