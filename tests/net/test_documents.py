"""What the documents have a reader type is typed here, in the order of the page, and works.

Each page has a server of its own: a namespace with eth1, and folders below /etc, /srv, /var and /run that are nobody
else's. What would change the whole host is done by the test that stands in front of its block.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from tests.support.dhcp_clients import recorded
from tests.support.dnsmasq import Dnsmasq
from tests.support.document import Step, steps
from tests.support.fake_image import add_image
from tests.support.segment import Segment, requires
from tests.support.served import get_lease, make_grub

pytestmark = pytest.mark.net

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted((ROOT / "README.md", *ROOT.glob("docs/**/*.md")))
PAGES = [page for page in DOCUMENTS if any(step.verb == "run" for step in steps(page))]
OWN = (
    *("/etc/pxeboot", "/srv", "/var/lib/pxeboot", "/run/pxeboot", "/run/pxeboot-controller"),
    *("/var/lib/misc", "/var/lib/dhcp", "/var/lib/kea", "/etc/dnsmasq.d"),
)
"""The folders that are a page's own."""
LEASES = {
    "/var/lib/misc/dnsmasq.leases": "dnsmasq.leases",
    "/var/lib/dhcp/dhcpd.leases": "dhcpd.leases",
    "/var/lib/kea/kea-leases4.csv": "kea-leases4.csv",
}

FARM = """\
server: {interfaces: [eth1]}
dhcp:
  subnets:
    - {subnet: 10.28.0.0/16, routers: [10.28.0.1], pool: 10.28.72.10-10.28.72.250, unknown: workers}
images:
  node: {path: /srv/pxeboot/images/node}
  node-next: {path: /srv/pxeboot/images/node-next}
pools:
  - name: workers
    image: node
    root: nbd
    nodes:
      - {name: m1c29, macs: ["94:57:a5:d3:ec:f2"], ip: 10.28.36.173}
"""


def leave(folder: Path) -> None:
    """Remove a folder that nobody else uses by now."""
    with suppress(OSError):
        folder.rmdir()


