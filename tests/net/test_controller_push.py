"""A shared token pushed to an object of the API: the real control plane, and a controller with the least rights."""

import base64
import json
import os
import re
import threading
import time
from pathlib import Path

import pytest
import yaml

from config.ltsconf import JOIN_EXPIRES_KEY, LtsConf
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.token import parse_rfc3339
from tests.support.cluster_info import ClusterInfo
from tests.support.control_plane import ControlPlane
from tests.support.kube_credentials import make_ca, openssl_ca_hash
from tests.support.kube_thread import join_command, running_controller, until

pytestmark = pytest.mark.net

KEY = "RCFILE_07_JOIN_K8S"
SEED = """\
# the farm's own file
[Default]
FSTAB_03_DOCKER="tmpfs /var/lib/docker tmpfs size=60% 0 0"   # big

[m1c*]
    MODULE_01 = dummy
"""
MODULE = "    MODULE_01 = dummy\n"
OBJECT = "secret/pxeboot-lts"


@pytest.fixture(autouse=True)
def _fresh(plane: ControlPlane, kubeconfig: Path) -> None:
    """Each test begins with the object as rbac-push.yaml makes it, without tokens of ours, and nobody leads."""
    plane.kubectl("delete", "-n", "kube-system", "secret", "-l", "app.kubernetes.io/managed-by=pxeboot")
    plane.kubectl("delete", "-n", "pxeboot", OBJECT, "lease/pxeboot-controller", "--ignore-not-found")
    plane.kubectl("create", "-n", "pxeboot", "secret", "generic", "pxeboot-lts")


def cluster(kubeconfig: Path, folder: Path, **more: object) -> dict[str, dict[str, object]]:
    push: dict[str, object] = {"name": "pxeboot-lts"}
    return {"prod": {"kubeconfig": str(kubeconfig), "lts_conf": str(folder / "lts.conf"), "push": push, **more}}


def pushed(plane: ControlPlane) -> str:
    """The text in the object; "" if there is none."""
    text = plane.kubectl("get", "-n", "pxeboot", OBJECT, "-o", r"jsonpath={.data.lts\.conf}", check=False)
    return "" if "NotFound" in text else base64.b64decode(text).decode()


def put(plane: ControlPlane, text: str) -> None:
    """Write the text as a person does, with another client."""
    patch = {"stringData": {"lts.conf": text}}
    plane.kubectl("patch", "-n", "pxeboot", OBJECT, "--type=merge", "-p", json.dumps(patch))


def tokens(plane: ControlPlane) -> list[str]:
    """The tokens that we made and that are there."""
    names = plane.kubectl(
        "get", "-n", "kube-system", "secrets", "-l", "app.kubernetes.io/managed-by=pxeboot", "-o", "name"
    )
    return [name.removeprefix("secret/bootstrap-token-") for name in names.split()]


def published(text: str) -> JoinCommand | None:
    command = LtsConf.parse(text).get("Default", KEY)
    return None if command is None else JoinCommand.parse(command)


def settled(file: Path) -> bool:
    return file.exists() and join_command(file) != ""


def without_ours(text: str) -> str:
    return "".join(
        line for line in text.splitlines(keepends=True) if KEY not in line and not line.startswith("JOIN_K8S_")
    )


def test_an_empty_object_gets_what_is_in_the_file_and_the_file_its_copy(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    file.write_text(SEED)
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path)) as controller:
        until(lambda: settled(file), "the copy", 180)
        assert controller.terminate()[0] == 0
    text = pushed(plane)
    assert without_ours(text) == SEED
    first, _, rest = file.read_text().partition("\n")
    assert first == "# A copy, kept by pxeboot controller; change the original, Secret pxeboot/pxeboot-lts, lts.conf."
    assert rest == text
    assert file.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "lts.conf.before-push").read_text() == SEED
    join = published(text)
    assert join is not None
    assert [join.token.id] == tokens(plane)
    assert join.discovery.server == plane.endpoint
    assert join.discovery.ca_hashes == (openssl_ca_hash(plane.pki / "ca.crt"),)
    expires = LtsConf.parse(text).get("Default", JOIN_EXPIRES_KEY)
    assert expires is not None
    assert 0 < parse_rfc3339(expires) - time.time() <= 900
    data = json.loads(
        plane.kubectl("get", "-n", "kube-system", f"secret/bootstrap-token-{join.token.id}", "-o", "json")
    )["data"]
    assert base64.b64decode(data["expiration"]).decode() == expires
    assert "is forbidden" not in controller.log


