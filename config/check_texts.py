"""Whether texts that others will read keep to their grammar: sshd, login, the kernel, mount, the resolver. Pure."""

import re
from collections.abc import Iterator
from ipaddress import ip_address

from config import sshkeys
from config.finding import Finding
from config.mistakes import shown
from config.model import Farm
from config.yamltree import Place

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HASH = re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|gy|sha1|md5[^$]*)\$.+|[!*].*")
"""crypt(5); `!` or `*` in front: no password logs in (shadow(5)). DES is left out: it looks like a password."""
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?")
_UNSET = "NONE"
_INTERFACE = re.compile(r"[^\s/:\x00-\x1f\x7f]{1,15}")
"""IFNAMSIZ of the kernel is 16, with the NUL."""
_PATTERN = frozenset("*?[")
_MOST_SOCKET_BYTES = 107
"""`sun_path` of a unix socket has 108, with the NUL (unix(7))."""


def texts(farm: Farm) -> Iterator[Finding]:
    """Yield each text that its reader would not understand."""
    yield from _ssh_keys(farm)
    if farm.node.root_password_hash is not None and not _HASH.fullmatch(farm.node.root_password_hash):
        text = "this is no password's hash, but perhaps the password; write what `openssl passwd -6` prints: $6$..."
        yield Finding(("node", "root_password_hash"), f"node.root_password_hash: {text}")
    for place, word in _kernel_parameters(farm):
        if word.count('"') % 2:
            name = re.split('[="]', word)[0].strip()  # and not its value: it may be a passphrase
            what = shown(name) if name else "this"
            yield Finding(place, f'{what} has a " without its other; what stands between two is one word')
    for name, tag in farm.tags.items():
        for key, value in tag.lts.items():
            yield from _lts(("tags", name, "lts", key), key, value)
    yield from _interfaces(farm)
    for key, path in (("control", farm.server.control), ("controller", farm.server.controller)):
        if (size := len(str(path).encode())) > _MOST_SOCKET_BYTES:
            text = (
                f"server.{key}: the path of a unix socket has {_MOST_SOCKET_BYTES} bytes at most; this one has {size}"
            )
            yield Finding(("server", key), text)
    yield from _names(farm)


def _ssh_keys(farm: Farm) -> Iterator[Finding]:
    for k, line in enumerate(farm.node.ssh_authorized_keys):
        place: Place = ("node", "ssh_authorized_keys", k)
        if _CONTROL.search(line.strip().replace("\t", " ")) and not sshkeys.is_private(line):
            yield Finding(place, "node.ssh_authorized_keys: a key is a single line; write an entry for each")
        elif (problem := sshkeys.problem(line)) is not None:
            yield Finding(place, f"node.ssh_authorized_keys: {problem}")


def _kernel_parameters(farm: Farm) -> Iterator[tuple[Place, str]]:
    for name, tag in farm.tags.items():
        for k, word in enumerate(tag.kernel_parameters):
            yield ("tags", name, "kernel_parameters", k), word
    for p, pool in enumerate(farm.pools):
        for k, word in enumerate(pool.kernel_parameters):
            yield ("pools", p, "kernel_parameters", k), word


def _lts(place: Place, key: str, value: str) -> Iterator[Finding]:
    """Lines of fstab(5) and hosts(5): with a wrong one, a machine starts in emergency mode, or finds nobody."""
    if value == _UNSET or is_comment(value) or not value.strip():
        return
    if key.startswith("FSTAB_"):
        if problem := _fstab(value.split()):
            yield Finding(place, f"{key}: {problem}; write WHAT WHERE TYPE OPTIONS, such as tmpfs /tmp tmpfs size=1G")
    elif key.startswith("HOSTS_"):
        address, *names = value.partition("#")[0].split()
        if not names or not _is_address(address) or not all(map(_is_host, names)):
            yield Finding(place, f"{key}: {shown(value)} is no line of /etc/hosts, such as 10.28.0.5 registry.lan")


def is_comment(value: str) -> bool:
    """Whether it is a line that nobody reads, in fstab(5), hosts(5) and authorized_keys (sshd(8)).

    >>> is_comment(" # none yet"), is_comment("10.0.0.1 a # none yet")
    (True, False)
    """
    return value.lstrip().startswith("#")


def _fstab(words: list[str]) -> str | None:
    """Return what is wrong with a line of fstab(5), where only behind the sixth word there can be a comment."""
    if len(words) < 3:
        return f"a mount has three words at least, this one {len(words)}"
    if not words[1].startswith("/") and words[1] not in ("none", "swap"):
        return f"{shown(words[1].partition('=')[0])} is not the path of a folder"
    if (len(words) > 6 and not words[6].startswith("#")) or not all(word.isdecimal() for word in words[4:6]):
        return "after the options there are two numbers at most; options are one word, with commas"
    return None


def _is_address(word: str) -> bool:
    try:
        ip_address(word)
    except ValueError:
        return False
    return True


def _is_host(name: str) -> bool:
    return len(name) <= 253 and all(map(_HOST_LABEL.fullmatch, name.removesuffix(".").split(".")))


def _interfaces(farm: Farm) -> Iterator[Finding]:
    for i, name in enumerate(farm.server.interfaces):
        place: Place = ("server", "interfaces", i)
        if not _PATTERN & set(name) and not _INTERFACE.fullmatch(name):
            text = f"{shown(name)} cannot be an interface; its name has 1 to 15 characters, without spaces, / and :"
            yield Finding(place, f"server.interfaces: {text}")


def _names(farm: Farm) -> Iterator[Finding]:
    """Names that people and programs call things by, and that stand in paths, URLs and lists."""
    named: list[tuple[Place, str, str]] = [(("images", name), "an image", name) for name in farm.images]
    named += [(("clusters", name), "a cluster", name) for name in farm.clusters]
    named += [(("tags", name), "a tag", name) for name in farm.tags]
    for place, what, name in named:
        if not name.strip() or _CONTROL.search(name):
            yield Finding(place, f"{shown(name)} cannot be the name of {what}; write one word", key=True)
    for p, pool in enumerate(farm.pools):
        if not pool.name.strip() or _CONTROL.search(pool.name):
            yield Finding(("pools", p, "name"), f"{shown(pool.name)} cannot be the name of a pool; write one word")
    for n, name in enumerate(farm.web.names):
        if name != "*" and not _is_host(name) and not _is_address(name.strip("[]")):
            text = f"web.names: {shown(name)} is not a host name; write it without http:// and port, or * for any"
            yield Finding(("web", "names", n), text)
