"""How UEFI firmware made from EDK2 reads an offer (NetworkPkg: PxeBcDhcp4.c, PxeBcBoot.c, HttpBootDhcp4.c)."""

from collections.abc import Sequence
from enum import Enum, auto

from dhcp.models.steps import Reply, Step, fails, goes, is_url, leaves
from dhcp.options import Option

ROOM = 1472
"""The UDP payload that its buffers hold."""
CHOOSES_AFTER = "4 s after its DHCPDISCOVER"


class _Kind(Enum):
    """What PXE makes of an offer."""

    PXE10 = auto()
    BINL = auto()
    DHCP_ONLY = auto()
    THROWN_AWAY = auto()


def _kind(offer: Reply) -> _Kind:
    vendor = offer.vendor
    if vendor.discovers:
        return _Kind.PXE10
    if vendor.is_mtftp_only:
        return _Kind.THROWN_AWAY
    return _Kind.BINL if offer.is_pxe else _Kind.DHCP_ONLY


def pxe_chooses(offers: Sequence[Reply]) -> list[Step]:
    """PXE boot: the best offer by its own order, then a boot file, UDP 4011 or nothing."""
    steps = []
    usable = []
    for offer in offers:
        kind = _kind(offer)
        if kind is _Kind.THROWN_AWAY:
            because = "option 43 has the tags of multicast TFTP and none of 6 to 10"
            steps.append(fails(f"throws away the offer of {offer.server}", because))
        elif (size := len(offer.message.encode())) > ROOM:
            steps.append(
                fails(f"throws away the offer of {offer.server}", f"it has {size} bytes, and room is for {ROOM}")
            )
        elif kind is _Kind.DHCP_ONLY and offer.is_proxy:
            because = "yiaddr is 0, and option 60 is not PXEClient"
            steps.append(fails(f"throws away the offer of {offer.server}", because))
        else:
            usable.append((kind, offer))
    with_address = {kind: offer for kind, offer in reversed(usable) if not offer.is_proxy}
    proxies = {kind: offer for kind, offer in reversed(usable) if offer.is_proxy}
    plain = with_address.get(_Kind.DHCP_ONLY)
    if _Kind.PXE10 in with_address:
        offer = with_address[_Kind.PXE10]
        steps.append(_takes(offer, "option 60 is PXEClient, and option 43 says how to discover: its first choice"))
        return steps + pxe_boots(offer)
    if plain is not None and _Kind.PXE10 in proxies:
        steps.append(_takes(plain, "an address, beside a proxyDHCP that says what to boot"))
        return steps + pxe_boots(proxies[_Kind.PXE10])
    if _Kind.BINL in with_address:
        offer = with_address[_Kind.BINL]
        steps.append(_takes(offer, "option 60 is PXEClient"))
        return [*steps, asks_4011(offer)]
    if plain is not None and _Kind.BINL in proxies:
        steps.append(_takes(plain, "an address, beside a proxyDHCP that says what to boot"))
        return [*steps, asks_4011(proxies[_Kind.BINL])]
    named = next((one for kind, one in usable if kind is _Kind.DHCP_ONLY and one.boot_file[0]), None)
    if named is not None:
        steps.append(_takes(named, "it is no PXE offer, and names a boot file"))
        return steps + pxe_boots(named)
    because = "no offer has a boot file, or option 60 = PXEClient with an address"
    return [*steps, fails(f"gives up {CHOOSES_AFTER} (PXE-E16), and the firmware tries its next boot entry", because)]


def pxe_has(ack: Reply) -> list[Step]:
    """PXE boot once it has its address: what the DHCPACK says, read like an offer."""
    kind = _kind(ack)
    if kind is _Kind.THROWN_AWAY:
        because = "option 43 has the tags of multicast TFTP and none of 6 to 10"
        return [fails("gives up: it has no use for the DHCPACK", because)]
    return [asks_4011(ack)] if kind is _Kind.BINL else pxe_boots(ack)


def pxe_answered(ack: Reply) -> list[Step]:
    """PXE boot that was told by UDP 4011: it wants a boot file, or a word of how to discover one."""
    if not ack.vendor.discovers and not ack.boot_file[0]:
        because = "the answer of UDP 4011 has neither a boot file nor tags 6 to 10 in option 43"
        return [fails("gives up (PXE-E16), and the firmware tries its next boot entry", because)]
    return pxe_boots(ack)


def asks_4011(offer: Reply) -> Step:
    """BINL: it has an address, and asks a boot server for the file, whatever the offer named."""
    address, _ = offer.next_server
    because = "option 60 is PXEClient, and option 43 has none of the tags 6 to 10"
    if not address:
        return fails("has nobody to ask for its boot file", f"{because}; siaddr is 0 and option 54 is missing")
    what = f"asks UDP 4011 at {address} for its boot file, four times in 10 s, and fails if nobody answers"
    return goes(what, f"{because}; the address is from {offer.next_server[1]}")


