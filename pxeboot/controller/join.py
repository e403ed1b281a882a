"""The join command, and what a machine has to know to run it."""

import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from pxeboot.controller.token import NotAToken, Token

SERVER = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
CA_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class NotAJoinCommand(ValueError):
    """What was read is not a join command that we write. The message never holds what was read."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where machines join, and how they know that it is the right place."""

    server: str
    """HOST:PORT of the API server, for the machines."""
    ca_hashes: tuple[str, ...]
    """`sha256:<hex>` of each CA of the cluster."""


@dataclass(frozen=True, slots=True)
class JoinCommand:
    """`kubeadm join` for one token and one cluster.

    Each part is checked when it is made: the command is read by a shell on every machine, and nothing in it can
    end a word or a quoted string.
    """

    token: Token
    discovery: Discovery

    def __post_init__(self) -> None:
        if not SERVER.fullmatch(self.discovery.server):
            raise NotAJoinCommand("the server is not HOST:PORT")
        if not self.discovery.ca_hashes or not all(map(CA_HASH.fullmatch, self.discovery.ca_hashes)):
            raise NotAJoinCommand("a CA hash is not sha256: and 64 hex digits")

    def reveal(self) -> str:
        """The command line, with the token's secret in it: for lts.conf and nothing else."""
        pins = "".join(f" --discovery-token-ca-cert-hash {digest}" for digest in self.discovery.ca_hashes)
        return f"kubeadm join {self.discovery.server} --token {self.token.reveal()}{pins}"

    @classmethod
    def parse(cls, text: str) -> "JoinCommand":
        """Read back what `reveal` wrote. Raises `NotAJoinCommand`."""
        try:
            words = shlex.split(text)
            program, verb, server, *options = words
            pairs = list(zip(options[::2], options[1::2], strict=True))
            tokens = [value for name, value in pairs if name == "--token"]
            pins = [value for name, value in pairs if name == "--discovery-token-ca-cert-hash"]
            if (program, verb) != ("kubeadm", "join") or len(tokens) != 1 or len(pins) + 1 != len(pairs):
                raise NotAJoinCommand("it is not a kubeadm join of ours")
            return cls(Token.parse(tokens[0]), Discovery(server, tuple(pins)))
        except NotAToken as error:
            raise NotAJoinCommand(str(error)) from None
        except NotAJoinCommand:
            raise
        except ValueError:
            raise NotAJoinCommand("it is not a kubeadm join of ours") from None


def host_and_port(url: str) -> str:
    """Return HOST:PORT of an API server's URL; 443 when it names no port, as kubectl does.

    Raises `ValueError` for what `kubeadm join` cannot use: another scheme than https, or a path.

    >>> host_and_port("https://10.0.0.1:6443/")
    '10.0.0.1:6443'
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"the API server's address {url!r} is not https://HOST:PORT")
    if parts.path.strip("/") or parts.query:
        raise ValueError(f"the API server's address {url!r} has a path, which kubeadm join cannot use")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    server = f"{host}:{parts.port or 443}"
    if not SERVER.fullmatch(server):
        raise ValueError(f"the API server's address {url!r} is not https://HOST:PORT")
    return server
