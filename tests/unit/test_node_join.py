"""node/rcfile with a join command that is this boot's alone: fetched once, tried while its token lives."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.initramfs import busybox_root, install, mode, run_inside
from tests.support.segment import requires

NODE = Path(__file__).parents[2] / "node"
TOKEN = "abcdef.0123456789abcdef"
HASH = "sha256:" + "0" * 64
JOIN = f"kubeadm join api:6443 --token {TOKEN} --discovery-token-ca-cert-hash {HASH}"
TEXT = f"{JOIN}\nhosts: 10.0.0.1 api\nhosts: 10.0.0.2 other\ngood_for: 600\n"
NAME = "join/" + "ab" * 16

SAY = '#!/bin/sh\nprintf "%s: %s\\n" "$1" "$(cat "$2")" >>/said\n'
GET = """\
#!/bin/sh
# Answers as the lines of /answers say, one after the other: EXIT WORDS; 0 gives /text. Keys of hosts are in /keys.
echo "$1" >>/asked
case $1 in lts/HOSTS_*) cp "/keys/${1#lts/}" "$2" 2>/dev/null && exit; exit 4 ;; esac
read -r code words </answers
sed -i 1d /answers
[ "$code" != 0 ] || { cp /text "$2"; exit 0; }
echo "$words"
exit "$code"
"""
# Time passes while somebody sleeps.
SLEEP = '#!/bin/sh\necho "$1" >>/slept\nread -r now _ </proc/uptime\necho "$((${now%.*} + $1)).50 0" >/proc/uptime\n'
KUBEADM = """\
#!/bin/sh
[ "$1" != config ] || { [ ! -e /old ] || exit 1; printf 'apiVersion: kubeadm.k8s.io/v1beta2\\nkind: x\\n'; exit; }
echo "$*" >>/joined
cp /etc/hosts /known
[ "$2" != --config ] || { cat "$3" >/settings; stat -c %a "$3" >/mode; }
left=$(cat /failures 2>/dev/null || echo 0)
[ "$left" -gt 0 ] || { printf 'joined with abcdef.0123456789abcdef\\n\\n'; exit; }
echo $((left - 1)) >/failures
mkdir -p /etc/kubernetes/pki
touch /etc/kubernetes/pki/ca.crt
echo "cannot join with abcdef.0123456789abcdef"
echo "To see the stack trace of this error execute with --v=5 or higher"
exit 1
"""
CURL = (
    '#!/bin/sh\nleft=$(cat /unwell)\n[ "$left" -gt 0 ] || { echo ok; exit; }\necho $((left - 1)) >/unwell\nexit 22\n'
)
SYSTEMCTL = '#!/bin/sh\necho "$*" >>/systemctl\n'


class Booted:
    """A machine that has booted, with a name to fetch its join command by."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("run/pxeboot", "etc/kubernetes", "keys"):
            shutil.rmtree(root / folder, ignore_errors=True)
        for folder in ("run/pxeboot/rcfile.d", "etc/kubernetes", "keys"):
            (root / folder).mkdir(parents=True)
        (root / "run/pxeboot/env").write_text(f"SERVER=x\nJOIN_KEY=RCFILE_07_JOIN_K8S\nJOIN_ONCE={NAME}\n")
        for name in ("said", "asked", "slept", "joined", "settings", "mode", "failures", "old", "systemctl", "order"):
            (root / name).unlink(missing_ok=True)
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n10.0.0.2 other\n")
        (root / "proc/uptime").write_text("100.25 0\n")

    def run(self, answers: Sequence[str] = ("0",), text: str = TEXT, commands: Sequence[str] = ()) -> int:
        """Run rcfile; the server gives these answers in turn."""
        (self.root / "answers").write_text("".join(f"{line}\n" for line in answers))
        (self.root / "text").write_text(text)
        folder = self.root / "run/pxeboot/rcfile.d"
        for name, command in zip(("0000.RCFILE_05_A", "0002.RCFILE_10_B"), commands, strict=False):
            (folder / name).write_text(command)
        if not list(folder.glob("*.RCFILE_07_JOIN_K8S")):
            (folder / "0001.RCFILE_07_JOIN_K8S").write_text("")
        return self.boot()

    def boot(self) -> int:
        """Run rcfile with what is there."""
        return run_inside(self.root, "/usr/lib/pxeboot/rcfile", path="/fake:/bin").returncode

    def lines(self, name: str) -> list[str]:
        """Return what a file of the machine says."""
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module", params=["dash", "busybox"])
def machine_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = busybox_root(tmp_path_factory.mktemp("machine"), request.param)
    if request.param == "dash":
        install("dash", root)
    (root / "usr/lib/pxeboot").mkdir(parents=True)
    (root / "fake").mkdir()
    scripts = {
        "usr/lib/pxeboot/rcfile": (NODE / "rcfile").read_text(), "usr/lib/pxeboot/say": SAY,
        "usr/lib/pxeboot/get": GET, "fake/sleep": SLEEP, "fake/kubeadm": KUBEADM, "fake/systemctl": SYSTEMCTL,
        "fake/curl": CURL,
    }  # fmt: skip
    for path, text in scripts.items():
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    return root


