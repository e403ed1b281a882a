"""What people are shown of texts that may hold a secret: the text without it. Pure.

Nothing can tell every secret. What is masked: bootstrap tokens, hashes of passwords, the names that are good once,
private keys, whatever follows a word such as `password=`, all of a value whose key says that it is one, and a join
command as a whole.
"""

import re
from collections.abc import Collection, Mapping

HIDDEN = "***"

_SECRET_WORD = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|psk|api[-_]?key|private[-_]?key|auth(?!orized_keys))"
)
_NAMED = rf"{_SECRET_WORD}[A-Za-z0-9_]{{0,40}}"

_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b[a-z0-9]{6}\.[a-z0-9]{16}\b"  # a bootstrap token
    r"|\$[0-9a-z]{1,8}\$[./A-Za-z0-9$=,+-]{8,}"  # a hash as in /etc/shadow (crypt(5))
    r"|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])",  # the names of `pxeboot.joining`
    re.DOTALL,
)
_FOLLOWS = re.compile(
    # A word of a command line, such as GRUB's, that is quoted as a whole.
    rf"""(?P<quote>["'])(?P<word>[^"'\s=:]{{0,60}}{_NAMED}=)(?:(?:(?!(?P=quote))[\s\S])*(?P=quote)"""
    r"""(?:\\.|"[^"]*"|'[^']*'|[^]\s"'\\;,)}])*|.*)"""
    # What follows such a word, or an option that is one.
    rf"""|(?P<name>{_NAMED}(?:\\?["'])?\s*[=:]\s*|(?<!-)--[a-z-]{{0,30}}{_SECRET_WORD}\s+)"""
    r"""(?:(?:bearer|basic|digest)[ \t]{1,9})?(?:\\.?|"[^"]*"|'[^']*'|["'].*|[^\s"'\\])+""",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(://[^\s/:@]{0,100}:)[^\s/@]{1,200}@(?:[^\s/@]{0,200}@)*")
"""Every repetition before a value is bounded, or cannot begin again within itself: a machine writes what is searched
here, 64 KiB at a time, and all else waits while a search runs."""
_SECRET_KEY = re.compile("PASS|PWD|SECRET|TOKEN|CREDENTIAL|PRIVATE|PSK|(?:^|_)KEY(?:_|$)")


def mask(text: str, known: Collection[str] = ()) -> str:
    """Return `text` without secrets; `known` are some that are looked for as they are.

    >>> mask("kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef password=1234")
    'kubeadm join 10.0.0.1:6443 --token *** password=***'
    """
    for secret in known:
        if secret:
            text = text.replace(secret, HIDDEN)
    return _FOLLOWS.sub(_without, _IN_URL.sub(rf"\g<1>{HIDDEN}@", _SECRETS.sub(HIDDEN, text)))


def _without(found: re.Match[str]) -> str:
    if found["name"] is not None:
        return f"{found['name']}{HIDDEN}"
    return f"{found['quote']}{found['word']}{HIDDEN}{found['quote']}"


def mask_lts(values: Mapping[str, str], join_keys: Collection[str], known: Collection[str] = ()) -> dict[str, str]:
    """Return lts.conf keys as people may see them; those of `join_keys` hold the command that joins a cluster.

    >>> mask_lts({"RCFILE_1": "kubeadm join ...", "TZ": "UTC", "WIFI_PSK": "x"}, ["RCFILE_1"])
    {'RCFILE_1': '*** (the join command)', 'TZ': 'UTC', 'WIFI_PSK': '***'}
    """
    shown = {}
    for key, value in values.items():
        if key in join_keys or "kubeadm join" in value:
            shown[key] = f"{HIDDEN} (the join command)"
        elif _SECRET_KEY.search(key):
            shown[key] = HIDDEN
        else:
            shown[key] = mask(value, known)
    return shown
