"""Syslog and netconsole: what machines send while they boot, as lines."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.machinelogs import netconsole, syslog
from pxeboot.machinelogs.netconsole import Assembly
from pxeboot.machinelogs.receiver import kept
from pxeboot.machinelogs.share import A_SECOND, BURST, Share
from pxeboot.machinelogs.trouble import trouble
from pxeboot.messages import Severity

SYSLOG = [
    pytest.param(
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed",
        (Severity.CRITICAL, "su", "'su root' failed"), id="RFC 5424 example 1",
    ),
    pytest.param(
        '<165>1 2003-10-11T22:14:15.003Z m evntslog - ID47 [exampleSDID@32473 iut="3" a="]\\""][b@1 c="d"] An event',
        (Severity.NOTICE, "evntslog", "An event"), id="RFC 5424 with structured data",
    ),
    pytest.param("<165>1 - - - - - -", (Severity.NOTICE, "", ""), id="RFC 5424 with nothing"),
    pytest.param(
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
        (Severity.CRITICAL, "su", "'su root' failed"), id="RFC 3164",
    ),
    pytest.param("<30>Oct  1 02:14:15 m systemd[1]: x", (Severity.INFORMATIONAL, "systemd", "x"), id="pid"),
    pytest.param("<13>Oct 11 22:14:15 root: hello", (Severity.NOTICE, "root", "hello"), id="without a host"),
    pytest.param("<5>kernel: [    0.1] x", (Severity.NOTICE, "kernel", "[    0.1] x"), id="busybox syslogd -R"),
    pytest.param("<4>2026-11-22T05:00:00+00:00 m kubelet[7]: x", (Severity.WARNING, "kubelet", "x"), id="ISO time"),
    pytest.param("<999>what", (Severity.NOTICE, "", "<999>what"), id="no priority"),
    pytest.param("just text", (Severity.NOTICE, "", "just text"), id="no format"),
    pytest.param("", (Severity.NOTICE, "", ""), id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("datagram", "told"), SYSLOG)
def test_a_datagram_of_syslog_is_a_message(datagram: str, told: tuple[Severity, str, str]) -> None:
    record = syslog.parse(datagram.encode())
    assert (record.severity, record.program, record.text) == told


@given(st.binary(max_size=3000))
def test_any_datagram_is_a_message(datagram: bytes) -> None:
    record = syslog.parse(datagram)
    assert len(record.program) <= 48
    for whole in (b"<13>", b"<13>1 - - ", b"<13>Oct 11 22:14:15 "):
        syslog.parse(whole + datagram)


NETCONSOLE = [
    pytest.param(
        b"6,416,1758426,-;x86: Booting SMP\n", (Severity.INFORMATIONAL, "", "x86: Booting SMP"),
        id="extended",
    ),
    pytest.param(
        b"3,1,2,-,caller=T1;usb 1-1: bad\n SUBSYSTEM=usb\n DEVICE=+usb:1-1\n", (Severity.ERROR, "", "usb 1-1: bad"),
        id="with properties",
    ),
    pytest.param(b"6.4.0,6,444,501151268,-;x\n", (Severity.INFORMATIONAL, "", "x"), id="with release"),
    pytest.param(
        b"27,500,900,-;systemd[1]: Failed to start kubelet.service.\n",
        (Severity.ERROR, "systemd", "Failed to start kubelet.service."), id="from the journal",
    ),
    pytest.param(b"12,5,9,-;no program\n", (Severity.WARNING, "user", "no program"), id="from /dev/kmsg"),
    pytest.param(rb"6,4,5,-;tab\x09and \x5cx" + b"\n", (Severity.INFORMATIONAL, "", "tab\tand \\x"), id="escapes"),
    pytest.param(b"Kernel panic - x\n", (Severity.INFORMATIONAL, "", "Kernel panic - x"), id="plain"),
]  # fmt: skip


@pytest.mark.parametrize(("datagram", "told"), NETCONSOLE)
def test_a_datagram_of_netconsole_is_a_line(datagram: bytes, told: tuple[Severity, str, str]) -> None:
    [record] = Assembly().take("m1", datagram)
    assert (record.severity, record.program, record.text) == told


def fragments(text: bytes, sizes: list[int]) -> list[bytes]:
    """The datagrams of one message, cut as the kernel does it."""
    out: list[bytes] = []
    at = 0
    while at < len(text):
        size = sizes[len(out) % len(sizes)]
        out.append(b"6,7,8,-,ncfrag=%d/%d;" % (at, len(text)) + text[at : at + size])
        at += size
    return out


@given(
    st.text("abc é", min_size=1, max_size=300).filter(str.strip),
    st.lists(st.integers(5, 90), min_size=1),
    st.randoms(),
)
def test_fragments_are_put_together_in_whatever_order_they_come(text: str, sizes: list[int], random: Random) -> None:
    pieces = fragments(text.encode(), sizes)
    random.shuffle(pieces)
    assembly = Assembly()
    told = [record for piece in pieces for record in assembly.take("m1", piece)]
    assert [record.text for record in told] == [text]


def test_fragments_that_overlap_are_not_kept() -> None:
    """Each is as long as the rest of its message: all of them would be 33 MB of one message."""
    assembly, length = Assembly(), netconsole.LONGEST
    for offset in range(1, length):
        piece = b"x" * (length - offset)
        assert assembly.take("m1", b"6,1,1,-,ncfrag=%d/%d;%s" % (offset, length, piece)) == []
    (kept,) = assembly._machines["m1"].values()
    assert sum(map(len, kept.pieces.values())) <= length


def test_fragments_of_several_machines_are_not_mixed() -> None:
    assembly = Assembly()
    one, other = fragments(b"A" * 10, [5]), fragments(b"B" * 10, [5])
    assert assembly.take("m1", one[0]) == assembly.take("m2", other[1]) == []
    assert [record.text for record in assembly.take("m1", one[1])] == ["A" * 10]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9000), st.integers(0, 9000), st.binary(max_size=50))))
def test_no_fragments_make_an_assembly_fail_or_grow(wild: list[tuple[int, int, int, bytes]]) -> None:
    assembly = Assembly()
    for sequence, offset, length, piece in wild:
        for record in assembly.take("m1", b"6,%d,8,-,ncfrag=%d/%d;" % (sequence, offset, length) + piece):
            assert len(record.text) <= netconsole.LONGEST


@given(st.binary(max_size=1500))
def test_any_datagram_of_netconsole_is_taken_or_left(datagram: bytes) -> None:
    for whole in (datagram, b"6,1,2,-;" + datagram, b"6,1,2,-,ncfrag=0/9;" + datagram):
        for record in Assembly().take("m1", whole):
            assert record.text.strip()


TROUBLES = [
    ("", "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", True),
    ("kernel", "VFS: Unable to mount root fs on unknown-block(0,0)", True),
    ("", "BUG: kernel NULL pointer dereference, address: 0000000000000008", False),
    ("", "Out of memory: Killed process 812 (kubelet) total-vm:1kB", False),
    ("", "SQUASHFS error: Unable to read metadata cache entry [5c1f6]", False),
    ("", "block nbd0: Receive control failed (result -32)", False),
    ("", "INFO: task systemd:1 blocked for more than 120 seconds.", False),
    ("systemd", "Failed to start kubelet.service - kubelet.", False),
    ("systemd", "You are in emergency mode. After logging in, type", True),
]


@pytest.mark.parametrize(("program", "text", "certain"), TROUBLES)
def test_what_goes_wrong_is_known_by_its_words(program: str, text: str, certain: bool) -> None:
    found = trouble(program, text)
    assert found is not None
    assert found.certain is certain


@pytest.mark.parametrize(
    ("program", "text"),
    [("", "Linux version 6.1.0"), ("sshd", "Kernel panic - not syncing: x"), ("systemd", "Started cron.service.")],
)
def test_what_is_no_trouble_is_none(program: str, text: str) -> None:
    assert trouble(program, text) is None


def test_a_machine_has_a_burst_and_then_a_few_lines_a_second() -> None:
    share = Share(0.0)
    assert sum(share.take("m1", 0.0) for _ in range(2 * BURST)) == BURST
    assert share.take("m2", 0.0)
    assert sum(share.take("m1", 10.0) for _ in range(2 * BURST)) == min(BURST, 10 * A_SECOND)


def test_of_a_long_line_no_more_is_read_than_is_kept() -> None:
    """What is done with each byte costs, and 2,000 lines a second are taken."""
    (record,) = Assembly().take("m1", b"6,1,1,-;" + b"\\x20" * 100 + b"x" * 8000)
    assert len(record.text) < 2048
    assert kept(record.text) == "x" * 500


@pytest.mark.parametrize("before", [0, 470, 477, 490, 499])
def test_a_token_at_the_end_of_what_is_kept_is_hidden_whole(before: int) -> None:
    shown = kept("x" * (before - 1) + " " * bool(before) + "abcdef.0123456789abcdef" + " y" * 300)
    assert "abcdef" not in shown
    assert "0123456789" not in shown
