"""What has to hold for any client: inputs of a fuzzer, or of hypothesis, made into conversations and judged.

A violation is an `AssertionError`, and so is anything that a session raises.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nbd.actions import MAX_WRITE_PIECE_BYTES, BlockStatus, Read, TlsMode
from nbd.exports import Extent
from nbd.replies import EXTENDED, STRUCTURED
from nbd.steady import Steady
from tests.support import nbd_talk as talk
from tests.support.nbd_driver import Disk, Driver
from tests.support.nbd_talk import Headers

SIZE = 3 << 17
NAMES = ("", "node", "disk", "secret", "other", "/node", "n" * 4097, "a\0b")
QUERIES = ("base:allocation", "base:", "base:x", "x:y", "", "base:allocation\0", "q" * 4097)
LENGTHS = (0, 1, 511, 512, 4096, 65537, SIZE - 1, SIZE, (32 << 20) + 1, 2**32 - 1, 2**64 - 1)
OFFSETS = (0, 512, 4095, SIZE - 512, SIZE, 2**63, 2**64 - 512)


PATTERN = bytearray(b"".join(bytes([n + 1]) * 4096 + bytes(4096) for n in range(SIZE >> 13)))


AT_ONCE_BYTES = 1 << 16
"""The most that a connection receives at once."""
BUFFERED_BYTES = MAX_WRITE_PIECE_BYTES + AT_ONCE_BYTES
"""The most that a session may keep of a message that has not all come: a piece of a WRITE, and what came with it."""


def exports() -> dict[str, Disk]:
    """A disk that can be written, and some that cannot."""
    return {
        "": Disk(PATTERN),
        "node": Disk(PATTERN, description="an image"),
        "disk": Disk(bytearray(PATTERN), writable=True, fast_zero=True),
        "secret": Disk(PATTERN, tls_only=True),
    }


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a client; all but `data` are a command's."""

    data: bytes
    command: int = -1
    cookie: int = 0
    offset: int = 0
    length: int = 0
    flags: int = 0


def headers(driver: Driver) -> Headers:
    """The form of replies that was agreed."""
    if driver.session.replies is EXTENDED:
        return Headers.EXTENDED
    return Headers.STRUCTURED if driver.session.replies is STRUCTURED else Headers.SIMPLE


def message(item: bytes, driver: Driver) -> Said:
    """Make a well-formed message of a few bytes, fit for the phase that the connection is in."""
    kind, one, two, three, four, *rest = (*item, 0, 0, 0, 0, 0)
    name = NAMES[one % len(NAMES)]
    if driver.disk is not None:
        extended = headers(driver) is Headers.EXTENDED
        command, flags = kind % 10, four | (rest[0] << 8 if rest else 0)
        offset = OFFSETS[one % len(OFFSETS)]
        length = LENGTHS[two % len(LENGTHS)] + three
        payload = b""
        if command == talk.WRITE or (extended and flags & talk.PAYLOAD_LEN):
            length = min(length, SIZE)
            payload = bytes([three]) * length
        length &= (1 << (64 if extended else 32)) - 1
        cookie = kind << 56 | two
        data = talk.request(command, cookie, offset, length, flags, payload, extended=extended)
        return Said(data, command, cookie, offset, length, flags)
    match kind % 6:
        case 0:
            return Said(talk.option(one % 13, bytes([two]) * (three * (257 if two & 1 else 1))))
        case 1 | 2:
            return Said(talk.choose(name, two % 5, three % 5, number=talk.GO if kind & 8 else talk.INFO))
        case 3:
            queries = [QUERIES[n % len(QUERIES)] for n in (two, three, four)][: kind >> 6]
            return Said(talk.contexts(name, *queries, number=10 if kind & 8 else 9))
        case 4:
            return Said(talk.option(talk.EXTENDED_HEADERS if kind & 8 else talk.STRUCTURED_REPLY))
        case _:
            return Said(talk.option(talk.STARTTLS if kind & 8 else talk.LIST))


def parts(data: bytes) -> Iterator[bytes]:
    """Pieces of at most seven bytes, each behind its length."""
    while data:
        size = data[0] % 8
        yield data[1 : 1 + size]
        data = data[1 + size :]


def opened(data: bytes) -> Driver:
    """A new connection, with TLS or not, as the first byte says, and its greeting taken."""
    driver = Driver(exports(), [*TlsMode][data[0] % 3])
    assert driver.out() == talk.GREETING
    return driver


