"""The self-test of `pxeboot serve`, and `pxeboot check --here`, on a host where something is in the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.dnsmasq import Dnsmasq
from tests.support.segment import Host, Segment, requires
from tests.support.served import Daemon, Prepared, make_grub, serve, status, status_json

pytestmark = pytest.mark.net

RULES = """table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname lo accept
        tcp dport { 22, 80 } accept
        udp dport 67 accept
    }
}
"""


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment() as segment:
        yield segment


@pytest.fixture
def prepared(grub: Path, tmp_path: Path) -> Prepared:
    return Prepared(tmp_path / "farm", grub)


POWERLESS = ("setpriv", "--bounding-set=-all", "--")
"""Root that may no more than others: see the descriptors of no process that may more, bind no port below 1024."""


def here(host: Host, prepared: Prepared, before: Sequence[str] = ()) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit status of `pxeboot check --here`, and its findings by what they are about."""
    done = host.run(
        *(*before, sys.executable, "-m", "pxeboot", "check", "--here", "--json", str(prepared.configuration)),
        check=False,
    )
    assert not done.stderr
    return done.returncode, {one["about"]: one for one in json.loads(done.stdout)["findings"]}


def until(said: Callable[[], Any], *, within_s: float = 90.0) -> Any:
    """Return the first thing that is true."""
    deadline = time.monotonic() + within_s
    while not (value := said()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


@requires("dnsmasq", "nginx", "grub-mknetdir")
def test_who_has_our_ports_is_named_before_the_start_and_by_it(
    segment: Segment, prepared: Prepared, tmp_path: Path
) -> None:
    code, found = here(segment.server, prepared)
    assert code == 0, found
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; user root; worker_processes 1;\nevents {{}}\n"
        "http { access_log off; server { listen 80; } }\n"
    )
    with Dnsmasq(segment.server, tmp_path, "--dhcp-range=10.77.0.50,10.77.0.60,1h") as dnsmasq:
        nginx = segment.server.popen("nginx", "-c", str(tmp_path / "nginx.conf"), stderr=subprocess.DEVNULL)
        until(lambda: ":80 " in segment.server.run("ss", "-ltn").stdout)
        code, found = here(segment.server, prepared)
        said = serve(segment.server, "-c", str(prepared.configuration))
        assert dnsmasq.namespace == segment.server.namespace
        assert code == 1
        assert found["UDP port 67"]["level"] == "error"
        assert "UDP port 67, which DHCP needs, is taken by dnsmasq (pid " in found["UDP port 67"]["what"]
        assert "TCP port 80, which HTTP needs, is taken by nginx (pid " in found["TCP port 80"]["what"]
        nginx.terminate()
        nginx.wait(timeout=90)
    assert said.returncode == 1
    last = said.stderr.splitlines()[-1]
    assert last.startswith("pxeboot serve: cannot serve DHCP: UDP port 67 on eth1: ")
    assert "is taken by dnsmasq (pid " in last
    assert "is taken by nginx (pid " in last


@requires("nft", "setpriv", "grub-mknetdir")
def test_what_is_wrong_here_is_in_the_log_and_in_the_status_and_goes_when_it_is_right(
    segment: Segment, prepared: Prepared
) -> None:
    segment.server.run("nft", "-f", "-", text_in=RULES)
    image = prepared.image.folder
    (image / "initrd.img").unlink()
    daemon = Daemon(segment.server, prepared.folder, "-c", str(prepared.configuration))
    try:
        log = until(lambda: all(said in daemon.log for said in ("firewall", "initrd.img missing")) and daemon.log)
        (line,) = (line for line in log.splitlines() if "firewall" in line)
        assert line.startswith(
            "ERROR this host's firewall (policy drop of chain inet filter input) drops what machines"
        )
        assert "UDP port 69 (TFTP), TCP port 10809 (NBD) on eth1" in line
        assert "UDP port 67" not in line
        assert "machines of image node will not boot" in log
        assert "initrd.img missing" in log
        findings = {one["about"]: one for one in status_json(prepared.control)["findings"]}
        assert findings["firewall on eth1"]["level"] == "error"
        rule = findings["firewall on eth1"]["remedy"].partition("`")[2].rstrip("`")
        shown = status(prepared.control).stdout
        assert shown.index("this host's firewall") < shown.index("no machine has booted yet")
        segment.server.run("nft", rule.removeprefix("nft "))
        code, found = here(segment.server, prepared)
        assert "firewall on eth1" not in found, "what it says to do is what it takes"
        assert found["UDP port 67"]["what"].endswith(f"is served by a pxeboot that runs (pid {daemon.process.pid})")
        assert (code, found["image node"]["level"]) == (1, "error")
        code, found = here(segment.server, prepared, POWERLESS)
        assert found["UDP port 67"]["what"].endswith(f"is served by a pxeboot that runs (pid {daemon.process.pid})")
        assert [about for about, one in found.items() if one["level"] == "error"] == ["image node"]
        assert found["without root"]["remedy"] == "sudo pxeboot check --here FILE"
        assert log.count("firewall") == daemon.log.count("firewall"), "it is told once"
    finally:
        daemon.stop()


@requires("nft", "setpriv", "grub-mknetdir")
def test_who_may_not_list_the_rules_starts_all_the_same(segment: Segment, prepared: Prepared) -> None:
    drop = ("setpriv", "--bounding-set=-net_admin", "--")
    daemon = Daemon(segment.server, prepared.folder, "-c", str(prepared.configuration), before=drop)
    try:
        told = until(lambda: [one for one in status_json(prepared.control)["findings"] if one["about"] == "firewall"])
        assert [one["level"] for one in told] == ["note"]
        assert "firewall" not in daemon.log
    finally:
        daemon.stop()


@requires("grub-mknetdir")
def test_a_person_reads_what_to_do_at_80_columns(segment: Segment, prepared: Prepared) -> None:
    segment.server.run("ip", "link", "set", "eth1", "down")
    done = segment.server.run(
        *(sys.executable, "-m", "pxeboot", "check", "--here", str(prepared.configuration)),
        check=False,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )
    assert done.returncode == 1
    assert "error    eth1 is down" in [line.rstrip() for line in done.stdout.splitlines()]
    assert "→ ip link set eth1 up" in done.stdout
    assert "Machines would not boot from this host." in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80
