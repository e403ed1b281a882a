"""What dnsmasq tells its clients: dhcp-option, dhcp-boot, pxe-service. Pure."""

from dataclasses import dataclass, field

from config.dhcpoptions import code_of
from config.yamltree import Mark
from pxeboot.imports.dnsmasq_tags import Tags
from pxeboot.imports.dnsmasq_text import Line
from pxeboot.imports.found import Draft, tree
from pxeboot.imports.levels import Levels, Settings
from pxeboot.imports.options import untyped
from pxeboot.imports.words import address

PXE_SERVICES = {
    "x86pc": "bios", "0": "bios", "pc98": "pc98", "1": "pc98", "ia64_efi": "uefi-ia64", "2": "uefi-ia64",
    "alpha": "alpha", "3": "alpha", "arc_x86": "arc-x86", "4": "arc-x86", "intel_lean_client": "lean-client",
    "5": "lean-client", "ia32_efi": "uefi-ia32", "6": "uefi-ia32", "x86-64_efi": "uefi-x64", "7": "uefi-x64",
    "xscale_efi": "uefi-x64", "8": "uefi-x64", "bc_efi": "uefi-x64", "9": "uefi-x64", "arm32_efi": "uefi-arm32",
    "10": "uefi-arm32", "arm64_efi": "uefi-arm64", "11": "uefi-arm64",
}  # fmt: skip
"""The names that a pxe-service has for architectures."""
_RASPBERRY = "Raspberry Pi Boot"


@dataclass(slots=True)
class Options:
    """Reads these lines into the places of a farm."""

    draft: Draft
    levels: Levels
    tags: Tags
    codes: set[int] = field(default_factory=set)
    """The options that were named, carried over or not."""
    _services: set[str] = field(default_factory=set)

    def take(self, line: Line) -> bool:
        """Read one line; return whether it is one of these."""
        match line.key:
            case "dhcp-option" | "dhcp-option-force":
                self._option(line)
            case "dhcp-boot":
                self._boot(line)
            case "pxe-service":
                self._service(line)
            case _:
                return False
        return True

    def _option(self, line: Line) -> None:
        mark, what = line.mark, f"{line.key}={line.value}"
        conditions, words = _conditions(line.words())
        encap = ""
        while words and words[0].startswith(("encap:", "vi-encap:", "vendor:")):
            encap = words.pop(0)
        if not words:
            self.draft.lost(mark, what, "it names no option")
            return
        if words[0].startswith("option6:"):
            self.draft.note(mark, what, "IPv6 is not served here")
            return
        name, values = words[0].removeprefix("option:"), words[1:]
        if encap.startswith("vendor:PXEClient"):
            self.draft.note(mark, what, "what PXE clients are told in option 43 is decided here for each of them")
            return
        if encap.startswith(("vendor:", "vi-encap:")):
            why = "there is no place for clients of one vendor; `options` of a tag can say 43 or 125"
            self.draft.lost(mark, what, why)
            return
        places = self.tags.places(conditions, self.levels, what, mark)
        code = code_of(encap.removeprefix("encap:") if encap else name)
        if code is None:
            self.draft.lost(mark, what, f"there is no option {name!r}; write its number")
            return
        self.codes.add(code)
        if not places:
            return
        key = (
            self._inside(places, code, name, values, mark) if encap else self.levels.option(places, code, values, mark)
        )
        if key is not None and line.key == "dhcp-option-force" and key != "lease_s":
            for settings in places:
                sent = [item.value for item in settings["always_send"].items] if "always_send" in settings else []
                settings["always_send"] = tree([*sent, *([key] if key not in sent else [])], mark)

    def _inside(self, places: list[Settings], code: int, name: str, values: list[str], mark: Mark) -> str | None:
        """Put one sub-option into an option that consists of such."""
        return self.levels.inside(places, code, {name: untyped(values) if values else {"hex": "01"}}, mark)

    def _boot(self, line: Line) -> None:
        mark, what = line.mark, f"dhcp-boot={line.value}"
        conditions, words = _conditions(line.words())
        file, name, server = (*words, "", "", "")[:3]
        places = self.tags.places(conditions, self.levels, what, mark)
        if file:
            self.levels.file(places, "boot_file", file, mark)
        if server:
            if address(server.partition("/")[0]) is None:
                self.draft.lost(mark, f"the server {server!r}", "only an address can stand here: next_server")
            else:
                self.levels.file(places, "next_server", server, mark)
        if name:
            self.levels.file(places, "server_name", name, mark)

    def _service(self, line: Line) -> None:
        mark, what = line.mark, f"pxe-service={line.value}"
        conditions, words = _conditions(line.words())
        kind, text, file, server = (*words, "", "", "", "")[:4]
        if text.strip() == _RASPBERRY:
            self.draft.note(mark, what, "a Raspberry Pi gets its menu here by itself")
            return
        architecture = PXE_SERVICES.get(kind.lower())
        if architecture is None:
            self.draft.lost(mark, what, f"no architecture is called {kind!r}")
            return
        if not file or file.isdecimal():
            local = "`boot: local` of a machine has it boot from its own disk"
            self.draft.lost(mark, what, local if file in ("", "0") else "there is no list of boot servers here")
            return
        if architecture in self._services or conditions:
            self.draft.lost(mark, what, "there is no menu here: an architecture gets one boot file, the first")
            return
        self._services.add(architecture)
        settings = self.levels.architectures.setdefault(architecture, {})
        self.levels.file([settings], "boot_file", file if "." in file else f"{file}.0", mark)
        if server and address(server) is not None:
            self.levels.file([settings], "next_server", server, mark)
        elif server:
            self.draft.lost(mark, f"the server {server!r}", "only an address can stand here: next_server")


def _conditions(words: list[str]) -> tuple[list[str], list[str]]:
    """The tags that a line is for, and the rest of it. The old way to write them is net:TAG, or the bare name."""
    tags, rest = [], [*words]
    while rest and rest[0].lower().startswith(("tag:", "net:")):
        tags.append(rest.pop(0)[4:].replace("#", "!"))
    return tags, rest