def conversation(data: bytes) -> None:
    """A client that says well-formed things: each is answered as the specification wants it, in any pieces."""
    if not data:
        return
    driver = opened(data)
    flags = (data[0] >> 2 & 3).to_bytes(4, "big")
    driver.say(flags)
    messages, sent = [flags], b""
    for item in parts(data[1:]):
        if driver.closed is not None:
            break
        asked = driver.disk is not None
        before = bytes(driver.disk.content) if driver.disk is not None else b""
        said = message(item, driver)
        messages.append(said.data)
        got = driver.say(said.data)
        sent += got
        if asked:
            judge(driver, said, got, before)
        elif said.data[8:12] != bytes((0, 0, 0, talk.EXPORT_NAME)):
            _judge_option(driver, said, got)
    again_cut(data, messages, sent, driver)


def _judge_option(driver: Driver, said: Said, got: bytes) -> None:
    answers = talk.answers(got)
    number = int.from_bytes(said.data[8:12])
    assert {answer.option for answer in answers} <= {number}
    final = [answer.kind == talk.ACK or answer.kind >= talk.ERROR_BIT for answer in answers]
    assert final == [False] * (len(final) - 1) + [True] if final else driver.closed is not None


def judge(driver: Driver, said: Said, got: bytes, before: bytes) -> None:
    """Check the answer to one command."""
    assert driver.disk is not None
    form = headers(driver)
    found = talk.chunks(got, form, {said.cookie: said.length} if said.command == talk.READ else {})
    if driver.closed is not None:
        assert not found
        assert said.command == talk.DISC
        return
    assert driver.session.at_boundary
    assert {chunk.cookie for chunk in found} == {said.cookie}
    assert [chunk.done for chunk in found] == [False] * (len(found) - 1) + [True]
    (error,) = {chunk.error for chunk in found}
    assert error in expected(said, driver.disk, form)
    if error:
        assert driver.disk.content == before
    elif said.command == talk.READ and said.length:
        assert talk.content(found, said.offset, said.length) == before[said.offset : said.offset + said.length]


def expected(said: Said, disk: Disk, form: Headers) -> set[int]:
    """The errors that a command may get; 0 is success."""
    fua = talk.FUA if disk.writable else 0
    df = talk.DF if form is not Headers.SIMPLE else 0
    payload_len = talk.PAYLOAD_LEN if form is Headers.EXTENDED else 0
    flags = {
        talk.READ: fua | df,
        talk.WRITE: fua | payload_len,
        talk.FLUSH: fua,
        talk.TRIM: fua,
        talk.CACHE: fua,
        talk.WRITE_ZEROES: fua | talk.NO_HOLE | talk.FAST_ZERO,
        talk.BLOCK_STATUS: fua | talk.REQ_ONE,
    }
    writes = said.command in {talk.WRITE, talk.TRIM, talk.WRITE_ZEROES}
    outside = said.command != talk.FLUSH and said.offset + said.length > len(disk.content)
    if said.command not in flags or (said.flags & ~flags[said.command] and not writes):
        return {talk.EINVAL}
    if writes and not disk.writable:
        return {talk.EPERM}
    if said.flags & ~flags[said.command]:
        return {talk.EINVAL}
    if outside:
        return {talk.ENOSPC if said.command in {talk.WRITE, talk.WRITE_ZEROES} else talk.EINVAL}
    return {0, talk.EINVAL} if said.command == talk.BLOCK_STATUS else {0}


def again_cut(data: bytes, messages: list[bytes], sent: bytes, first: Driver) -> None:
    """The same messages in other pieces are answered the same; and so all at once, unless TLS is between."""
    step = 1 + data[-1] % 97
    driver = opened(data)
    got = b""
    for said in messages:
        cuts = [*range(0, min(len(said), 1000), step), *range(1000, len(said), AT_ONCE_BYTES), len(said)]
        for start, end in itertools.pairwise(cuts):
            got += driver.say(said[start:end])
            rest = end < len(said)
            assert not (rest and driver.disk is not None and driver.session.at_boundary)
            assert driver.session.buffered <= BUFFERED_BYTES
    assert got == sent
    assert driver.closed == first.closed
    if not any(int.from_bytes(said[8:12]) == talk.STARTTLS for said in messages):
        driver = opened(data)
        assert driver.say(b"".join(messages)) == sent
        assert driver.closed == first.closed


