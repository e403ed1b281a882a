"""What machines get of a shared join command, and of one that is theirs: against a real control plane.

Where it tells them to join, that kubeadm itself takes it, and how soon a machine is given what has changed.
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from config.ltsconf import LtsConf
from tests.support.boot_voice import Voice
from tests.support.cluster_info import ClusterInfo
from tests.support.control_plane import ControlPlane
from tests.support.kube_client import Client
from tests.support.kube_credentials import make_ca, openssl_ca_hash
from tests.support.kube_objects import NODES, REQUESTS, certificate, signing_request
from tests.support.kube_thread import join_command, running_controller, until
from tests.support.segment import Segment, lacking
from tests.support.served import MAC, Daemon, Prepared, get_lease, http, make_grub

pytestmark = pytest.mark.net

HOSTS = "HOSTS_07_JOIN_K8S"
OBJECT = ("-n", "pxeboot", "secret/pxeboot-lts")


def settled(file: Path) -> bool:
    return file.exists() and join_command(file) != ""


def server(file: Path) -> str:
    """Where machines join by an lts.conf; "" if nothing says so."""
    words = join_command(file).split() if file.exists() else []
    return words[2] if len(words) > 2 else ""


def host_line(file: Path) -> str | None:
    return LtsConf.parse(file.read_text()).get("Default", HOSTS)


# Where they join.


def test_machines_join_where_cluster_info_says_and_get_a_line_for_a_name(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    """The controller's own credentials have another address all the time: the one that it reaches the API at."""
    file = tmp_path / "lts.conf"
    given = {"kubeconfig": str(kubeconfig), "api_address": "192.0.2.7"}
    clusters = {"all": {**given, "lts_conf": str(file)}, "each": given}
    with (
        ClusterInfo(plane) as info,
        running_controller(tmp_path, clusters) as controller,
    ):
        until(lambda: settled(file), "a command", 180)
        assert (server(file), host_line(file)) == (plane.endpoint, None)
        token = join_command(file).split()[4]
        info.say(server="https://api.farm.example:7443")
        until(lambda: server(file) == "api.farm.example:7443", "the name", 25)
        assert host_line(file) == "192.0.2.7 api.farm.example"
        with Voice(tmp_path / "controller.sock", "each") as voice:
            its = voice.join("m1", voice.begin("m1"))
        assert its.command.split()[2] == "api.farm.example:7443"
        assert its.hosts == ("192.0.2.7 api.farm.example",)
        info.say(server="https://192.0.2.8:6443")
        until(lambda: server(file) == "192.0.2.8:6443", "the address", 25)
        assert host_line(file) is None
        with Voice(tmp_path / "controller.sock", "each") as voice:
            its = voice.join("m2", voice.begin("m2"))
        assert its.command.split()[2] == "192.0.2.8:6443"
        assert its.hosts == ()
        assert join_command(file).split()[4] == token, "it is no reason for another token"
        assert "Traceback" not in controller.log


