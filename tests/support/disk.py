"""Disks that say on the serial console that they were booted, and do nothing else."""

import subprocess
from pathlib import Path

SAYS = "the disk was booted"

_PRINT = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "be167c"  # mov si, 0x7c00 + the length of this code
    "baf803"  # mov dx, 0x3f8: the first serial port
    "fc"  # cld
    "ac"  # again: lodsb
    "84c0"  # test al, al
    "7403"  # jz stop
    "ee"  # out dx, al
    "ebf8"  # jmp again
    "f4"  # stop: hlt
    "ebfd"  # jmp stop
)


def boot_sector(says: str = SAYS) -> bytes:
    """Return a boot sector that prints `says` and stops. It is loaded at 0x7c00 (BIOS)."""
    return (_PRINT + says.encode() + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"


def bios_disk(folder: Path) -> list[str]:
    """Make a disk for a BIOS in `folder`; return QEMU's arguments for it. It comes after the network."""
    image = folder / "disk.img"
    image.write_bytes(boot_sector().ljust(1 << 20, b"\0"))
    return _argv(str(image))


def uefi_disk(folder: Path, loader: str = "EFI/BOOT/BOOTX64.EFI") -> list[str]:
    """Make a disk with an EFI system partition in `folder`, and `loader` on it; return QEMU's arguments for it.

    The partition is a folder that QEMU shows as FAT.
    """
    program = folder / "disk" / loader
    program.parent.mkdir(parents=True)
    words = folder / "disk.cfg"
    words.write_text(f"echo {SAYS}\nsleep 3600\n")
    make = ["grub-mkimage", "-O", "x86_64-efi", "-p", "/", "-c", str(words), "-o", str(program), "echo", "sleep"]
    subprocess.run(make, check=True, capture_output=True)
    return _argv(f"fat:rw:{folder / 'disk'}")


def _argv(file: str) -> list[str]:
    return ["-drive", f"if=none,id=disk,format=raw,file={file}", "-device", "virtio-blk-pci,drive=disk,bootindex=2"]
