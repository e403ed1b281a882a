"""How iPXE, PXE ROMs, U-Boot, the Raspberry Pi ROM and plain DHCP clients read an offer."""

from collections.abc import Sequence

from dhcp import boot, options
from dhcp.models.steps import Reply, Step, fails, goes, is_url, leaves, text
from dhcp.options import Option
from dhcp.wire import NO_ADDRESS

_NO_PROXY = 176
_RASPBERRY_PI = b"Raspberry Pi Boot"


def takes(offer: Reply, because: str) -> Step:
    """A client asks for the address that it was offered."""
    return goes(f"takes {offer.message.yiaddr} from {offer.server} (DHCPREQUEST)", because)


def ipxe_chooses(offers: Sequence[Reply]) -> list[Step]:
    """Take the first address; then what a proxyDHCP says of the boot, unless it is told not to look for one."""
    address = next((offer for offer in offers if not offer.is_proxy), None)
    if address is None:
        because = "no offer has an address"
        return [fails("asks again after 1, 2, 4 and 8 s, then gives up (no DHCPOFFER with an address)", because)]
    inside = options.sub_options(address.message.options.get(Option.IPXE))
    if inside.get(_NO_PROXY, b"\0") != b"\0":
        return [takes(address, "option 175 tells it not to wait for a proxyDHCP"), *ipxe_boots(address)]
    proxy = next((one for one in offers if one.is_pxe), None)
    if proxy is None:
        because = "no offer has option 60 = PXEClient, and nothing tells it not to wait (option 175.176)"
        return [goes("waits 2 s for a proxyDHCP", because), takes(address, "its only offer"), *ipxe_boots(address)]
    steps = [takes(address, "it has an offer with option 60 = PXEClient, and need not wait for more")]
    if proxy is address:
        return steps + ipxe_boots(address)
    if (proxy.message.siaddr != NO_ADDRESS and proxy.boot_file[0]) or proxy.vendor.menu:
        return steps + ipxe_boots(proxy)
    because = "the proxyDHCP named no boot file, or had siaddr 0"
    steps.append(goes(f"asks UDP 4011 at {proxy.server} for its boot file, for 2 s, and then does without", because))
    return steps


def ipxe_boots(reply: Reply) -> list[Step]:
    """A menu, a script, a program, or nothing."""
    vendor = reply.vendor
    file, field = reply.boot_file
    obeys_file = vendor.discovery is not None and vendor.discovery & 8 and file
    if vendor.menu and not obeys_file and reply.vendor_class.rstrip(b"\0") == b"PXEClient":
        if vendor.boots_local_disk:
            because = "the first line of the menu in option 43 is the local disk"
            return [leaves("gives back to the firmware at once, which boots the next entry, the disk", because)]
        because = f"the menu in option 43 begins with boot server type {vendor.menu[0].type}"
        return [goes(f"asks UDP 4011 at {reply.server} for that boot server, for 3 s", because)]
    if not file:
        because = "neither option 67 nor file names a boot file"
        return [fails('stops: "Nothing to boot", and gives back to the firmware', because)]
    if boot.is_ipxe(file):
        because = "it is iPXE already: it would get the same answer again, for ever"
        return [fails(f"loads {file!r}, which is iPXE again, and so on", because)]
    verb = "runs the script" if file.partition("?")[0].endswith(".ipxe") else "starts what it finds"
    if is_url(file):
        return [goes(f"fetches {file} and {verb}", f"the URL is from {field}")]
    if reply.message.siaddr == NO_ADDRESS:
        return [fails(f"cannot tell where {file!r} is", "it is no URL, and siaddr is 0")]
    what = f"fetches {file!r} by TFTP from {reply.message.siaddr} and {verb}"
    return [goes(what, f"the name is from {field}, the server from siaddr")]