def pxe_boots(reply: Reply) -> list[Step]:
    """What follows from the reply that says what to boot: a file, a menu, or its own disk."""
    vendor = reply.vendor
    file, field = reply.boot_file
    obeys_file = vendor.discovery is not None and vendor.discovery & 8 and file
    if vendor.discovers and not obeys_file:
        if not vendor.menu or vendor.menu[0].type == 0:
            if vendor.boots_local_disk:
                because = "the first line of the menu in option 43 is the local disk"
                what = (
                    "ends this boot at once (PXE-E21) and tries its next entry, perhaps IPv6 and HTTP before the disk"
                )
                return [leaves(what, because)]
            because = (
                "option 43 speaks of discovery, but names neither a menu nor a boot file of this packet (control 8)"
            )
            return [fails("ends its network boot (PXE-E21), and the firmware tries its next boot entry", because)]
        address, _ = reply.next_server
        because = f"the menu in option 43 begins with boot server type {vendor.menu[0].type}"
        return [goes(f"asks UDP 4011 at {address or 'the broadcast address'} for that boot server", because)]
    if not file:
        return [fails("gives up (PXE-E53: no boot filename received)", "neither option 67 nor file names one")]
    listed = next((server.addresses for server in vendor.servers if server.addresses), ())
    address, source = (str(listed[0]), "option 43, tag 8") if obeys_file and listed else reply.next_server
    if not address:
        return [fails("gives up: it knows no TFTP server", "siaddr is 0 and option 54 is missing")]
    because = f"the name is from {field}, the server from {source}"
    if is_url(file):
        because = "PXE boot reads a boot file's name as one for TFTP"
        return [fails(f"asks {address} by TFTP for a file that is called {file!r}, and fails (PXE-E23)", because)]
    what = f"asks {address} by TFTP for the size of {file!r}, ends that transfer, and fetches it from its next port"
    return [goes(what, because)]


def _takes(offer: Reply, because: str) -> Step:
    return goes(f"takes {offer.message.yiaddr} from {offer.server}, {CHOOSES_AFTER}", because)


def http_chooses(offers: Sequence[Reply]) -> list[Step]:
    """HTTP boot: an offer with a URL, or one with an address beside a proxy's with a URL."""
    steps = []
    usable = []
    for offer in offers:
        named = offer.vendor_class.startswith(b"HTTPClient")
        size = len(offer.message.encode())
        url = offer.boot_file[0]
        if size > ROOM:
            why = f"it has {size} bytes, and room is for {ROOM}"
        elif named and not url:
            why = "option 60 is HTTPClient, and there is no URL"
        elif named and not url.lower().startswith(("http://", "https://")):
            why = f"its boot file {url!r} is no URL"
        elif not named and offer.is_proxy:
            why = "yiaddr is 0, and option 60 does not begin with HTTPClient"
        else:
            usable.append((named, offer))
            continue
        steps.append(fails(f"throws away the offer of {offer.server}", why))
    both = next((offer for named, offer in usable if named and not offer.is_proxy), None)
    if both is not None:
        steps.append(_takes(both, "option 60 begins with HTTPClient, and there is a URL"))
        return steps + http_boots(both)
    plain = next((offer for named, offer in usable if not named), None)
    proxy = next((offer for named, offer in usable if named), None)
    if plain is not None and proxy is not None:
        steps.append(_takes(plain, "an address, beside a proxyDHCP that has a URL"))
        return steps + http_boots(proxy, plain)
    because = "no offer has an address, option 60 = HTTPClient and a URL"
    return [*steps, fails(f"gives up {CHOOSES_AFTER}, and the firmware tries its next boot entry", because)]


def http_boots(reply: Reply, dns: Reply | None = None) -> list[Step]:
    """Fetch the URL. `dns` is the reply that may name DNS servers, if it is another one."""
    url, field = reply.boot_file
    if not url:
        return [fails("gives up: there is no URL", "neither option 67 nor file names one")]
    host, _, path = url.partition("://")[2].partition("/")
    by_name = host.rpartition(":")[0] or host
    if not by_name.replace(".", "").isdigit() and Option.DOMAIN_NAME_SERVER not in (dns or reply).message.options:
        return [fails(f"cannot look up {by_name!r}", f"the URL in {field} has a name, and there is no option 6")]
    if "//" in f"/{path}":
        return [fails(f"asks for {url}, which servers often do not find", "there is // in the path, and it is kept")]
    return [goes(f"asks for {url} by HTTP: HEAD, then GET", f"the URL is from {field}")]
