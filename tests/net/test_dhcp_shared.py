"""Several `pxeboot serve` that share a pool, each with its controller, against a real API server."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from pxeboot.cli.asking import ask
from tests.support.control_plane import ControlPlane
from tests.support.restorable_plane import RestorablePlane
from tests.support.segment import Host, Segment

pytestmark = pytest.mark.net

FIRST, LAST = 100, 219
"""The pool: 10.77.0.100 to 10.77.0.219."""
RETRY_S = 4.0
LEASE_S = 60
"""So that who asks again a quarter of a minute later gets another lease, and not the one he has."""
LONG_S = 900
"""For who is to have the same lease to the end of a test, however long that takes."""
PYTHON = sys.executable


@dataclass
class Replica:
    """One machine with a server and its controller."""

    host: Host
    address: str
    folder: Path
    kubeconfig: Path
    lease_s: int = LEASE_S

    def __post_init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.folder.mkdir()
        self.farm = self.folder / "farm.yaml"
        farm = {
            "server": {
                "interfaces": [self.host.interface],
                "state": str(self.folder / "state"),
                "control": str(self.folder / "control.sock"),
                "controller": str(self.folder / "controller.sock"),
            },
            "dhcp": {
                "probe": False,
                "shared": "prod",
                "lease_s": self.lease_s,
                "subnets": [{"subnet": "10.77.0.0/24", "pool": f"10.77.0.{FIRST}-10.77.0.{LAST}"}],
            },
            "clusters": {"prod": {"kubeconfig": str(self.kubeconfig), "tokens": "boot"}},
        }
        self.farm.write_text(json.dumps(farm))

    def start(self) -> None:
        """Start both, and wait until they share leases."""
        self.begin("controller")
        self.begin("serve")
        self.wait(lambda shared: shared["trouble"] is None, 180)

    def begin(self, name: str) -> None:
        """Start `pxeboot NAME`."""
        argv = (PYTHON, "-m", "pxeboot", name, "-c", str(self.farm))
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = self.host.popen(*argv, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def status(self) -> dict[str, Any]:
        """What the server says of DHCP; nothing if it does not answer."""
        with suppress(OSError, HTTPException):
            return ask(self.folder / "control.sock", "/v1/dhcp")[1]
        return {}

    def wait(self, until: Any, within_s: float) -> None:
        """Wait until what is said of shared leases is so."""
        deadline = time.monotonic() + within_s
        shared: Any = None
        while time.monotonic() < deadline:
            shared = self.status().get("shared")
            if shared is not None and until(shared):
                return
            time.sleep(0.2)
        logs = "\n".join((self.folder / f"{name}.log").read_text()[-2000:] for name in self.processes)
        raise AssertionError(f"{shared}\n{logs}")


class Crowd:
    """Clients in a process of their own."""

    def __init__(self, host: Host) -> None:
        addresses = "\n".join(f"address add 10.77.0.{n}/32 dev {host.interface}" for n in range(FIRST, LAST + 1))
        host.run("ip", "-batch", "-", text_in=addresses)
        argv = (PYTHON, "-m", "tests.support.broadcasting_clients", host.interface)
        self._process = host.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._read() == "ready"

    def begin(self, what: str, first: int, count: int, within_s: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, first, count, within_s]) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        return dict(self._read())

    def do(self, what: str, first: int, count: int, within_s: float) -> dict[str, Any]:
        self.begin(what, first, count, within_s)
        return self.end()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def wire() -> Iterator[Segment]:
    with Segment("10.77.0.1/24", "10.77.0.250/24") as segment:
        yield segment


@pytest.fixture(scope="module")
def plane(wire: Segment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestorablePlane]:
    host = wire.host(address="10.77.0.5/24")
    with RestorablePlane(tmp_path_factory.mktemp("plane"), host) as plane:
        yield plane


@pytest.fixture
def replicas(
    request: pytest.FixtureRequest, wire: Segment, plane: ControlPlane, tmp_path: Path
) -> Iterator[tuple[Replica, Replica]]:
    lease_s = getattr(request, "param", LEASE_S)
    kubeconfig = plane.controller_kubeconfig()
    second = wire.host(address="10.77.0.2/24", interface="eth1")
    both = (
        Replica(wire.server, "10.77.0.1", tmp_path / "a", kubeconfig, lease_s),
        Replica(second, "10.77.0.2", tmp_path / "b", kubeconfig, lease_s),
    )
    try:
        for replica in both:
            replica.start()
        yield both
    finally:
        wire.server.stop()
        second.stop()
        leases = "/apis/coordination.k8s.io/v1/namespaces/pxeboot/leases"
        plane.kubectl("delete", "--raw", f"{leases}?labelSelector=app.kubernetes.io%2Fcomponent%3Ddhcp")


@pytest.fixture
def crowd(wire: Segment) -> Iterator[Crowd]:
    yield Crowd(wire.client)
    wire.client.stop()
    wire.client.run("ip", "address", "flush", "dev", "eth0")
    wire.client.run("ip", "address", "add", "10.77.0.250/24", "brd", "+", "dev", "eth0")


def holders(plane: ControlPlane) -> dict[str, str]:
    """Who has which address, as the API tells it."""
    said = json.loads(
        plane.kubectl("-n", "pxeboot", "get", "leases", "-l", "app.kubernetes.io/component=dhcp", "-o", "json")
    )
    return {
        item["metadata"]["name"].removeprefix("dhcp-").replace("-", "."): item["spec"]["holderIdentity"]
        for item in said["items"]
    }


def mac(number: int) -> str:
    return (b"\x02\x20" + number.to_bytes(4, "big")).hex(":")


@pytest.mark.parametrize("replicas", [LONG_S], indirect=True, ids=[""])
def test_a_server_that_is_killed_at_any_moment_leaves_nobody_waiting_and_no_address_twice(
    replicas: tuple[Replica, Replica], crowd: Crowd, plane: ControlPlane
) -> None:
    told: list[Any] = []
    for round_, (which, what, after_s) in enumerate(((0, "serve", 0.05), (1, "controller", 0.1), (1, "serve", 0.2))):
        crowd.begin("ask", 1 + 25 * round_, 25, 120)
        time.sleep(after_s)
        replicas[which].kill(what)
        said = crowd.end()["told"]
        assert len(said) == 25
        # Two REQUESTs to a server that is gone, then anew: 13 s; this machine may stand still for as long.
        assert max(took for *_, took in said) < 6 * RETRY_S + 2
        told += said
        replicas[which].begin(what)
        replicas[which].wait(lambda shared: shared["trouble"] is None, 180)
    addresses = [address for _, address, *_ in told]
    assert len(set(addresses)) == 75
    kept = holders(plane)
    assert all(kept[address] == mac(number) for number, address, *_ in told)
    again = crowd.do("rebind", 1, 75, 90)
    assert [row[:2] for row in again["told"]] == [row[:2] for row in told]
    assert not again["naks"]


def test_while_the_api_is_away_who_has_a_lease_keeps_it_and_others_are_served_soon_after(
    replicas: tuple[Replica, Replica], crowd: Crowd, plane: ControlPlane
) -> None:
    known = crowd.do("ask", 1001, 30, 90)["told"]
    assert len(known) == 30
    plane.kill_api()
    for replica in replicas:
        replica.wait(lambda shared: shared["trouble"] is not None, 120)
    assert not crowd.do("ask", 2001, 5, 6)["told"]
    assert replicas[0].status()["not_answered"]["AWAY"] > 0
    time.sleep(LEASE_S / 4 - 4)
    renewed = crowd.do("rebind", 1001, 30, 90)
    assert [row[:2] for row in renewed["told"]] == [row[:2] for row in known]
    assert max(expires for _, _, expires, *_ in renewed["told"]) > max(expires for _, _, expires, *_ in known) + 10
    assert sum(replica.status()["shared"]["not_written_up"] for replica in replicas) >= 30
    crowd.begin("ask", 2001, 5, 300)
    plane.start_api()
    back = time.monotonic()
    told = crowd.end()["told"]
    assert len(told) == 5
    assert time.monotonic() - back < 60 + RETRY_S
    for replica in replicas:
        replica.wait(lambda shared: shared["trouble"] is None and not shared["not_written_up"], 180)
    kept = holders(plane)
    for number, address, *_ in (*known, *told):
        assert kept[address] == mac(number)


def test_an_api_that_has_stopped_without_a_word_costs_a_client_one_repetition(
    replicas: tuple[Replica, Replica], crowd: Crowd, plane: ControlPlane
) -> None:
    known = crowd.do("ask", 3001, 20, 90)["told"]
    assert len(known) == 20
    time.sleep(LEASE_S / 4 + 1)
    plane.freeze("kube-apiserver")
    try:
        renewed = crowd.do("rebind", 3001, 20, 90)["told"]
        assert [row[:2] for row in renewed] == [row[:2] for row in known]
        sent = sorted(sent for *_, sent, _ in renewed)
        assert sent[len(sent) // 2] <= 2
        assert sent[-1] <= 4, "this machine may stand still, too"
    finally:
        plane.thaw("kube-apiserver")
    for replica in replicas:
        replica.wait(lambda shared: shared["trouble"] is None and not shared["not_written_up"], 180)
    assert crowd.do("ask", 3101, 1, 90)["told"]


@pytest.mark.parametrize("replicas", [LONG_S], indirect=True, ids=[""])
def test_a_backup_of_etcd_that_is_restored_costs_nobody_his_address_and_gives_none_twice(
    replicas: tuple[Replica, Replica], crowd: Crowd, plane: RestorablePlane
) -> None:
    """What was given after the backup was made is in no object any more; the servers have it, and write it up."""
    before = crowd.do("ask", 4001, 15, 90)["told"]
    backup = plane.back_up()
    after = crowd.do("ask", 4101, 15, 90)["told"]
    assert len(before) == len(after) == 15
    crowd.begin("ask", 4201, 10, 300)
    plane.restore(backup)
    meanwhile = crowd.end()["told"]
    assert len(meanwhile) == 10
    told = [*before, *after, *meanwhile]
    assert len({address for _, address, *_ in told}) == 40
    for replica in replicas:
        replica.wait(lambda shared: shared["trouble"] is None and not shared["not_written_up"], 180)
    deadline = time.monotonic() + 120
    wanted = {address: mac(number) for number, address, *_ in told}
    while not wanted.items() <= (kept := holders(plane)).items():
        assert time.monotonic() < deadline, f"not written up: {wanted.items() - kept.items()}"
        time.sleep(0.5)
    again = crowd.do("rebind", 4101, 15, 90)
    assert [row[:2] for row in again["told"]] == [row[:2] for row in after]
    assert not again["naks"]
    new = crowd.do("ask", 4301, 10, 90)["told"]
    assert len(new) == 10
    assert not {address for _, address, *_ in new} & wanted.keys()
    assert all(replica.status()["shared"]["conflicts"] == 0 for replica in replicas)


def test_a_server_whose_disk_is_full_leaves_nobody_waiting_while_the_api_answers(
    replicas: tuple[Replica, Replica], crowd: Crowd, plane: ControlPlane
) -> None:
    """The API has the lease; what it says no server needs to have on a disk."""
    pid = replicas[0].processes["serve"].pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))  # as ENOSPC, each write fails, with EFBIG
    replicas[1].kill("serve")
    told = crowd.do("ask", 5001, 20, 120)["told"]
    assert len(told) == 20
    assert max(took for *_, took in told) < 2 * RETRY_S + 2
    assert "File too large" in replicas[0].status()["cannot_store"]
    kept = holders(plane)
    assert all(kept[address] == mac(number) for number, address, *_ in told)
