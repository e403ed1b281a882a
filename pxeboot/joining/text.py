"""The text that a machine fetches once: its join command, and what belongs to it. Pure."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from config.model import Taint

_PLAIN = re.compile("[^ -~]")
_ONCE = re.compile("(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
"""What a name that is good once looks like, wherever it stands (`pxeboot.joining.once.Boot`)."""


def told(name: str) -> str:
    """Return a name that somebody asks for as it may be told: without the part that is good once.

    >>> told("images/ab/01-52-54-00-00-00-0a/0123/node.cpio"), told("join/4567"), told("grub/grub.cfg")
    ('images/ab/01-52-54-00-00-00-0a/***/node.cpio', 'join/***', 'grub/grub.cfg')
    """
    match name.split("/"):
        case ["images", image, card, _, "node.cpio"]:
            return f"images/{image}/{card}/***/node.cpio"
        case ["join", *_]:
            return "join/***"
        case _:
            return name


def hide_names(line: str) -> str:
    """Return a line of a log without the names that are good once, in whatever form somebody asked for them.

    >>> hide_names("asked for '/join/0123456789abcdef0123456789abcdef/': not found")
    "asked for '/join/***/': not found"
    """
    return _ONCE.sub("***", line)


def join_text(command: str, hosts: Iterable[str] = (), good_for_s: float | None = None) -> str:
    r"""Return it: the command on the first line, then `hosts: IP NAME` lines, and for how many seconds it is good.

    >>> join_text("kubeadm join api:6443", ["10.0.0.1 api"], 599.5)
    'kubeadm join api:6443\nhosts: 10.0.0.1 api\ngood_for: 599\n'
    """
    lines = [one_line(command), *(f"hosts: {_PLAIN.sub(' ', line)}" for line in hosts)]
    if good_for_s is not None:
        lines.append(f"good_for: {max(0, int(good_for_s))}")
    return "".join(f"{line}\n" for line in lines)


def one_line(command: str) -> str:
    r"""Return a command that does the same, on one line; any shell of POSIX reads it.

    >>> one_line("true\n"), one_line("a 'b'\nc")
    ('true', 'eval "$(printf %b \'a \'"\'"\'b\'"\'"\'\\nc\')"')
    """
    stripped = command.strip("\n")
    if "\n" not in stripped and "\r" not in stripped:
        return stripped
    escaped = stripped.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
    return f'eval "$(printf %b {shlex.quote(escaped)})"'


def fill_in(
    template: str, *, token: str, name: str, ip: str, labels: Mapping[str, str], taints: Sequence[Taint]
) -> str:
    """Return a command of one's own with everything in its place, each as one word of a shell.

    >>> fill_in("k3s agent --token {token} --node-label={labels}", token="K10:a b", name="m1", ip="10.0.0.10",
    ...         labels={"gpu": "yes", "zone": "b"}, taints=())
    "k3s agent --token 'K10:a b' --node-label=gpu=yes,zone=b"
    """
    words = {
        "token": token,
        "name": name,
        "ip": ip,
        "labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "taints": ",".join(f"{t.key}={t.value}:{t.effect}" if t.value else f"{t.key}:{t.effect}" for t in taints),
    }
    return template.format(**{key: shlex.quote(value) for key, value in words.items()})


def said(why: str) -> str:
    """Return a reason as it may stand in the first line of an answer, short and plain.

    >>> said("the API\\r\\nX: does not answer")
    'the API  X: does not answer'
    """
    return _PLAIN.sub(" ", why)[:160]
