"""The GRUB configuration of one machine. Pure."""

import re

from pxeboot.bootfiles.machine import Machine

HEAD = "# made by pxeboot for {name}; a new one at every boot\nset timeout=0\nset default=0\n"

SOURCE = """\
if [ "$lockdown" = y ]; then
  set from=(tftp,{host})
else
  insmod http
  set from=(http,{http})
fi
"""
"""Where all comes from. With Secure Boot, a GRUB that was signed loads no module that was not, and http.mod is one.

(GRUB manual, "Lockdown"; GRUB sets the variable itself.)
"""

UNKNOWN = """\
# made by pxeboot
echo "pxeboot: this machine ({mac}) has nothing to boot here."
echo "List its MAC in a pool of the farm's file, or give its subnet `unknown: POOL`."
echo "It asks again in 60 seconds."
sleep 60
reboot
"""

REFUSED = """\
# made by pxeboot
echo "pxeboot: {name} is refused: its boot intent is refuse ({whence})."
echo "It asks again in 60 seconds."
sleep 60
reboot
"""

FIRST = """\
# made by pxeboot
regexp --set=1:a --set=2:b --set=3:c --set=4:d --set=5:e --set=6:f '^(..):(..):(..):(..):(..):(..)$' "$net_default_mac"
for try in 1 2 3 4 5 6; do
  if source (http,{http})/grub/$grub_cpu-$grub_platform/fs.lst; then
    set prefix=(http,{http})/grub
    source $prefix/grub.cfg-01-$a-$b-$c-$d-$e-$f
    source $prefix/grub.cfg
  fi
  echo "pxeboot: {http} does not answer. This machine asks again in 5 seconds."
  sleep 5
done
reboot
"""

LOCAL = """\
echo "pxeboot: {name} goes on with its own disk: its boot intent is local ({whence})"
insmod chain
if [ "$grub_platform" = efi ]; then
  insmod part_gpt
  insmod part_msdos
  insmod fat
  insmod regexp
  set ending=x64
  if [ "$grub_cpu" = arm64 ]; then set ending=aa64; fi
  for loader in {loaders}; do
    if test -f "$loader"; then
      echo "pxeboot: starting $loader"
      regexp --set=1:root '^[(]([^)]*)[)]' "$loader"
      if chainloader "$loader"; then boot; fi
    fi
  done
else
  insmod biosdisk
  for disk in hd0 hd1 hd2 hd3; do
    set root=$disk
    if chainloader +1; then boot; fi
  done
fi
source $from/{no_disk}
echo "pxeboot: {name} has no disk that can be booted. It asks again in 60 seconds."
sleep 60
reboot
"""
"""Leaves the network for the disk, as soon as GRUB is there.

`chainloader` wants `root` to be the disk, and not the script that GRUB came with. It loads what is on the disk rather
than `exit`: EDK2 shows its setup menu when GRUB exits, and waits there for good; to give it an error in place of GRUB
has it try PXE over IPv6 and HTTP before the disk, which takes minutes. A BIOS would go on with its next device, which
may be another network card, and then we are asked once more.
"""

LOADERS = ("*/shim$ending.efi", "*/grub$ending.efi", "*/systemd-boot$ending.efi", "Microsoft/Boot/bootmgfw.efi",
           "BOOT/BOOT$ending.EFI")  # fmt: skip
"""What boots an EFI system partition, below its folder EFI. An installed system's own loader comes before the one for
removable media, which may be a tool that only sets the boot order right and restarts. FAT takes any case."""

STARTED = "intent/started"
"""What a machine fetches that may boot once, when all is loaded: leave to start the kernel."""

NO_DISK = "intent/no-disk"
"""What a machine fetches that found no disk to boot."""

NO_IMAGE = """\
# made by pxeboot
echo "pxeboot: the image of {name} is not there yet; the log of pxeboot serve says why."
echo "It asks again in 60 seconds."
sleep 60
reboot
"""

NO_DISK_IN_IMAGE = """\
# made by pxeboot
echo "pxeboot: {name} is to write to its root, and its image {image} has none for that (root.ext4)."
echo "Make the image again with --ext4, or take `writable` away. It asks again in 60 seconds."
sleep 60
reboot
"""

NOT_KEPT = """\
# made by pxeboot
echo "pxeboot: what {name} boots cannot be kept; the log of pxeboot serve says why."
echo "It asks again in 20 seconds."
sleep 20
reboot
"""


def quote(word: str) -> str:
    """Return `word` so that GRUB's script parser takes it as it is.

    Single quotes keep everything but a single quote (GRUB manual, section 16.2 on quoting).
    """
    return "'" + word.replace("'", "'\\''") + "'"


