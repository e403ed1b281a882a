"""`pxeboot controller` as a process, against the stand-in API over TLS, and a stand-in kubeadm that joins with it."""

import base64
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.controller.token import parse_rfc3339
from tests.support.kube_api import Fault
from tests.support.kube_credentials import make_ca, make_server_certificate, openssl_ca_hash
from tests.support.kube_thread import (
    ROOT,
    Controller,
    ThreadedApi,
    join_command,
    running_api,
    running_controller,
    until,
)
from tests.support.segment import requires
from tests.support.stalls import judged

pytestmark = pytest.mark.net

SOON_S = 4.0
"""Far more than it takes; who waits for an API that hangs waits for 5 s."""
SEED = """\
# the farm's own file
[Default]
RCFILE_07_JOIN_K8S="kubeadm join 10.28.0.1:6443 --token aaaaaa.aaaaaaaaaaaaaaaa"  # the controller's
FSTAB_03_DOCKER="tmpfs /var/lib/docker tmpfs x-systemd.wanted-by=docker.service,size=60% 0 0"
PREINIT_00_TIME="ln -sf /usr/share/zoneinfo/Europe/Prague /etc/localtime"
KEEP_SYSTEM_SERVICES="kubelet ssh"
[m1c*]
    MODULE_01 = dummy
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ThreadedApi]:
    with running_api(tmp_path / "kube") as api:
        yield api


@pytest.fixture
def lts_conf(tmp_path: Path) -> Path:
    path = tmp_path / "lts.conf"
    path.write_text(SEED)
    return path


def cluster(api: ThreadedApi, lts_conf: Path) -> dict[str, object]:
    return {"kubeconfig": str(api.api.kubeconfig), "lts_conf": str(lts_conf)}


def kubeadm(command: str, folder: Path, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    """Run the join command as a machine does: by its shell, with the stand-in as its kubeadm."""
    defaults = folder / "kubelet"
    defaults.write_text(
        'KUBELET_EXTRA_ARGS="--node-labels=accelerator=nvidia,farm.example/rack=r1'
        ' --register-with-taints=gpu=true:NoSchedule,slow:PreferNoSchedule"\n'
    )
    return subprocess.run(
        [*shell.split(), "-c", command],
        env={"PATH": f"{ROOT}/tests/support:{os.environ['PATH']}", "KUBELET_DEFAULTS": str(defaults)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def assert_ends_soon(controller: Controller) -> None:
    code, took_s = controller.terminate()
    assert code == 0
    assert took_s < SOON_S


def assert_no_trace(api: ThreadedApi, *texts: str) -> None:
    assert api.api.ever
    for issued in api.api.ever:
        for text in texts:
            assert issued.token.secret not in text


def test_once_pushes_a_command_and_keeps_every_other_byte(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 0
    token = api.api.ever[0]
    expected = (
        f"kubeadm join 127.0.0.1:{api.api.port} --token {token.token.reveal()}"
        f" --discovery-token-ca-cert-hash {openssl_ca_hash(api.api.ca)}"
    )
    text = lts_conf.read_text()
    ours = re.search(r'^JOIN_K8S_EXPIRES="(.*)"\n', text, re.MULTILINE)
    assert ours is not None
    assert parse_rfc3339(ours[1]) == token.expires
    assert text.replace(ours[0], "") == SEED.replace(
        "kubeadm join 10.28.0.1:6443 --token aaaaaa.aaaaaaaaaaaaaaaa", expected
    )
    assert lts_conf.stat().st_mode & 0o777 == 0o640
    assert_no_trace(api, controller.log)
    assert f"machines join 127.0.0.1:{api.api.port} with token {token.token.id}" in controller.log


def test_the_secret_has_the_type_the_name_and_our_label(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 0
    (name, secret), *others = api.api.secrets.items()
    assert not others
    assert name == f"bootstrap-token-{api.api.ever[0].token.id}"
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert secret["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "pxeboot",
        "app.kubernetes.io/instance": "prod",
    }


def test_a_second_round_makes_no_second_token_and_does_not_touch_the_file(
    api: ThreadedApi, lts_conf: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
            assert controller.wait() == 0
        written = lts_conf.stat()
    assert len(api.api.ever) == 1
    assert lts_conf.stat() == written


def test_a_restart_without_the_right_to_list_makes_no_second_token(
    api: ThreadedApi, lts_conf: Path, tmp_path: Path
) -> None:
    api.inject(Fault.FORBIDDEN_LIST)
    for _ in range(2):
        with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
            assert controller.wait() == 0, controller.log
    assert len(api.api.ever) == 1


@pytest.mark.parametrize(
    "fault", [Fault.DOWN, Fault.UNAUTHORIZED, Fault.CONFLICT, Fault.TOO_MANY_REQUESTS, Fault.INTERNAL, Fault.NONSENSE]
)
def test_once_says_what_is_wrong_and_leaves_the_file(
    api: ThreadedApi, lts_conf: Path, tmp_path: Path, fault: Fault
) -> None:
    api.inject(fault)
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 1
    assert "prod: no fresh join command: the Kubernetes API: " in controller.log
    assert "Traceback" not in controller.log
    assert lts_conf.read_text() == SEED


def test_an_api_of_another_ca_is_not_spoken_to(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    make_ca(tmp_path, "another")
    text = api.api.kubeconfig.read_text()
    ours, theirs = (base64.b64encode(path.read_bytes()).decode() for path in (api.api.ca, tmp_path / "another.crt"))
    kubeconfig.write_text(text.replace(ours, theirs))
    clusters = {"prod": {"kubeconfig": str(kubeconfig), "lts_conf": str(lts_conf)}}
    with running_controller(tmp_path, clusters, "--once") as controller:
        assert controller.wait() == 1
    assert "certificate verify failed" in controller.log
    assert api.api.requests == []


@pytest.mark.parametrize("wrong", ["a: [", "{}", "current-context: x", ""])
def test_a_kubeconfig_that_is_none_is_told(lts_conf: Path, tmp_path: Path, wrong: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(wrong)
    clusters = {"prod": {"kubeconfig": str(kubeconfig), "lts_conf": str(lts_conf)}}
    with running_controller(tmp_path, clusters, "--once") as controller:
        assert controller.wait() == 1
    assert "the credentials cannot be used" in controller.log
    assert "Traceback" not in controller.log


def test_a_damaged_lts_conf_is_told_and_not_touched(api: ThreadedApi, tmp_path: Path) -> None:
    lts_conf = tmp_path / "lts.conf"
    lts_conf.write_text('[Default\nX="')
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 1
    assert f"{lts_conf}: line 1:" in controller.log
    assert lts_conf.read_text() == '[Default\nX="'


def test_two_clusters_in_one_section_are_refused(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    clusters = {"one": cluster(api, lts_conf), "two": cluster(api, lts_conf)}
    with running_controller(tmp_path, clusters, "--once") as controller:
        assert controller.wait() == 1
    assert "clusters one and two both write to section [Default]" in controller.log


def test_a_cluster_that_fails_does_not_stop_the_others(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        kubeconfig = tmp_path / "silent.kubeconfig"
        kubeconfig.write_text(
            api.api.kubeconfig.read_text().replace(f":{api.api.port}", f":{silent.getsockname()[1]}")
        )
        clusters: dict[str, dict[str, object]] = {
            "dead": {"kubeconfig": str(kubeconfig), "lts_conf": str(tmp_path / "dead.conf")},
            "live": cluster(api, lts_conf),
        }

        def ends() -> None:
            lts_conf.write_text(SEED)
            with running_controller(tmp_path, clusters) as controller:
                until(
                    lambda: len(api.api.ever) == 1 and api.api.ever[0].token.id in join_command(lts_conf), "a command"
                )
                until(lambda: "dead: no fresh join command" in controller.log, "the other cluster's trouble")
                assert_ends_soon(controller)

        judged(ends)
    assert not (tmp_path / "dead.conf").exists()


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.HANG, Fault.DOWN])
def test_sigterm_ends_it_whatever_the_api_does(api: ThreadedApi, lts_conf: Path, tmp_path: Path, fault: Fault) -> None:
    def ends() -> None:
        api.inject(Fault.NONE)
        lts_conf.write_text(SEED)
        with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}) as controller:
            until(lambda: len(api.api.ever) == 1 and api.api.ever[0].token.id in join_command(lts_conf), "a command")
            api.inject(fault)
            before = lts_conf.read_text()
            assert_ends_soon(controller)
        assert lts_conf.read_text() == before
        assert "Traceback" not in controller.log

    judged(ends)


def test_an_api_that_comes_up_later_is_used_then(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    api.inject(Fault.DOWN)
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}) as controller:
        until(lambda: "no fresh join command" in controller.log, "the trouble is told")
        assert lts_conf.read_text() == SEED
        api.inject(Fault.NONE)
        until(lambda: len(api.api.ever) == 1 and api.api.ever[0].token.id in join_command(lts_conf), "a command", 120)
        until(lambda: "works again" in controller.log, "the end of the trouble is told")
        assert controller.log.count("no fresh join command") == 1


def test_the_token_shows_in_no_log_no_argument_and_no_environment(
    api: ThreadedApi, lts_conf: Path, tmp_path: Path
) -> None:
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}) as controller:
        until(lambda: len(api.api.ever) == 1 and api.api.ever[0].token.id in join_command(lts_conf), "a command")
        process = Path(f"/proc/{controller.process.pid}")
        assert_no_trace(
            api,
            (process / "cmdline").read_bytes().decode(),
            (process / "environ").read_bytes().decode(),
            subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout,
            controller.log,
        )
        limits = (process / "limits").read_text()
        assert re.search(r"Max core file size +0 +0", limits), "a core dump would hold it"
    readable = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o007]
    assert_no_trace(api, *(path.read_text(errors="replace") for path in readable))


@requires("curl", "openssl", "busybox", "dash")
@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
def test_a_machine_joins_with_what_was_pushed(api: ThreadedApi, lts_conf: Path, tmp_path: Path, shell: str) -> None:
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 0
    joined = kubeadm(join_command(lts_conf), tmp_path, shell)
    assert joined.returncode == 0, joined.stderr
    name = socket.gethostname().lower()
    node = api.api.nodes[name]
    assert node["metadata"]["labels"] == {
        "kubernetes.io/hostname": name,
        "accelerator": "nvidia",
        "farm.example/rack": "r1",
    }
    assert node["spec"]["taints"] == [
        {"key": "gpu", "value": "true", "effect": "NoSchedule"},
        {"key": "slow", "effect": "PreferNoSchedule"},
    ]
    assert "this node has joined the cluster" in joined.stdout
    assert len(api.joined) == 1
    assert api.joined[0].startswith(f"node {name!r} joined from 127.0.0.1 with token {api.api.ever[0].token.id}")
    again = kubeadm(join_command(lts_conf), tmp_path, shell)
    assert again.returncode == 1
    assert "already exists" in again.stderr, "as kubeadm does while the Node is Ready (kubernetes#89512)"
    silent = {**api.api.nodes[name], "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    api.replace(f"/api/v1/nodes/{name}/status", silent)
    again = kubeadm(join_command(lts_conf), tmp_path, shell)
    assert again.returncode == 0, again.stderr
    assert "this node has joined the cluster" in again.stdout


@requires("curl", "openssl")
def test_no_machine_joins_with_a_token_that_is_gone(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 0
    issued = api.api.ever[0]
    api.api.signs = True
    command = join_command(lts_conf)
    api.api.clock = lambda: issued.expires
    until(lambda: not api.token_ids, "the expired token is cleaned")
    expired = kubeadm(command, tmp_path)
    assert expired.returncode == 1
    assert f"not signed for token {issued.token.id}: it expired, was deleted" in expired.stderr
    assert api.api.nodes == {}


@requires("curl", "openssl")
def test_no_machine_joins_a_cluster_of_another_ca_or_with_another_secret(
    api: ThreadedApi, lts_conf: Path, tmp_path: Path
) -> None:
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 0
    command = join_command(lts_conf)
    other_pin = kubeadm(re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0a' * 32}", command), tmp_path)
    assert other_pin.returncode == 1
    assert "which is not what was pinned" in other_pin.stderr
    no_pin = kubeadm(command.split(" --discovery")[0], tmp_path)
    assert no_pin.returncode == 1
    assert "nothing is joined without it" in no_pin.stderr
    secret = api.api.ever[0].token.secret
    other_secret = kubeadm(command.replace(secret, secret[::-1]), tmp_path)
    assert other_secret.returncode == 1
    assert "does not fit the token" in other_secret.stderr
    assert api.api.nodes == {}


def set_offset(file: Path, offset: str) -> None:
    """Tell libfaketime, which reads the file at any moment."""
    new = file.with_name("new-offset")
    new.write_text(offset)
    new.rename(file)


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@pytest.mark.skipif(not FAKETIME.exists() and not os.environ.get("CI"), reason="needs faketime")
@pytest.mark.parametrize("offset_s", [3600, -1800])
def test_a_clock_that_jumps_gives_machines_no_token_that_has_expired(
    lts_conf: Path, tmp_path: Path, offset_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller's clock, and with it its daemon's, is set while it runs; the API's is not (F-06)."""
    offset, kube = tmp_path / "offset", tmp_path / "kube"
    kube.mkdir()
    with monkeypatch.context() as before:  # the certificates are good at every time that anybody believes in
        before.setenv("LD_PRELOAD", str(FAKETIME))
        before.setenv("FAKETIME", "-1d")
        make_ca(kube)
        make_server_certificate(kube, ["127.0.0.1"])
    offset.write_text("+0")
    with running_api(kube) as api, monkeypatch.context() as during:
        during.setenv("LD_PRELOAD", str(FAKETIME))
        during.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
        during.setenv("FAKETIME_NO_CACHE", "1")
        during.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}) as controller:
            until(lambda: len(api.api.ever) == 1 and api.api.ever[0].token.id in join_command(lts_conf), "a command")
            set_offset(offset, f"{offset_s:+}s")
            until(
                lambda: len(api.api.ever) == 2 and api.api.ever[1].token.id in join_command(lts_conf), "another", 180
            )
            assert controller.process.poll() is None
        second = api.api.ever[1]
    assert abs(second.expires - time.time() - 900) < 120, "its end is told by the clock of the API"
    end = re.search(r'^JOIN_K8S_EXPIRES="(.*)"\n', lts_conf.read_text(), re.MULTILINE)
    assert end is not None
    assert abs(parse_rfc3339(end[1]) - time.time() - offset_s - 900) < 120, "and to the daemon by ours"


