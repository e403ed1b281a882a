"""pxeboot.explain: what a machine is told is traced to its line or rule, for every level and architecture."""

from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from textwrap import dedent
from uuid import UUID

import pytest

from config.architectures import BY_NAME
from config.load import load
from config.marks import Marks
from config.model import Farm
from dhcp.engine import Server
from dhcp.leases import Lease, State
from dhcp.plan import plan
from dhcp.pxe import Discovery, MenuLine, VendorOptions
from dhcp.request import BOOT_SERVER_PORT, Arrival, Reason
from dhcp.wire import Message
from pxeboot.explain import packets
from pxeboot.explain.explanation import Desk, Explanation
from pxeboot.explain.in_short import in_short
from pxeboot.explain.packets import Sender
from pxeboot.explain.reasons import ADVICE
from pxeboot.explain.rows import Row
from pxeboot.intents import Boot, Intent, Origin
from pxeboot.probe.client import Kind
from tests.support.dhcp_clients import recorded

US = IPv4Address("10.77.0.1")
NOW = 1_000_000.0
N1 = "52:54:00:12:34:56"
N2 = "52:54:00:00:00:02"
STRANGER = "02:00:00:00:00:99"
TEXT = dedent(
    """\
    server: {http_port: 8080}                                                           # 1
    dhcp:                                                                               # 2
      probe: false                                                                      # 3
      lease_s: 7200                                                                     # 4
      domain_name: everywhere.example                                                   # 5
      domain_name_servers: [10.77.0.53]                                                 # 6
      ntp_servers: [10.77.0.9]                                                          # 7
      log_servers: [10.77.0.8]                                                          # 8
      options: {time-offset: 0, 224: {text: dhcp}, 225: {text: dhcp}}                   # 9
      always_send: [mtu]                                                                # 10
      never_send: [time-servers]                                                        # 11
      shared_networks:                                                                  # 12
        hall: {domain_name: hall.example, options: {224: {text: hall}}}                 # 13
      subnets:                                                                          # 14
        - subnet: 10.77.0.0/24                                                          # 15
          shared_network: hall                                                          # 16
          unknown: workers                                                              # 17
          routers: [10.77.0.254]                                                        # 18
          domain_name: subnet.example                                                   # 19
          options: {time-servers: [10.77.0.7], 225: {text: subnet}, 226: {text: x}}     # 20
          pool: 10.77.0.100-10.77.0.101                                                 # 21
          pools:                                                                        # 22
            - range: 10.77.0.200-10.77.0.200                                            # 23
              domain_name: pool.example                                                 # 24
        - {subnet: 10.78.0.0/24, pool: 10.78.0.100-10.78.0.100}                         # 25
        - {subnet: 10.79.0.0/24, proxy: true, unknown: workers}                         # 26
        - {subnet: 10.80.0.0/24}                                                        # 27
      architectures:                                                                    # 28
        ipxe: {boot_file: "http://10.77.0.1/boot.ipxe"}                                 # 29
        uefi-arm64: {boot_file: arm/grubaa64.efi, domain_name: arm.example}             # 30
        uboot-arm64: {boot_file: ""}                                                    # 31
      quirks:                                                                           # 32
        - name: odd-card                                                                # 33
          source: ticket 7                                                              # 34
          match: {macs: ["02:1a:b0"]}                                                   # 35
          force_broadcast: true                                                         # 36
          vendor_class: OddClient                                                       # 37
        - {name: asks-4011, match: {macs: ["02:40:11"]}, boot_server: true}             # 38
    images: {node: {path: /srv/node}}                                                   # 39
    tags:                                                                               # 40
      all: {dhcp: {mtu: 1400, options: {227: {text: all}}}}                             # 41
      gpu: {dhcp: {mtu: 9000, options: {228: {text: gpu}}}}                             # 42
      odd: {dhcp: {options: {228: {text: odd}}}}                                        # 43
    pools:                                                                              # 44
      - name: workers                                                                   # 45
        image: node                                                                     # 46
        tags: [gpu]                                                                     # 47
        nodes:                                                                          # 48
          - name: n1                                                                    # 49
            macs: [52:54:00:12:34:56]                                                   # 50
            ip: 10.77.0.10                                                              # 51
            tags: [odd]                                                                 # 52
            dhcp: {options: {227: {text: node}, 226: ""}}                                 # 53
          - {name: n2, macs: [52:54:00:00:00:02], ip: 10.77.0.20, boot: refuse}         # 54
          - {name: n3, uuid: 00112233-4455-6677-8899-aabbccddeeff, ip: 10.77.0.30}      # 55
          - {name: n4, client_id: "01:02:03", ip: 10.77.0.40}                           # 56
          - {name: n5, serial: ABC123, ip: 10.77.0.50}                                  # 57
          - {name: n6, circuit_id: eth0, remote_id: sw1, ip: 10.77.0.60}                # 58
          - {name: n7, circuit_id: eth9, ip: 10.77.0.70}                                # 59
          - {name: n8, remote_id: sw9, ip: 10.77.0.80}                                  # 60
          - {name: n9, macs: [52:54:00:00:00:09], ip: 10.79.0.9}                        # 61
          - {name: n10, macs: [52:54:00:00:00:10], ip: 10.77.0.90, boot: local}         # 62
    """
)


