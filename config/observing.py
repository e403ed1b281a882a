"""The settings of what shows people the farm: the web page with metrics and health checks, the log, machines' logs."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from config.delivery import Certificate
from config.setting import Setting

_LISTEN = re.compile(r"(?P<host>[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")


def parse_listen(value: str) -> tuple[str, int]:
    """Return the address and the TCP port of `ADDRESS:PORT`. Raises `ValueError` for anything else.

    >>> parse_listen("127.0.0.1:8067"), parse_listen("[::1]:80")
    (('127.0.0.1', 8067), ('::1', 80))
    """
    from ipaddress import ip_address

    match = _LISTEN.fullmatch(value)
    try:
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ValueError
        return str(ip_address(match["host"].strip("[]"))), int(match["port"])
    except ValueError:
        raise ValueError("is no address with a port; write it as 127.0.0.1:8067 or [::1]:8067") from None


def _is_listen(value: str) -> str:
    parse_listen(value)
    return value


Listen = Annotated[str, AfterValidator(_is_listen)]


class Web(Setting):
    """The web page, and beside it metrics (/metrics) and health checks (/healthz, /readyz)."""

    listen: tuple[Listen, ...] = ("127.0.0.1:8067",)
    """Where it is, as ADDRESS:PORT. Whoever reaches that may read; an empty list: there is no page."""
    users: Path | None = None
    """A file with a line `NAME:HASH` for each person who may change what machines boot, as `pxeboot user` makes it.
    Without it the page only shows."""
    read: Literal["anybody", "users"] = "anybody"
    """Who may look at the page: anybody who reaches it, or only who is in `users`. Metrics and health checks hold no
    names of machines, and are always there."""
    names: tuple[str, ...] = ()
    """Names that browsers reach it by, such as boot.example.org; * is any. Its addresses, the name of this host, and
    names that nobody can register, such as localhost or boot.lan, need not be listed; with `tls`, none."""
    tls: Certificate | None = None
    """Serve it by HTTPS. The files are read again when they change."""


class Log(Setting):
    """What the daemon and the controller write to standard error."""

    format: Literal["text", "json"] = "text"
    """text: a line for people. json: an object in each line, with the machine, its address and MAC as fields."""


class MachineLogs(Setting):
    """Receivers for what machines log while they boot. It is shown with their boots, and kept nowhere else."""

    syslog_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The UDP port of a syslog receiver (RFC 5424 and 3164), usually 514; there is none unless given."""
    netconsole_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The UDP port for the kernel's netconsole, usually 6666. Machines are told to use it. There is none unless
    given."""