@pytest.fixture
def machine(machine_root: Path) -> Booted:
    return Booted(machine_root)


@requires("dash", "busybox", "unshare")
def test_it_joins_with_the_command_that_it_fetched(machine: Booted) -> None:
    assert machine.run(commands=["echo a >>/order", "cp /joined /order2; echo b >>/order"]) == 0
    assert machine.lines("asked") == [NAME]
    assert machine.lines("joined") == ["join --config /run/pxeboot/join-settings"]
    assert machine.lines("order2") == machine.lines("joined"), "the join has its place among the commands"
    assert machine.lines("order") == ["a", "b"]
    assert machine.lines("said") == [
        f"joining: kubeadm join api:6443 --token *** --discovery-token-ca-cert-hash {HASH}",
        "joined: joined with ***",
    ]
    assert machine.lines("etc/hosts") == ["127.0.0.1 localhost", "10.0.0.2 other", "10.0.0.1 api"]


@requires("dash", "busybox", "unshare")
def test_the_token_is_no_argument_of_kubeadm_and_is_gone_when_it_has_joined(machine: Booted) -> None:
    assert machine.run() == 0
    assert machine.lines("settings") == [
        "apiVersion: kubeadm.k8s.io/v1beta2", "kind: JoinConfiguration", "discovery:", "  bootstrapToken:",
        '    apiServerEndpoint: "api:6443"', f'    token: "{TOKEN}"', "    caCertHashes:", f'    - "{HASH}"',
    ]  # fmt: skip
    assert machine.lines("mode") == ["600"]
    kept = [path for path in (machine.root / "run").rglob("*") if path.is_file() and TOKEN in path.read_text()]
    assert [path.name for path in kept] == ["RCFILE_07_JOIN_K8S.log"], "which only root reads, as what kubeadm said"


@requires("dash", "busybox", "unshare")
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (f"FOO=1 {JOIN}", JOIN),
        (f"{JOIN} --v=5", f"{JOIN} --v=5"),
        (f"{JOIN}; true", JOIN),
        ("kubeadm join --token x", "kubeadm join --token x"),
    ],
)
def test_a_command_that_has_no_place_in_settings_is_run_as_it_is(
    machine: Booted, command: str, arguments: str
) -> None:
    assert machine.run(text=f"{command}\n") == 0
    assert machine.lines("joined") == [arguments.removeprefix("kubeadm ")]
    assert machine.lines("said")[-1] == "joined: joined with ***"


@requires("dash", "busybox", "unshare")
def test_a_kubeadm_that_prints_no_settings_is_given_its_options(machine: Booted) -> None:
    (machine.root / "old").write_text("")
    assert machine.run() == 0
    assert machine.lines("joined") == [JOIN.removeprefix("kubeadm ")]