def test_a_server_with_a_name_comes_with_its_address(api: ThreadedApi, lts_conf: Path, tmp_path: Path) -> None:
    named = {**cluster(api, lts_conf), "api_server": "api.farm.example:6443", "api_address": "192.0.2.7"}
    with running_controller(tmp_path, {"prod": named}, "--once") as controller:
        assert controller.wait() == 0, controller.log
    text = lts_conf.read_text()
    assert "kubeadm join api.farm.example:6443 " in text
    assert '\nHOSTS_07_JOIN_K8S="192.0.2.7 api.farm.example"\n' in text


def test_a_token_is_written_down_for_the_controller_alone_before_it_is_made(
    api: ThreadedApi, lts_conf: Path, tmp_path: Path
) -> None:
    api.inject(Fault.CONFLICT)
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 1
    (noted,) = tmp_path.glob(".lts.conf.*.token")
    assert noted.stat().st_mode & 0o777 == 0o600
    api.inject(Fault.NONE)
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 0
    assert api.api.ever[0].token.reveal() in noted.read_text()
    lts_conf.write_text(SEED)
    with running_controller(tmp_path, {"prod": cluster(api, lts_conf)}, "--once") as controller:
        assert controller.wait() == 0
    assert len(api.api.ever) == 1, "a lost command is written again with the same token"
    assert api.api.ever[0].token.id in join_command(lts_conf)