@pytest.fixture(scope="module")
def farm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("farm") / "farm.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def desk(farm_file: Path) -> Desk:
    return at_desk(farm_file)


@cache
def loaded(path: Path) -> tuple[Farm, Marks]:
    return load(path), Marks(str(path), path.read_text())


def at_desk(path: Path, leases: Iterable[Lease] = (), intents: Mapping[str, Intent] | None = None) -> Desk:
    farm, marks = loaded(path)
    return Desk(Server(plan(farm), leases, NOW), farm, marks, intents or {})


def sender(mac: str = N1, arch: str = "uefi-x64", kind: Kind = Kind.PXE, **more: object) -> Sender:
    return Sender(bytes.fromhex(mac.replace(":", "")), kind, BY_NAME[arch], **more)  # type: ignore[arg-type]


def explain(desk: Desk, who: Sender, at: IPv4Address = US, asked: Message | None = None) -> Explanation:
    message = asked or packets.discover(who)
    return desk.explain(message, packets.arrival_of(message, at), NOW)


def asking(who: Sender, *codes: int) -> Message:
    """Return a DHCPDISCOVER that asks for nothing but `codes`."""
    made = packets.discover(who)
    return Message(**{f: getattr(made, f) for f in made.__slots__} | {"options": {**made.options, 55: bytes(codes)}})


def row(one: Explanation, name: str | int) -> Row:
    assert one.answer is not None
    rows = (*one.answer.rows, *one.answer.not_sent, *one.answer.left_out)
    return next(row for row in rows if name in (row.code, row.code is None and row.name))


def line(one: Explanation, name: str | int) -> int | None:
    where = row(one, name).source.where
    return where.line if where else None


def overrode(one: Explanation, name: str | int) -> list[int | None]:
    return [lost.where.line if lost.where else None for lost in row(one, name).source.overrode]


# code, value, its line, whose it is, and the lines that it overrode, the nearest first
LEVELS: dict[str, tuple[str | int, str, int, str, list[int | None]]] = {
    "global": (6, "10.77.0.53", 6, "global", []),
    "lease time": (51, "7200 s", 4, "global", []),
    "shared network over global": (224, "'hall'", 13, "shared network hall", [9]),
    "subnet over global": (225, "'subnet'", 20, "subnet 10.77.0.0/24", [9]),
    "subnet over shared network and global": (15, "subnet.example", 19, "subnet 10.77.0.0/24", [13, 5]),
    "pool's tag over the tag all": (26, "9000", 42, "tag gpu of pool workers", [41]),
    "node's tag over pool's": (228, "'odd'", 43, "tag odd of the node", [42]),
    "node over the tag all": (227, "'node'", 53, "node n1", [41]),
    "name": (12, "n1", 49, "its name in the configuration", []),
    "mask": (1, "255.255.255.0", 15, "the network's own", []),
    "static lease": ("yiaddr", "10.77.0.10", 51, f"static lease of n1: its MAC, {N1}", []),
}


@pytest.mark.parametrize("level", LEVELS)
def test_a_value_has_the_line_that_won_and_those_it_overrode(desk: Desk, level: str) -> None:
    name, value, at, why, lost = LEVELS[level]
    one = explain(desk, sender(), asked=asking(sender(), 1, 3, 6, 12, 15, 28, 42))
    found = row(one, name)
    assert (found.value, found.source.why, line(one, name), overrode(one, name)) == (value, why, at, lost)


