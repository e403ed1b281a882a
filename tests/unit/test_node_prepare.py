"""node/'s scripts, run by the shells that run them: busybox in an initrd, dash on the machine."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.model import NodeSettings, Pool
from pxeboot.bootfiles import archive
from pxeboot.bootfiles.machine import Machine
from pxeboot.bootfiles.scripts import node_files
from tests.support.cpio_reader import unpack
from tests.support.initramfs import ROOT, busybox_root, install, mode, run_inside, unpack_into
from tests.support.segment import requires

NODE = Path(__file__).parents[2] / "node"
TOKEN = "abcdef.0123456789abcdef"
JOIN = f"kubeadm join 10.0.0.1:6443 --token {TOKEN} --discovery-token-ca-cert-hash sha256:00"
HASH = r"$6$sa&lt$ha\nsh/with\\all/of.it"
NASTY = r"""'q' "dq" $HOME `touch /pwned` $(touch /pwned) \n \\ ; touch /pwned & * #"""

LTS = {
    "FSTAB_10": "tmpfs /ten tmpfs defaults 0 0",
    "FSTAB_9_X": f"tmpfs /nine tmpfs {NASTY} 0 0",
    "FSTAB_01": "tmpfs /one tmpfs defaults 0 0",
    "HOSTS_1": f"10.0.0.1 {NASTY}",
    "HOSTS_2": "10.0.0.2 two",
    "CRONTAB_01": "* * * * * root echo \"$(date)\" `id` 50\\%",
    "MODULE_2": "dummy numdummies=2",
    "MODULE_10": f"odd {NASTY}",
    "MODULE_1": "br_netfilter",
    "INIT_COMMAND_10": "echo ten >>/order",
    "INIT_COMMAND_9": "echo \"it's nine\" '$HOME' >>/order",
    "INIT_COMMAND_2": "echo two >>/order; echo said; echo wrong >&2; false",
    "PREINIT_00": "echo preinit >>/order; ls /etc/systemd/system >/seen; ls -d /proc /sys /dev/null /run >/dev/null",
    "RCFILE_10_B": "echo b",
    "RCFILE_07_JOIN_K8S": JOIN,
    "KEEP_SYSTEM_SERVICES": "cron \t kept.service",
    "RM_SYSTEM_SERVICES": f"cron kept gone other.timer b?n {NASTY}",
    "UNKNOWN": NASTY,
}  # fmt: skip

SETTINGS = {
    "timezone": "Europe/Prague",
    "root_password_hash": HASH,
    "ssh_authorized_keys": ["ssh-ed25519 AAAA me"],
    "services": ["absent", "present"],
    "files": {
        "hello.service": {"content": "[Install]\nWantedBy=multi-user.target other.target\n"},
        "/opt/a b/ c ": {"content": "spaces\n", "mode": "0700"},
        "/etc/kept/new": {"content": "new\n"},
        "/etc/folder": {"content": "a folder is in the way\n"},
    },
}

MACHINE = Machine(
    name="m1",
    mac="52:54:00:00:00:01",
    macs=("52:54:00:00:00:01",),
    ip=IPv4Address("10.0.0.10"),
    pool=Pool(name="workers", image="node"),
    kernel_parameters=(),
    lts={},
    labels={},
    taints=(),
    services=("absent", "present"),
)
IMAGE = archive.Root("1" * 64, "2" * 64, 1000, (), "http://10.0.0.1", "10.0.0.1", 10809, "RCFILE_07_JOIN_K8S")


