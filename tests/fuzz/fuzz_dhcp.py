"""Inputs grown from real packets by what code they reach, against everything of DHCP that reads what others wrote.

    python -m tests.fuzz.fuzz_dhcp [SECONDS [INPUT]]

The first byte of an input chooses the target in `TARGETS`. What a parser says it raises is fine; anything else, and an
answer by the short way that is not the engine's, ends the run with a code that is not 0, prints the input, and leaves
it in .build/fuzz. With INPUT, a file, only that is run. `make fuzz` runs this for three minutes.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dhcp"]):
    from dhcp import arp, journal, options, overheard, pxe, quirks, wire
    from dhcp.engine import Server
    from dhcp.fast import FastPath
    from dhcp.formats import dhcpd, dnsmasq, kea
    from dhcp.formats.found import NotThisFormat
    from dhcp.models import next_steps
    from dhcp.options import Option
    from dhcp.plan import plan
    from dhcp.replies import Send
    from dhcp.request import BOOT_SERVER_PORT, Arrival

from tests.fuzz.running import run
from tests.support.dhcp_clients import RECORDED, SERVER, farm, recorded
from tests.unit.test_dhcp_fast import rich_farm, seen

NOW = 1_790_000_000.0
LONGEST = 4096
PLANS = (plan(rich_farm()), plan(farm(match_client_id=True, limits={"clients_per_circuit": 2}, probe=True)))
HERE = IPv4Address("10.77.0.61")
ARRIVALS = (
    Arrival(SERVER),
    Arrival(SERVER, unicast=True, source_port=1067),
    Arrival(SERVER, unicast=True, source_port=4011, port=BOOT_SERVER_PORT, source=HERE),
    Arrival(IPv4Address("192.0.2.1")),
)


def messages(data: bytes) -> None:
    """A history of datagrams, each behind its length: answered, and by the short way as by the engine."""
    which, rest = data[0] % len(PLANS), data[1:]
    plain, asked = Server(PLANS[which], (), NOW), Server(PLANS[which], (), NOW)
    fast = FastPath(asked)
    now = NOW
    while len(rest) > 3:
        size, arrival = int.from_bytes(rest[:2], "big"), ARRIVALS[rest[2] % len(ARRIVALS)]
        now += rest[2] / 4
        datagram, rest = rest[3 : 3 + size], rest[3 + size :]
        done = None
        with suppress(wire.MalformedPacket):
            done = fast.receive(datagram, arrival, now)
        try:
            said = wire.decode(datagram)
        except wire.MalformedPacket:
            continue
        assert wire.decode(said.encode()) == said
        expected = plain.receive(said, arrival, now)
        assert seen(asked.receive(said, arrival, now) if done is None else done) == seen(expected)
        for action in expected:
            if isinstance(action, Send):
                packed = action.pack()
                assert 300 <= len(packed.data) <= 1472
                wire.decode(packed.data)


def values(data: bytes) -> None:
    """What is inside an option."""
    options.address(data)
    options.number(data, 4)
    options.sub_options(data)
    fqdn = options.client_fqdn(data)
    if fqdn is not None and fqdn.name:
        assert fqdn.name.isascii()
        assert fqdn.name.isprintable()
        options.encode_client_fqdn(fqdn.flags, fqdn.name)
    half = len(data) // 2
    sent = {Option.CLIENT_SYSTEM_ARCHITECTURE: data[:half], Option.USER_CLASS: data[half:], 60: data, 97: data}
    quirks.architecture_codes(sent)
    kind = PLANS[0].clients.client(sent, "02:00:00:00:00:01")
    assert str(kind).isprintable()


def option_43(data: bytes) -> None:
    """What servers tell PXE clients, and back."""
    said = pxe.decode(data)
    assert pxe.decode(said.encode()) == said


def lease_file(data: bytes) -> None:
    """Our own lease file."""
    journal.decode(data)
    for header in (b"", journal.HEADER):
        with suppress(journal.JournalError):
            for lease in journal.read(header + data, Path("leases")).leases:
                assert journal.decode(journal.encode(lease)) == lease


def imports(data: bytes) -> None:
    """Lease files of others."""
    for reader in (dnsmasq.read, dhcpd.read, kea.read):
        for by_client_id in (False, True):
            with suppress(NotThisFormat):
                leases = reader(data, by_client_id=by_client_id).leases.values()
                dnsmasq.write(leases, NOW)
                kea.write(leases, NOW)
                for lease in leases:
                    assert journal.decode(journal.encode(lease)) == lease


def frames(data: bytes) -> None:
    """What was read from the link."""
    for summed in (False, True):
        with suppress(overheard.Damaged):
            overheard.datagram(data, summed=summed)
    with suppress(arp.MalformedPacket):
        assert arp.decode(arp.decode(data).encode()) == arp.decode(data)


def answers(data: bytes) -> None:
    """Answers of other servers, as the models of clients read them."""
    size = int.from_bytes(data[:2], "big")
    with suppress(wire.MalformedPacket):
        next_steps(wire.decode(data[2 : 2 + size]), wire.decode(data[2 + size :]))


TARGETS: tuple[Callable[[bytes], None], ...] = (messages, values, option_43, lease_file, imports, frames, answers)


def once(data: bytes) -> None:
    """Run one input."""
    if len(data) > 1:
        try:
            TARGETS[data[0] % len(TARGETS)](data[1:])
        except Exception:
            print(f"failed in {TARGETS[data[0] % len(TARGETS)].__name__} with {data.hex()}", file=sys.stderr)
            raise


def seeds() -> list[bytes]:
    """Recorded clients, and a sound example for every other target."""
    whole = [recorded(name) for name, data in sorted(RECORDED.items()) if data.startswith(wire.MAGIC_COOKIE)]
    found, server = [], Server(PLANS[0], (), NOW)
    for ask in whole:
        data = ask.encode()
        part = len(data).to_bytes(2, "big") + b"\0" + data
        found += [b"\0\0" + part + part, b"\0\1" + part]
        for action in server.receive(ask, ARRIVALS[0], NOW):
            if isinstance(action, Send):
                found.append(b"\6" + len(data).to_bytes(2, "big") + data + action.pack().data)
                found.append(b"\5" + action.pack().data)
        found += [b"\1" + value for value in ask.options.values()]
    found += [b"\2" + value for value in pxe.OPTION_43.values()]
    line = b"10.77.0.99 52:54:00:12:34:56 bound 1790000000 "
    found += [b"\3" + journal.HEADER + line + b"00000000\n", b"\3" + line]
    found.append(b"\4" + b"1790000000 52:54:00:12:34:56 10.77.0.99 n1 01:52:54:00:12:34:56\n")
    found.append(b"\4" + ",".join(kea.COLUMNS).encode() + b"\n10.77.0.9,52:54:00:12:34:56,,60,1790000000,1,0,0,,0,\n")
    found.append(
        b"\4lease 10.77.0.9 {\n starts 6 2026/11/21 14:00:00;\n ends never;\n binding state active;\n"
        b' hardware ethernet 52:54:00:12:34:56;\n uid "\\001RT";\n}\n'
    )
    return found


if __name__ == "__main__":
    run("corpus", once, seeds, LONGEST, timeout_s=10)
