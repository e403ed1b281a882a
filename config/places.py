"""Where the files of a configuration go in a machine's root, and which places there are ours already. Pure."""

OWN_FILES = (
    "etc/hostname",
    "etc/hosts",
    "etc/machine-id",
    "etc/timezone",
    "etc/systemd/network/05-pxeboot.network",
    "root/.ssh/authorized_keys",
    "etc/sysctl.d/90-pxeboot.conf",
    "etc/modules-load.d/pxeboot.conf",
    "etc/default/kubelet",
)
"""What we write on a machine, and `node.files` may replace."""

RESERVED_FILES = (
    "etc/localtime",
    "etc/lts.conf",
    "etc/systemd/system/pxeboot-report.service",
    "etc/systemd/system/pxeboot-rcfile.service",
    "usr/lib/systemd/system-shutdown/pxeboot",
)
"""What we write on a machine last; a file of the configuration at the same place would be lost."""

RESERVED_FOLDER = "usr/lib/pxeboot"
"""Our scripts."""


def is_unit(path: str) -> bool:
    """Whether a file of the configuration is a systemd unit to install and enable."""
    return path.endswith(".service") and "/" not in path


def place(path: str) -> str:
    """Return where in the root a file of the configuration goes, relative to it.

    >>> place("/etc/motd"), place("disks.service"), place("disks.conf")
    ('etc/motd', 'etc/systemd/system/disks.service', 'etc/pxeboot/disks.conf')
    """
    if path.startswith("/"):
        return path.lstrip("/")
    return f"etc/systemd/system/{path}" if is_unit(path) else f"etc/pxeboot/{path}"


def clash(path: str) -> str | None:
    """Return why no file of the configuration can be at `path`, relative to the root, because of ours; or None.

    >>> clash("etc/hosts") is None, clash("etc")
    (True, 'is a folder that other files lie in, such as /etc/hostname')
    """
    if path in RESERVED_FILES:
        return "is a file that we make ourselves"
    if path == RESERVED_FOLDER or path.startswith(f"{RESERVED_FOLDER}/"):
        return f"lies in /{RESERVED_FOLDER}, where our scripts are"
    for own in (*OWN_FILES, *RESERVED_FILES, f"{RESERVED_FOLDER}/"):
        if own.startswith(f"{path}/"):
            return f"is a folder that other files lie in, such as /{own}"
        if path.startswith(f"{own}/"):
            return f"lies below /{own}, which is a file that we make ourselves"
    return None