def make_system(root: Path) -> None:
    """Make the root of an image as it is before `prepare`."""
    busybox_root(root, "busybox")
    for folder in (
        "root",
        "usr/lib/systemd/system",
        "etc/systemd/system/multi-user.target.wants",
        "etc/kept",
        "etc/rc2.d",
    ):
        (root / folder).mkdir(parents=True)
    (root / "root").chmod(0o700)
    (root / "etc/kept").chmod(0o2750)
    os.chown(root / "etc/kept", 7, 7)
    (root / "etc/folder").mkdir()
    (root / "etc/folder/in-it").write_text("")
    (root / "outside").write_text("untouched\n")
    for link in ("etc/hostname", "etc/resolv.conf", "etc/localtime"):
        (root / link).symlink_to("/outside")
    (root / "etc/fstab").write_text("UUID=of-another-machine / ext4\n")
    (root / "etc/shadow").write_text("daemon:*:1::::::\nroot:!locked:19000:0:99999:7:::\nrooty:*:1::::::\n")
    (root / "etc/shadow").chmod(0o640)
    for unit in ("present", "systemd-networkd"):
        (root / f"usr/lib/systemd/system/{unit}.service").write_text("[Install]\nWantedBy=multi-user.target\n")
    for name in ("cron.service", "kept.service", "gone.service", "other.timer", "ban.service", "apt-daily.timer"):
        (root / "etc/systemd/system/multi-user.target.wants" / name).symlink_to(f"/lib/systemd/system/{name}")
    (root / "etc/ssh").mkdir()
    (root / "etc/ssh/ssh_host_ed25519_key").write_text("the same for all who fetch the image\n")
    (root / "etc/ssh/sshd_config").write_text("")
    (root / "etc/rc2.d/S01gone").symlink_to("../init.d/gone")
    (root / "etc/rc2.d/S01cron").symlink_to("../init.d/cron")


@dataclass
class Prepared:
    """An initramfs in which `prepare` ran, and what it said."""

    initramfs: Path
    said: str

    @property
    def system(self) -> Path:
        """The prepared root."""
        return self.initramfs / ROOT

    def text(self, path: str) -> str:
        """Return a file of the prepared root."""
        return (self.system / path).read_text()

    @property
    def wanted(self) -> set[str]:
        """The units that multi-user.target wants."""
        return set(os.listdir(self.system / "etc/systemd/system/multi-user.target.wants"))


def machine_to_prepare(initramfs: Path, shell: str) -> Path:
    """Make an initramfs with the root of an image mounted, just before `prepare`; return it."""
    busybox_root(initramfs, shell)
    settings = NodeSettings.model_validate(SETTINGS)
    files = {path: (file.content or "").encode() for path, file in settings.files.items()}
    unpack_into(initramfs, unpack(archive.node_cpio(MACHINE, IMAGE, LTS, settings, files, node_files())))
    make_system(initramfs / ROOT)
    (initramfs / "run/net-eth0.conf").write_text(
        "IPV4ADDR='10.0.0.10'\nIPV4DNS0='10.0.0.1'\nIPV4DNS1='0.0.0.0'\nDNSDOMAIN='farm.example'\nDOMAINSEARCH=''\n"
    )
    return initramfs


