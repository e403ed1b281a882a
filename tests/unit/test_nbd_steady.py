"""The short way answers what the session would, and leaves the rest to it."""

from hypothesis import given
from hypothesis import strategies as st

from nbd import wire
from nbd.actions import Action, ExportInfo, OpenExport, Read
from nbd.engine import Session
from nbd.replies import EXTENDED, SIMPLE, STRUCTURED
from nbd.steady import Steady

SIZE = 1 << 20
LONGEST = 1 << 18


def transmitting() -> Session:
    """A session whose client has chosen an export of `SIZE` bytes."""
    session = Session()
    session.start(0)
    go = wire.InfoRequest("node").encode()
    actions = session.receive((3).to_bytes(4) + wire.OptionHeader(wire.Opt.GO, len(go)).encode() + go, 0)
    assert actions == [OpenExport("node", keep=True)]
    session.export_opened(ExportInfo(SIZE))
    assert session.at_boundary
    return session


def by_the_short_way(data: bytes) -> list[Action]:
    """What is to be done for `data` if the short way is taken as far as it goes."""
    session = transmitting()
    reads, used = Steady(SIZE, SIMPLE, LONGEST).take(memoryview(data))
    return [*(Read(*read, whole=False) for read in reads), *session.receive(data[used:], 0)]


requests = st.builds(
    wire.Request,
    type=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 5, 7, 99]),
    cookie=st.integers(0, 2**64 - 1),
    offset=st.one_of(st.integers(0, SIZE), st.sampled_from([SIZE - 1, 2**64 - 1, 2**63])),
    length=st.sampled_from([0, 1, 512, 4096, LONGEST, LONGEST + 1, SIZE, 2**32 - 1]),
    flags=st.sampled_from([0, 0, 0, 0, 1, 4, 0x8000]),
)


@given(st.lists(requests, max_size=12), st.binary(max_size=40))
def test_both_ways_lead_to_the_same_actions(sent: list[wire.Request], trailing: bytes) -> None:
    data = b"".join(request.encode() for request in sent) + trailing
    assert by_the_short_way(data) == transmitting().receive(data, 0)


def test_plain_reads_are_taken_up_to_what_is_not() -> None:
    plain = [wire.Request(wire.Cmd.READ, cookie, 4096 * cookie, 512).encode() for cookie in range(3)]
    steady = Steady(SIZE, STRUCTURED, LONGEST)
    expected = [(0, 0, 512), (1, 4096, 512), (2, 8192, 512)]
    assert steady.take(memoryview(b"".join(plain))) == (expected, 84)
    assert steady.take(memoryview(b"".join(plain) + plain[0][:27])) == (expected, 84)
    for other in (
        wire.Request(wire.Cmd.READ, 9, 0, 512, flags=4),
        wire.Request(wire.Cmd.READ, 9, 0, LONGEST + 1),
        wire.Request(wire.Cmd.READ, 9, SIZE - 511, 512),
        wire.Request(wire.Cmd.READ, 9, 0, 0),
        wire.Request(wire.Cmd.CACHE, 9, 0, 512),
    ):
        assert steady.take(memoryview(plain[0] + other.encode() + plain[1])) == ([(0, 0, 512)], 28)


def test_extended_requests_are_understood_where_they_were_agreed() -> None:
    plain = wire.ExtendedRequest(wire.Cmd.READ, 1, 4096, 512).encode()
    steady = Steady(SIZE, EXTENDED, LONGEST)
    assert steady.take(memoryview(plain + plain[:31])) == ([(1, 4096, 512)], 32)
    assert steady.take(memoryview(wire.Request(wire.Cmd.READ, 1, 4096, 512).encode() + bytes(4))) == ([], 0)
    assert Steady(SIZE, SIMPLE, LONGEST).take(memoryview(plain)) == ([], 0)