@requires("dash", "busybox", "unshare")
def test_it_asks_until_it_is_given_a_command_and_says_why_it_waits_once(machine: Booted) -> None:
    waits = ["3 the controller does not answer"] * 3 + ["1 the server does not answer"] * 2
    assert machine.run([*waits, "0"]) == 0
    assert machine.lines("said")[:2] == [
        "joining: no join command yet: the controller does not answer",
        "joining: no join command yet: the server does not answer",
    ]
    assert machine.lines("slept") == ["5"] * 5
    assert machine.lines("said")[-1].startswith("joined: ")


@requires("dash", "busybox", "unshare")
def test_a_machine_that_is_refused_says_so_waits_and_starts_again(machine: Booted) -> None:
    assert machine.run(["4 it was fetched before"], commands=["true", "echo b >>/order"]) == 1
    assert machine.lines("said") == [
        "failed: it is refused a join command: it was fetched before. It starts again in 60 s"
    ]
    assert machine.lines("slept") == ["60"]
    assert machine.lines("systemctl") == ["reboot"]
    assert machine.lines("order") == [], "it goes down"


@requires("dash", "busybox", "unshare")
def test_it_tries_again_while_its_token_lives(machine: Booted) -> None:
    (machine.root / "failures").write_text("3")
    assert machine.run() == 0
    assert len(machine.lines("joined")) == 4
    assert machine.lines("asked") == [NAME], "the name is spent"
    assert machine.lines("slept") == ["5"] * 3
    assert "joining: try 3 failed: cannot join with ***" in machine.lines("said")
    assert machine.lines("systemctl") == ["stop kubelet"] * 3
    assert not (machine.root / "etc/kubernetes/pki/ca.crt").exists(), "which kubeadm would refuse to go on from"


@requires("dash", "busybox", "unshare")
def test_a_kubelet_that_has_its_certificate_needs_kubeadm_no_more(machine: Booted) -> None:
    (machine.root / "failures").write_text("100")
    (machine.root / "etc/kubernetes/kubelet.conf").write_text("mine")
    (machine.root / "unwell").write_text("3")
    assert machine.run() == 0
    assert len(machine.lines("joined")) == 1
    assert machine.lines("slept") == ["5"] * 3
    assert machine.lines("said")[-1] == "joined: the kubelet is well, though kubeadm said: cannot join with ***"
    assert machine.lines("systemctl") == []
    assert (machine.root / "etc/kubernetes/pki/ca.crt").exists()


@requires("dash", "busybox", "unshare")
def test_with_a_token_that_machines_share_the_next_try_finds_nothing_of_the_one_before(machine: Booted) -> None:
    (machine.root / "run/pxeboot/env").write_text("SERVER=x\nJOIN_KEY=RCFILE_07_JOIN_K8S\n")
    (machine.root / "failures").write_text("2")
    assert machine.run(answers=["0"] * 9, text=JOIN) == 0
    assert machine.lines("joined") == ["join --config /run/pxeboot/join-settings"] * 3
    assert machine.lines("said")[-1] == "joined: joined with ***"
    assert not (machine.root / "etc/kubernetes/pki/ca.crt").exists(), "which kubeadm would refuse to go on from"
    (machine.root / "failures").write_text("100")
    (machine.root / "etc/kubernetes/kubelet.conf").write_text("mine")
    (machine.root / "unwell").write_text("1")
    assert machine.run(answers=["0"] * 9, text=JOIN) == 0
    assert machine.lines("said")[-1] == "joined: the kubelet is well, though kubeadm said: cannot join with ***"
    assert not (machine.root / "run/pxeboot/join-settings").exists()


