"""Where and as whom the commands of `pxeboot probe` ask."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.text import Text

    from pxeboot.probe.words import Here

_INTERFACES = Path("/sys/class/net")
_ETHERNET = "1"
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")


def mac_of(text: str | None) -> bytes:
    """Return a MAC's bytes; a random, locally administered one for None. Raises `ValueError`."""
    if text is None:
        return bytes((0x02,)) + os.urandom(5)
    if not _MAC.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is no MAC; write six pairs of hex digits, such as 52:54:00:12:34:56")
    mac = bytes.fromhex(re.sub("[:-]", "", text))
    if mac[0] & 1 or not any(mac):
        raise ValueError(f"{text} is no single machine's MAC")
    return mac


def only_interface() -> str:
    """Return the one Ethernet interface that is up. Raises `click.UsageError` if it is not one."""
    found, others = [], []
    for folder in sorted(_INTERFACES.iterdir()):
        try:
            if (folder / "type").read_text().strip() != _ETHERNET:
                continue
            others.append(folder.name)
            if (folder / "carrier").read_text().strip() == "1":
                found.append(folder.name)
        except OSError:  # it is down, or went away
            continue
    if len(found) != 1:
        none = f"no Ethernet interface is up; there is {', '.join(others)}" if others else "there is none of Ethernet"
        raise click.UsageError(f"which --interface? {'one of ' + ', '.join(found) if found else none}")
    return found[0]


def not_from_here(here: "Here") -> "list[Text]":
    """Return why a boot could not be tried, and what to do, for people."""
    from rich.text import Text

    said = Text(f"This is the server itself, so a boot cannot be tried from here: {here.why}.", style="bold yellow")
    width = max(len(command) for command, _ in here.instead)
    return [said, *(Text(f"  {command:{width}}   {what}") for command, what in here.instead)]


def why(error: OSError) -> str:
    """Return why we cannot ask, for people."""
    import errno

    match error.errno:
        case errno.ENODEV | None:  # None: of if_nametoindex
            return "there is no such interface"
        case errno.ENETDOWN:
            return "it is down"
        case errno.EPERM | errno.EACCES:
            return "not permitted; it needs root, or CAP_NET_RAW"
        case _:
            return error.strerror or str(error)