def test_what_was_pushed_is_a_token_that_kubeadm_takes(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> None:
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path), "--once") as controller:
        assert controller.wait() == 0, controller.log
    join = published((tmp_path / "lts.conf").read_text())
    assert join is not None
    bootstrap = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": plane.url, "certificate-authority": str(plane.pki / "ca.crt")}}
        ],
        "users": [{"name": "u", "user": {"token": join.token.reveal()}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "bootstrap.kubeconfig"
    path.write_text(yaml.safe_dump(bootstrap))
    assert "ClusterConfiguration" in plane.kubectl(
        "get", "-n", "kube-system", "configmap/kubeadm-config", "-o", "yaml", kubeconfig=path
    )


def test_everything_else_of_the_object_and_of_its_text_stays(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    put(plane, SEED)
    other = {"metadata": {"labels": {"team": "blue"}, "annotations": {"why": "x"}}, "stringData": {"other": "thing"}}
    plane.kubectl("patch", "-n", "pxeboot", OBJECT, "--type=merge", "-p", json.dumps(other))
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path), "--once") as controller:
        assert controller.wait() == 0, controller.log
    raw = json.loads(plane.kubectl("get", "-n", "pxeboot", OBJECT, "-o", "json"))
    assert raw["metadata"]["labels"]["team"] == "blue"
    assert raw["metadata"]["annotations"]["why"] == "x"
    assert base64.b64decode(raw["data"]["other"]) == b"thing"
    text = pushed(plane)
    assert without_ours(text) == SEED
    assert published(text) is not None


def test_of_the_object_only_our_key_is_ours_by_server_side_apply(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    """So that it can be seen who wrote what, and who else applies the object does not take our key out of it."""
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path), "--once") as controller:
        assert controller.wait() == 0, controller.log
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pxeboot-lts"}, "data": {"other": "dGhpbmc="}}
    plane.kubectl(
        "apply", "--server-side", "--field-manager=gitops", "-n", "pxeboot", "-f", "-", text_in=json.dumps(theirs)
    )
    raw = json.loads(plane.kubectl("get", "-n", "pxeboot", OBJECT, "-o", "json"))
    applied = {field["manager"]: field["fieldsV1"] for field in raw["metadata"]["managedFields"]
               if field["operation"] == "Apply"}  # fmt: skip
    assert applied["pxeboot"] == {"f:data": {"f:lts.conf": {}}}
    assert published(pushed(plane)) is not None
    assert base64.b64decode(raw["data"]["other"]) == b"thing"


