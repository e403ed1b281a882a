"""Whether the options that one place of the configuration says can be sent. Pure."""

import re
from collections.abc import Iterator

from config import dhcpoptions
from config.dhcp import DhcpOptions
from config.finding import Finding
from config.mistakes import shown
from config.yamltree import Place

OPTION_KEYS = {
    3: "routers",
    6: "domain_name_servers",
    7: "log_servers",
    15: "domain_name",
    26: "mtu",
    28: "broadcast_address",
    42: "ntp_servers",
    66: "server_name",
    67: "boot_file",
    119: "domain_search",
    121: "static_routes",
}
"""The options that have a key of their own, by number."""

SERVER_NAME_OPTION = 66

MOST_SERVER_NAME_BYTES = 63
"""The field `sname` has 64 bytes, the last of them NUL (RFC 2131 section 2)."""
MOST_BOOT_FILE_BYTES = 255
"""One option 67. The field `file` holds 127 of them; a longer name goes into the option alone."""

_DNS_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_OR_SPACE = re.compile(r"[\x00-\x20\x7f]")

_SCHEME = re.compile(r"(?:https?|tftp)(?::|//)", re.IGNORECASE)
"""What begins as a URL does. `http/boot.efi` is a path."""
_URL = re.compile(r"[A-Za-z]+://[^/\s]+(?:/\S*)?")


def options(at: Place, settings: DhcpOptions) -> Iterator[Finding]:
    """Yield what is wrong in the options that are said at `at`."""
    said = dict(settings)
    given: dict[int, Place] = {code: (*at, key) for code, key in OPTION_KEYS.items() if said[key] is not None}
    for key, value in settings.options.items():
        place: Place = (*at, "options", key)
        try:
            code = dhcpoptions.number_of(key)
        except ValueError as error:
            yield Finding(place, str(error), key=True)
            continue
        if code in given:
            yield Finding(place, f"option {code} is already given as {given[code][-1]}", given[code], key=True)
        elif code == SERVER_NAME_OPTION:
            # It would be another server than in the fields siaddr and sname, which some firmware reads instead.
            yield Finding(place, "option 66 alone is not what all firmware reads; write server_name", key=True)
            continue
        given.setdefault(code, place)
        try:
            dhcpoptions.encode(key, value)
        except ValueError as error:
            yield Finding(place, str(error), key=code in dhcpoptions.OWN_OPTIONS)
    yield from _sending(at, settings)
    if settings.domain_name:
        yield from _domain((*at, "domain_name"), settings.domain_name)
    for d, domain in enumerate(settings.domain_search or ()):
        yield from _domain((*at, "domain_search", d), domain)
    yield from _server_and_file(at, settings)


def _sending(at: Place, settings: DhcpOptions) -> Iterator[Finding]:
    """`always_send` and `never_send`: options that there are, each once."""
    named: dict[int, Place] = {}
    for word, keys in (("always_send", settings.always_send), ("never_send", settings.never_send)):
        for k, key in enumerate(keys):
            place: Place = (*at, word, k)
            try:
                code = dhcpoptions.number_of(key)
            except ValueError as error:
                yield Finding(place, str(error))
                continue
            if code in dhcpoptions.OWN_OPTIONS:
                label = f"option {code} ({dhcpoptions.name_of(code)})"
                yield Finding(place, f"{label} is sent as the protocol says; no setting changes it")
            elif code in named:
                there = named[code][-2]
                yield Finding(place, f"option {code} ({dhcpoptions.name_of(code)}) is already in {there}", named[code])
            named.setdefault(code, place)


def _domain(place: Place, name: str) -> Iterator[Finding]:
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(map(_DNS_LABEL.fullmatch, labels)):
        words = "write words of letters, digits and hyphens, with dots"
        key = next(part for part in reversed(place) if isinstance(part, str))
        yield Finding(place, f"{key}: {shown(name)} is not a domain; {words}")


def _server_and_file(at: Place, settings: DhcpOptions) -> Iterator[Finding]:
    name, file = settings.server_name or "", settings.boot_file or ""
    size = len(name.encode())
    if size > MOST_SERVER_NAME_BYTES:
        most = MOST_SERVER_NAME_BYTES
        yield Finding((*at, "server_name"), f"server_name: it has {size} bytes; at most {most} are possible")
    elif _CONTROL_OR_SPACE.search(name):
        text = f"server_name: {shown(name)} is not a server; write its name or its address"
        yield Finding((*at, "server_name"), text)
    size = len(file.encode())
    if size > MOST_BOOT_FILE_BYTES:
        text = f"boot_file: it has {size} bytes; at most {MOST_BOOT_FILE_BYTES} are possible"
        yield Finding((*at, "boot_file"), text)
    elif _CONTROL.search(file):
        yield Finding((*at, "boot_file"), f"boot_file: {shown(file)} has control characters; write a path or a URL")
    elif _SCHEME.match(file) and not _URL.fullmatch(file):
        text = f"boot_file: {shown(file)} is not a URL, such as http://10.28.0.2/boot.efi"
        yield Finding((*at, "boot_file"), text)