def rom_chooses(offers: Sequence[Reply]) -> list[Step]:
    """A PXE ROM of a BIOS machine: like EDK2, but a file in a PXE offer is taken at once."""
    address = next((offer for offer in offers if not offer.is_proxy), None)
    if address is None:
        because = "no offer has an address"
        return [fails("gives up after 60 s (PXE-E51: no DHCP or proxyDHCP offers were received)", because)]
    marked = [offer for offer in offers if offer.is_pxe]
    best = next((offer for offer in marked if not offer.is_proxy), marked[0] if marked else address)
    steps = [takes(address, "its first offer with an address")]
    if best.vendor.is_mtftp_only:
        because = "option 43 only speaks of multicast TFTP"
        return [*steps, fails(f"has no use for what {best.server} says of the boot", because)]
    if best in marked and not best.vendor.discovers and not best.boot_file[0]:
        because = "option 60 is PXEClient, and there is neither option 43 nor a boot file"
        where = best.next_server[0] or best.server
        return [
            *steps,
            goes(f"asks UDP 4011 at {where} for its boot file, and fails if nobody answers (PXE-E55)", because),
        ]
    return steps + rom_boots(best)


def rom_boots(reply: Reply) -> list[Step]:
    """The file, which many ROMs read from the field `file` only, by one TFTP transfer."""
    if reply.vendor.boots_local_disk and not (reply.vendor.discovery or 0) & 8:
        because = "the first line of the menu in option 43 is the local disk"
        return [leaves("leaves the ROM at once (PXE-M0F), and the BIOS boots its next entry, the disk", because)]
    name, field = reply.boot_file
    if not name:
        because = "neither option 67 nor file names a boot file"
        return [fails("gives up (PXE-E53: no boot filename received), and the BIOS boots its next entry", because)]
    address, source = reply.next_server
    if is_url(name):
        because = "a PXE ROM reads a boot file's name as one for TFTP"
        return [fails(f"asks {address} by TFTP for a file that is called {name!r}, and fails (PXE-T01)", because)]
    steps = []
    raw = reply.message.options.get(Option.BOOTFILE_NAME, b"")
    if raw and not raw.endswith(b"\0"):
        steps.append(fails(f"may ask for {name!r} with junk behind it", "there is no NUL after option 67"))
    if not reply.file:
        steps.append(fails("finds no boot file if it reads the field file only, as many do", "file is empty"))
    what = f"fetches {name!r} by TFTP from {address}"
    return [*steps, goes(what, f"the name is from {field}, the server from {source}")]


def u_boot_chooses(offers: Sequence[Reply]) -> list[Step]:
    """Take the first offer with an address."""
    offer = next((offer for offer in offers if not offer.is_proxy), None)
    if offer is None:
        return [fails("asks again for 28 s, and starts anew", "no offer has an address; it knows no proxyDHCP")]
    return [takes(offer, "its first offer"), *u_boot_boots(offer)]


def u_boot_boots(reply: Reply) -> list[Step]:
    """TFTP from siaddr; older builds read the name from the field `file` only."""
    size = len(reply.message.encode())
    if size > 576 - 28:
        because = f"it has {size} bytes, and U-Boot says that it takes 548"
        return [fails("may cut the reply", because)]
    if reply.overloaded:
        return [fails("finds no boot file", "there is an option 52, so it does not read file")]
    if reply.message.siaddr == NO_ADDRESS:
        return [fails("asks the server in its own serverip, if it has one", "siaddr is 0, and it ignores option 66")]
    server = reply.message.siaddr
    if not reply.file:
        name = reply.option_67 or f"{int(reply.message.yiaddr):08X}.img"
        because = "file is empty, and older builds do not read option 67"
        return [fails(f"fetches {name!r} by TFTP from {server}, or a name made of its address", because)]
    if is_url(reply.file):
        return [fails(f"asks {server} by TFTP for {reply.file!r}", "its dhcp command knows TFTP; wget takes URLs")]
    return [goes(f"fetches {reply.file!r} by TFTP from {server}", "the name is from file, the server from siaddr")]