class Server:
    """A reader's server, and another machine of its network."""

    def __init__(self, folder: Path, grub: Path, address: str) -> None:
        """Make its folders in `folder`; its state folder has GRUB's images already."""
        self.folder = folder
        self._undo = ExitStack()
        self._grub = grub
        self._address = address
        self._served: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        for path in OWN:
            (self.folder / path.strip("/")).mkdir(parents=True)
            if not Path(path).exists():  # something has to be there to be hidden
                Path(path).mkdir(parents=True, exist_ok=True)
                self._undo.callback(leave, Path(path))
        self.segment = self._undo.enter_context(Segment(server_address=self._address))
        shutil.copytree(self._grub, self.folder / "var/lib/pxeboot/boot")
        for image in ("node", "node-next"):
            add_image(self.folder / "srv/pxeboot/images", name=image)
        for path, name in LEASES.items():
            shutil.copy(ROOT / "tests/data/leases" / name, self.folder / path.strip("/"))
        (self.folder / "bin").mkdir()
        (self.folder / "bin/pxeboot").symlink_to(ROOT / ".venv/bin/pxeboot")
        mounts = [f"mount --bind {self.folder}{path} {path}" for path in OWN]
        script = " && ".join((*mounts, f"touch {self.folder}/mounted", "exec sleep infinity"))
        self._holder = self.segment.server.popen("unshare", "-m", "--propagation", "private", "sh", "-c", script)
        deadline = time.monotonic() + 90
        while not (self.folder / "mounted").exists():
            assert time.monotonic() < deadline, "its folders are not there"
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._served:
            process.terminate()
            process.wait(timeout=90)
        self._undo.close()

    def _argv(self, line: str) -> list[str]:
        inside = (f"--target={self._holder.pid}", "--mount", "--net", f"--wd={self.folder}")
        return ["nsenter", *inside, "sh", "-c", line]

    @property
    def _env(self) -> dict[str, str]:
        return {
            **os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "COLUMNS": "120", "NO_COLOR": "1",
        }  # fmt: skip

    def enter(self, what: AbstractContextManager[object]) -> None:
        """Have `what` go on until the page's end."""
        self._undo.enter_context(what)

    def write(self, path: str, text: str) -> None:
        """Write a file, whole."""
        inside = self.folder / path.strip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        new = inside.with_name(f".{inside.name}.new")
        new.write_text(text)
        new.rename(inside)

    def run(self, line: str, *, elsewhere: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end, here or on the other machine."""
        argv = self.segment.client.argv("sh", "-c", line) if elsewhere else self._argv(line)
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=300, env=self._env, cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, line: str) -> None:
        """Start a server, and wait until it says that it is ready."""
        log = self.folder / f"log{len(self._served)}"
        with log.open("w") as out:
            process = subprocess.Popen(
                self._argv(f"exec {line}"), stdout=out, stderr=out, text=True, env=self._env, cwd=self.folder,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._served.append(process)
        deadline = time.monotonic() + 90
        while "ready in" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def with_a_farm(server: Server) -> None:
    """Let the farm of the reference pages run; m1c29 is up, and is the other machine."""
    server.write("/etc/pxeboot/farm.yaml", FARM)
    server.start("pxeboot serve --config /etc/pxeboot/farm.yaml")
    client = server.segment.client
    client.run("ip", "link", "set", "eth0", "address", "94:57:a5:d3:ec:f2")
    get_lease(client)
    client.run("ip", "address", "replace", "10.28.36.173/16", "dev", "eth0")
    client.run("curl", "-fsS", "-d", "host=m1c29\n", "http://10.28.0.2/report/system")
    udp = IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
    frame = Ether(dst="ff:ff:ff:ff:ff:ff") / udp / Raw(recorded("D-OVMF-PXE").encode())
    wrpcap(str(server.folder / "boot.pcap"), [frame])


def with_an_office_router(server: Server) -> None:
    """Let another server give the addresses."""
    router = server.segment.host(address="10.28.0.254/24")
    server.enter(Dnsmasq(router, server.folder, "--dhcp-range=10.28.0.100,10.28.0.200"))


WORLDS: Mapping[str, Callable[[Server], None]] = {
    **dict.fromkeys(("README", "dhcp", "delivery", "nbd", "monitoring", "changes"), with_a_farm),
    "beside-another-dhcp-server": with_an_office_router,
}
"""What there is before a page begins."""


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    return make_grub(tmp_path_factory.mktemp("grub"))


def do(server: Server, step: Step) -> None:
    """Do what a block says."""
    match step.verb, step.what:
        case "file", path:
            server.write(path, step.text)
        case "run", "background":
            (line,) = step.commands
            server.start(line)
        case "run", what:
            for line in step.commands:
                done = server.run(line, elsewhere=what == "on another machine")
                assert done.returncode == (what == "says what is left"), f"{line}\n{done.stdout}{done.stderr}"
                assert "Traceback" not in done.stderr
        case _:
            pass  # another test's, or for people


@requires("dnsmasq", "grub-mknetdir", "curl", "nbdinfo")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_reader_who_types_what_a_page_says_comes_to_its_end(page: Path, grub: Path, tmp_path: Path) -> None:
    world = WORLDS.get(page.stem)
    address = "10.28.0.2/16" if world is with_a_farm else "10.28.0.1/24"
    with Server(tmp_path, grub, address) as server:
        if world is not None:
            world(server)
        for step in steps(page):
            try:
                do(server, step)
            except AssertionError as error:
                raise AssertionError(f"{page.relative_to(ROOT)}:{step.line}: {error}") from error


def test_the_packages_of_the_documents_are_debians() -> None:
    named = set()
    for page in DOCUMENTS:
        for words in re.findall(r"^apt-get install (.*)$", page.read_text(), re.MULTILINE):
            named |= {word for word in words.split() if not word.startswith("-")}
    assert named
    subprocess.run(["apt-cache", "show", "--no-all-versions", *sorted(named)], check=True, capture_output=True)