@requires("dash", "busybox", "unshare")
def test_a_machine_that_booted_without_a_command_knows_the_servers_name_before_it_joins(machine: Booted) -> None:
    """As one does that boots while the API is away for long: what goes with the command is away, too."""
    (machine.root / "run/pxeboot/env").write_text("SERVER=x\nJOIN_KEY=RCFILE_07_JOIN_K8S\n")
    for key, line in (("HOSTS_07_JOIN_K8S", "10.0.0.1 api\n"), ("HOSTS_07_JOIN_K8S_2", "10.0.0.2 other")):
        (machine.root / "keys" / key).write_text(line)
    assert machine.run(["1 the server does not answer", "0"], text=JOIN) == 0
    keys = ["RCFILE_07_JOIN_K8S"] * 2 + [f"HOSTS_07_JOIN_K8S{more}" for more in ("", "_2", "_3")]
    assert machine.lines("asked") == [f"lts/{key}" for key in keys]
    assert machine.lines("known") == ["127.0.0.1 localhost", "10.0.0.2 other", "10.0.0.1 api"]
    (machine.root / "keys/HOSTS_07_JOIN_K8S_2").write_text("10.0.0.3 api")
    (machine.root / "failures").write_text("1")
    assert machine.run(["0"], text=JOIN) == 0
    assert machine.lines("known")[3:] == ["10.0.0.3 api"], "and where it has moved to, when a try fails"
    assert not (machine.root / "run/pxeboot/hosts").exists()


@requires("dash", "busybox", "unshare")
def test_a_machine_of_no_cluster_runs_its_commands_and_asks_for_nothing(machine: Booted) -> None:
    (machine.root / "run/pxeboot/env").write_text("SERVER=x\nJOIN_KEY=''\nJOIN_ONCE=''\n")
    (machine.root / "run/pxeboot/rcfile.d/0000.RCFILE_05_A").write_text("echo a >>/order")
    assert machine.boot() == 0
    assert machine.lines("order") == ["a"]
    assert machine.lines("asked") == machine.lines("slept") == machine.lines("joined") == []


@requires("dash", "busybox", "unshare")
def test_of_an_address_that_is_a_number_no_machine_asks_for_more(machine: Booted) -> None:
    (machine.root / "run/pxeboot/env").write_text("SERVER=x\nJOIN_KEY=RCFILE_07_JOIN_K8S\n")
    assert machine.run(["0"], text=JOIN.replace("api:6443", "10.28.0.10:6443")) == 0
    assert machine.lines("asked") == ["lts/RCFILE_07_JOIN_K8S"]


@requires("dash", "busybox", "unshare")
def test_a_kubelet_that_is_not_well_before_its_token_ends_starts_again(machine: Booted) -> None:
    (machine.root / "failures").write_text("100")
    (machine.root / "etc/kubernetes/kubelet.conf").write_text("mine")
    (machine.root / "unwell").write_text("1000")
    assert machine.run(text=TEXT.replace("600", "20")) == 1
    assert len(machine.lines("joined")) == 1
    assert machine.lines("systemctl") == ["reboot"]


@requires("dash", "busybox", "unshare")
def test_when_its_token_has_ended_it_starts_again(machine: Booted) -> None:
    (machine.root / "failures").write_text("1000")
    assert machine.run(text=TEXT.replace("600", "20")) == 1
    assert len(machine.lines("joined")) == 4
    assert machine.lines("said")[-1] == (
        "failed: no join after 4 tries, and its token has ended: cannot join with ***. It starts again in 60 s"
    )
    assert machine.lines("systemctl")[-1] == "reboot"


@requires("dash", "busybox", "unshare")
def test_the_service_started_again_joins_no_second_time(machine: Booted) -> None:
    assert machine.run() == 0
    said = machine.lines("said")
    assert machine.run(answers=["4 it was fetched before"]) == 0
    assert (machine.lines("asked"), len(machine.lines("joined")), machine.lines("said")) == ([NAME], 1, said)


@requires("dash", "busybox", "unshare")
def test_the_service_started_again_goes_on_with_the_command_that_it_has(machine: Booted) -> None:
    (machine.root / "failures").write_text("1000")
    assert machine.run(text=TEXT.replace("600", "20")) == 1  # as if it had been ended on the way
    (machine.root / "run/pxeboot/join-until").write_text("10000")
    (machine.root / "failures").write_text("0")
    assert machine.run(answers=["4 it was fetched before"]) == 0
    assert machine.lines("asked") == [NAME]
    assert mode(machine.root / "run/pxeboot/joined") == 0o644
