"""Which names are ours, and never those of static files."""

from pxeboot.bootfiles.imagefiles import has_file


def is_ours(name: str) -> bool:
    """Return whether `name` is one of pxeboot's, whoever asks: no static file stands in for what somebody is refused.

    >>> is_ours("lts.conf"), is_ours("images/node/vmlinuz"), is_ours("images/debian.iso")
    (True, True, False)
    """
    match name.split("/"):
        case ["lts.conf" | "you"] | ["lts" | "intent" | "report" | "join", *_]:
            return True
        case ["images", _, _, "node.cpio"] | ["images", _, _, _, "node.cpio"]:
            return True
        case ["images", _, file]:
            return has_file(file)
        case ["grub", last]:
            return last.startswith("grub.cfg")
        case _:
            return False
