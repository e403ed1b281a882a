"""Bare machines become Nodes of real clusters: kubelet, kubeadm and containerd, with a token for each boot.

All tests share two control planes, and most of them one machine; they run in the order in which they stand here.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cpio_reader import unpack
from tests.support.kubernetes_lab import PATIENCE_S, KubernetesLab, is_ready, needs_what_machines_need, pool
from tests.support.lab import SERVER
from tests.support.machine import BOOT_S, Machine
from tests.support.segment import Host, Segment

pytestmark = pytest.mark.boot

NAME, MAC, IP = "m1c29", "52:54:00:12:34:56", "10.77.0.29"
OTHER, OTHER_MAC, OTHER_IP = "m2c01", "52:54:00:12:34:57", "10.77.0.31"
POOLS = (
    pool("workers", "prod", {"name": NAME, "macs": [MAC], "ip": IP}, tags=["gpu", "place"]),
    pool("staging", "test", {"name": OTHER, "macs": [OTHER_MAC], "ip": OTHER_IP}),
)
JOIN_STAGES = ["token", "fetched", "approved", "registered", "ready"]
DUMP = (
    "exec >/dev/ttyS0 2>&1; journalctl -b; cat /run/pxeboot/*.log /run/pxeboot/said; ps axww; echo dumped-$((2 + 2))"
)
TOKEN = re.compile("[a-z0-9]{6}[.][a-z0-9]{16}")


def place(rack: str) -> dict[str, Any]:
    """Return the tag `place`: a label, and at the end a machine that shows all that it said."""
    return {"place": {"labels": {"farm.example/rack": rack}, "lts": {"RCFILE_90_DUMP": DUMP}}}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesLab]:
    needs_what_machines_need()
    with (
        Segment() as segment,
        KubernetesLab(
            segment, tmp_path_factory.mktemp("farm"), POOLS, tags=place("a1"), clusters=("prod", "test")
        ) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def machine(farm: KubernetesLab) -> Machine:
    """The machine whose Node is Ready."""
    made = farm.machine(NAME, MAC)
    made.power_on()
    farm.until_ready(made, NAME)
    return made


def internal_ip(node: dict[str, Any]) -> str:
    return next(str(a["address"]) for a in node["status"]["addresses"] if a["type"] == "InternalIP")


def taints(node: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a Node's taints but for those that Kubernetes itself puts there."""
    found = [(taint["key"], taint.get("value", ""), taint["effect"]) for taint in node["spec"].get("taints", ())]
    return [taint for taint in found if not taint[0].startswith("node.kubernetes.io/")]


def check_story(farm: KubernetesLab, name: str) -> None:
    """The timeline tells each step from the token to Ready, with times in the order in which they happened."""
    steps = {step["stage"]: step for step in farm.lab.steps(name)}
    times = [steps[stage]["first_s"] for stage in ["menu", "system", *JOIN_STAGES]]
    assert times == sorted(times), farm.lab.story(name)
    assert all(steps[stage]["detail"] for stage in JOIN_STAGES), farm.lab.story(name)
    assert "failed" not in steps, farm.lab.story(name)
    assert "refused" not in steps, farm.lab.story(name)


def test_a_bare_machine_becomes_a_ready_node_as_the_configuration_has_it(
    farm: KubernetesLab, machine: Machine
) -> None:
    shown = farm.planes["prod"].kubectl("get", "nodes", "-o", "wide", "-L", "accelerator,farm.example/rack")
    _header, row = shown.splitlines()
    assert row.split()[:2] == [NAME, "Ready"]
    assert row.split()[-2:] == ["nvidia", "a1"], shown
    node = farm.node(NAME)
    assert is_ready(node)
    assert internal_ip(node) == IP
    assert taints(node) == [("gpu", "true", "NoSchedule")]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.20.2"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    check_story(farm, NAME)


def test_no_token_is_left_when_a_machine_is_ready(farm: KubernetesLab, machine: Machine) -> None:
    assert len(farm.tokens) == 1, "it was seen while it was there"
    farm.lab.wait(lambda: not farm.live_tokens(), "the token is deleted")