def test_an_address_pool_wins_over_its_subnet(farm_file: Path) -> None:
    taken = [Lease(IPv4Address(f"10.77.0.{n}"), "02:00:00:00:00:01", int(NOW) + 900) for n in (100, 101)]
    one = explain(at_desk(farm_file, taken), sender(STRANGER))
    assert (line(one, 15), overrode(one, 15)) == (24, [19, 13, 5])
    assert row(one, 15).source.why == "address pool 10.77.0.200-10.77.0.200"
    assert line(one, "yiaddr") == 23


def test_an_architecture_wins_over_subnet_and_tags(desk: Desk) -> None:
    one = explain(desk, sender(arch="uefi-arm64"))
    assert (line(one, 15), overrode(one, 15)) == (30, [19, 13, 5])
    assert row(one, 15).source.why == "architecture uefi-arm64"
    assert (row(one, "file").value, line(one, "file"), line(one, 67)) == ("'arm/grubaa64.efi'", 30, 30)


def test_a_quirk_of_the_farm_is_named_with_its_line(desk: Desk) -> None:
    one = explain(desk, sender("02:1a:b0:00:00:01", "bios"))
    assert (row(one, 60).value, row(one, 60).source.why, line(one, 60)) == ("OddClient", "quirk odd-card", 33)
    assert one.quirks[0].name == "odd-card"
    assert one.quirks[0].source == "ticket 7"
    assert one.quirks[0].decides == ("vendor_class", "force_broadcast")
    assert one.answer is not None
    assert one.answer.destination.why == "everybody, by quirk odd-card"
    assert one.answer.destination.where is not None
    assert one.answer.destination.where.line == 33


def test_a_built_in_quirk_is_named_with_how_one_knows(desk: Desk) -> None:
    one = explain(desk, sender())
    assert row(one, 60).source.why == "quirk pxe"
    pxe = next(quirk for quirk in one.quirks if quirk.name == "pxe")
    assert "edk2" in pxe.source
    assert "vendor_class" in pxe.decides
    assert pxe.where is None


