"""The alert rules as Prometheus' own tool reads them, and the metrics of the controller."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pxeboot.metrics import catalogue
from tests.support.segment import lacking

pytestmark = pytest.mark.net

ROOT = Path(__file__).parent.parent.parent
UNPACKED = ROOT / ".build/peers/usr/bin/promtool"
"""Debian's package prometheus, unpacked and not installed: it would start a server."""


@pytest.mark.parametrize("argv", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")])
def test_the_alert_rules_are_rules_and_fire_when_they_should(argv: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool") or (str(UNPACKED) if UNPACKED.exists() else None)
    if promtool is None:
        lacking("needs promtool, of Debian's package prometheus")
    said = subprocess.run(
        [promtool, *argv], cwd=ROOT / "deploy/monitoring", capture_output=True, text=True, timeout=180, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


def kubeconfig(path: Path, port: int) -> Path:
    """A way into a cluster whose API does not answer."""
    names = {"cluster": "c", "user": "u"}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "none"}}],
                "contexts": [{"name": "x", "context": names}],
                "current-context": "x",
            }
        )
    )
    return path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_the_controller_tells_how_each_cluster_is_supplied(tmp_path: Path) -> None:
    port = free_port()
    cluster = {"kubeconfig": str(kubeconfig(tmp_path / "kubeconfig", free_port())), "tokens": "boot"}
    farm = {"server": {"controller": str(tmp_path / "controller.sock")}, "clusters": {"prod": cluster}}
    farm["log"] = {"format": "json"}
    configuration = tmp_path / "farm.yaml"
    configuration.write_text(yaml.safe_dump(farm))
    command = [sys.executable, "-m", "pxeboot", "controller", "-c", str(configuration)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, "--metrics", f"127.0.0.1:{port}"], stderr=log, stdin=subprocess.DEVNULL)
    try:
        values = values_once_in_trouble(port)
    finally:
        process.terminate()
        process.wait(timeout=90)
    log_lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert values["pxeboot_controller_tokens", "prod"] == 0
    assert values["pxeboot_controller_trouble", "prod"] == 1
    assert any(line["logger"] == "controller" and line["level"] == "WARNING" for line in log_lines)


def values_once_in_trouble(port: int) -> dict[tuple[str, ...], float]:
    known = {metric.name.removesuffix("_total"): metric for metric in catalogue.OF_CONTROLLER}
    deadline = time.monotonic() + 120
    values: dict[tuple[str, ...], float] = {}
    while values.get(("pxeboot_controller_trouble", "prod")) != 1:
        assert time.monotonic() < deadline, values
        time.sleep(0.3)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b"ok\n"
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except ConnectionRefusedError:
            continue
        finally:
            connection.close()
        for family in text_string_to_metric_families(text):
            assert known[family.name].kind == family.type
            values |= {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}
    return values