def test_a_config_map_can_hold_it_too(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> None:
    """Read and written with an administrator's rights, since the roles that we ship are for a Secret."""
    push = {"kind": "ConfigMap", "name": "farm-lts", "key": "conf"}
    for had in ({}, {"other": "thing"}, {"other": "thing", "conf": SEED}):
        if had:
            metadata = {"name": "farm-lts", "namespace": "pxeboot", "labels": {"team": "blue"}}
            there = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": had}
            plane.kubectl("create", "-f", "-", text_in=json.dumps({**there, "binaryData": {"raw": "/wA="}}))
        with running_controller(tmp_path, cluster(plane.kubeconfig, tmp_path, push=push), "--once") as controller:
            assert controller.wait() == 0, controller.log
        raw = json.loads(plane.kubectl("get", "-n", "pxeboot", "configmap/farm-lts", "-o", "json"))
        plane.kubectl("delete", "-n", "pxeboot", "configmap/farm-lts")
        text = raw["data"].pop("conf")
        assert published(text) is not None
        assert "conf" not in had or without_ours(text) == SEED
        assert raw["data"] == {key: value for key, value in had.items() if key != "conf"}
        if had:
            assert raw["binaryData"] == {"raw": "/wA="}
            assert raw["metadata"]["labels"] == {"team": "blue"}
        else:
            assert raw["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "pxeboot"


def test_a_missing_object_that_may_not_be_made_is_told(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> None:
    plane.kubectl("delete", "-n", "pxeboot", OBJECT)
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path), "--once") as controller:
        assert controller.wait() == 1
    assert "rbac-push.yaml" in controller.log
    assert not (tmp_path / "lts.conf").exists()


def test_a_change_of_the_object_is_in_the_file_within_a_second(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path)) as controller:
        until(lambda: settled(file), "the copy", 180)
        lags = []
        for number in range(5):
            put(plane, f"{pushed(plane)}# edit {number}\n")
            begin = time.monotonic()
            until(lambda line=f"# edit {number}\n": line in file.read_text(), "the change", 60)  # type: ignore[misc]
            lags.append(time.monotonic() - begin)
        print(f"from the object to the file: {sorted(lags)[2] * 1000:.0f} ms")
        assert min(lags) < 1
        assert sorted(lags)[2] < 10, "the next poll is half a minute away"
        assert len(tokens(plane)) == 1
        # A file that somebody else wrote to is a copy again at the next change.
        file.write_text("[Default]\nX=y\n")
        put(plane, f"{pushed(plane)}# the last\n")
        until(lambda: file.read_text().endswith("# the last\n"), "the change", 60)
        # A text that cannot be read replaces none that works.
        good = file.read_text()
        put(plane, '[Default\nX="')
        until(lambda: "because it is no lts.conf" in controller.log, "it is told", 60)
        assert file.read_text() == good


def test_a_join_command_that_somebody_broke_is_repaired_and_their_other_edits_stay(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path)):
        until(lambda: settled(file), "the copy", 180)
        good = published(pushed(plane))
        put(plane, f'{SEED}{KEY}="kubeadm join elsewhere:6443"\n')
        until(lambda: published_or_none(pushed(plane)) is None or MODULE in pushed(plane), "their edit", 60)
        until(lambda: published_or_none(pushed(plane)) == good, "the repair", 25)
        assert MODULE in pushed(plane)
    assert len(tokens(plane)) == 1, "the token was good all the time"


def published_or_none(text: str) -> JoinCommand | None:
    try:
        return published(text)
    except ValueError:
        return None


def test_nobodys_edit_is_lost_while_the_controller_writes(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    """A second writer adds a line as often as it can, reading and replacing; the controller writes all the time."""
    put(plane, SEED)
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            raw = json.loads(plane.kubectl("get", "-n", "pxeboot", OBJECT, "-o", "json"))
            text = base64.b64decode(raw["data"]["lts.conf"]).decode()
            line = f"# person {len(written)}\n"
            # They also break our key, so that the controller has to write after each of theirs.
            broken = re.sub(rf'{KEY}="[^"]*"', f'{KEY}="broken"', text)
            raw["data"]["lts.conf"] = base64.b64encode((broken + line).encode()).decode()
            said = plane.kubectl("replace", "-f", "-", text_in=json.dumps(raw), check=False)
            if "replaced" in said:
                written.append(line)

    writer = threading.Thread(target=write)
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path)) as controller:
        until(lambda: settled(tmp_path / "lts.conf"), "the copy", 180)
        writer.start()
        try:
            until(lambda: len(written) >= 12, "their edits", 180)
        finally:
            stop.set()
            writer.join()
        until(lambda: published_or_none(pushed(plane)) is not None, "our command", 180)
        assert controller.log.count("machines join") >= 3, "both wrote"
    text = pushed(plane)
    assert [line for line in text.splitlines(keepends=True) if line.startswith("# person")] == written
    assert len(tokens(plane)) == 1


