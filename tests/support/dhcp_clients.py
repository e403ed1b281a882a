"""Messages as real DHCP clients send them, and the farm they boot in."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from config.model import Farm
from dhcp import journal, wire
from dhcp.leases import Lease
from dhcp.options import MessageType, Option
from dhcp.request import Arrival

_FILE = Path(__file__).parent.parent / "data/dhcp/clients.json"
RECORDED: Mapping[str, bytes] = {
    item["name"]: bytes.fromhex(item["hex"]) for item in json.loads(_FILE.read_text("utf-8"))
}
"""Options fields by name; see tests/data/dhcp/README.md."""

SERVER = IPv4Address("10.77.0.1")
ARRIVAL = Arrival(SERVER)
UNICAST = Arrival(SERVER, unicast=True)
KNOWN = "52:54:00:12:34:56"
SECOND = "52:54:00:12:34:57"
STRANGER = "02:00:00:00:00:99"
OWN_ADDRESS = IPv4Address("10.77.0.10")

FARM: dict[str, Any] = {
    "dhcp": {
        "probe": False,
        "subnets": [
            {
                "subnet": "10.77.0.0/24",
                "pool": "10.77.0.8-10.77.0.15",
                "routers": ["10.77.0.254"],
                "domain_name_servers": ["10.77.0.1", "10.77.0.2"],
                "domain_name": "farm.example",
                "unknown": "workers",
            },
            {"subnet": "10.78.0.0/24", "pool": "10.78.0.100-10.78.0.101"},
            {"subnet": "10.79.0.0/24"},
        ],
    },
    "images": {"node": {"path": "/srv/node"}},
    "pools": [
        {
            "name": "workers",
            "image": "node",
            "nodes": [
                {"name": "n1", "macs": [KNOWN, SECOND], "ip": str(OWN_ADDRESS)},
                {"name": "n2", "macs": ["52:54:00:00:00:02"], "ip": "10.77.0.200"},
                {"name": "n3", "macs": ["52:54:00:00:00:03"], "ip": "10.78.0.3"},
            ],
        }
    ],
}
"""10.77.0.0/24 with a pool of seven addresses and n1's, a network without boot files, and one without pool."""


def farm(**dhcp: Any) -> Farm:
    """Return `FARM`, with other settings in its `dhcp`."""
    return Farm.model_validate(FARM | {"dhcp": FARM["dhcp"] | dhcp})


def recorded(name: str, mac: str = KNOWN, **fields: Any) -> wire.Message:
    """Return the message that a recorded options field makes with a MAC."""
    header = wire.Message(wire.Op.BOOTREQUEST, 0x1234, bytes.fromhex(mac.replace(":", ""))).encode()[:236]
    sent = wire.decode(header + RECORDED[name])
    return replace(sent, **fields | {"options": dict(sent.options) | dict(fields.get("options", {}))})


def message(kind: MessageType | None, mac: str = KNOWN, /, **fields: Any) -> wire.Message:
    """Return a plain client's message. `options` are added to its type."""
    options = dict(fields.pop("options", {}))
    if kind is not None:
        options = {Option.DHCP_MESSAGE_TYPE: bytes((kind,))} | options
    chaddr = fields.pop("chaddr", bytes.fromhex(mac.replace(":", "")))
    return wire.Message(**{"op": wire.Op.BOOTREQUEST, "xid": 0x1234, "chaddr": chaddr, "options": options} | fields)


def store_leases(file: Path, first: str, count: int = 100_000) -> None:
    """Write a lease file in which so many machines that nobody knows have an address for an hour, from `first` on."""
    ends = int(time.time()) + 3600
    leases = (Lease(IPv4Address(first) + n, f"02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}", ends)
              for n in range(count))  # fmt: skip
    file.write_bytes(journal.HEADER + b"".join(map(journal.encode, leases)))
