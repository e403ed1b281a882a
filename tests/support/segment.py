"""A network of our own: namespaces joined by a bridge, gone when the test is over.

    server (eth1, 10.77.0.1/24) ──┐
                                  ├── br0, in a namespace of its own ── taps for QEMU
    client (eth0, no address)   ──┘

The bridge has a namespace of its own so that faults go into the middle: a server that reads raw frames would see
them before its own host's firewall. Nothing here touches the host's interfaces, and nothing needs pytest, so that
the demonstration uses the same wires as the tests.

>>> with Segment() as segment:                                      # doctest: +SKIP
...     segment.client.run("busybox", "udhcpc", "-nq", "-i", "eth0")
"""

import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Never, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_PATIENCE_S = 3.0
"""How long a process may take to end after SIGTERM."""

_WITHOUT_IPV6 = 'for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do if [ -e "$f" ]; then echo 1 > "$f"; fi; done'

_serial = itertools.count()


class CommandFailed(subprocess.CalledProcessError):
    """A command of a host ended with a code that is not 0; the text shows what it said."""

    def __str__(self) -> str:
        said = "".join(part for part in (self.stdout, self.stderr) if part)
        return f"{super().__str__()}\n{said}"


class Host:
    """One machine on the segment: a network namespace with one interface.

    `mac` is that interface's MAC, as six lower-case hex pairs with colons.
    """

    def __init__(self, namespace: str, interface: str) -> None:
        self.namespace = namespace
        self.interface = interface
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def mac(self) -> str:
        """The MAC of `interface`, read each time, because a test may change it."""
        links = json.loads(self.run("ip", "-json", "link", "show", "dev", self.interface).stdout)
        return str(links[0]["address"])

    def argv(self, *argv: str) -> list[str]:
        """Return `argv` so that it runs in here; the process is the program itself, not a wrapper."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(
        self,
        *argv: str,
        timeout: float = 90,
        check: bool = True,
        text_in: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return its code, output and errors as text.

        Raises `CommandFailed` if `check` and the code is not 0, `subprocess.TimeoutExpired` after `timeout`
        seconds (the command is then killed).
        """
        done = subprocess.run(
            self.argv(*argv),
            input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            check=False,
        )
        if check and done.returncode:
            raise CommandFailed(done.returncode, argv, done.stdout, done.stderr)
        return done

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command; it is ended with the segment if it has not ended before.

        `options` go to `subprocess.Popen`. Standard input is empty unless given; pipes carry text.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(self.argv(*argv), text=True, errors="replace", **options)
        self.processes.append(process)
        return process

    def pids(self) -> list[int]:
        """The processes that run in here, those that a command of ours left behind included."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False
        ).stdout
        return [int(pid) for pid in listed.split() if int(pid) != os.getpid()]

    def stop(self) -> None:
        """End every process in here: SIGTERM, then after a few seconds SIGKILL. Each is reaped."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + _PATIENCE_S
            while self._alive() and time.monotonic() < deadline:
                time.sleep(0.02)
        for process in self.processes:
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        self.processes.clear()

    def _alive(self) -> bool:
        for process in self.processes:
            process.poll()
        return bool(self.pids())


