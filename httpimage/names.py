"""Request target → the relative name that the lookup knows (RFC 9112 section 3.2). Pure."""

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

_ABSOLUTE_FORM = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def relative_name(target: str) -> str | None:
    """Return the name that a request target asks for, or None if no file can have it.

    The target is percent-decoded once, its query is cut off, and slashes are collapsed in place: boot clients do
    not follow redirects. `.` and `..`, backslashes, NUL, what is not UTF-8 and folders (a slash at the end) name
    nothing. Undecodable bytes of the target may come as surrogates.

    >>> relative_name("//images/node%2evmlinuz?x=1")
    'images/node.vmlinuz'
    >>> relative_name("/images/%2e%2e/shadow") is None
    True
    """
    absolute = _ABSOLUTE_FORM.match(target)
    path = target[absolute.end() if absolute else 0 :].partition("?")[0]
    if not path.startswith("/"):
        return None
    try:
        name = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeError:
        return None
    if "\\" in name or "\0" in name or name.endswith("/"):
        return None
    segments = [segment for segment in name.split("/") if segment]
    if not segments or "." in segments or ".." in segments:
        return None
    return "/".join(segments)


_TYPES = {
    # EDK2 takes the kind of image from these three (NetworkPkg, HttpBootSupport.c).
    "efi": "application/efi",
    "iso": "application/vnd.efi-iso",
    "img": "application/vnd.efi-img",
    "cfg": "text/plain; charset=utf-8",
    "conf": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
    "lst": "text/plain; charset=utf-8",
    "squashfs": "application/vnd.squashfs",
}


def content_type(name: str) -> str:
    """Return the media type for a name by its suffix.

    >>> content_type("grubx64.EFI")
    'application/efi'
    """
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return _TYPES.get(suffix.lower() if dot else "", "application/octet-stream")


_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


def host_is_valid(values: Sequence[str], *, required: bool) -> bool:
    """Tell whether the Host headers of a request are in order: one well-formed one (RFC 9112 section 3.2).

    HTTP/1.0 needs none: U-Boot sends no header at all.
    """
    return _HOST.fullmatch(values[0]) is not None if len(values) == 1 else not values and not required
