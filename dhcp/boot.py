"""What a client is, and which boot file it gets (options 60, 77, 93 and 175; RFC 4578 section 2.1).

What is odd about a client is in `dhcp.quirks`; which architectures there are, in `config.architectures`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import quote

from config.architectures import BY_CODE, BY_NAME, IPXE, Architecture
from config.quirks import Kind, Quirk
from dhcp import quirks
from dhcp.options import Option
from dhcp.quirks import Traits

__all__ = ["BIOS_FILE", "BUILT_IN", "X64_FILE", "Client", "Clients", "Kind", "boot_file", "client", "heeds", "is_ipxe"]

BIOS_FILE = "grub/i386-pc/core.0"
X64_FILE = "grub/x86_64-efi/core.efi"
BUILT_IN: Mapping[str, str] = {"bios": BIOS_FILE, "uefi-x64": X64_FILE}
"""The boot files that we make ourselves, by architecture."""

_ARCH_IN_CLASS = re.compile(rb"Arch:([0-9]{5})")
_IPXE_STEM = re.compile("ipxe|gpxe|^undionly|^snponly|^snp$")
_IPXE_SUFFIXES = ("efi", "pxe", "lkrn", "0", "bin", "dsk", "usb", "iso")
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Client:
    """A client, as far as its boot file and its replies depend on it."""

    vendor_class: bytes
    architecture: int | None
    """What it is, as a code of option 93: what it says, or what a quirk knows better; None if nothing told it."""
    traits: Traits

    @property
    def machine(self) -> Architecture | None:
        """What that code means; None if we do not know."""
        return None if self.architecture is None else BY_CODE.get(self.architecture)

    @property
    def kind(self) -> Kind:
        """How it wants to boot."""
        return self.traits.kind

    @property
    def ipxe(self) -> bool:
        """Whether it is iPXE, in a ROM or loaded."""
        return self.traits.ipxe

    @property
    def boots(self) -> bool:
        """Whether it wants a boot file at all."""
        return self.traits.kind is not Kind.PLAIN

    @property
    def over_http(self) -> bool:
        """Whether its boot file is named by a URL. Its class decides it if it has one, else its architecture."""
        machine = self.machine
        return self.kind is Kind.HTTP or (self.kind is Kind.OTHER_LOADER and machine is not None and machine.http)

    @property
    def settings(self) -> tuple[str, ...]:
        """The names in `dhcp.architectures` whose settings hold for it, the most specific first."""
        own = self.machine.settings if self.machine else ()
        return (IPXE, *own) if self.ipxe else own

    def __str__(self) -> str:
        name = self.vendor_class.split(b":")[0][:32]
        words = "an unnamed client" if not name else repr(name.decode("latin-1"))
        if name in (b"PXEClient", b"HTTPClient"):
            words = name.decode()
        if self.ipxe:
            words = f"iPXE, {words}"
        if not self.boots:
            return words
        if self.architecture is None:
            return f"unknown architecture ({words})"
        return f"{self.machine.words if self.machine else f'architecture {self.architecture}'} ({words})"


def client(
    options: Mapping[int, bytes], mac: str = "", user: Sequence[Quirk] = (), served: Collection[str] = BUILT_IN
) -> Client:
    """Return what the options of a request say about its sender.

    Option 93 is a list, and the first code counts that we have a boot file for: `served` names those architectures.
    If it is absent, unset (FF FF, U-Boot) or of odd length, the class text decides: `Arch:00007` in decimal. `mac`
    is lower-case hex pairs with colons, and `user` are the configuration's quirks.
    """
    vendor_class = options.get(Option.VENDOR_CLASS_IDENTIFIER, b"")
    traits = quirks.combine(quirks.match(options, mac, user))
    codes = quirks.architecture_codes(options)
    if not codes and (text := _ARCH_IN_CLASS.search(vendor_class)):
        codes = [int(text[1])]
    if traits.architecture is not None:
        codes = [BY_NAME[traits.architecture].code]
    elif not codes and traits.architecture_unless_told is not None:
        codes = [BY_NAME[traits.architecture_unless_told].code]
    known = [code for code in codes if code in BY_CODE]
    with_file = [code for code in known if any(name in served for name in BY_CODE[code].settings)]
    return Client(vendor_class, next(iter((*with_file, *known, *codes)), None), traits)


class Clients:
    """Says what clients are, as `client` does, and remembers it by what they sent: one farm has few kinds of them."""

    def __init__(self, user: Sequence[Quirk] = (), served: Collection[str] = BUILT_IN) -> None:
        self._user = tuple(user)
        self._served = frozenset(served)
        table = quirks.effective(user)
        looked_at = {code for quirk in table for code in (*quirk.match.has_options, *quirk.match.lacks_options)}
        self._looked_at = tuple(sorted(looked_at))
        self.mac_prefixes = tuple({prefix for quirk in table for prefix in quirk.match.macs})
        """What a MAC may begin with that a quirk looks at, as hex pairs with colons."""
        self.machine_id_prefixes = tuple({prefix for quirk in table for prefix in quirk.match.machine_ids})
        """What an option 97 may begin with that a quirk looks at."""
        self._known: dict[tuple[object, ...], Client] = {}

    def client(self, options: Mapping[int, bytes], mac: str) -> Client:
        """Return what `client` returns for this farm."""
        machine_id = options.get(Option.CLIENT_MACHINE_IDENTIFIER, b"").hex(":")
        key = (
            options.get(Option.VENDOR_CLASS_IDENTIFIER),
            options.get(Option.USER_CLASS),
            options.get(Option.CLIENT_SYSTEM_ARCHITECTURE),
            tuple(code in options for code in self._looked_at),
            _beginnings(mac, self.mac_prefixes),
            _beginnings(machine_id, self.machine_id_prefixes),
        )
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()  # clients that are made up; real ones are back at once
            found = self._known[key] = client(options, mac, self._user, self._served)
        return found


def _beginnings(text: str, prefixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(prefix for prefix in prefixes if text.startswith(prefix)) if text.startswith(prefixes) else ()


def boot_file(client: Client, server: IPv4Address, http_port: int, configured: Sequence[str] = ()) -> str | None:
    """Return the boot file's name for TFTP, or its URL for a client that boots over HTTP; None: there is none.

    `configured` is what the configuration names for this client, the most specific first; an empty one says that he
    gets none. iPXE is never given iPXE again, which would load itself for ever: such a file is passed over for it.
    What nobody configures is our own GRUB, which iPXE starts as well as any ROM does.
    """
    if not client.boots:
        return None
    name = next((name for name in configured if not (client.ipxe and is_ipxe(name))), None)
    if name is None and client.machine is not None:
        name = next((BUILT_IN[name] for name in client.machine.settings if name in BUILT_IN), None)
    if not name or not client.over_http or "://" in name:
        return name or None
    port = "" if http_port == 80 else f":{http_port}"
    path = "/".join(part for part in name.split("/") if part)  # some firmware refuses // in a URL's path
    return f"http://{server}{port}/{quote(path, safe='/:@!$&+,;=~%?')}"


def heeds(name: str) -> bool:
    """Return whether a boot file does what is said of a machine (`pxeboot node`): our own GRUB, and no file at all."""
    return not name or name in BUILT_IN.values()


def is_ipxe(name: str) -> bool:
    """Return whether a boot file's name is that of an iPXE program, and not of a script or of something else.

    >>> is_ipxe("undionly.kpxe"), is_ipxe("http://192.0.2.1/ipxe-x64.efi?v=2"), is_ipxe("boot/menu.ipxe")
    (True, True, False)
    """
    stem, _, suffix = name.partition("?")[0].rpartition("/")[2].lower().rpartition(".")
    if suffix in ("kpxe", "kkpxe", "kkkpxe"):
        return True
    return suffix in _IPXE_SUFFIXES and _IPXE_STEM.search(stem) is not None