def test_no_token_is_said_to_anybody(farm: KubernetesLab, machine: Machine) -> None:
    """Not in a log, not in what people are shown, not in what the machine itself says or has in its journal."""
    console = machine.wait_for("dumped-4")
    assert "kubeadm" in console
    assert "Started kubelet.service" in console
    told = {name: farm.lab.log(name) for name in ("serve", "controller")}
    told |= {path.name: path.read_text(errors="replace") for path in (farm.folder / "prod").glob("*.log")}
    told |= {"console": console, "status": json.dumps(farm.lab.machine(NAME)), "report": str(farm.lab.report(NAME))}
    for who, text in told.items():
        for secret in farm.tokens.values():
            assert secret not in text, f"the token is in what {who} says"


def test_a_clone_of_a_running_machine_gets_no_token_and_does_not_disturb_it(
    farm: KubernetesLab, machine: Machine
) -> None:
    before = farm.node(NAME)
    seen = set(farm.tokens)
    # The bridge sends every frame to all, so that neither of the two takes the other's away.
    farm.segment.bridge.run("ip", "link", "set", "br0", "type", "bridge", "ageing_time", "0", "fdb_flush")
    clone = farm.segment.host(mac=MAC)
    for side in (clone, farm.segment.bridge):
        side.run("nft", "-f", "-", text_in=NO_RESETS)
    try:
        statuses, said = join_as(clone, farm.folder)
    finally:
        clone.run("ip", "link", "set", clone.interface, "down")
        farm.segment.bridge.run("nft", "delete", "table", "bridge", "quiet")
        farm.segment.bridge.run("ip", "link", "set", "br0", "type", "bridge", "ageing_time", "30000")
    assert statuses[-1] in (403, 404, 409, 410), (statuses, said)
    assert set(statuses[:-1]) <= {503}, "it is told to wait until the old kubelet is seen to be alive"
    assert not TOKEN.search(said)
    assert set(farm.tokens) == seen, "no token was made"
    assert "another machine lives under its name" in farm.lab.story(NAME), farm.lab.story(NAME)
    after = farm.node(NAME)
    assert is_ready(after)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["nodeInfo"]["bootID"] == before["status"]["nodeInfo"]["bootID"]
    heartbeat = renewed(farm)
    farm.lab.wait(lambda: renewed(farm) != heartbeat, "its kubelet goes on")
    assert is_ready(farm.node(NAME))


def renewed(farm: KubernetesLab) -> str:
    """Return when the kubelet last said that it is alive."""
    lease = ("lease", NAME, "-n", "kube-node-lease", "-o", "jsonpath={.spec.renewTime}")
    return farm.planes["prod"].kubectl("get", *lease)


NO_RESETS = f"""\
table bridge quiet {{
	chain middle {{
		type filter hook forward priority 0
		ether saddr {MAC} tcp flags & rst == rst drop
	}}
}}
table inet quiet {{
	chain out {{
		type filter hook output priority 0
		tcp flags & rst == rst drop
	}}
}}
"""
"""Each of two machines with one address answers what comes for the other with a reset, which would cut it off."""


def join_as(host: Host, folder: Path) -> tuple[list[int], str]:
    """Do what a machine does up to its join command. Return the answers to the last request, and what they said.

    Whatever breaks is begun anew, from the menu on.
    """
    script = folder / "udhcpc"
    script.write_text('#!/bin/sh\n[ "$1" != bound ] || ip address replace "$ip/24" dev "$interface"\n')
    script.chmod(0o755)
    name = f"grub/grub.cfg-01-{host.mac.replace(':', '-')}"
    for _ in range(5):
        host.run(
            "busybox", "udhcpc", "-nq", "-i", host.interface, "-s", str(script), "-V", "PXEClient", timeout=BOOT_S
        )
        status, menu = get(host, folder, name)
        archive_name = re.search(r"images/\S+/node\.cpio", menu.decode(errors="replace"))
        if status != 200 or archive_name is None:
            continue
        status, archive = get(host, folder, archive_name[0])
        if status != 200:
            continue
        environment = unpack(archive)["pxeboot/env"].data.decode()
        join = environment.split("JOIN_ONCE=")[1].split()[0].strip("'")
        statuses, said = [], ""
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            status, body = get(host, folder, join)
            if status:
                statuses.append(status)
                said += body.decode(errors="replace")
            if status not in (0, 503):
                return statuses, said
            time.sleep(3)
    raise TimeoutError("a second machine with this MAC was never answered")