class Segment:
    """Hosts on one Ethernet segment. A context manager: everything is made on entry and removed on exit.

    `server` has `eth1` with `server_address`; `client` has `eth0`, without an address unless `client_address` is
    given (both as ADDRESS/LENGTH). `bridge` is the middle: QEMU runs there, on a `tap`. IPv6 is off everywhere, so
    that the wire is quiet. Needs root and the programs `ip` (and `nft` for losses).
    """

    server: Host
    client: Host
    bridge: Host

    def __init__(self, server_address: str = "10.77.0.1/24", client_address: str | None = None) -> None:
        number = next(_serial)  # several segments of one process: px123s, px123-1s, ...
        self._prefix = f"px{os.getpid()}-{number}" if number else f"px{os.getpid()}"
        self._server_address = server_address
        self._client_address = client_address
        self._undo = ExitStack()
        self._letters: Iterator[str] = iter("hijklmnopqrtuvwxyz")

    def __enter__(self) -> Self:
        try:
            self.bridge = self._namespace("b", "br0")
            # Snooping off: the bridge would otherwise ask for groups, and a firmware's multicast might be lost.
            _ip(
                *("-n", self.bridge.namespace, "link", "add", "br0", "type", "bridge"),
                *("stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"),
            )
            _ip("-n", self.bridge.namespace, "link", "set", "br0", "up")
            self.server = self._attach("s", "eth1", self._server_address, None)
            self.client = self._attach("c", "eth0", self._client_address, None)
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def host(self, *, address: str | None = None, mac: str | None = None, interface: str = "eth0") -> Host:
        """Add one more machine to the segment."""
        return self._attach(next(self._letters), interface, address, mac)

    def tap(self, name: str = "tap0") -> str:
        """Add a tap to the bridge and return its name. Run QEMU with `segment.bridge.popen`, `script=no`."""
        inside = ("-n", self.bridge.namespace)
        _ip(*inside, "tuntap", "add", "dev", name, "mode", "tap")
        _ip(*inside, "link", "set", "dev", name, "master", "br0", "up")
        return name

    def lose(self, percent: int, *ports: int, protocol: str = "udp", every: int | None = None) -> None:
        """Drop that share of the packets that cross the bridge; replaces what an earlier call said.

        Without `ports` every packet of `protocol` ("udp" or "tcp") counts, otherwise those from or to one of them.
        With `every`, exactly each `every`-th packet is dropped in place of a random share, so that a test repeats.
        0 per cent ends all loss.
        """
        self.bridge.run("nft", "-f", "-", text_in="table bridge loss {}\ndelete table bridge loss\n")
        if not percent and every is None:
            return
        which = f"numgen random mod 100 < {percent}" if percent < 100 else ""
        if every is not None:
            which = f"numgen inc mod {every} == 0"
        rules = [f"meta l4proto {protocol} {which} counter drop"]
        if ports:  # each packet meets one of the two rules, so that it is tossed for once
            listed = "{ " + ", ".join(map(str, ports)) + " }"
            rules = [
                f"{protocol} dport {listed} {which} counter drop",
                f"{protocol} dport != {listed} {protocol} sport {listed} {which} counter drop",
            ]
        lines = ["table bridge loss {", "chain middle {", "type filter hook forward priority 0; policy accept;"]
        self.bridge.run("nft", "-f", "-", text_in="\n".join([*lines, *rules, "}", "}", ""]))

    def lost(self) -> int:
        """How many packets `lose` has dropped since it was last called."""
        listed = self.bridge.run("nft", "-j", "list", "table", "bridge", "loss", check=False)
        if listed.returncode:
            return 0
        statements = (
            part
            for item in json.loads(listed.stdout)["nftables"]
            for part in item.get("rule", {}).get("expr", ())
            if "counter" in part
        )
        return sum(int(part["counter"]["packets"]) for part in statements)

    def _namespace(self, letter: str, interface: str) -> Host:
        host = Host(self._prefix + letter, interface)
        _ip("netns", "add", host.namespace)
        self._undo.callback(_ip, "netns", "delete", host.namespace)
        self._undo.callback(host.stop)
        host.run("sh", "-c", _WITHOUT_IPV6)
        _ip("-n", host.namespace, "link", "set", "lo", "up")
        return host

    def _attach(self, letter: str, interface: str, address: str | None, mac: str | None) -> Host:
        host = self._namespace(letter, interface)
        port = f"port-{letter}"
        _ip(
            *("-n", self.bridge.namespace, "link", "add", port, "type", "veth"),
            *("peer", "name", interface, "netns", host.namespace),
        )
        _ip("-n", self.bridge.namespace, "link", "set", "dev", port, "master", "br0", "up")
        if mac is not None:
            _ip("-n", host.namespace, "link", "set", "dev", interface, "address", mac)
        _ip("-n", host.namespace, "link", "set", "dev", interface, "up")
        if address is not None:
            _ip("-n", host.namespace, "address", "add", address, "brd", "+", "dev", interface)
        return host


def requires(*programs: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a test that needs `programs`: absent, it is skipped at a desk and fails in CI.

    CI is wherever the environment says CI, so that coverage cannot vanish there unseen.
    """
    absent = [program for program in programs if shutil.which(program) is None]

    def decorate(test: Callable[P, R]) -> Callable[P, R]:
        if not absent:
            return test

        @functools.wraps(test)
        def instead(*args: P.args, **kwargs: P.kwargs) -> R:
            lacking(f"needs {', '.join(absent)}")

        return instead

    return decorate


def lacking(what: str) -> Never:
    """Skip the running test at a desk, fail it in CI, because the machine lacks something."""
    import pytest

    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def _ip(*argv: str) -> None:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(done.returncode, ["ip", *argv], done.stdout, done.stderr)
