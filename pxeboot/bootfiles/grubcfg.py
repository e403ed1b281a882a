"""The GRUB configuration of one machine. Pure."""

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


def quote(word: str) -> str:
    """Return `word` so that GRUB's script parser takes it as it is.

    Single quotes keep everything but a single quote (GRUB manual, section 16.2 on quoting).
    """
    return "'" + word.replace("'", "'\\''") + "'"


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
        *machine.kernel_parameters,
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


def nothing(mac: str) -> str:
    """Return what a machine is shown that the farm gives nothing to boot."""
    return UNKNOWN.format(mac=mac)
