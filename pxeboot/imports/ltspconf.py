"""Options of an ltsp.conf (LTSP 19.08 and later) → the keys of an lts.conf that do the same here. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

VARIABLES_FILE = "/etc/ltsp/pxeboot-variables.sh"
VARIABLES = """\
# What scripts made for LTSP know about the machine, for those that came along from there.
for conf in /run/net-*.conf; do
    [ ! -e "$conf" ] || . "$conf"
done
IP_ADDRESS=$IPV4ADDR
MAC_ADDRESS=$(cat "/sys/class/net/$DEVICE/address" 2>/dev/null)
IPCONFIG_DEVICE=$DEVICE
IPCONFIG_IPV4ADDR=$IPV4ADDR
IPCONFIG_IPV4NETMASK=$IPV4NETMASK
IPCONFIG_IPV4BROADCAST=$IPV4BROADCAST
IPCONFIG_IPV4GATEWAY=$IPV4GATEWAY
IPCONFIG_IPV4DNS0=$IPV4DNS0
IPCONFIG_IPV4DNS1=$IPV4DNS1
IPCONFIG_HOSTNAME=$HOSTNAME
IPCONFIG_DNSDOMAIN=$DNSDOMAIN
"""
"""A script for machines: the variables of LTSP, from what the initramfs keeps of its DHCP lease."""

_NEEDS_VARIABLES = re.compile(r"/etc/ltsp/|\$\{?(IP_ADDRESS|MAC_ADDRESS|IPCONFIG_[A-Z0-9]+)\b")
_SAME = ("FSTAB_", "HOSTS_", "CRONTAB_", "RCFILE_", "PREINIT_", "INIT_COMMAND_", "MODULE_")
_RENAMED = (
    ("PRE_INIT_", "INIT_COMMAND_"),
    ("POST_INIT_", "PREINIT_"),
    ("PRE_SERVICE_", "RCFILE_"),
    ("POST_SERVICE_", "RCFILE_"),
)
"""LTSP runs these around its `init`, just before the real one, and around its service, once the network is online."""
_WHOLE = {
    "KEEP_SYSTEM_SERVICES": "KEEP_SYSTEM_SERVICES",
    "RM_SYSTEM_SERVICES": "RM_SYSTEM_SERVICES",
    "DISABLE_SYSTEM_SERVICES": "RM_SYSTEM_SERVICES",
    "MASK_SYSTEM_SERVICES": "RM_SYSTEM_SERVICES",
}
_OF_LTSP = {
    "OMIT_FUNCTIONS": "no function of LTSP runs here",
    "MENU_TIMEOUT": "there is no menu to wait at",
    "LOCAL_SWAP": "no swap of a local disk is used here",
    "NAT": "machines are not behind the server",
    "IMAGE_TO_RAM": "`root: http` of the pool has the image in RAM",
    "LTSP_NBD_TO_RAM": "`root` of the pool says where the image is",
    "POST_INIT_HOSTS": "/etc/hosts has the machine's own address anyway",
}
_INSTEAD = {
    "HOSTNAME": "`name` of a machine is its host name",
    "INCLUDE": "give the machine, or its pool, that tag too",
    "SERVER": "write server.address, or dhcp.next_server",
    "DNS_SERVER": "write dhcp: {domain_name_servers: [...]} of that tag",
    "SEARCH_DOMAIN": "write dhcp: {domain_search: [...]} of that tag",
    "PASSWORDS_": "there are no accounts of LTSP; write node.root_password_hash, or a file of node.files",
    "DEBUG_LOG": "write kernel_parameters: [systemd.log_level=debug] of that tag",
}


@dataclass(frozen=True, slots=True)
class Carried:
    """One option, here.

    `kind` says what it became: a key and value of an lts.conf, words for the kernel's command line, nothing that is
    missed (`needless`), or nothing at all (`lost`). `why` is for a person, where there is something to say.
    """

    kind: Literal["lts", "kernel", "needless", "lost"]
    key: str = ""
    value: str = ""
    why: str = ""
    variables: bool = False
    """Whether its value reads `VARIABLES_FILE`."""


def carried(key: str, value: str) -> Carried:
    """Return what an option of an ltsp.conf is here.

    >>> carried("POST_SERVICE_MASQ", "ip6tables -L").key, carried("KERNEL_PARAMETERS", "quiet").kind
    ('RCFILE_MASQ', 'kernel')
    """
    if "\n" in value.strip() or "\r" in value.strip():
        return Carried("lost", why="a value is one line here; put the lines into a file of node.files, and run that")
    value = value.strip()
    if key == "KERNEL_PARAMETERS":
        return Carried("kernel", value=value)
    if key == "DEBUG_SHELL":
        on = value.lower() not in ("", "0", "false", "no")
        return Carried("kernel", value="systemd.debug-shell=1", why="it is a shell on the ninth terminal of the "
                       "running system") if on else Carried("needless", why="it is off anyway")  # fmt: skip
    if key in _OF_LTSP:
        return Carried("needless", why=_OF_LTSP[key])
    if key in _WHOLE:
        return Carried("lts", _WHOLE[key], value)
    for before, after in _RENAMED:
        if key.startswith(before):
            return _command(after + key.removeprefix(before), value)
    if key.startswith(_SAME):
        return Carried("lts", key, value)
    for word, instead in _INSTEAD.items():
        if key.startswith(word):
            return Carried("lost", why=instead)
    if not re.fullmatch("[A-Z][A-Z0-9_]*", key):
        return Carried("lost", why="a key is capital letters, digits and underscores here")
    return Carried("lts", key, value, why="it is in the machine's /etc/lts.conf, and nothing of ours reads it")


def _command(key: str, value: str) -> Carried:
    if _NEEDS_VARIABLES.search(value):
        return Carried("lts", key, f". {VARIABLES_FILE}; {value}", variables=True)
    return Carried("lts", key, value)
