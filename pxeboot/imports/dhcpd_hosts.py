"""One `host` of a dhcpd.conf → a machine. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from config.yamltree import Scalar
from pxeboot.imports import words
from pxeboot.imports.dhcpd_options import Definitions
from pxeboot.imports.dhcpd_text import Statement
from pxeboot.imports.found import Draft
from pxeboot.imports.levels import Settings
from pxeboot.imports.machines import Machines

_BOOT = {"filename": "boot_file", "next-server": "next_server", "server-name": "server_name"}
_CLIENT_ID, _HOST_NAME = 61, 12


@dataclass(slots=True)
class Host:
    """Reads hosts into machines."""

    draft: Draft
    machines: Machines
    options: Definitions

    def take(self, one: Statement, block: list[Statement], tags: tuple[str, ...]) -> None:
        """Take one host, or say why it cannot be a machine."""
        name = one.rest[0] if one.rest else ""
        macs: list[str] = []
        known_by: dict[str, str] = {}
        dhcp: Settings = {}
        addresses: list[IPv4Address] = []
        refused = False
        for inner in block:
            rest = inner.rest
            match inner.key, rest:
                case "hardware", ["ethernet", mac]:
                    macs.append(":".join(octet.zfill(2) for octet in mac.lower().split(":")))
                case "fixed-address", _:
                    found = [words.address(text) for text in rest]
                    addresses += [ip for ip in found if ip is not None]
                    if None in found:
                        self.draft.lost(inner.mark, inner.text, "only addresses can stand here, not names")
                case "uid", [value, *_]:
                    known_by["client_id"] = value
                case "option", [key, value] if self.options.code(key) == _CLIENT_ID:
                    known_by["client_id"] = value
                case "option", [key, value] if self.options.code(key) == _HOST_NAME:
                    name = value
                case "host-identifier", ["option", "agent.circuit-id", value]:
                    known_by["circuit_id"] = value
                case "host-identifier", ["option", "agent.remote-id", value]:
                    known_by["remote_id"] = value
                case "host-identifier", ["option", "dhcp-client-identifier", value]:
                    known_by["client_id"] = value
                case "option", _:
                    self.options.say((dhcp,), inner)
                case key, [value] if key in _BOOT:
                    if key == "next-server" and words.address(value) is None:
                        self.draft.lost(inner.mark, inner.text, "only an address can stand here")
                    else:
                        dhcp[_BOOT[key]] = Scalar(inner.mark, value)
                case "default-lease-time", [value] if (seconds := words.lease_s(value)) is not None:
                    dhcp["lease_s"] = Scalar(inner.mark, seconds)
                case (("deny" | "ignore"), ["booting"]):
                    refused = True
                case (("ddns-hostname" | "ddns-domainname" | "allow" | "infinite-is-reserved"), _):
                    pass
                case _:
                    self.draft.lost(inner.mark, inner.text, f"nothing of the machine {name!r} here says that")
        what = f"host {name}"
        if not addresses:
            why = "a machine has an address of its own here (fixed-address); give it one"
            self.draft.lost(one.mark, what, why)
            return
        for other in addresses[1:]:
            self.draft.lost(one.mark, f"the address {other} of {what}", "a machine has one address here, the first")
        if not macs and not known_by:
            self.draft.lost(one.mark, what, "nothing says how to know it (hardware ethernet)")
            return
        self.machines.add(one.mark, name, addresses[0], macs=macs, known_by=known_by, tags=tags, dhcp=dhcp or None)
        if refused:
            self.machines.nodes[-1]["boot"] = Scalar(one.mark, "refuse")
