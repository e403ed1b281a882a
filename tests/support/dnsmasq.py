"""dnsmasq as a DHCP server on a host: an independent server, or somebody else's beside ours."""

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.segment import Host


class Dnsmasq:
    """A dnsmasq without DNS that serves DHCP on the host's interface; a context manager that ends it."""

    def __init__(self, host: Host, folder: Path, *argv: str) -> None:
        """`argv` are its options, such as `--dhcp-range=...`; its log and leases are in `folder`."""
        self.namespace = host.namespace
        self._host = host
        self._argv = argv
        self._path = folder / f"dnsmasq-{host.namespace}.log"
        self._leases = folder / f"dnsmasq-{host.namespace}.leases"

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._path.read_text(errors="replace")

    def __enter__(self) -> Self:
        quiet = ("--conf-file=/dev/null", "--port=0", "--no-ping", "--log-dhcp", "--log-facility=-", "--user=root")
        where = (f"--dhcp-leasefile={self._leases}", f"--interface={self._host.interface}")
        argv = ("dnsmasq", "-k", *quiet, *where, *self._argv)
        with self._path.open("w") as log:
            self._process = self._host.popen(*argv, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while "DHCP" not in self.log:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dnsmasq does not serve:\n{self.log}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)
