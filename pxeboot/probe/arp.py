"""Asks who has an address (ARP, RFC 5227): somebody who answers has it already."""

import select
import socket
import time
from ipaddress import IPv4Address

from scapy.layers.l2 import ARP, Ether

from config.interfaces import links

LISTEN_S = 0.4
_ETHERTYPE = 0x0806
_NOBODY = "0.0.0.0"


def others(interface: str, address: IPv4Address) -> list[str]:
    """Return the MACs of who says that it has `address`, but for ourselves. Raises `OSError`.

    A machine that runs may answer with any of its cards. Where the interface has that address already, so may we.
    """
    link = links([interface]).get(interface)
    if link is None or not link.mac:
        return []
    ours = {link.mac}
    if any(own.ip == address for own in link.addresses):
        ours |= {own.mac for own in links(["*"]).values()}
    found = holders(interface, bytes.fromhex(link.mac.replace(":", "")), address)
    return [mac for mac in found if mac not in ours]


def holders(interface: str, mac: bytes, address: IPv4Address) -> list[str]:
    """Return the MACs that say they have `address`; the one that asks, from `mac`, has none. Raises `OSError`."""
    found: dict[str, None] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE)) as sock:
        sock.bind((interface, _ETHERTYPE))
        asks = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc=_NOBODY, pdst=str(address))
        sock.send(bytes(asks))
        until = time.monotonic() + LISTEN_S
        while (left := until - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
            try:
                said = Ether(sock.recv(2048))
                if ARP in said and said[ARP].op == 2 and said[ARP].psrc == str(address):
                    found[said[ARP].hwsrc.lower()] = None
            except Exception:  # whatever scapy raises on bytes that are no ARP
                continue
    return [*found]
