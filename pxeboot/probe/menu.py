"""What GRUB does with the menu that it is served, as far as a probe has to know it. Pure."""

import re
import shlex
from dataclasses import dataclass

_HTTP = re.compile(rb"\(http,([0-9.]{7,15}(?::[0-9]{1,5})?)\)")
_PLACE = re.compile(r"(?:\([a-z]+,[^)]*\)|\$[a-z]+)/(.+)")
_IMAGE = re.compile(r"images/([^/]+)/")


@dataclass(frozen=True, slots=True)
class Menu:
    """A menu, read."""

    kernel: str = ""
    """The name of the kernel on the server; "" if it boots none."""
    initrds: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """The kernel's command line."""
    says: tuple[str, ...] = ()
    """What it prints."""

    @property
    def boots_disk(self) -> bool:
        """Whether it sends the machine to its own disk."""
        return not self.kernel and "goes on with its own disk" in self.reason

    @property
    def reason(self) -> str:
        """What it prints that GRUB does not fill in, but for when it asks again."""
        return " ".join(line for line in self.says if "again in" not in line and "$" not in line)

    @property
    def image(self) -> str:
        """The image's id, or name, as it is in the paths; "" if there is none."""
        found = _IMAGE.match(self.kernel)
        return found[1] if found is not None else ""


def read(text: str) -> Menu:
    """Return what a menu boots. What cannot be read is left out.

    >>> read("echo 'hello'\\nif linux $from/images/ab/vmlinuz boot=pxeboot; then\\n").kernel
    'images/ab/vmlinuz'
    """
    kernel, initrds, words, says = "", list[str](), list[str](), list[str]()
    for line in text.splitlines():
        try:
            parts = shlex.split(line.removesuffix("; then"))
        except ValueError:
            continue
        parts = parts[1:] if parts[:1] == ["if"] else parts
        match parts:
            case ["linux", place, *rest]:
                kernel, words = _name(place), rest
            case ["initrd", *places]:
                initrds += [_name(place) for place in places]
            case ["echo", *said]:
                says.append(" ".join(said))
            case _:
                pass
    return Menu(kernel, tuple(initrds), tuple(words), tuple(says))


def _name(place: str) -> str:
    found = _PLACE.fullmatch(place)
    return found[1] if found is not None else place.lstrip("/")


def server_in(loader: bytes) -> str | None:
    """Return the HTTP server, HOST or HOST:PORT, that a boot loader of ours goes on from; None if it names none."""
    found = _HTTP.search(loader)
    return found[1].decode("ascii") if found is not None else None
