import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import pxeboot
from config.model import Farm
from pxeboot.cli import COMMANDS, main
from pxeboot.cli.check import zone_notes
from tests.support.fake_image import add_image

RIGHT = """\
images: {node: {path: /srv/pxeboot/images/node}}
clusters: {prod: {lts_conf: lts.conf}}
pools: [{name: a, image: node, nodes: [{name: m1, macs: [52:54:00:12:34:56], ip: 10.0.0.1}]}]
dhcp: {subnets: [{subnet: 10.0.0.0/24}]}
server: {interfaces: [eth1]}
"""


def run(*argv: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, argv)
    return result.exit_code, result.stdout, result.stderr


def test_help_names_every_command_and_imports_none() -> None:
    program = (
        "import sys; sys.argv = ['pxeboot', '--help']\n"
        "import atexit; atexit.register(lambda: print(sorted(m for m in sys.modules"
        " if m.startswith(('pxeboot.', 'config', 'pydantic', 'rich', 'yaml', 'aiohttp')))))\n"
        "from pxeboot.cli import main; main()"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(pxeboot.__file__).parents[1])}
    argv = [sys.executable, "-c", program]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout
    assert said.endswith("['pxeboot.cli']\n")
    assert all(f"  {name} " in said and where.help in said for name, where in COMMANDS.items())


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_command_of_the_list_is_there(name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"Usage: main {name}" in out


def test_a_wrong_use_is_2() -> None:
    assert run("chek")[0] == 2
    assert run("check")[0] == 2
    assert "which FILE?" in run("check")[2]


def test_the_version_is_said() -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("pxeboot")


def test_a_right_file_is_summed_up(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(RIGHT)
    counted = "1 machine, 1 pool, 1 image, 1 subnet, 1 cluster, 0 tags"
    assert run("check", str(path)) == (0, f"{path} is right: {counted}\n", "")
    assert run("check", "--json", str(path)) == (0, "[]\n", "")


def test_a_wrong_file_is_1_and_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(RIGHT.replace("image: node", "image: nod").replace("10.0.0.1", "10.0.0.256"))
    code, out, err = run("check", str(path))
    assert (code, out) == (1, "")
    assert [line.split(": ")[0] for line in err.splitlines()] == [f"{path}:3:26", f"{path}:3:81"]
    code, out, err = run("check", "--json", str(path))
    assert (code, err) == (1, "")
    first = json.loads(out)[0]
    assert {key: first[key] for key in ("file", "line", "column")} == {"file": str(path), "line": 3, "column": 26}
    assert first["message"].startswith("there is no image 'nod'")


def test_the_lts_conf_of_a_cluster_is_checked_when_it_is_there(tmp_path: Path) -> None:
    path, lts = tmp_path / "farm.yaml", tmp_path / "lts.conf"
    path.write_text(RIGHT)
    lts.write_text('[Default]\nA = "b\n')
    assert run("check", str(path)) == (1, "", f"{lts}:2:1: the value of A has a quote without its end\n")
    lts.write_bytes(b"\xff")
    assert f"{lts}:1:1: cannot be read" in run("check", str(path))[2]
    lts.write_text("[Default]\nA = b\n")
    assert run("check", str(path))[0] == 0


def test_static_files_that_are_not_there_are_said_and_no_mistake(tmp_path: Path) -> None:
    path, folder = tmp_path / "farm.yaml", tmp_path / "tftp"
    path.write_text(RIGHT.replace("server: {", "server: {files: tftp, "))
    code, out, err = run("check", str(path))
    assert (code, out.split(":")[0]) == (0, f"{path} is right")
    assert err == f"note: server.files: {folder} is not there; machines find nothing in it\n"
    folder.write_text("")
    assert "is no folder" in run("check", str(path))[2]
    folder.unlink()
    folder.mkdir()
    assert run("check", str(path))[::2] == (0, "")


@pytest.mark.parametrize("section", ["http", "nbd"])
def test_certificates_of_every_server_of_machines_are_looked_at(tmp_path: Path, section: str) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(f"{RIGHT}{section}:\n  tls: {{certificate: {tmp_path}/c.pem, key: {tmp_path}/k.pem}}\n")
    code, _, err = run("check", str(path))
    assert code == 1
    assert err.startswith(f"{path}:7:1: {section}.tls.certificate: '{tmp_path}/c.pem' cannot be read: No such file")


def test_a_page_whose_certificate_is_not_there_is_said_and_no_mistake(tmp_path: Path) -> None:
    path, pem = tmp_path / "farm.yaml", tmp_path / "c.pem"
    path.write_text(f"{RIGHT}web: {{tls: {{certificate: {pem}, key: {tmp_path}/k.pem}}}}\n")
    code, _, err = run("check", str(path))
    said = f"note: web.tls.certificate: '{pem}' cannot be read: No such file or directory"
    assert (code, err) == (0, f"{said}; without it there is no web page\n")
    assert run("check", "--json", str(path)) == (0, "[]\n", "")


def test_a_zone_that_this_host_does_not_know_is_noted(tmp_path: Path) -> None:
    for name in ("Etc/UTC", "Europe/Prague", "America/Argentina/Ushuaia"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def noted(zone: str) -> str:
        return "".join(zone_notes(Farm.model_validate({"node": {"timezone": zone}}), tmp_path))

    assert noted("Europe/Prague") == noted("America/Argentina/Ushuaia") == ""
    assert noted("Europe/Pragu") == (
        "node.timezone: this host knows no zone 'Europe/Pragu', and a machine that knows none either has UTC; did you "
        "mean 'Europe/Prague'?"
    )
    assert noted("Zulu").endswith("this host knows no zone 'Zulu', and a machine that knows none either has UTC")
    assert zone_notes(Farm.model_validate({"node": {"timezone": "X"}}), tmp_path / "none") == []


def test_a_writable_root_whose_image_has_no_disk_is_said_and_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    add_image(tmp_path / "images")
    right = RIGHT.replace("/srv/pxeboot/images/node", "images/node")
    path.write_text(right.replace("image: node,", "image: node, root: nbd, writable: {},"))
    code, _, err = run("check", str(path))
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("note: machines of pool a will not boot: their roots are to be writable, and the image node")
    add_image(tmp_path / "images", disk_bytes=4096)
    assert run("check", str(path))[::2] == (0, "")


def test_the_certificate_of_nbd_is_checked_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(f"{RIGHT}nbd:\n  tls:\n    certificate: {tmp_path}/c.pem\n    key: {tmp_path}/k.pem\n")
    text = f"nbd.tls.certificate: '{tmp_path}/c.pem' cannot be read: No such file or directory"
    assert run("check", str(path)) == (1, "", f"{path}:8:1: {text}\n")


def test_the_schema_is_printed() -> None:
    code, out, _ = run("check", "--schema")
    assert code == 0
    assert json.loads(out)["title"] == "A farm served by pxeboot"