def any_bytes(data: bytes) -> None:
    """A client that says anything, from the start, after the flags, or in transmission: it is answered or dropped."""
    if not data:
        return
    first = [b"", talk.FLAGS, talk.FLAGS + talk.choose("node"), talk.FLAGS + talk.option(8) + talk.choose("disk")]
    first.append(talk.FLAGS + talk.option(11) + talk.choose("disk"))
    prefix = first[data[0] // 3 % len(first)]
    at_once, cut = opened(data), opened(data)
    got = at_once.say(prefix + data[1:])
    step = 1 + data[-1] % 31
    again = cut.say(*(prefix[i : i + step] for i in range(0, len(prefix), step)))
    for start in range(1, len(data), step):
        again += cut.say(data[start : start + step])
        assert cut.session.buffered <= BUFFERED_BYTES
    if at_once.tls is TlsMode.NONE:  # otherwise what is behind a STARTTLS in one piece is dropped
        assert again == got
        assert cut.closed == at_once.closed


def extents(data: bytes) -> None:
    """What an export says of its extents, whatever it is: the answer keeps to the rules (N-72)."""
    if len(data) < 3:
        return
    length = max(LENGTHS[data[0] % len(LENGTHS)] & 0xFFFFFFFF, 1)
    given = [Extent(LENGTHS[n % len(LENGTHS)] & (1 << 33) - 1, bool(n & 64), bool(n & 128)) for n in data[2:]]
    req_one = bool(data[1] & 1)
    contexts = (1, 2) if data[1] & 2 else (1,)
    both = []
    for replies, form in ((STRUCTURED, Headers.STRUCTURED), (EXTENDED, Headers.EXTENDED)):
        found = talk.chunks(replies.block_status(BlockStatus(5, 512, length, req_one, contexts), given), form)
        assert [chunk.done for chunk in found] == [False] * (len(found) - 1) + [True]
        if any(chunk.error for chunk in found):
            assert len(found) == 1
            continue
        assert [chunk.extents[0] for chunk in found] == [*contexts]
        told = found[0].extents[1]
        assert sum(size for size, _ in told[:-1]) < length
        assert all(one[1] != other[1] for one, other in itertools.pairwise(told))
        assert len(told) <= 1 << 20
        if req_one:
            assert len(told) == 1
            assert told[0][0] <= length
        model = b"".join(bytes([e.hole | e.zero << 1]) * min(e.length, 1 << 16) for e in given)[: 1 << 16]
        seen = b"".join(bytes([flags]) * min(size, 1 << 16) for size, flags in told)[: 1 << 16]
        assert model.startswith(seen)
        both.append(told)
    if both:
        (*few, last), (*many, longer) = both
        assert few == many[: len(few)]
        assert last == longer if len(few) == len(many) and longer[0] < 1 << 31 else True


def steady(data: bytes) -> None:
    """What the short way takes off a stream, the session would have understood the same."""
    if len(data) < 3:
        return
    driver = Driver(exports())
    before = (b"", talk.option(talk.STRUCTURED_REPLY))[data[0] & 1]
    driver.say(talk.FLAGS, before, talk.choose(("node", "disk")[data[1] & 1]))
    assert driver.disk is not None
    stream = b""
    for item in parts(data[3:]):
        if item and item[0] & 128:  # anything, and otherwise mostly what is taken
            stream += message(item, driver).data
        elif len(item) > 1:
            length = LENGTHS[item[-1] % 8]
            at_end = SIZE - length + item[1] % 4 - 2  # up to one byte past the end
            stream += talk.request(talk.READ, item[0], max(at_end, 0) if item[1] & 64 else item[1] << 11, length)
        else:
            stream += item
    longest = LENGTHS[data[2] % len(LENGTHS)]
    reads, size = Steady(len(driver.disk.content), driver.session.replies, longest).take(memoryview(stream))
    assert size <= len(stream)
    assert driver.session.at_boundary
    found = driver.session.receive(stream[:size], 0.0)
    assert found == [Read(*read, whole=False) for read in reads]
    assert all(length <= longest for _, _, length in reads)
    assert driver.session.at_boundary


CHECKS: tuple[Callable[[bytes], None], ...] = (conversation, any_bytes, extents, steady)
