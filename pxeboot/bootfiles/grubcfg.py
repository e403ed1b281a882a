"""The GRUB configuration of one machine. Pure."""

import re

from pxeboot.bootfiles.machine import Machine

HEAD = "# made by pxeboot for {name}; a new one at every boot\nset timeout=0\nset default=0\n"

UNKNOWN = """\
# made by pxeboot
echo "pxeboot: this machine ({mac}) has nothing to boot here."
echo "List its MAC in a pool of the farm's file, or give its subnet `unknown: POOL`."
echo "It asks again in 60 seconds."
sleep 60
reboot
"""

NO_IMAGE = """\
# made by pxeboot
echo "pxeboot: the image of {name} is not there yet; the log of pxeboot serve says why."
echo "It asks again in 60 seconds."
sleep 60
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


def boot(machine: Machine, server: str, http: str, image_id: str) -> str:
    """Return what boots this machine: kernel, our archive before the distribution's initrd, and the command line.

    `server` is the URL of our HTTP server; `http` its address as GRUB writes it, HOST or HOST:PORT.
    """
    folder = f"(http,{http})/images/{image_id}"
    words = " ".join(quote(word) for word in command_line(machine, server, image_id))
    return (
        HEAD.format(name=machine.name)
        + f"""\
insmod http
insmod linux
echo "pxeboot: {machine.name} loads its kernel"
if linux {folder}/vmlinuz {words}; then
  echo "pxeboot: {machine.name} loads its configuration and initrd"
  if initrd {folder}/01-{machine.mac.replace(":", "-")}/node.cpio {folder}/initrd.img; then
    boot
  fi
fi
echo "pxeboot: that did not work; this machine starts again in 20 seconds"
sleep 20
reboot
"""
    )


def no_image(machine: Machine) -> str:
    """Return what a machine is shown whose image is not there, or not whole."""
    return NO_IMAGE.format(name=machine.name)


def nothing(mac: str) -> str:
    """Return what a machine is shown that the farm gives nothing to boot."""
    return UNKNOWN.format(mac=mac)