def test_an_object_that_is_deleted_takes_the_join_command_with_it(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    put(plane, SEED)
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path)) as controller:
        until(lambda: settled(file), "the copy", 180)
        plane.kubectl("delete", "-n", "pxeboot", OBJECT)
        until(lambda: not settled(file), "no command", 60)
        assert SEED in file.read_text()
        until(lambda: "machines are given none" in controller.log, "it is told", 60)
        plane.kubectl("create", "-n", "pxeboot", "secret", "generic", "pxeboot-lts")
        until(lambda: settled(file), "a command again", 180)
        assert without_ours(pushed(plane)) == SEED, "it begins with what the copy held"


def test_a_token_that_is_deleted_under_us_is_replaced_at_once(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path)):
        until(lambda: settled(file), "the copy", 180)
        time.sleep(1)
        (first,) = tokens(plane)
        plane.kubectl("delete", "-n", "kube-system", f"secret/bootstrap-token-{first}")
        begin = time.monotonic()
        until(lambda: first not in join_command(file), "another token", 180)
        assert time.monotonic() - begin < 25, "not as late as the next poll"
        assert len(tokens(plane)) == 1


def test_while_the_api_is_away_the_file_stays_and_afterwards_it_follows(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path)) as controller:
        until(lambda: settled(file), "the copy", 180)
        before = file.read_text()
        plane.kill_api()
        try:
            time.sleep(3)
            assert file.read_text() == before
        finally:
            plane.start_api()
        put(plane, f"{pushed(plane)}# afterwards\n")
        until(lambda: file.read_text().endswith("# afterwards\n"), "the change", 180)
        assert controller.process.poll() is None
    assert len(tokens(plane)) == 1, "a restart of the API is no reason for another token"


def test_a_controller_killed_after_it_made_a_token_publishes_that_one_when_it_is_back(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    plane.stop_controllers()  # without a signature, it waits before it publishes
    try:
        with running_controller(tmp_path, cluster(kubeconfig, tmp_path)) as controller:
            until(lambda: "made token" in controller.log, "a token", 180)
        assert published(pushed(plane)) is None, "it died before that"
    finally:
        plane.start_controllers()
    plane.kubectl("delete", "-n", "pxeboot", "lease/pxeboot-controller")
    for pause_s in (0.7, 1.0, 1.3, 2.0):
        with running_controller(tmp_path, cluster(kubeconfig, tmp_path)):
            time.sleep(pause_s)
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path), "--once") as controller:
        assert controller.wait() == 0, controller.log
    join = published(pushed(plane))
    assert join is not None
    assert tokens(plane) == [join.token.id]


def test_a_ca_that_is_replaced_is_published_while_both_are_good_and_after(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lts.conf"
    make_ca(tmp_path, "another")
    new = tmp_path / "another.crt"
    old_pem, new_pem = (plane.pki / "ca.crt").read_text(), new.read_text()

    def pins() -> tuple[str, ...]:
        join = published_or_none(file.read_text())
        return join.discovery.ca_hashes if join else ()

    old_pin, new_pin = openssl_ca_hash(plane.pki / "ca.crt"), openssl_ca_hash(new)
    with ClusterInfo(plane) as info, running_controller(tmp_path, cluster(kubeconfig, tmp_path)):
        until(lambda: settled(file), "the copy", 180)
        assert pins() == (old_pin,)
        info.say(authorities=old_pem + new_pem)
        until(lambda: pins() == (old_pin, new_pin), "both", 25)
        info.say(authorities=new_pem)
        until(lambda: pins() == (new_pin,), "the new one", 25)
    assert len(tokens(plane)) == 1


def test_no_secret_is_readable_by_everybody(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> None:
    os.umask(0o022)
    with running_controller(tmp_path, cluster(kubeconfig, tmp_path), "--once") as controller:
        assert controller.wait() == 0, controller.log
    join = published((tmp_path / "lts.conf").read_text())
    assert join is not None
    readable = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o007]
    assert controller.log
    for path in readable:
        assert join.token.secret not in path.read_text(errors="replace")
