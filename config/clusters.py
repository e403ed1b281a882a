"""Settings of the Kubernetes clusters that machines join. `config.model` hands these classes on."""

from ipaddress import IPv4Address
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from config.setting import Setting

_FILLED_IN = ("token", "name", "ip", "labels", "taints")
"""What stands in the braces of a `command`."""
_CONTROLLERS = (
    "kubeconfig",
    "tokens",
    "push",
    "token_ttl_s",
    "boot_token_ttl_s",
    "api_server",
    "api_address",
    "section",
)
"""Settings that say nothing where a `command` of one's own does."""
_NAME = "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"

HostAndPort = Annotated[str, Field(pattern="^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?:[0-9]{1,5}$")]


class Push(Setting):
    """The object of the cluster that the controller writes an lts.conf to, by server-side apply."""

    kind: Literal["ConfigMap", "Secret"] = "Secret"
    """Secret, unless whoever may read ConfigMaps there may join the cluster too."""
    namespace: Annotated[str, Field(pattern=_NAME)] = "pxeboot"
    """Its namespace."""
    name: Annotated[str, Field(pattern=_NAME)]
    """Its name."""
    key: Annotated[str, Field(pattern="^[-._a-zA-Z0-9]+$")] = "lts.conf"
    """The key of it that holds the text. Everything else in the object is left alone."""


class Cluster(Setting):
    """A cluster that machines join: with a token for each boot, one that they share, or a command of one's own."""

    kubeconfig: Path | None = None
    """Credentials for the controller; left out: the service account of the pod it runs in."""
    tokens: Literal["boot", "shared"] | None = None
    """boot: each boot of a machine gets a token of its own, good for that machine, once, for minutes; the controller
    runs beside the daemon. shared: one for all, written into an lts.conf. Left out: shared if there is an `lts_conf`
    or a `push` to write it to."""
    lts_conf: Path | None = None
    """The lts.conf that every machine of this cluster reads, and that the controller writes a shared token's join
    command to."""
    push: Push | None = None
    """An object of the cluster whose lts.conf the controllers keep; each copies it to its `lts_conf`."""
    namespace: Annotated[str, Field(pattern=_NAME)] = "pxeboot"
    """Where the controllers keep what is theirs: who of them leads, and leases that servers share."""
    section: str = "Default"
    """The section of the lts.conf that the join command is written to."""
    join_key: Annotated[str, Field(pattern="^RCFILE_[A-Z0-9_]+$")] = "RCFILE_07_JOIN_K8S"
    """The key that the join command is written to."""
    token_ttl_s: Annotated[int, Field(ge=120, le=86400)] = 900
    """How long a shared bootstrap token lives, in seconds; it is renewed at half of that."""
    boot_token_ttl_s: Annotated[int, Field(ge=60, le=3600)] = 600
    """How long the token of one boot lives, in seconds, unless its Node is Ready before."""
    api_server: HostAndPort | None = None
    """HOST:PORT that machines join at; taken from the cluster-info ConfigMap unless given."""
    api_address: IPv4Address | None = None
    """The address of that HOST, where it is a name that machines cannot look up: they get it in /etc/hosts."""
    command: str | None = None
    """A join command of one's own in place of kubeadm's, for k3s and others; no controller is asked. In it, {token} is
    the content of `token_file`, {name} the machine, {ip} its address, {labels} and {taints} as the kubelet takes
    them; a brace is written {{ or }}."""
    token_file: Path | None = None
    """A file with the secret that `command` needs. Each boot of a machine may fetch the command once."""

    @field_validator("api_server")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        if value is not None and not 1 <= int(value.rpartition(":")[2]) <= 65535:
            raise ValueError("has no port from 1 to 65535, such as 10.28.0.10:6443")
        return value

    @field_validator("section")
    @classmethod
    def _is_a_section(cls, value: str) -> str:
        if not value.strip() or set(value) & set("[]\r\n"):
            raise ValueError("is not the name of a section of an lts.conf, such as Default")
        return value

    @property
    def per_boot(self) -> bool:
        """Whether each boot of a machine fetches a join command of its own."""
        return self.command is not None or self._tokens == "boot"

    @property
    def minted(self) -> Literal["boot", "shared"] | None:
        """Which kind of tokens the controller makes for this cluster; None: it has nothing to do with it."""
        return None if self.command is not None else self._tokens

    @property
    def _tokens(self) -> Literal["boot", "shared"]:
        return self.tokens or ("shared" if self.lts_conf is not None or self.push is not None else "boot")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.push is not None and self.lts_conf is None:
            raise ValueError("has `push` and no `lts_conf`; give the file that `push` is copied to for the daemon")
        if self.tokens == "shared" and self.lts_conf is None:
            raise ValueError("has `tokens: shared` and no `lts_conf` to write the join command to")
        if self.push is not None and self.tokens == "boot":
            raise ValueError("has `push`, for a shared token, and `tokens: boot`; give one of them")
        if self.command is None and self.token_file is not None:
            raise ValueError("has `token_file` and no `command` that needs it")
        if self.command is not None:
            self._check_command(self.command)
        return self

    def _check_command(self, command: str) -> None:
        """Raise `ValueError` without a word of the command, which may hold a secret."""
        given = {name for name, value in self if value is not None} & self.model_fields_set
        for name in _CONTROLLERS:
            if name in given:
                raise ValueError(f"has a `command` of its own, and `{name}`, which is for the controller; give one")
        if not command.strip() or "\0" in command:
            raise ValueError("has an empty `command`; leave it out, and machines join with kubeadm")
        try:
            parts = list(Formatter().parse(command))
        except ValueError:
            parts = [("", "", "", "")]
        named = [name for _, name, _, _ in parts if name is not None]
        if not set(named) <= set(_FILLED_IN) or any(spec or conversion for _, _, spec, conversion in parts):
            allowed = ", ".join(f"{{{name}}}" for name in _FILLED_IN)
            raise ValueError(f"has a `command` with braces that are none of {allowed}; write {{{{ for {{")
        if "token" in named and self.token_file is None:
            raise ValueError("has a `command` with {token}, and no `token_file` to take it from")
        if "token" not in named and self.token_file is not None:
            raise ValueError("has a `token_file`, and no {token} in its `command`")