def prepare(initramfs: Path, writable: str = "") -> Prepared:
    """Run `prepare`, where WRITABLE is as given."""
    script = f'WRITABLE={writable}; . /pxeboot/prepare; prepare /{ROOT}; echo "$PREPARED"'
    done = run_inside(initramfs, "/bin/sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return Prepared(initramfs, done.stdout)


@pytest.fixture(scope="module", params=["busybox", "dash"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(machine_to_prepare(tmp_path_factory.mktemp("initramfs"), request.param))


def test_a_value_is_data_and_is_never_run(prepared: Prepared) -> None:
    assert not (prepared.initramfs / "pwned").exists()
    assert not (prepared.system / "pwned").exists()


def test_fstab_holds_the_farms_lines_in_order_and_no_disk(prepared: Prepared) -> None:
    lines = prepared.text("etc/fstab").splitlines()
    assert lines[1:] == [LTS["FSTAB_01"], LTS["FSTAB_9_X"], LTS["FSTAB_10"]]


def test_hosts_are_added_to_the_machines_own(prepared: Prepared) -> None:
    lines = prepared.text("etc/hosts").splitlines()
    assert lines[-3:] == ["10.0.0.10 m1", LTS["HOSTS_1"], LTS["HOSTS_2"]]


def test_crontab_lines_are_as_they_were_written(prepared: Prepared) -> None:
    assert prepared.text("etc/cron.d/pxeboot").splitlines()[1:] == [LTS["CRONTAB_01"]]
    assert mode(prepared.system / "etc/cron.d/pxeboot") == 0o644


def test_modules_are_loaded_in_order_with_their_options(prepared: Prepared) -> None:
    assert prepared.text("etc/modules-load.d/pxeboot-lts.conf").splitlines() == ["br_netfilter", "dummy", "odd"]
    assert prepared.text("etc/modprobe.d/pxeboot-lts.conf").splitlines() == [
        "options dummy numdummies=2",
        f"options odd {NASTY}",
    ]


def test_commands_run_in_the_system_in_order_and_one_that_fails_stops_nothing(prepared: Prepared) -> None:
    assert prepared.text("order").splitlines() == ["two", "it's nine $HOME", "ten", "preinit"]
    assert "INIT_COMMAND_2 failed" in prepared.said
    assert "INIT_COMMAND_9" not in prepared.said
    assert "PREINIT_00" not in prepared.said
    assert (prepared.initramfs / "run/pxeboot/INIT_COMMAND_2.log").read_text() == "said\nwrong\n"


def test_preinit_runs_when_services_are_as_they_will_be(prepared: Prepared) -> None:
    assert "multi-user.target.wants" in prepared.text("seen")


def test_services_are_removed_but_for_those_that_are_kept(prepared: Prepared) -> None:
    assert {"cron.service", "kept.service"} <= prepared.wanted
    assert not {"gone.service", "other.timer", "ban.service", "apt-daily.timer"} & prepared.wanted
    assert sorted(os.listdir(prepared.system / "etc/rc2.d")) == ["S01cron"]


def test_services_are_enabled_or_missed(prepared: Prepared) -> None:
    enabled = {"hello.service", "present.service", "systemd-networkd.service", "pxeboot-report.service"}
    assert enabled <= prepared.wanted
    assert "no unit absent.service in the image" in prepared.said
    link = prepared.system / "etc/systemd/system/other.target.wants/hello.service"
    assert link.readlink() == Path("/etc/systemd/system/hello.service")


def test_the_root_password_is_set_and_nothing_else_of_shadow(prepared: Prepared) -> None:
    assert prepared.text("etc/shadow").splitlines() == [
        "daemon:*:1::::::",
        f"root:{HASH}:19000:0:99999:7:::",
        "rooty:*:1::::::",
    ]
    assert mode(prepared.system / "etc/shadow") == 0o640
    assert not (prepared.initramfs / "run/pxeboot/shadow").exists()


def test_a_link_in_the_way_is_replaced_and_not_followed(prepared: Prepared) -> None:
    assert prepared.text("outside") == "untouched\n"
    assert prepared.text("etc/hostname") == "m1\n"
    assert not (prepared.system / "etc/hostname").is_symlink()
    assert (prepared.system / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Prague")


def test_folders_keep_their_mode_and_new_ones_get_theirs(prepared: Prepared) -> None:
    kept = (prepared.system / "etc/kept").stat()
    assert (kept.st_mode & 0o7777, kept.st_uid, kept.st_gid) == (0o2750, 7, 7)
    assert prepared.text("etc/kept/new") == "new\n"
    assert mode(prepared.system / "root") == 0o700
    assert mode(prepared.system / "root/.ssh") == 0o700
    assert mode(prepared.system / "root/.ssh/authorized_keys") == 0o600
    assert mode(prepared.system / "opt/a b") == 0o755


def test_no_machine_keeps_the_ssh_keys_of_its_image(prepared: Prepared) -> None:
    assert [path.name for path in (prepared.system / "etc/ssh").iterdir()] == ["sshd_config"]


def test_a_root_that_is_kept_is_prepared_again_and_keeps_its_keys(tmp_path: Path) -> None:
    """Nothing is there twice, nor left of an lts.conf that said more."""
    initramfs = machine_to_prepare(tmp_path / "initramfs", "busybox")
    first = prepare(initramfs, writable="1")
    hosts, modules = first.text("etc/hosts"), first.text("etc/modules-load.d/pxeboot-lts.conf")
    assert not (first.system / "etc/ssh/ssh_host_ed25519_key").exists(), "that of the image"
    (first.system / "etc/ssh/ssh_host_ed25519_key").write_text("its own")
    second = prepare(initramfs, writable="1")
    assert second.text("etc/ssh/ssh_host_ed25519_key") == "its own"
    assert second.text("etc/hosts") == hosts
    assert second.text("etc/modules-load.d/pxeboot-lts.conf") == modules
    for path in (initramfs / "pxeboot/lts").iterdir():
        path.unlink()
    third = prepare(initramfs, writable="1")
    assert not (third.system / "etc/modules-load.d/pxeboot-lts.conf").exists()
    assert not (third.system / "etc/cron.d/pxeboot").exists()


def test_names_may_hold_spaces(prepared: Prepared) -> None:
    assert prepared.text("opt/a b/ c ") == "spaces\n"
    assert mode(prepared.system / "opt/a b/ c ") == 0o700


def test_a_folder_in_the_way_of_a_file_stays(prepared: Prepared) -> None:
    assert (prepared.system / "etc/folder/in-it").exists()


def test_the_resolver_is_what_dhcp_said(prepared: Prepared) -> None:
    assert prepared.text("etc/resolv.conf") == "nameserver 10.0.0.1\nsearch farm.example\n"
    assert not (prepared.system / "etc/resolv.conf").is_symlink()


def test_what_runs_later_waits_below_run_for_root_alone(prepared: Prepared) -> None:
    run = prepared.initramfs / "run/pxeboot"
    assert sorted(path.name.split(".")[1] for path in (run / "rcfile.d").iterdir()) == [
        "RCFILE_07_JOIN_K8S",
        "RCFILE_10_B",
    ]
    assert [path.read_text() for path in sorted((run / "rcfile.d").iterdir())] == [JOIN, "echo b"]
    assert (mode(run), mode(run / "rcfile.d")) == (0o700, 0o700)
    assert {mode(path) for path in (run / "rcfile.d").iterdir()} == {0o600}
    assert mode(prepared.system / "etc/lts.conf") == 0o600
    box = prepared.system / "usr/lib/pxeboot/busybox"
    assert box.read_bytes() == (prepared.initramfs / "bin/busybox").read_bytes()


def test_a_token_is_in_no_file_that_all_may_read(prepared: Prepared) -> None:
    holders = subprocess.run(
        ["grep", "-rl", "--devices=skip", TOKEN, str(prepared.initramfs)], capture_output=True, text=True, check=True
    )
    found = [Path(line) for line in holders.stdout.splitlines()]
    assert len(found) == 4  # twice in the archive, in /run, and in /etc/lts.conf
    for path in found:
        assert mode(path) == 0o600, path


def test_it_says_what_it_did(prepared: Prepared) -> None:
    assert prepared.said.startswith("host name m1; ")
    assert prepared.said.endswith(f"; {len(LTS)} keys of lts.conf\n")


# rcfile: on the machine itself, where /bin/sh is dash


FAKE_SAY = '#!/bin/sh\nprintf "%s: %s\\n" "$1" "$(cat "$2")" >>/said\n'
FAKE_GET = '#!/bin/sh\necho "$1" >>/asked\n[ -e /server/$(basename "$1") ] && cp /server/$(basename "$1") "$2"\n'
FAKE_CURL = """\
#!/bin/sh
left=$(cat /deaf 2>/dev/null || echo 0)
[ "$left" -le 0 ] || { echo $((left - 1)) >/deaf; exit 7; }
for word; do
	case $word in @*) said=$(cat "${word#@}") ;; http:*) url=$word ;; esac
done
echo "$url $said" >/heard
"""
FAKE_SLEEP = '#!/bin/sh\necho "$1" >>/slept\n[ ! -e /then ] || { sh /then; rm /then; }\n'
FAKE_KUBEADM = """\
#!/bin/sh
[ "$1" != config ] || exit 1 # it prints no settings, so it is given its options
echo "$*" >>/joined
left=$(cat /failures 2>/dev/null || echo 0)
[ "$left" -le 0 ] || { echo $((left - 1)) >/failures; echo "error: token $4 is not good"; exit 1; }
echo "This node has joined with $4"
"""


@pytest.fixture(scope="module")
def machine_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = busybox_root(tmp_path_factory.mktemp("machine"), "dash")
    install("dash", root)
    (root / "usr/lib/pxeboot").mkdir(parents=True)
    shutil.copy(NODE / "rcfile", root / "usr/lib/pxeboot/rcfile")
    (root / "usr/lib/pxeboot/rcfile").chmod(0o755)  # as the archive has it
    (root / "fake").mkdir()
    for path, text in (
        ("usr/lib/pxeboot/say", FAKE_SAY),
        ("usr/lib/pxeboot/get", FAKE_GET),
        ("fake/sleep", FAKE_SLEEP),
        ("fake/curl", FAKE_CURL),
        ("fake/say", (NODE / "say").read_text()),
        ("fake/kubeadm", FAKE_KUBEADM),
    ):
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    return root


class Booted:
    """A machine whose RCFILE commands are run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("run/pxeboot", "server"):
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir(parents=True)
        for name in ("said", "asked", "slept", "then", "joined", "failures", "order"):
            (root / name).unlink(missing_ok=True)
        (root / "run/pxeboot/rcfile.d").mkdir()

    def run(self, commands: dict[str, str], join_key: str = "") -> int:
        """Run rcfile with these files; return its exit code."""
        (self.root / "run/pxeboot/env").write_text(f"SERVER=http://10.0.0.1\nJOIN_KEY='{join_key}'\n")
        for name, text in commands.items():
            (self.root / "run/pxeboot/rcfile.d" / name).write_text(text)
        return run_inside(self.root, "/usr/lib/pxeboot/rcfile", path="/fake:/bin").returncode

    def lines(self, name: str) -> list[str]:
        """Return what a file of the machine says."""
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(machine_root: Path) -> Booted:
    return Booted(machine_root)


@requires("dash", "busybox")
def test_rcfiles_run_in_order_and_one_that_fails_stops_nothing(machine: Booted) -> None:
    second, ninth, tenth = "echo 2 >>/order; false", "echo 9 >>/order", "echo 10 >>/order"
    assert machine.run({"0003.RCFILE_10": tenth, "0001.RCFILE_02": second, "0002.RCFILE_9": ninth}) == 1
    assert machine.lines("order") == ["2", "9", "10"]
    assert machine.lines("said") == [
        "failed: RCFILE_02 ended with status 1; what it said is in /run/pxeboot/RCFILE_02.log"
    ]


@requires("dash", "busybox")
def test_a_command_is_one_for_the_shell_whatever_it_holds(machine: Booted) -> None:
    assert machine.run({"0001.RCFILE_1": "printf '%s\\n' \"it's\" '$HOME' `echo x` >/order"}) == 0
    assert machine.lines("order") == ["it's", "$HOME", "x"]


@requires("dash", "busybox")
def test_the_join_command_is_said_without_its_token(machine: Booted) -> None:
    assert machine.run({"0001.RCFILE_07_JOIN_K8S": JOIN}, "RCFILE_07_JOIN_K8S") == 0
    assert machine.lines("said") == [
        f"joining: {JOIN.replace(TOKEN, '***')}",
        "joined: This node has joined with ***",
    ]
    assert machine.lines("joined") == [JOIN.removeprefix("kubeadm ")]
    assert machine.lines("slept") == []


@requires("dash", "busybox")
@pytest.mark.parametrize("form", ["--token={}", "--token  {}", "--tls-bootstrap-token {}", '--token "{}"', "x{} {}"])
def test_a_token_is_masked_in_whatever_form_it_comes(machine: Booted, form: str) -> None:
    machine.run({"0001.RCFILE_01": f"true join {form.format(TOKEN, TOKEN)}"}, "RCFILE_01")
    assert machine.lines("said")
    assert TOKEN not in "\n".join(machine.lines("said"))


@requires("dash", "busybox")
def test_half_a_token_at_the_end_of_a_long_line_is_masked_too(machine: Booted) -> None:
    machine.run({"0001.RCFILE_01": f"echo join {'x' * 180} {TOKEN}"}, "RCFILE_01")
    assert machine.lines("said")
    assert TOKEN[:12] not in "\n".join(machine.lines("said"))


@requires("dash", "busybox")
def test_a_join_that_fails_is_tried_again_and_asks_for_a_newer_command(machine: Booted) -> None:
    (machine.root / "failures").write_text("2")
    newer = JOIN.replace(TOKEN, "bbbbbb.bbbbbbbbbbbbbbbb")
    (machine.root / "server/RCFILE_07_JOIN_K8S").write_text(newer)
    assert machine.run({"0001.RCFILE_07_JOIN_K8S": JOIN}, "RCFILE_07_JOIN_K8S") == 0
    assert [line.split()[3] for line in machine.lines("joined")] == [TOKEN, *["bbbbbb.bbbbbbbbbbbbbbbb"] * 2]
    assert machine.lines("asked") == ["lts/RCFILE_07_JOIN_K8S"] * 2
    assert machine.lines("slept") == ["5", "5"]
    said = machine.lines("said")
    assert said[1] == "joining: try 1 failed: error: token *** is not good"
    assert said[-1] == "joined: This node has joined with ***"


@requires("dash", "busybox")
def test_a_machine_without_a_join_command_asks_until_there_is_one(machine: Booted) -> None:
    (machine.root / "then").write_text(f"echo '{JOIN}' >/server/RCFILE_07_JOIN_K8S\n")
    assert machine.run({"0001.RCFILE_01": "true"}, "RCFILE_07_JOIN_K8S") == 0
    assert machine.lines("said")[0].startswith("joining: there is no valid join command yet")
    assert machine.lines("said")[-1] == "joined: This node has joined with ***"
    assert machine.lines("slept") == ["5"]


@requires("dash", "busybox")
def test_a_machine_of_no_cluster_joins_nothing(machine: Booted) -> None:
    assert machine.run({}) == 0
    assert machine.lines("said") == []
    assert machine.lines("asked") == []


@requires("dash", "busybox")
def test_a_join_that_never_works_is_given_up(machine: Booted) -> None:
    (machine.root / "failures").write_text("1000")
    script = machine.root / "usr/lib/pxeboot/rcfile"
    whole = script.read_text()
    try:
        script.write_text(whole.replace("seq 1 360", "seq 1 3"))
        assert machine.run({"0001.RCFILE_07_JOIN_K8S": JOIN}, "RCFILE_07_JOIN_K8S") == 1
    finally:
        script.write_text(whole)
    assert machine.lines("said")[-1] == "failed: no join after 3 tries: error: token *** is not good"


@requires("shellcheck")
def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    scripts = [path for path in sorted(NODE.iterdir()) if path.suffix not in (".service", ".pl")]
    said = subprocess.run(["shellcheck", "-s", "sh", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert said.stdout == ""


@requires("dash", "busybox")
def test_what_matters_is_said_again_until_it_is_heard(machine: Booted) -> None:
    """A server that is being restarted hears of it later; nothing waits for that."""
    (machine.root / "run/pxeboot/env").write_text("SERVER=http://10.0.0.1\n")
    (machine.root / "news").write_text("multi-user")
    for name in ("heard", "slept"):
        (machine.root / name).unlink(missing_ok=True)
    (machine.root / "deaf").write_text("3")
    assert run_inside(machine.root, "/fake/say", "fetch", "/news", path="/fake:/bin").returncode == 1
    assert not (machine.root / "heard").exists()
    assert run_inside(machine.root, "/fake/say", "system", "/news", "insist", path="/fake:/bin").returncode == 0
    deadline = time.monotonic() + 10
    while any((machine.root / "run/pxeboot").glob("unheard-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert machine.lines("heard") == ["http://10.0.0.1/report/system multi-user"]
    assert machine.lines("slept") == ["5", "5"], "two were missed: one at once, one in the background"