def raspberry_pi_chooses(offers: Sequence[Reply]) -> list[Step]:
    """Take the first offer whose option 43 says the words; it may not even ask for the address."""
    steps: list[Step] = []
    for offer in offers:
        if _RASPBERRY_PI in offer.message.options.get(Option.VENDOR_SPECIFIC_INFORMATION, b""):
            because = 'option 43 has "Raspberry Pi Boot"'
            what = f"takes {offer.message.yiaddr} from {offer.server}; older ROMs send no DHCPREQUEST"
            return [*steps, goes(what, because), *raspberry_pi_boots(offer)]
        because = 'option 43 does not have "Raspberry Pi Boot"'
        steps.append(fails(f"ignores the offer of {offer.server}", because))
    because = "no offer suits it"
    return [*steps, fails("asks again every 4 s, gives up after 45 s, and tries its next boot mode", because)]


def raspberry_pi_boots(reply: Reply) -> list[Step]:
    """Fixed names below a folder that is named by its serial number, from option 66 or 54."""
    named = reply.message.options.get(Option.TFTP_SERVER_NAME)
    if named is not None and named.endswith(b"\0"):
        return [fails(f"does not understand {text(named)!r}", "option 66 ends with a NUL (raspberrypi/firmware#871)")]
    server, source = (text(named), "option 66") if named else (reply.server, "option 54")
    what = f"fetches start4.elf or start.elf by TFTP from {server}, below SERIAL/ and then without it"
    return [goes(what, f"the server is from {source}; it reads neither siaddr nor a boot file's name")]


def plain_chooses(offers: Sequence[Reply]) -> list[Step]:
    """An operating system or an initramfs: it wants an address and a lease."""
    steps: list[Step] = []
    for offer in offers:
        codes = {Option.SERVER_IDENTIFIER: "server identifier", Option.IP_ADDRESS_LEASE_TIME: "lease time"}
        missing = [name for code, name in codes.items() if code not in offer.message.options]
        if offer.is_proxy:
            steps.append(fails(f"ignores the offer of {offer.server}", "it has no address (yiaddr is 0)"))
        elif missing:
            steps.append(fails(f"ignores the offer of {offer.server}", f"it has no {' and no '.join(missing)}"))
        else:
            lease_s = options.number(offer.message.options[Option.IP_ADDRESS_LEASE_TIME], 4) or 0
            kept = "for good" if lease_s == 0xFFFFFFFF else f"for {lease_s} s"
            return [*steps, takes(offer, "its first offer"), goes(f"uses the address {kept}", "option 51")]
    return [*steps, fails("asks again", "no offer suits it")]


def grub_boots(reply: Reply, *, efi: bool) -> list[Step]:
    """What GRUB, once started, reads from the answer that its firmware got."""
    how = "efinet" if efi else "pxe"
    if edk2_http := reply.vendor_class.startswith(b"HTTPClient"):
        if reply.vendor_class != b"HTTPClient\0":
            because = f"option 60 is {reply.vendor_class!r}, and it wants exactly HTTPClient and a NUL"
            return [fails("(GRUB) stays at its prompt: it does not know that it came by HTTP", because)]
        if reply.overloaded or not reply.file:
            why = "there is an option 52" if reply.overloaded else "file is empty"
            return [fails("(GRUB) stays at its prompt", f"it takes the URL from the field file only, and {why}")]
    server = str(reply.message.siaddr)
    source = "siaddr"
    if reply.message.siaddr == NO_ADDRESS:
        named = text(reply.message.options.get(Option.TFTP_SERVER_NAME, b"")) or text(reply.message.sname)
        if not named:
            because = "siaddr is 0, and there is neither option 66 nor sname"
            return [fails("(GRUB) stays at its prompt: it knows no server", because)]
        server, source = named, "option 66 or sname, as siaddr is 0"
    by = "HTTP" if edk2_http else "TFTP"
    return [goes(f"(GRUB, {how}) asks {server} by {by} for grub.cfg-01-MAC", f"the server is from {source}")]
