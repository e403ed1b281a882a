"""Examples of commands for the manual, each with what it is for. A test holds every one of them to what there is."""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "pxeboot": (
        ("Boot every machine on eth1 from one squashfs:", "pxeboot serve --interface eth1 --image node.squashfs"),
        ("Boot what a farm's file says, and see how far each machine is:", "pxeboot serve -c farm.yaml"),
        ("", "pxeboot status --watch"),
    ),
    "pxeboot check": (
        ("Is the file right?", "pxeboot check farm.yaml"),
        ("Who gets something else at the next boot?", "pxeboot check --diff farm.yaml"),
    ),
    "pxeboot import": (
        ("Take over from dnsmasq, with its included files:", "pxeboot import dnsmasq /etc/dnsmasq.conf -o farm.yaml"),
    ),
    "pxeboot import dnsmasq": (
        ("", "pxeboot import dnsmasq /etc/dnsmasq.conf -o farm.yaml"),
        ("Then its leases, before the first start:",
         "pxeboot leases import --from dnsmasq /var/lib/misc/dnsmasq.leases"),
    ),
    "pxeboot import kubefarm": (
        ("The values of a release, as `helm get values RELEASE --all -o yaml` prints them:",
         "pxeboot import kubefarm values.yaml -o farm.yaml"),
    ),
    "pxeboot import dhcpd": (("", "pxeboot import dhcpd /etc/dhcp/dhcpd.conf -o farm.yaml"),),
    "pxeboot import kea": (("", "pxeboot import kea /etc/kea/kea-dhcp4.conf -o farm.yaml"),),
    "pxeboot image build": (("", "pxeboot image build node --packages-from more.txt"),),
    "pxeboot image add": (("", "pxeboot image add node root.squashfs"),),
    "pxeboot serve": (
        ("Without a file: one interface, one image.", "pxeboot serve --interface eth1 --image node.squashfs"),
        ("", "pxeboot serve -c farm.yaml"),
    ),
    "pxeboot controller": (("", "pxeboot controller -c farm.yaml"),),
    "pxeboot status": (
        ("All machines, and go on showing them:", "pxeboot status --watch"),
        ("One machine, step by step:", "pxeboot status m1c29"),
        ("For a program:", "pxeboot status --json"),
    ),
    "pxeboot explain": (("", "pxeboot explain m1c29 --arch uefi-x64"),),
    "pxeboot probe": (("Walk the whole chain as a machine would:", "pxeboot probe boot --arch uefi-x64"),),
    "pxeboot leases": (("", "pxeboot leases --json"),),
    "pxeboot node": (
        ("From its own disk from the next boot on:", "pxeboot node m1c29 boot=local"),
        ("Another image, once:", "pxeboot node m1c29 image=rescue --once"),
    ),
    "pxeboot token list": (("", "pxeboot token list"),),
    "pxeboot manual": (("", "pxeboot manual"),),
    "pxeboot completion": (("", "pxeboot completion bash >/etc/bash_completion.d/pxeboot"),),
}  # fmt: skip

FILES = (
    (
        "/etc/pxeboot/farm.yaml",
        "The farm: machines, networks, images. See docs/reference/configuration.md.",
    ),
    ("/var/lib/pxeboot", "Leases, boot intents, pins of images, disks of machines, GRUB's network images."),
    ("/run/pxeboot/control.sock", "Where `pxeboot status` and others ask the daemon."),
    ("/run/pxeboot-controller/controller.sock", "Where the daemon asks the controller for the token of a boot."),
    ("/srv/pxeboot/images", "The image store: versions by their sha256, and names that point to them."),
)
SIGNALS = (
    ("SIGTERM, SIGINT", "End: leases and intents are on disk, transfers are cut off."),
    ("SIGHUP", "Read the farm's file again now. A wrong one is refused, logged, and changes nothing."),
)
ENVIRONMENT = (
    ("NO_COLOR", "Set to anything: no colours. There are none in a pipe either."),
    ("COLUMNS", "How wide tables are, where that is no terminal."),
)
"""What the daemon and the commands keep, take and read."""