RULES = {
    53: "table 3", 54: "4.3.1", 58: "4.4.5", 59: "4.4.5", 97: "echoed", "op": "section 2", "hops": "table 3",
    "secs": "table 3", "xid": "table 3", "flags": "table 3", "giaddr": "table 3", "ciaddr": "table 3",
    "siaddr": "our address", "file": "our own GRUB for UEFI x64",
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_what_nobody_configures_has_its_rule(desk: Desk, name: str | int) -> None:
    assert RULES[name] in row(explain(desk, sender()), name).source.why


def test_a_file_and_a_server_name_end_with_a_nul_and_say_why(desk: Desk) -> None:
    one = explain(desk, sender())
    for code in (66, 67):
        assert row(one, code).raw.endswith(b"\0")
        assert "NUL" in row(one, code).source.note


def test_what_is_configured_and_not_sent_says_why(desk: Desk) -> None:
    one = explain(desk, sender(), asked=asking(sender(), 1, 4))
    assert one.answer is not None
    said = {row.code: row for row in one.answer.not_sent}
    assert said[7].sent == "the client did not ask for it"
    assert said[4].sent == "never_send"
    assert said[4].sent_where is not None
    assert said[4].sent_where.line == 11
    assert said[226].sent == "taken away there"
    assert said[226].source.where is not None
    assert said[226].source.where.line == 53


def test_what_is_sent_unasked_says_why(desk: Desk) -> None:
    one = explain(desk, sender(), asked=asking(sender(), 1))
    assert row(one, 26).sent == "always_send"
    where = row(one, 26).sent_where
    assert where is not None
    assert where.line == 10
    assert row(one, 1).sent == "asked for"
    assert "unasked" in row(one, 225).sent
    assert "boot file" in row(one, 67).sent


def test_options_come_in_the_order_in_which_they_are_sent(desk: Desk) -> None:
    one = explain(desk, sender(), asked=asking(sender(), 15, 1, 6))
    assert one.answer is not None
    codes = [row.code for row in one.answer.options]
    assert codes == [*one.answer.send.message.options]
    assert codes[:2] == [53, 54]


EVERY = [(name, kind) for name in BY_NAME for kind in Kind]


@pytest.mark.parametrize(("arch", "kind"), EVERY)
def test_nothing_is_told_without_a_source_whatever_the_architecture(desk: Desk, arch: str, kind: Kind) -> None:
    for who, at in ((N1, US), (STRANGER, US), (STRANGER, IPv4Address("10.78.0.1")), (N1, IPv4Address("10.79.0.1"))):
        one = explain(desk, sender(who, arch, kind), at)
        assert (one.answer is None) <= (one.problem is not None)
        if one.answer is None:
            continue
        assert [row.name for row in one.answer.fields] == [
            "op", "htype", "hlen", "hops", "xid", "secs", "flags", "ciaddr", "yiaddr", "siaddr", "giaddr", "chaddr",
            "sname", "file",
        ]  # fmt: skip
        for told in (*one.answer.rows, *one.answer.not_sent):
            assert told.source.why, told
            assert "the protocol's: option" not in told.source.why, told
            assert told.code is None or told.sent, told


BOOTS = {  # architecture, class: whether n1 boots, its file, and what its client does last
    ("bios", Kind.PXE): (True, "'grub/i386-pc/core.0'", "(our GRUB)"),
    ("uefi-x64", Kind.PXE): (True, "'grub/x86_64-efi/core.efi'", "(our GRUB)"),
    ("uefi-ebc", Kind.PXE): (True, "'grub/x86_64-efi/core.efi'", "(our GRUB)"),
    ("uefi-x64-http", Kind.HTTP): (
        True, "'http://10.77.0.1:8080/grub/x86_64-efi/core.efi'", "(our GRUB)"
    ),
    ("uefi-arm64", Kind.PXE): (True, "'arm/grubaa64.efi'", "(GRUB, efinet)"),
    ("uefi-x64", Kind.IPXE): (True, "'http://10.77.0.1/boot.ipxe'", "runs the script"),
    ("uefi-riscv64", Kind.PXE): (False, "", "gives up"),
    ("uboot-arm64", Kind.PXE): (False, "", "0A4D000A.img"),
    ("rpi", Kind.PXE): (True, "", "start4.elf"),
    ("uefi-x64", Kind.PLAIN): (True, "", "uses the address for 7200 s"),
}  # fmt: skip


@pytest.mark.parametrize(("arch", "kind"), BOOTS)
def test_each_architecture_gets_its_boot_file_or_is_told_why_not(desk: Desk, arch: str, kind: Kind) -> None:
    boots, file, last = BOOTS[arch, kind]
    one = explain(desk, sender(arch=arch, kind=kind))
    assert (one.boots, row(one, "file").value) == (boots, file)
    assert last in one.steps[-1].what
    assert (one.problem is None) == boots


def test_a_boot_file_that_a_line_takes_away_is_told_with_that_line(desk: Desk) -> None:
    one = explain(desk, sender(arch="uboot-arm64"))
    assert one.problem is not None
    assert one.problem.words == "its boot file is taken away"
    assert one.problem.where is not None
    assert one.problem.where.line == 31


def test_a_boot_file_that_is_missing_is_told_with_the_setting_for_it(desk: Desk) -> None:
    one = explain(desk, sender(arch="uefi-riscv64"))
    assert one.problem is not None
    assert one.problem.advice == "set dhcp.architectures.uefi-riscv64.boot_file"


SELECTORS = {  # who asks: whose address, its line, by what it is known
    "mac": (sender(), "10.77.0.10", 51, f"its MAC, {N1}"),
    "uuid": (sender(STRANGER, uuid=UUID("00112233-4455-6677-8899-aabbccddeeff")),
             "10.77.0.30", 55, "its UUID (option 97)"),
    "client-id": (sender(STRANGER, client_id=b"\1\2\3"), "10.77.0.40", 56, "its client-id (option 61)"),
    "serial": (sender(STRANGER, client_id=b"\0ABC123"), "10.77.0.50", 57,
               "its serial number, in option 61: ABC123"),
    "port": (sender(STRANGER, giaddr=IPv4Address("10.77.0.2"), circuit_id=b"eth0", remote_id=b"sw1"),
             "10.77.0.60", 58, "the switch and port it is at (circuit-id and remote-id, option 82)"),
    "circuit": (sender(STRANGER, giaddr=IPv4Address("10.77.0.2"), circuit_id=b"eth9", remote_id=b"x"),
                "10.77.0.70", 59, "the port it is at (circuit-id, option 82.1)"),
    "remote": (sender(STRANGER, giaddr=IPv4Address("10.77.0.2"), circuit_id=b"x", remote_id=b"sw9"),
               "10.77.0.80", 60, "the switch it is at (remote-id, option 82.2)"),
}  # fmt: skip


@pytest.mark.parametrize("by", SELECTORS)
def test_a_static_lease_says_by_what_its_machine_is_known(desk: Desk, by: str) -> None:
    who, address, at, how = SELECTORS[by]
    one = explain(desk, who)
    assert one.answer is not None
    assert str(one.answer.send.message.yiaddr) == address
    assert one.answer.address.why.endswith(how)
    assert line(one, "yiaddr") == at


LEASES = {  # records of 10.77.0.100 and .101, and what is said of the address that the stranger gets
    "never used": ([], "nobody ever had it"),
    "current": ([Lease(IPv4Address("10.77.0.101"), STRANGER, int(NOW) + 900)], "it has a lease of it"),
    "earlier": ([Lease(IPv4Address("10.77.0.101"), STRANGER, int(NOW) - 900)], "it had it before"),
    "released": (
        [Lease(IPv4Address("10.77.0.100"), STRANGER, int(NOW) - 9, State.RELEASED)], "it had it before"
    ),
    "others'": (
        [Lease(IPv4Address(f"10.77.0.{n}"), f"02:00:00:00:00:{n:02}", int(NOW) - n) for n in (10, 20)]
        + [Lease(IPv4Address(f"10.77.0.{n}"), "02:00:00:00:01:01", int(NOW) - n) for n in (100, 101, 200)],
        "nobody used it for the longest time",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEASES)
def test_an_address_of_a_pool_says_why_it_is_this_one(farm_file: Path, case: str) -> None:
    records, says = LEASES[case]
    one = explain(at_desk(farm_file, records), sender(STRANGER))
    assert one.answer is not None
    assert says in one.answer.address.why
    if case != "others'":
        assert line(one, "yiaddr") in (21, 23)


def test_an_address_asked_for_or_offered_already_is_said_to_be(desk: Desk) -> None:
    wanted = packets.discover(sender(STRANGER))
    asked = Message(
        **{f: getattr(wanted, f) for f in wanted.__slots__}
        | {"options": {**wanted.options, 50: bytes((10, 77, 0, 101))}}
    )
    first = explain(desk, sender(STRANGER), asked=asked)
    again = explain(desk, sender(STRANGER))
    assert first.answer is not None
    assert again.answer is not None
    assert "it asks for it (option 50)" in first.answer.address.why
    assert "offered to it already" in again.answer.address.why


def test_a_machine_whose_address_a_stranger_has_is_told_who(farm_file: Path) -> None:
    lease = Lease(IPv4Address("10.77.0.10"), "02:00:00:00:00:55", int(NOW) + 900)
    one = explain(at_desk(farm_file, [lease]), sender())
    assert one.answer is not None
    assert "its own, 10.77.0.10, is still leased to 02:00:00:00:00:55" in one.answer.address.why


DESTINATIONS = {
    "broadcast flag": (sender(), "255.255.255.255", None, "broadcast flag"),
    "link address": (sender(arch="bios"), "10.77.0.10", N1.replace(":", ""), "without ARP"),
    "relay": (sender(giaddr=IPv4Address("10.77.0.2")), "10.77.0.2", None, "its relay (giaddr)"),
}


@pytest.mark.parametrize("case", DESTINATIONS)
def test_it_is_said_where_the_answer_goes_and_why(desk: Desk, case: str) -> None:
    who, address, hardware, why = DESTINATIONS[case]
    one = explain(desk, who)
    assert one.answer is not None
    to = one.answer.send.destination
    assert (str(to.address), to.hardware.hex() if to.hardware else None) == (address, hardware)
    assert why in one.answer.destination.why


def test_a_relayed_machine_is_on_its_relays_network_and_82_is_echoed(desk: Desk) -> None:
    one = explain(desk, sender(STRANGER, giaddr=IPv4Address("10.78.0.1"), circuit_id=b"p7"))
    assert one.network is not None
    assert "10.78.0.0/24: its relay's address is 10.78.0.1" in one.network.why
    assert one.network.where is not None
    assert one.network.where.line == 25
    assert "RFC 3046" in row(one, 82).source.why
    assert one.answer is not None
    assert one.answer.options[-1].code == 82


def test_in_a_proxied_network_the_boot_is_told_beside_another_servers_offer(desk: Desk) -> None:
    for arch in ("bios", "uefi-x64"):
        one = explain(desk, sender("52:54:00:00:00:09", arch), IPv4Address("10.79.0.1"))
        assert one.boots
        assert one.beside is not None
        assert str(one.beside.yiaddr) == "10.79.0.9"
        assert one.steps[0].what.startswith("takes 10.79.0.9 from 10.79.0.254")
        assert (row(one, "yiaddr").value, line(one, "yiaddr")) == ("0.0.0.0", 26)
        assert one.answer is not None
        assert any("PXE 2.1" in row.sent for row in one.answer.not_sent)


OF_ONES_OWN = """\
    - subnet: 10.79.0.0/24
      proxy: true
      unknown: workers
      options: {43: MENU, 209: {text: menu.cfg}, 175: {hex: b00101}, 125: {9: {1: 0a4d}}}
      never_send: [66, 175]
      always_send: [domain-name-servers, 225]
"""


def test_a_boot_server_says_the_line_of_what_it_sends_and_why_it_does_not_send_the_rest(tmp_path: Path) -> None:
    menu = VendorOptions(Discovery(3), menu=(MenuLine(1, b"net"),)).encode()
    path = tmp_path / "farm.yaml"
    before, _, after = TEXT.partition("    - {subnet: 10.79.0.0/24")
    path.write_text(before + OF_ONES_OWN.replace("MENU", menu.hex()) + after.partition("\n")[2])
    one = explain(at_desk(path), sender("52:54:00:00:00:09"), IPv4Address("10.79.0.1"))
    assert one.boot_server is not None
    assert one.boots
    assert one.boot_server.steps[0].what.startswith("asks 10.79.0.1 by TFTP"), "it chose, and does not choose again"
    for answered in (one, one.boot_server):
        assert answered.answer is not None
        sent = {row.code for row in answered.answer.rows}
        not_sent = {row.code: row for row in answered.answer.not_sent}
        for code in (43, 209):
            assert (row(answered, code).source.why, line(answered, code)) == ("subnet 10.79.0.0/24", 29)
        assert row(answered, 225).sent == "always_send"
        for code in (66, 175):
            said = not_sent[code]
            assert (said.sent, said.sent_where.line if said.sent_where else None) == ("never_send", 30)
        assert not_sent[125].sent == "the client did not ask for it"
        assert not_sent[6].sent == "a boot server only says what to boot (PXE 2.1)"
        assert not_sent[227].sent == "a boot server only says what to boot (PXE 2.1), and what always_send names"
        assert sent.isdisjoint(not_sent)


def test_a_plain_client_of_a_proxied_network_is_told_that_it_is_not_ours(desk: Desk) -> None:
    one = explain(desk, sender(kind=Kind.PLAIN), IPv4Address("10.79.0.1"))
    assert one.answer is None
    assert one.problem is not None
    assert Reason.NO_BOOT.value in one.problem.words
    assert not one.boots


def test_a_proxied_network_without_a_boot_file_says_what_to_set(desk: Desk) -> None:
    one = explain(desk, sender(arch="uefi-riscv64"), IPv4Address("10.79.0.1"))
    assert one.answer is None
    assert one.problem is not None
    assert one.problem.advice == "set dhcp.architectures.uefi-riscv64.boot_file"


def test_ipxe_passes_over_a_line_that_is_ipxe_again(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(TEXT.replace('ipxe: {boot_file: "http://10.77.0.1/boot.ipxe"}', "uefi-x64: {boot_file: ipxe.efi}"))
    rom = explain(at_desk(path), sender())
    assert (row(rom, "file").value, line(rom, "file")) == ("'ipxe.efi'", 29)
    one = explain(at_desk(path), sender(kind=Kind.IPXE))
    assert (row(one, "file").value, line(one, "file")) == ("'grub/x86_64-efi/core.efi'", None)
    assert row(one, "file").source.why == "our own GRUB for UEFI x64, as iPXE is not given iPXE again"
    assert overrode(one, "file") == [29]


def test_who_is_sent_to_4011_is_followed_there(desk: Desk) -> None:
    one = explain(desk, sender("02:40:11:00:00:01"))
    assert "UDP 4011" in one.steps[-1].what
    assert row(one, "file").source.why == "none here: it is sent to UDP 4011 for it, by quirk asks-4011"
    second = one.boot_server
    assert second is not None
    assert second.arrival.port == BOOT_SERVER_PORT
    assert row(second, "file").value == "'grub/x86_64-efi/core.efi'"
    assert second.answer is not None
    assert second.answer.send.source_port == BOOT_SERVER_PORT
    assert "4011" in second.answer.destination.why
    assert one.boots


NO_ANSWER = {  # what comes in, where: the reason, and the line to look at
    "unknown network": (packets.discover(sender()), IPv4Address("10.99.0.1"), Reason.NO_NETWORK, None),
    "no pool": (packets.discover(sender(STRANGER)), IPv4Address("10.80.0.1"), Reason.NO_ADDRESS, 27),
    "bootp": (packets.bootp(sender(STRANGER, "bios")), US, Reason.BOOTP, 15),
    "another server": (
        packets.request(sender(), IPv4Address("10.77.0.10"), IPv4Address("10.77.0.2")), US, Reason.OTHER_SERVER, 49
    ),
    "a reply": (recorded("D-EDK2-PXE", op=2), US, Reason.NOT_A_REQUEST, None),
    "no machine": (recorded("D-EDK2-PXE", mac="ff:ff:ff:ff:ff:ff"), US, Reason.NO_MACHINE, None),
    "bad relay": (recorded("D-EDK2-PXE", giaddr=US), US, Reason.BAD_RELAY, None),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_ANSWER)
def test_no_answer_is_told_with_its_reason_and_what_to_change(desk: Desk, case: str) -> None:
    message, at, reason, where = NO_ANSWER[case]
    one = desk.explain(message, Arrival(at, unicast=bool(int(message.giaddr))), NOW)
    assert one.answer is None
    assert not one.boots
    assert one.problem is not None
    assert one.problem.words.startswith(f"{reason.value}: ")
    assert one.problem.advice
    assert (one.problem.where.line if one.problem.where else None) == where


def test_an_empty_pool_is_told_with_its_line(farm_file: Path) -> None:
    lease = Lease(IPv4Address("10.78.0.100"), "02:00:00:00:00:01", int(NOW) + 900)
    one = explain(at_desk(farm_file, [lease]), sender(STRANGER), IPv4Address("10.78.0.1"))
    assert one.problem is not None
    assert one.problem.words.startswith(Reason.POOL_EMPTY.value)
    assert one.problem.where is not None
    assert one.problem.where.line == 25


def test_every_reason_for_silence_has_an_advice() -> None:
    assert set(ADVICE) == set(Reason)


def test_a_stranger_without_a_pool_of_machines_gets_an_address_and_is_told_why_no_more(desk: Desk) -> None:
    one = explain(desk, sender(STRANGER), IPv4Address("10.78.0.1"))
    assert one.answer is not None
    assert not one.boots
    assert one.problem is not None
    assert one.problem.words == "it is not configured, so it gets nothing to boot"
    assert one.problem.where is not None
    assert one.problem.where.line == 25


def test_a_refused_request_is_explained_as_one(desk: Desk) -> None:
    asked = packets.request(sender(), IPv4Address("10.77.0.99"), US)
    one = explain(desk, sender(), asked=asked)
    assert one.answer is not None
    assert one.answer.kind == "DHCPNAK"
    assert one.problem is not None
    assert "10.77.0.99 is not yours to take" in one.problem.words
    assert row(one, 56).source.why == "why it is refused (RFC 2131 section 4.3.2)"
    assert not one.boots


INTENTS = {  # machine, what was said at run time: the intent, its line, whether it boots, what our GRUB does
    "the farm refuses": (N2, None, Boot.REFUSE, 54, False, "says that it is refused"),
    "the farm says disk": ("52:54:00:00:00:10", None, Boot.LOCAL, 62, True, "the machine's own disk"),
    "nothing said": (N1, None, Boot.NETBOOT, None, True, "loads image 'node' of pool 'workers'"),
    "said at run time": (N2, Intent(Boot.ONCE, Origin.COMMAND, 5.0), Boot.ONCE, None, True, "this time, and"),
    "used up": (N1, Intent(Boot.LOCAL, Origin.SPENT, 5.0), Boot.LOCAL, None, True, "own disk"),
}


@pytest.mark.parametrize("case", INTENTS)
def test_the_boot_intent_is_told_with_its_origin(farm_file: Path, case: str) -> None:
    mac, said, boot, at, boots, follows = INTENTS[case]
    name = {N1: "n1", N2: "n2"}.get(mac, "n10")
    one = explain(at_desk(farm_file, intents={name: said} if said else None), sender(mac))
    assert one.intent is not None
    assert (one.intent.intent.boot, one.boots) == (boot, boots)
    assert (one.intent.where.line if one.intent.where else None) == at
    assert follows in one.intent.follows


def test_a_machine_that_is_to_do_something_else_is_given_no_boot_file_that_is_not_ours(desk: Desk) -> None:
    one = explain(desk, sender(N2, kind=Kind.IPXE))
    assert one.intent is not None
    assert one.intent.follows.startswith("our GRUB says that it is refused")
    source = row(one, 67).source
    assert source.why == "our own GRUB for UEFI x64, as no other file heeds what the machine is to do"
    assert [passed.value for passed in source.overrode] == ["'http://10.77.0.1/boot.ipxe'"]


def test_of_a_boot_file_that_is_not_ours_nothing_is_promised(desk: Desk) -> None:
    one = explain(desk, sender(N1, kind=Kind.IPXE))
    assert one.intent is not None
    assert one.intent.follows == "the file is not ours, and what it does is not known here"
    assert in_short(one).endswith("which is not ours.")


def test_an_intent_is_told_to_who_gets_no_boot_file_if_it_is_a_special_one(desk: Desk) -> None:
    refused, ordinary = (explain(desk, sender(mac, "uefi-riscv64")) for mac in (N2, N1))
    assert refused.intent is not None
    assert refused.intent.follows == "no boot file that could heed it"
    assert ordinary.intent is None


def test_what_has_no_room_is_told(farm_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    extra = ", ".join(f"{code}: {{text: {'x' * 200}}}" for code in (230, 231, 232))
    path.write_text(TEXT.replace("options: {time-offset: 0,", f"options: {{{extra}, time-offset: 0,"))
    one = explain(at_desk(path), sender(kind=Kind.PLAIN))
    assert one.answer is not None
    out = one.answer.left_out
    assert {row.code for row in out} & {230, 231, 232}
    assert all("no room" in row.sent and row.source.where is not None and row.source.where.line == 9 for row in out)
    assert not {row.code for row in out} & {row.code for row in one.answer.options}


def test_options_that_moved_for_lack_of_room_say_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(TEXT.replace("224: {text: dhcp}", f"224: {{text: dhcp}}, 230: {{text: {'x' * 110}}}, "
                                 f"231: {{text: {'y' * 60}}}, 232: {{text: {'z' * 50}}}"))  # fmt: skip
    one = explain(at_desk(path), sender(kind=Kind.PLAIN))
    assert one.answer is not None
    assert [row.inside for row in one.answer.options if row.inside]
    assert row(one, 52).source.why.startswith("options had no room")
    moved = {row.inside for row in one.answer.options}
    for field in ("file", "sname"):
        assert (row(one, field).value == "options") == (field in moved)


def test_a_configured_option_43_that_breaks_the_boot_is_told_with_its_line_and_what_comes_of_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(TEXT.replace("options: {time-offset: 0,", "options: {43: 060100ff, time-offset: 0,"))
    one = explain(at_desk(path), sender())
    assert (row(one, 43).source.why, line(one, 43)) == ("global", 9)
    assert not one.boots
    assert "option 43 speaks of discovery" in one.steps[-1].because


@pytest.mark.parametrize(
    ("arch", "kind", "why"),
    [
        ("uefi-x64", Kind.PXE, "(PXE-E21)"),
        ("bios", Kind.PXE, "(PXE-M0F)"),
        ("uefi-x64", Kind.IPXE, "gives back to the firmware at once"),
    ],
)
def test_a_menu_that_begins_with_the_disk_is_not_said_to_load_our_image(
    tmp_path: Path, arch: str, kind: Kind, why: str
) -> None:
    path = tmp_path / "farm.yaml"
    menu = "0601030904000001780a020078ff"  # type 0, the local disk, called x; chosen at once
    path.write_text(TEXT.replace("options: {time-offset: 0,", f"options: {{43: {menu}, time-offset: 0,"))
    one = explain(at_desk(path), sender(N1, arch, kind=kind))
    assert not one.boots
    assert one.intent is not None
    assert (one.intent.follows, one.intent.image) == ("its firmware goes to the disk before any boot file", "")
    assert "is told to start its own disk. It does not boot: its " in in_short(one)
    assert why in in_short(one)


def test_nothing_is_kept_of_what_is_explained(farm_file: Path) -> None:
    desk = at_desk(farm_file)
    for _ in range(2):
        explain(desk, sender(STRANGER))
    assert not [*desk.server.leases]