def test_a_name_that_nobody_gives_an_address_for_is_looked_up(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    clusters = {"all": {"kubeconfig": str(kubeconfig), "lts_conf": str(file)}, "each": {"kubeconfig": str(kubeconfig)}}
    with ClusterInfo(plane) as info, running_controller(tmp_path, clusters):
        info.say(server="https://localhost:7443")
        until(lambda: server(file) == "localhost:7443", "a command", 180)
        assert host_line(file) == "127.0.0.1 localhost"
        with Voice(tmp_path / "controller.sock", "each") as voice:
            assert voice.join("m3", voice.begin("m3")).hosts == ("127.0.0.1 localhost",)


def test_the_configurations_server_wins_over_what_the_cluster_says(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    given = {"kubeconfig": str(kubeconfig), "api_server": "proxy.farm.example:443", "api_address": "192.0.2.9"}
    with running_controller(tmp_path, {"all": {**given, "lts_conf": str(file)}, "each": given}):
        until(lambda: settled(file), "a command", 180)
        with Voice(tmp_path / "controller.sock", "each") as voice:
            its = voice.join("m4", voice.begin("m4"))
    words = join_command(file).split()
    assert words[2] == its.command.split()[2] == "proxy.farm.example:443"
    assert words[-1] == its.command.split()[-1] == openssl_ca_hash(plane.pki / "ca.crt"), "its CA is the cluster's"
    assert (host_line(file),) == its.hosts == ("192.0.2.9 proxy.farm.example",)


# What kubeadm makes of it.


def test_kubeadm_takes_the_command_while_the_ca_is_replaced_and_a_node_comes_of_it(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    """The real one, up to where it waits for its kubelet; and then what that does. Two CAs are pinned."""
    file, machine, node = tmp_path / "lts.conf", tmp_path / "machine", f"m-{secrets.token_hex(4)}"
    make_ca(tmp_path, "another")
    (machine / "etc").mkdir(parents=True)
    given = {"kubeconfig": str(kubeconfig)}
    clusters = {"prod": {**given, "lts_conf": str(file)}, "each": given}
    with ClusterInfo(plane) as info, running_controller(tmp_path, clusters):
        info.say(authorities=(tmp_path / "another.crt").read_text() + (plane.pki / "ca.crt").read_text())
        until(lambda: file.exists() and join_command(file).count("sha256:") == 2, "both are pinned", 180)
        with Voice(tmp_path / "controller.sock", "each") as voice:
            assert voice.join(node, voice.begin(node)).command.split()[5:] == join_command(file).split()[5:]
        program, verb, *rest = join_command(file).split()
        assert (program, verb) == ("kubeadm", "join")
        said = tmp_path / "said"
        argv = [str(plane.bin / "kubeadm"), "join", "phase", "kubelet-start", *rest]
        with said.open("w") as out:
            process = subprocess.Popen(
                [*argv, "--node-name", node, "--rootfs", str(machine)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={"PATH": os.environ["PATH"]},
            )  # fmt: skip
        try:
            waits = "Waiting for the kubelet to perform the TLS Bootstrap"
            until(lambda: process.poll() is not None or waits in said.read_text(), "kubeadm gets there", 180)
        finally:
            process.kill()
            process.wait()
    assert waits in said.read_text()
    kubelet = Client.of(machine / "etc/kubernetes/bootstrap-kubelet.conf", tmp_path / "kubelet")
    key, request = signing_request(tmp_path, node)
    assert kubelet.post(REQUESTS, request).status == 201
    admin = Client.of(plane.kubeconfig, tmp_path / "admin")
    issued = tmp_path / "node.crt"
    issued.write_bytes(certificate(admin, request))
    itself = Client(admin.url, admin.ca, certificate=issued, key=key)
    assert itself.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}).status == 201


# How soon.


def pushed(plane: ControlPlane) -> str:
    text = plane.kubectl("get", *OBJECT, "-o", r"jsonpath={.data.lts\.conf}")
    return base64.b64decode(text).decode()


def put(plane: ControlPlane, text: str) -> None:
    """Write the text as a person does."""
    plane.kubectl("patch", *OBJECT, "--type=merge", "-p", json.dumps({"stringData": {"lts.conf": text}}))


def test_a_machine_is_given_a_change_within_a_second_of_an_object_and_at_once_of_a_file(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    if not all(map(shutil.which, ("grub-mknetdir", "ip", "busybox", "curl"))) or os.geteuid() != 0:
        lacking("needs root, ip, busybox, curl and grub-mknetdir")
    file = tmp_path / "prod.conf"
    prod = {"kubeconfig": str(kubeconfig), "lts_conf": str(file), "push": {"name": "pxeboot-lts"}}
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"), clusters={"prod": prod})
    (tmp_path / "controller").mkdir()
    with Segment() as segment, running_controller(tmp_path / "controller", {"prod": prod}):
        Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
        machine = segment.host(mac=MAC)
        get_lease(machine)

        def given() -> str:
            status, body = http(machine, "lts.conf")
            assert status == 200
            return body.decode()

        until(lambda: "kubeadm join" in given(), "it is given a command", 180)
        lags = []
        for number in range(5):
            put(plane, f'{pushed(plane)}MARK_{number}="set"\n')
            begin = time.monotonic()
            until(lambda mark=f"MARK_{number}": mark in given(), "it is given the change", 60)  # type: ignore[misc]
            lags.append(time.monotonic() - begin)
        print(f"from the object to the machine: {sorted(lags)[2] * 1000:.0f} ms")
        assert min(lags) < 1
        assert sorted(lags)[2] < 10, "the next poll is half a minute away"
        file.write_text(f'{file.read_text()}BY_HAND="yes"\n')
        assert "BY_HAND" in given()
