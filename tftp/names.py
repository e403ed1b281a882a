"""What firmware calls a file → the name that it has here.

Firmware, boot loaders and people write the same file as `grub/core.efi`, `/grub/core.efi`, `//grub/core.efi` or
`\\grub\\core.efi`, and some old ROMs put a byte 0xFF after it (fixture T-FFNAME).
"""

from tftp.errors import NotFound, OutsideRoot


def normalise(filename: bytes) -> str:
    r"""Return the relative name, with single slashes, that `filename` means.

    Raises `OutsideRoot` if a part is `.` or `..`, and `NotFound` if no file can have the name: nothing is left of
    it, it ends with a slash, it is not UTF-8, or it holds characters that do not print.

    >>> normalise(b"\\EFI\\BOOT\\BOOTX64.EFI\xff")
    'EFI/BOOT/BOOTX64.EFI'
    """
    try:
        text = filename.rstrip(b"\xff").decode("utf-8")
    except UnicodeDecodeError:
        raise NotFound(f"asked for {filename!r}: not UTF-8") from None
    text = text.replace("\\", "/")
    parts = [part for part in text.split("/") if part]
    if any(part in {".", ".."} for part in parts):
        raise OutsideRoot(f"asked for {text!r}: outside the root")
    if not parts or text.endswith("/") or not text.isprintable():
        raise NotFound(f"asked for {text!r}: no file has such a name")
    return "/".join(parts)
