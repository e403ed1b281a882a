"""The whole daemon, as a person starts it, against real clients in a namespace. No machine boots."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from pxeboot.api.control import ControlSocket
from pxeboot.timeline import Timeline
from tests.support.fake_image import make_root, noise
from tests.support.segment import CommandFailed, Host, Segment, lacking, requires
from tests.support.served import (
    IP,
    JOIN,
    MAC,
    SERVER,
    TOKEN,
    Daemon,
    Prepared,
    get_lease,
    http,
    make_grub,
    serve,
    status,
    status_json,
    tftp,
)
from tests.support.waiting import quick, until

pytestmark = pytest.mark.net

BLOCK = """\
import socket, sys, time
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
sock = socket.socket(socket.AF_INET, kind)
sock.bind(("0.0.0.0", int(sys.argv[2])))
if sys.argv[1] == "tcp":
    sock.listen()
print("bound", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRUB's images, made once."""
    if not all(map(shutil.which, ("grub-mknetdir", "ip"))) or os.geteuid() != 0:
        lacking("needs root, ip and grub-mknetdir")
    return make_grub(tmp_path_factory.mktemp("grub"))


@dataclass
class Running:
    """One daemon for the tests that do not stop it, and the hosts around it."""

    segment: Segment
    prepared: Prepared
    daemon: Daemon
    node: Host
    """m1, with its lease."""
    stranger: Host
    """Has an address that we gave to nobody."""

    @property
    def names(self) -> dict[str, str]:
        """What m1 may fetch, by what it is."""
        folder = f"images/{self.prepared.image.image_id}"
        return {
            "loader": "grub/x86_64-efi/core.efi",
            "loader-bios": "grub/i386-pc/core.0",
            "list": "grub/x86_64-efi/nothing.lst",
            "menu": "grub/grub.cfg",
            "menu-of-card": f"grub/grub.cfg-01-{MAC.replace(':', '-')}",
            "kernel": f"{folder}/vmlinuz",
            "sums": f"{folder}/SHA256SUMS",
            "cpio": f"{folder}/01-{MAC.replace(':', '-')}/node.cpio",
            "lts": "lts.conf",
        }


@pytest.fixture(scope="module")
def running(grub: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    with Segment(client_address="10.77.0.50/24") as segment:
        prepared = Prepared(folder, grub)
        daemon = Daemon(segment.server, folder, "-c", str(prepared.configuration))
        node = segment.host(mac=MAC)
        assert get_lease(node) == IP
        yield Running(segment, prepared, daemon, node, segment.client)
        assert "Traceback" not in daemon.log
        assert TOKEN not in daemon.log


@pytest.fixture
def prepared(grub: Path, tmp_path: Path) -> Prepared:
    return Prepared(tmp_path, grub)


def config(prepared: Prepared) -> tuple[str, str]:
    return "-c", str(prepared.configuration)


# What it serves


@requires("curl", "busybox")
@pytest.mark.parametrize(
    "what", ["loader", "loader-bios", "list", "menu", "menu-of-card", "kernel", "sums", "cpio", "lts"]
)
def test_the_same_name_gives_the_same_bytes_by_tftp_and_http(running: Running, what: str) -> None:
    name = running.names[what]
    code, body = http(running.node, name)
    assert code == 200
    options = ["--tftp-no-options"] if what == "list" else []  # curl takes the size 0 in an answer for an error
    assert tftp(running.node, name, *options) == body
    assert (body == b"") == (what == "list")


@requires("curl", "busybox")
def test_what_is_a_machines_own_is_refused_to_anybody_else(running: Running) -> None:
    for what in ("cpio", "lts"):
        code, body = http(running.node, running.names[what])
        assert code == 200
        assert TOKEN.encode() in body
        code, body = http(running.stranger, running.names[what])
        assert code == 404
        assert TOKEN.encode() not in body
        assert tftp(running.stranger, running.names[what]) is None
    assert http(running.stranger, "lts/RCFILE_07_JOIN_K8S")[0] == 404
    assert http(running.stranger, running.names["kernel"]) == (200, noise("vmlinuz one", 3000))
    assert b"nothing to boot here" in http(running.stranger, "grub/grub.cfg")[1]


@requires("curl", "busybox")
def test_a_machine_that_is_not_listed_is_named_after_its_card_once_it_has_a_lease(running: Running) -> None:
    mac = "52:54:00:00:00:99"
    host = running.segment.host(mac=mac)
    own = running.names["cpio"].replace(MAC.replace(":", "-"), mac.replace(":", "-"))
    host.run("ip", "address", "add", "10.77.0.60/24", "dev", "eth0")
    assert http(host, own)[0] == 404
    host.run("ip", "address", "flush", "dev", "eth0")
    address = get_lease(host)
    assert address.startswith("10.77.0.2")
    code, body = http(host, own)
    assert code == 200
    assert b"node-525400000099\n" in body
    assert http(host, running.names["cpio"])[0] == 404, "another machine's archive"
    assert http(host, "report/network", "-d", "hello")[0] == 204
    assert status_json(running.prepared.control, "node-525400000099")["ip"] == address


@requires("curl")
@pytest.mark.parametrize(
    "name",
    ["../../etc/shadow", "grub/../../leases/journal", "%2e%2e/%2e%2e/etc/shadow", "images/..%2f..%2fetc/shadow"],
)
def test_a_name_that_climbs_is_not_found(running: Running, name: str) -> None:
    assert http(running.node, name)[0] in (400, 404)
    assert tftp(running.node, name) is None


@requires("nbdinfo")
def test_nbd_serves_images_by_name_and_by_digest(running: Running) -> None:
    def info(*argv: str) -> subprocess.CompletedProcess[str]:
        return running.stranger.run("nbdinfo", *argv, check=False)

    listed = json.loads(info("--list", "--json", f"nbd://{SERVER}/").stdout)["exports"]
    assert [export["export-name"] for export in listed] == ["node"], "an image that is not there cannot be described"
    for name in ("node", running.prepared.image.image_id):
        assert info("--size", f"nbd://{SERVER}/{name}").stdout.strip() == "73728", name
        assert info("--is", "readonly", f"nbd://{SERVER}/{name}").returncode == 0
    for name in ("gone", "0" * 64, "../node", ""):
        assert info(f"nbd://{SERVER}/{name}").returncode != 0, name


@requires("nbdcopy")
def test_an_nbd_export_is_the_squashfs(running: Running, tmp_path: Path) -> None:
    running.stranger.run("nbdcopy", f"nbd://{SERVER}/node", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == noise("root.squashfs one", 73_728)


# What machines say of themselves, and what a person is shown


@requires("curl", "busybox")
@pytest.mark.parametrize(
    ("stage", "code"),
    [("network", 404), ("system", 404), ("discover", 404), ("nonsense", 404), ("", 405), ("../lts.conf", 405)],
)
def test_a_stranger_cannot_report(running: Running, stage: str, code: int) -> None:
    assert http(running.stranger, f"report/{stage}", "-d", "hello")[0] == code
    assert "10.77.0.50" not in json.dumps(status_json(running.prepared.control))


@requires("curl", "busybox")
def test_a_machine_cannot_report_what_only_we_can_know(running: Running) -> None:
    for stage in ("discover", "address", "nonsense"):
        assert http(running.node, f"report/{stage}", "-d", "hello")[0] == 404


@requires("curl", "busybox")
def test_a_token_that_a_machine_reports_is_masked(running: Running) -> None:
    assert http(running.node, "report/joining", "-d", JOIN)[0] == 204
    assert http(running.node, "report/system", "-d", f"== join\n{JOIN}\n== end\n")[0] == 204
    control = running.prepared.control
    shown = [status(control, *argv).stdout for argv in (["--json"], ["--json", "m1"], ["m1", "--report"], ["m1"], [])]
    for said in shown:
        assert TOKEN not in said
    assert "--token *** --discovery" in shown[0] + shown[1]
    assert shown[2].startswith(f"== join\nkubeadm join {SERVER}:6443 --token ***")


@requires("curl", "busybox")
def test_what_a_machine_reports_is_text_and_no_markup(running: Running) -> None:
    text = "[red]x[/] [/nonsense] \x1b[31m \x9b31m"
    assert http(running.node, "report/prepared", "--data-binary", text)[0] == 204
    for argv in ([], ["m1"]):
        said = status(running.prepared.control, *argv)
        assert said.returncode == 0, said.stderr
        assert "[red]x[/] [/nonsense]" in said.stdout
        assert "\x1b[31m" not in said.stdout
        assert "\x9b" not in said.stdout


@requires("curl", "busybox")
def test_status_shows_who_is_booting_and_how_far(running: Running) -> None:
    control = running.prepared.control
    assert http(running.node, running.names["menu"])[0] == 200
    assert http(running.node, "report/root", "-d", "squashfs over http")[0] == 204
    machine = next(m for m in status_json(control)["machines"] if m["name"] == "m1")
    assert (machine["mac"], machine["ip"], machine["pool"]) == (MAC, IP, "workers")
    assert machine["boot"]["stage"] == "root"
    table = status(control)
    assert table.returncode == 0
    assert re.search(rf"m1 +{IP} +workers +root +\d+ s +squashfs over http", table.stdout)
    one = status(control, "m1")
    assert re.search(r"menu .*grub\.cfg", one.stdout)
    assert re.search(r"root +squashfs over http", one.stdout)
    assert status_json(control, "m1")["boots"]
    assert all(status_json(control, word)["name"] == "m1" for word in (MAC, MAC.replace(":", ""), IP))


def test_status_tells_how_dhcp_is(running: Running) -> None:
    told = status_json(running.prepared.control)["dhcp"]
    assert (told["serves"], told["waits"], told["cannot_store"]) == (["eth1"], {}, None)
    assert all(0 <= pool["used"] <= pool["size"] for pool in told["pools"])
    assert {"answered_the_short_way", "not_answered", "transport"} <= told.keys()


def test_status_tells_how_tftp_is(running: Running) -> None:
    control = running.prepared.control
    until(lambda: status_json(control)["tftp"]["running"] == 0, "the transfers of others are over")
    before = status_json(control)["tftp"]
    assert tftp(running.node, "nothing-of-that-name") is None
    after = status_json(control)["tftp"]
    assert after["running"] == 0
    assert after["at_most"] > 0
    assert after["counts"]["misses"] == before["counts"].get("misses", 0) + 1


def test_status_says_what_is_wrong(running: Running, tmp_path: Path) -> None:
    control = running.prepared.control
    for argv in (["nobody"], ["no body"], ["../x"], ["--json", "nobody"]):
        said = status(control, *argv)
        assert (said.returncode, said.stdout) == (1, "")
        assert "was heard of" in said.stderr
    assert status(control, "--report").returncode == 2
    said = status(tmp_path / "none.sock")
    assert said.returncode == 1
    assert "is `pxeboot serve` running?" in said.stderr


def test_an_image_that_is_missing_is_a_warning(running: Running) -> None:
    assert "WARNING machines of image gone will not boot" in running.daemon.log
    assert "READY=1" in running.daemon.first_word


@requires("curl", "busybox")
def test_a_machine_without_an_image_has_failed_and_says_so_once(segment: Segment, prepared: Prepared) -> None:
    daemon = Daemon(segment.server, prepared.folder, *config(prepared))
    node = segment.host(mac=MAC)
    get_lease(node)
    (prepared.folder / "images/node").unlink()
    for _ in range(3):
        assert b"is not there yet" in http(node, "grub/grub.cfg")[1]
        assert http(node, "report/network", "-d", "again")[0] == 204
        assert b"is not there yet" in http(node, "grub/grub.cfg")[1]
    boot = status_json(prepared.control, "m1")["boot"]
    assert boot["stage"] == "failed"
    assert "no image here" in boot["steps"][-1]["detail"]
    assert [step["stage"] for step in boot["steps"]][-4:] == ["network", "failed"] * 2, "the menu of a failure is none"
    daemon.stop()
    assert daemon.log.count("m1 will not boot") == 1
    assert daemon.log.count("m1: network: again") == 1


# How it starts


def test_a_wrong_configuration_is_refused_with_every_place(prepared: Prepared) -> None:
    path = prepared.configuration
    path.write_text("server: {interfaces: [eth1], http_prt: 80}\npools:\n  - {name: a, image: nod}\nnodes: []\n")
    argv = [sys.executable, "-m", "pxeboot", "serve", "-c", str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (1, "")
    places = [line.removeprefix(f"{path}:").split(": ")[0] for line in said.stderr.splitlines()]
    assert places == ["1:30", "3:22", "4:1"]
    said = subprocess.run([*argv[:-1], "/nonexistent"], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "Traceback" not in said.stderr


def refused(said: subprocess.CompletedProcess[str], *texts: str) -> None:
    """Check that `pxeboot serve` ended with one line that says why."""
    assert said.returncode == 1, said.stdout + said.stderr
    last = said.stderr.splitlines()[-1]
    assert last.startswith("pxeboot serve: "), said.stderr
    for text in texts:
        assert text in last
    assert "Traceback" not in said.stderr


def test_without_an_interface_it_does_not_start(segment: Segment, grub: Path, tmp_path: Path) -> None:
    def with_interfaces(*names: str) -> tuple[str, str]:
        folder = tmp_path / "-".join(names or ("none",))
        server = {"interfaces": [*names], "state": str(folder / "state"), "control": str(folder / "control.sock")}
        folder.mkdir()
        return config(Prepared(folder, grub, server=server))

    refused(serve(segment.server, *with_interfaces()), "server.interfaces is empty")
    refused(serve(segment.server, "--interface", "eth9", "--image", str(tmp_path)), "eth9")


@requires("setpriv")
def test_without_privileges_it_says_which_it_needs(segment: Segment, prepared: Prepared) -> None:
    drop = ("setpriv", "--bounding-set=-net_bind_service,-net_raw,-net_admin", "--")
    said = serve(segment.server, *config(prepared), before=drop)
    refused(said, "CAP_NET_")


@requires("setpriv")
def test_a_state_folder_that_is_not_ours_is_named(segment: Segment, prepared: Prepared) -> None:
    state = prepared.folder / "state"
    shutil.rmtree(state)
    state.write_text("no folder")
    refused(serve(segment.server, *config(prepared)), f"the state folder {state} cannot be used")


def test_a_disk_that_is_full_is_named(segment: Segment, prepared: Prepared) -> None:
    state = prepared.folder / "state"
    grub = state / "boot"
    kept = shutil.move(grub, prepared.folder / "kept")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(state)], check=True)
    try:
        shutil.copytree(kept, grub)
        with suppress(OSError), (state / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 16)):
                pass
        refused(serve(segment.server, *config(prepared)), f"{state}", "No space left on device")
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


@pytest.mark.parametrize(("kind", "port"), [("udp", 67), ("udp", 69), ("tcp", 80), ("tcp", 10809)])
def test_a_port_that_is_taken_is_named(segment: Segment, prepared: Prepared, kind: str, port: int) -> None:
    other = segment.server.popen(sys.executable, "-c", BLOCK, kind, str(port), stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == "bound\n"
    refused(serve(segment.server, *config(prepared)), str(port))
    assert not prepared.control.exists()


def test_a_second_daemon_does_not_disturb_the_first(running: Running, tmp_path: Path) -> None:
    state = running.prepared.folder / "state"
    refused(serve(running.segment.server, *config(running.prepared)), f"another pxeboot serve uses {state}")
    elsewhere = Prepared(tmp_path)
    refused(serve(running.segment.server, *config(elsewhere)), "67")
    assert status(running.prepared.control).returncode == 0
    assert running.prepared.control.is_socket()


def test_a_control_socket_that_still_answers_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def twice() -> None:
        async with ControlSocket(path, Timeline()):
            with pytest.raises(OSError, match="another pxeboot serve answers at"):
                await ControlSocket(path, Timeline()).__aenter__()
            assert path.is_socket()

    async def after_a_kill() -> None:
        killed = await asyncio.start_unix_server(lambda *_: None, path)
        killed.close()
        assert path.is_socket()  # left behind, and nobody answers
        async with ControlSocket(path, Timeline()):
            assert path.stat().st_mode & 0o777 == 0o660

    asyncio.run(twice())
    assert not path.exists()
    asyncio.run(after_a_kill())


def test_a_control_socket_that_cannot_be_made_is_named(segment: Segment, grub: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    control = tmp_path / "file/control.sock"
    server = {"interfaces": ["eth1"], "state": str(tmp_path / "state"), "control": str(control)}
    refused(serve(segment.server, *config(Prepared(tmp_path, grub, server=server))), f"the control socket {control}")


# How it stops


@requires("curl", "busybox")
def test_it_stops_within_two_seconds_and_leaves_nothing(segment: Segment, grub: Path, tmp_path: Path) -> None:
    prepared = Prepared(tmp_path, grub, size_bytes=32 << 20)
    node = segment.host(mac=MAC)
    squashfs = f"http://{SERVER}/images/{prepared.image.image_id}/root.squashfs"

    def stopping_s() -> float:
        daemon = Daemon(segment.server, prepared.folder, *config(prepared))
        assert daemon.first_word == "READY=1"
        get_lease(node)
        slow = node.popen("curl", "-s", "--limit-rate", "1k", "-o", "/dev/null", squashfs)
        idle = node.popen("busybox", "nc", SERVER, "10809", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        time.sleep(0.3)
        assert slow.poll() is None
        assert idle.poll() is None
        took_s = daemon.stop()
        assert daemon.process.returncode == 0
        assert daemon.said() == "STOPPING=1"
        until(lambda: segment.server.pids() == [], "its children have ended")
        assert not prepared.control.exists()
        left = {path.name for path in (prepared.folder / "state").iterdir()}
        assert left == {"boot", "leases", "leases.lock", "lock"}
        assert "Traceback" not in daemon.log
        return took_s

    assert quick(stopping_s, 2)
    again = Daemon(segment.server, prepared.folder, *config(prepared))
    again.stop()


def test_it_starts_again_after_a_kill(segment: Segment, prepared: Prepared) -> None:
    daemon = Daemon(segment.server, prepared.folder, *config(prepared))
    daemon.process.kill()
    daemon.process.wait()
    assert prepared.control.is_socket()
    again = Daemon(segment.server, prepared.folder, *config(prepared))
    assert status(prepared.control).returncode == 0
    again.stop()


SLOW_GRUB = """\
#!/bin/sh
sleep 60 &
for option; do
    case $option in --net-directory=*) mkdir "${option#*=}/grub" ;; esac
done
sleep 60
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_start_that_is_stopped_leaves_nothing(segment: Segment, tmp_path: Path, number: int) -> None:
    prepared = Prepared(tmp_path)
    program = tmp_path / "bin/grub-mknetdir"
    program.parent.mkdir()
    program.write_text(SLOW_GRUB)
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    argv = (sys.executable, "-m", "pxeboot", "serve", *config(prepared))
    process = segment.server.popen(*argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    boot = prepared.folder / "state/boot"
    until(lambda: list(boot.glob(".grub-*/grub")) or process.poll() is not None, "it makes GRUB's images")
    assert process.poll() is None
    assert len(segment.server.pids()) > 1
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)  # its children would take a minute
    assert process.returncode == 0, said
    assert "stopping before the start is over" in said
    assert "Traceback" not in said
    until(lambda: segment.server.pids() == [], "its children have ended", 30)
    assert list(boot.iterdir()) == []
    assert not prepared.control.exists()


def test_ctrl_c_stops_it(segment: Segment, prepared: Prepared) -> None:
    daemon = Daemon(segment.server, prepared.folder, *config(prepared))
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(timeout=60) == 0
    assert daemon.said() == "STOPPING=1"
    assert not prepared.control.exists()


@requires("nohup")
def test_nohup_keeps_it_when_the_terminal_hangs_up(segment: Segment, prepared: Prepared) -> None:
    daemon = Daemon(segment.server, prepared.folder, *config(prepared), before=("nohup",))
    daemon.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(timeout=0.5)
    assert status(prepared.control).returncode == 0
    daemon.stop()


# Without a file


@requires("curl", "busybox", "mksquashfs", "unsquashfs")
def test_an_interface_and_an_image_are_enough(segment: Segment, grub: Path, tmp_path: Path) -> None:
    squashfs = tmp_path / "x.squashfs"
    pack = ["mksquashfs", str(make_root(tmp_path / "root")), str(squashfs), "-no-progress", "-quiet"]
    subprocess.run(pack, check=True, capture_output=True)
    shutil.copytree(grub, tmp_path / "state/boot")
    own_run = ("sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh")  # its control socket is below /run
    argv = ("--interface", "eth1", "--image", str(squashfs), "--state", str(tmp_path / "state"))
    daemon = Daemon(segment.server, tmp_path, *argv, before=own_run)
    address = get_lease(segment.client)
    assert 128 <= int(address.rpartition(".")[2]) <= 254
    menu = (http(segment.client, "grub/grub.cfg")[1]).decode()
    found = re.search(r"/images/([0-9a-f]{64})/01-[0-9a-f-]+/node\.cpio", menu)
    assert found is not None, menu
    assert http(segment.client, f"images/{found[1]}/vmlinuz") == (200, noise("kernel 1.0", 2000))
    assert http(segment.client, f"images/{found[1]}/root.squashfs")[1] == squashfs.read_bytes()
    assert b"overlay module" in http(segment.client, found[0][1:])[1]
    daemon.stop()
    assert "Traceback" not in daemon.log


def test_a_file_or_an_interface_and_an_image_but_not_both(tmp_path: Path) -> None:
    for argv in ([], ["--interface", "eth1"], ["-c", "x", "--interface", "eth1"], ["--image", str(tmp_path)]):
        command = [sys.executable, "-m", "pxeboot", "serve", *argv]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_what_is_no_image_is_refused(segment: Segment, tmp_path: Path) -> None:
    junk = tmp_path / "junk.squashfs"
    junk.write_bytes(b"junk")
    said = serve(segment.server, "--interface", "eth1", "--image", str(junk), "--state", str(tmp_path / "state"))
    assert said.returncode == 1
    assert "tar failed" in said.stderr
    with pytest.raises(CommandFailed):
        Daemon(segment.server, tmp_path, "--interface", "eth1", "--image", str(junk), "--state", str(tmp_path))