def get(host: Host, folder: Path, name: str) -> tuple[int, bytes]:
    """Return the status and the body of what `host` fetches; 0 if it got no answer."""
    body = folder / "got"
    body.unlink(missing_ok=True)
    done = host.run(
        "curl", "-s", "-m", "12", "-o", str(body), "-w", "%{http_code}", f"http://{SERVER}/{name}", check=False
    )
    if done.returncode:
        return 0, b""
    return int(done.stdout), body.read_bytes() if body.exists() else b""


def test_a_machine_that_is_reset_while_its_node_is_ready_joins_again_and_its_node_keeps_what_is_not_ours(
    farm: KubernetesLab, machine: Machine
) -> None:
    kubectl = farm.planes["prod"].kubectl
    kubectl("cordon", NAME)
    kubectl("annotate", "node", NAME, "example.org/owner=team-blue")
    kubectl("label", "node", NAME, "example.org/slot=7")
    before = farm.node(NAME)
    farm.reconfigure(place("b7"))
    assert is_ready(farm.node(NAME))
    machine.power_off()
    machine.power_on()
    farm.until_ready(machine, NAME)
    node = farm.node(NAME)
    assert is_ready(node)
    assert node["metadata"]["uid"] == before["metadata"]["uid"], "it is the same Node"
    assert node["status"]["nodeInfo"]["bootID"] != before["status"]["nodeInfo"]["bootID"]
    assert node["spec"]["unschedulable"] is True
    assert node["metadata"]["annotations"]["example.org/owner"] == "team-blue"
    assert node["metadata"]["labels"]["example.org/slot"] == "7"
    assert node["metadata"]["labels"]["farm.example/rack"] == "b7", "what the configuration says now"
    assert node["metadata"]["labels"]["accelerator"] == "nvidia"
    assert taints(node) == [("gpu", "true", "NoSchedule")]
    assert len(farm.tokens) == 2, "each boot has a token of its own"
    farm.lab.wait(lambda: not farm.live_tokens(), "the token is deleted")
    check_story(farm, NAME)


@pytest.fixture(scope="module")
def other(farm: KubernetesLab, machine: Machine) -> Iterator[str]:
    """Boot the machine of the other cluster while its API server is away, and start that when the machine waits.

    Once it is Ready, what it was told while it waited.
    """
    machine.power_off()
    farm.planes["test"].stop_api()
    made = farm.machine(OTHER, OTHER_MAC)
    made.power_on()
    try:
        farm.lab.wait_stage(OTHER, "system", PATIENCE_S)
        told = ""
        deadline = time.monotonic() + PATIENCE_S
        while "the Kubernetes API" not in told:
            assert time.monotonic() < deadline, f"nobody sees that the API is away:\n{farm.lab.story(OTHER)}"
            time.sleep(0.2)
            told = waits(farm)
        farm.planes["test"].start_api()
        farm.until_ready(made, OTHER)
        yield told
    finally:
        made.power_off()


def waits(farm: KubernetesLab) -> str:
    """Return what is told of the machine of the other cluster that waits for its join command."""
    return next((str(step["detail"]) for step in farm.lab.steps(OTHER) if step["stage"] == "joining"), "")


def test_a_machine_whose_api_server_is_away_waits_for_it_and_people_see_why(farm: KubernetesLab, other: str) -> None:
    assert "join command" in other
    check_story(farm, OTHER)


def test_two_pools_join_two_clusters(farm: KubernetesLab, other: str) -> None:
    node = farm.node(OTHER, "test")
    assert is_ready(node)
    assert internal_ip(node) == OTHER_IP
    assert taints(node) == []
    assert farm.node(OTHER, "prod") == {}
    assert farm.node(NAME, "test") == {}
    farm.lab.wait(lambda: not farm.live_tokens("test"), "the token is deleted")
