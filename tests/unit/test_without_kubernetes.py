"""Boots go on without Kubernetes: nothing of it is needed to serve a farm, and machines of no cluster just boot."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from config.model import Farm
from pxeboot.bootfiles.scripts import NODE_FILES
from pxeboot.bootfiles.tree import Asker, Tree
from tests.support.cpio_reader import unpack
from tests.support.fake_image import add_image

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ("lightkube", "lightkube_models", "httpx", "httpx2", "httpcore", "httpcore2")
"""What `pip install pxeboot`, without the extra `kubernetes`, does not bring."""
WITHOUT = f"""\
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {CLIENTS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def without_clients(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python where no client of the Kubernetes API is installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *argv], cwd=ROOT, env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_the_server_imports_nothing_of_kubernetes() -> None:
    code = (
        "import pxeboot.daemon, pxeboot.cli.serve, pxeboot.cli.status\n"
        "print([name for name in sys.modules if name.startswith(('pxeboot.kube', 'pxeboot.controller'))])\n"
    )
    done = without_clients(code)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_controller_without_its_client_says_what_is_missing(tmp_path: Path) -> None:
    farm = tmp_path / "farm.yaml"
    farm.write_text(yaml.safe_dump({"server": {"interfaces": ["eth1"]}, "clusters": {"prod": {}}}))
    done = without_clients("from pxeboot.cli import main\nmain()", "controller", "-c", str(farm))
    assert done.returncode == 1
    assert "is missing: install pxeboot[kubernetes]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("clusters", [{}, {"prod": {"lts_conf": "/nowhere/lts.conf"}}], ids=["none", "another pool's"])
def test_a_machine_of_no_cluster_is_told_of_no_join(tmp_path: Path, clusters: dict[str, object]) -> None:
    """Or it would wait for a command that never comes."""
    image, mac, ip = add_image(tmp_path / "images"), "52:54:00:00:00:01", IPv4Address("10.0.0.10")
    node = {"name": "m1", "macs": [mac], "ip": str(ip)}
    farm = {
        "server": {"state": tmp_path / "state"},
        "dhcp": {"subnets": [{"subnet": "10.0.0.0/25"}]},
        "images": {"node": {"path": tmp_path / "images/node"}},
        "clusters": clusters,
        "pools": [{"name": "workers", "image": "node", "nodes": [node]}],
    }
    tree = Tree(
        Farm.model_validate(farm), who={ip: Asker(mac, "m1")}.get, server_for=lambda _: IPv4Address("10.0.0.1"),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC), node=dict.fromkeys(NODE_FILES, b"script"),
        report=lambda event: None,
    )  # fmt: skip

    def read(name: str) -> bytes:
        found = asyncio.run(tree.lookup(name, ip))
        assert found is not None, name
        try:
            return found.pread(found.size_bytes, 0)
        finally:
            found.close()

    dashed = mac.replace(":", "-")
    assert f"/{image.image_id}/" in read(f"grub/grub.cfg-01-{dashed}").decode()
    entries = unpack(read(f"images/{image.image_id}/01-{dashed}/node.cpio"))
    said = entries["pxeboot/env"].data.decode().splitlines()
    assert {"JOIN_KEY=''", "JOIN_ONCE=''"} <= set(said)
    assert not [path for path in entries if "JOIN" in path]