def kernel_words(parameter: str) -> list[str]:
    """Return a kernel parameter as the arguments that GRUB's `linux` makes the same words of again.

    The kernel separates words at white space outside double quotes, and takes the quotes out. GRUB puts double
    quotes around an argument that holds a space, and a backslash before a quote that is already there, which the
    kernel does not understand: so they are taken out here. A backslash or a single quote reaches the kernel with
    another backslash before it; that is GRUB's doing.

    >>> kernel_words('console=ttyS0 dyndbg="file a.c +p"')
    ['console=ttyS0', 'dyndbg=file a.c +p']
    """
    spaced = parameter.replace("\t", " ")  # GRUB takes only a space for a reason to quote
    words = (word.replace('"', "") for word in re.findall(r'(?:"[^"]*(?:"|$)|[^\s"])+', spaced))
    return [word for word in words if word]


def command_line(machine: Machine, server: str, image_id: str) -> list[str]:
    """Return the kernel's parameters: ours first, then the farm's, which so can win.

    There is no ip=dhcp: systemd-network-generator would take it for every card, and a machine with two would have
    its one address twice.
    """
    return [
        "boot=pxeboot",
        f"BOOTIF=01-{machine.mac.replace(':', '-')}",
        "panic=60",
        f"pxeboot.server={server}",
        f"pxeboot.image={image_id}",
        *(word for parameter in machine.kernel_parameters for word in kernel_words(parameter)),
    ]


def boot(
    machine: Machine, server: str, http: str, image_id: str, archive_folder: str = "", *, once: bool = False
) -> str:
    """Return what boots this machine: kernel, our archive before the distribution's initrd, and the command line.

    `server` is the URL of our HTTP server; `http` its address as GRUB writes it, HOST or HOST:PORT. `archive_folder`
    is the name of the folder of its archive, if that is in one that nobody else knows. With `once`, the machine asks
    for `STARTED` before it starts the kernel, and does not start it without an answer.
    """
    folder = f"$from/images/{image_id}"
    start = f"source $from/{STARTED}" if once else "boot"
    archive = "/".join([f"01-{machine.mac.replace(':', '-')}", *[archive_folder] * bool(archive_folder), "node.cpio"])
    words = " ".join(quote(word) for word in command_line(machine, server, image_id))
    return (
        HEAD.format(name=machine.name)
        + SOURCE.format(http=http, host=http.partition(":")[0])
        + f"""\
insmod linux
echo "pxeboot: {machine.name} loads its kernel"
if linux {folder}/vmlinuz {words}; then
  echo "pxeboot: {machine.name} loads its configuration and initrd"
  if initrd {folder}/{archive} {folder}/initrd.img; then
    {start}
  fi
fi
echo "pxeboot: that did not work; this machine starts again in 20 seconds"
sleep 20
reboot
"""
    )


def first(http: str) -> str:
    """Return what GRUB reads first of all, out of its own image: go on from our HTTP server `http`, as for `boot`.

    It asks for the file of its card, as GRUB does by itself over TFTP only. Both files end in a boot or a restart, so
    what follows them is for a server that is being restarted; without it, GRUB would wait at its prompt for ever. The
    machine restarts in the end, since our address may be another one by now. Whether we are there is tried with one
    file, which is empty: GRUB takes two minutes to give up on a connection, and to set `prefix` has it fetch four.
    """
    return FIRST.format(http=http)


def local(name: str, http: str, whence: str) -> str:
    """Return what has a machine boot from its own disk. `whence` says who wants that; `http` is as for `boot`."""
    loaders = " ".join(f"(hd*)/EFI/{path}" for path in LOADERS)
    told = LOCAL.format(name=name, http=http, whence=whence, loaders=loaders, no_disk=NO_DISK)
    return HEAD.format(name=name) + SOURCE.format(http=http, host=http.partition(":")[0]) + told


def refused(name: str, whence: str) -> str:
    """Return what a machine is shown that is not to boot; `whence` says who wants that."""
    return REFUSED.format(name=name, whence=whence)


def no_image(machine: Machine) -> str:
    """Return what a machine is shown whose image is not there, or not whole."""
    return NO_IMAGE.format(name=machine.name)


def no_disk(machine: Machine) -> str:
    """Return what a machine is shown that is to write to its root, and whose image has none for that."""
    return NO_DISK_IN_IMAGE.format(name=machine.name, image=machine.pool.image)


def not_kept(machine: Machine) -> str:
    """Return what a machine is shown when it cannot be kept what it boots."""
    return NOT_KEPT.format(name=machine.name)


def nothing(mac: str) -> str:
    """Return what a machine is shown that the farm gives nothing to boot."""
    return UNKNOWN.format(mac=mac)
