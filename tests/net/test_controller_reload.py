"""`pxeboot controller` follows the farm's file: clusters come, go and change while the others are kept."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pxeboot.cli.asking import ask
from tests.support.kube_thread import Controller, ThreadedApi, join_command, running_api, running_controller, until

pytestmark = pytest.mark.net


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ThreadedApi]:
    with running_api(tmp_path / "kube") as api:
        yield api


def put(folder: Path, clusters: dict[str, dict[str, object]], **more: object) -> None:
    """Write another file, as an editor does."""
    farm = {"server": {"controller": str(folder / "controller.sock")}, "clusters": clusters, **more}
    new = folder / "new"
    new.write_text(yaml.safe_dump(farm))
    new.rename(folder / "farm.yaml")


def kept(folder: Path) -> dict[str, str]:
    """Return which clusters the controller keeps, and which kind of tokens."""
    _, answer = ask(folder / "controller.sock", "/v1/status")
    return {name: status["tokens"] for name, status in answer["clusters"].items()}


def refused(folder: Path) -> list[str]:
    """Return what is wrong with the newest file."""
    _, answer = ask(folder / "controller.sock", "/v1/status")
    lines: list[str] = answer["configuration"]["refused"]
    return lines


def test_clusters_come_go_and_change_and_the_others_notice_nothing(api: ThreadedApi, tmp_path: Path) -> None:
    def shared(name: str) -> dict[str, object]:
        return {"kubeconfig": str(api.api.kubeconfig), "lts_conf": str(tmp_path / f"{name}.conf")}

    boot: dict[str, object] = {"kubeconfig": str(api.api.kubeconfig)}
    one, two = tmp_path / "one.conf", tmp_path / "two.conf"
    with running_controller(tmp_path, {"one": shared("one"), "per-boot": boot}) as controller:
        until(lambda: one.exists() and bool(join_command(one)), "a command")
        first = join_command(one)
        assert kept(tmp_path) == {"one": "shared", "per-boot": "boot"}

        put(tmp_path, {"one": shared("one"), "two": shared("two"), "per-boot": {**boot, "boot_token_ttl_s": 300}})
        until(lambda: two.exists() and bool(join_command(two)), "a command of the cluster that is new")
        assert kept(tmp_path) == {"one": "shared", "two": "shared", "per-boot": "boot"}
        assert "two: is kept from now on" in controller.log
        assert "per-boot: is not kept any more as it was" in controller.log
        assert "one: is not kept any more" not in controller.log
        assert join_command(one) == first

        put(tmp_path, {"two": shared("two")})
        until(lambda: kept(tmp_path) == {"two": "shared"}, "the others are not kept any more")
        assert join_command(one) == first, "what was published stays until it expires"

        put(tmp_path, {"two": shared("two"), "three": {**shared("two")}})
        until(lambda: "both write to section [Default]" in controller.log, "a quarrel is refused")
        assert kept(tmp_path) == {"two": "shared"}
        code, _ = controller.terminate()
    assert code == 0
    assert "Traceback" not in controller.log


def test_sighup_has_it_read_and_what_needs_a_restart_is_said(api: ThreadedApi, tmp_path: Path) -> None:
    clusters: dict[str, dict[str, object]] = {"prod": {"kubeconfig": str(api.api.kubeconfig)}}
    with running_controller(tmp_path, clusters) as controller:
        until(lambda: (tmp_path / "controller.sock").exists(), "it runs")
        until(lambda: _says(controller, tmp_path), "it answers")
        put(tmp_path, clusters, log={"format": "json"})
        os.kill(controller.process.pid, signal.SIGHUP)
        until(
            lambda: "needs a restart: log.format: json in the file, text until a restart" in controller.log, "a line"
        )
        (tmp_path / "new").write_text("clusters: [\n")
        (tmp_path / "new").rename(tmp_path / "farm.yaml")
        os.kill(controller.process.pid, signal.SIGHUP)
        until(lambda: "is refused" in controller.log, "a broken file is refused")
        assert kept(tmp_path) == {"prod": "boot"}
        until(lambda: any("this is not YAML" in line for line in refused(tmp_path)), "people see why")
        assert controller.process.poll() is None


def _says(controller: Controller, folder: Path) -> bool:
    assert controller.process.poll() is None, controller.log
    try:
        return bool(kept(folder))
    except OSError:
        return False
