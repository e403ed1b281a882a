import json
from ipaddress import IPv4Address

from dhcp import wire
from dhcp.options import MessageType, Option
from dhcp.others import Heard, Others, Ours
from pxeboot.api.others import other_json
from pxeboot.cli.status import other_servers
from tests.support.dhcp_clients import KNOWN, STRANGER, message


def test_a_server_is_shown_by_how_much_it_is_in_our_way() -> None:
    others = Others(Ours(lambda _: False, {KNOWN: "n1"}.get, lambda of: of == IPv4Address("10.99.0.5")))
    for number, (mac, yiaddr, file) in enumerate(
        [(KNOWN, "10.77.0.5", b"a\x1b[31m"), (STRANGER, "10.77.0.6", b""), (KNOWN, "10.99.0.5", b"")]
    ):
        server = IPv4Address(f"10.77.0.{number + 2}")
        said = message(MessageType.DHCPOFFER, mac, op=wire.Op.BOOTREPLY, yiaddr=IPv4Address(yiaddr), file=file,
                       options={Option.SERVER_IDENTIFIER: server.packed})  # fmt: skip
        others.heard(said, Heard(f"52:54:00:00:00:0{number}", server, 67, "eth1"), 1000.0)
    told = json.loads(json.dumps([other_json(other) for other in others]))
    assert [(other["server_id"], other["standing"]) for other in told] == [
        ("10.77.0.2", "conflict"),
        ("10.77.0.3", "unclear"),
        ("10.77.0.4", "expected"),
    ]
    assert told[0]["boot"]["boot_file"] == "a\x1b[31m"
    lines = other_servers(told, 1075.0)
    assert [(line.plain, str(line.style)) for line in lines] == [
        (
            "another DHCP server: 10.77.0.2 (52:54:00:00:00:00) on eth1 hands out the boot file 'a\\x1b[31m' to n1"
            " and offered n1 the address 10.77.0.5; seen 1 min 15 s ago",
            "bold red",
        ),
        (
            "another DHCP server: 10.77.0.3 (52:54:00:00:00:01) on eth1 offered"
            f" {STRANGER} the address 10.77.0.6; seen 1 min 15 s ago",
            "yellow",
        ),
        (
            "the DHCP server beside us: 10.77.0.4 (52:54:00:00:00:02) on eth1 offered"
            " n1 the address 10.99.0.5; seen 1 min 15 s ago",
            "dim",
        ),
    ]
