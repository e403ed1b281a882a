"""Has an address for the time of a probe, beside those that the interface has, and leaves nothing behind.

The address is added as a /32 that the kernel itself takes away after some minutes, should we be killed. Its routes lie
in a table of their own, which a rule leads to for what comes from this address alone: no other program notices.
"""

import importlib
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

KEPT_S = 300
"""After this time the kernel takes the address away, whatever became of us."""
_TABLES = 0x70780000
"""Where the numbers of our routing tables begin; the rest are the last 16 bits of the address."""
_RULE = 120
"""The priority of our rule: before those of most others."""
_LINK, _UNIVERSE = 253, 0


@dataclass(frozen=True, slots=True)
class Lease:
    """What DHCP gave."""

    address: IPv4Address
    network: IPv4Network
    router: IPv4Address | None = None


@contextmanager
def lodged(interface: str, lease: Lease) -> Iterator[None]:
    """Have the address of `lease` on `interface` meanwhile. Raises `OSError`, of these `PermissionError`."""
    pyroute2 = importlib.import_module("pyroute2")
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    address = str(lease.address)
    table = _TABLES | int(lease.address) & 0xFFFF
    with pyroute2.IPRoute() as kernel:
        index = socket.if_nametoindex(interface)
        where = {"index": index, "address": address, "prefixlen": 32}
        rule = {"src": address, "src_len": 32, "table": table, "priority": _RULE}

        def undo() -> None:
            with suppress(pyroute2.NetlinkError):
                kernel.rule("del", **rule)
            with suppress(pyroute2.NetlinkError):
                kernel.flush_routes(table=table)
            with suppress(pyroute2.NetlinkError):
                kernel.addr("del", **where)

        try:
            kernel.addr("add", **where, preferred_lft=KEPT_S, valid_lft=KEPT_S)
        except pyroute2.NetlinkError as error:
            raise OSError(error.code, str(error.args[-1])) from None
        try:
            network = {"dst": str(lease.network.network_address), "dst_len": lease.network.prefixlen}
            kernel.route("add", **network, oif=index, table=table, prefsrc=address, scope=_LINK)
            if lease.router is not None:
                if lease.router not in lease.network:
                    only = {"dst": str(lease.router), "dst_len": 32}
                    kernel.route("add", **only, oif=index, table=table, prefsrc=address, scope=_LINK)
                kernel.route("add", dst="default", gateway=str(lease.router), oif=index, table=table, prefsrc=address,
                             scope=_UNIVERSE)  # fmt: skip
            kernel.rule("add", **rule)
            yield
        except pyroute2.NetlinkError as error:
            raise OSError(error.code, str(error.args[-1])) from None
        finally:
            undo()
