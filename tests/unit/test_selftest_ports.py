import errno
import os
from pathlib import Path

import pytest

from config.model import Farm
from pxeboot.selftest import ports
from pxeboot.selftest.findings import Finding
from pxeboot.selftest.ports import Owner, Wanted

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
FARM = Farm.model_validate(
    {"server": {"interfaces": ["eth1"]}, "dhcp": {"subnets": [{"subnet": "10.0.0.0/24"}]}, "web": {"listen": []}}
)


def line(address: str, port: int, state: int, inode: int, uid: int = 0) -> str:
    queues = "00000000:00000000 00:00000000 00000000"
    return f"   0: {address}:{port:04X} 00000000:0000 {state:02X} {queues} {uid} 0 {inode} 2\n"


def proc(folder: Path, *lines: tuple[str, str], processes: dict[int, tuple[str, str, str, tuple[int, ...]]]) -> Path:
    """Make a /proc: lines of its tables, and processes with a name, a command line, a cgroup and sockets."""
    for table in ("udp", "udp6", "tcp", "tcp6"):
        (folder / "self/net").mkdir(parents=True, exist_ok=True)
        (folder / "self/net" / table).write_text(HEAD + "".join(text for where, text in lines if where == table))
    for pid, (name, words, cgroup, inodes) in processes.items():
        (folder / str(pid) / "fd").mkdir(parents=True)
        (folder / str(pid) / "comm").write_text(name + "\n")
        (folder / str(pid) / "cmdline").write_bytes(b"\0".join(map(os.fsencode, words.split())) + b"\0")
        (folder / str(pid) / "cgroup").write_text(cgroup)
        for number, inode in enumerate(inodes):
            (folder / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    return folder


DNSMASQ = ("dnsmasq", "/usr/sbin/dnsmasq -x", "0::/system.slice/dnsmasq.service\n", (7,))
NGINX = ("nginx", "nginx: master", "0::/user.slice/session-1.scope\n", (7,))
OURS = ("python3", "python3 /usr/bin/pxeboot serve -c f", "0::/system.slice/pxeboot.service\n", (7,))
SYSTEMD = ("systemd", "/sbin/init", "0::/init.scope\n", (7,))


def look(folder: Path, *, free: bool | None = False, me: int = 1000, farm: Farm = FARM) -> list[Finding]:
    return ports.look(farm, ["eth1"], folder, lambda _wanted, _interface: free, me)


@pytest.mark.parametrize(
    ("table", "text", "processes", "expected"),
    [
        ("udp", line("00000000", 67, 7, 7), {812: DNSMASQ},
         Finding("error", "UDP port 67",
                 "UDP port 67, which DHCP needs, is taken by dnsmasq (pid 812, dnsmasq.service)",
                 "systemctl disable --now dnsmasq.service")),
        ("tcp6", line("0" * 32, 80, 10, 7), {40: NGINX},
         Finding("error", "TCP port 80", "TCP port 80, which HTTP needs, is taken by nginx (pid 40)",
                 "end it (kill 40), or give it or us another port")),
        ("udp", line("0100000A", 69, 7, 7), {1: SYSTEMD},
         Finding("error", "UDP port 69", "UDP port 69, which TFTP needs, is taken by systemd (pid 1)",
                 "`systemctl list-sockets` says for which service it listens on port 69; disable that socket")),
        ("tcp", line("00000000", 10809, 10, 7), {},
         Finding("error", "TCP port 10809",
                 "TCP port 10809, which NBD needs, is taken by a program of root",
                 "as root, `ss -lnpt sport = :10809` says whose it is")),
        ("udp", line("00000000", 67, 7, 7), {9: OURS},
         Finding("note", "UDP port 67", "UDP port 67 (DHCP) is served by a pxeboot that runs (pid 9)")),
    ],
)  # fmt: skip
def test_who_has_a_port_is_named_with_what_to_do(
    tmp_path: Path, table: str, text: str, processes: dict[int, tuple[str, str, str, tuple[int, ...]]],
    expected: Finding
) -> None:  # fmt: skip
    assert look(proc(tmp_path, (table, text), processes=processes)) == [expected]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("udp", line("00000000", 68, 7, 7)),  # another port
        ("tcp", line("00000000", 67, 10, 7)),  # another protocol
        ("tcp", line("00000000", 80, 1, 7)),  # a connection
        ("udp", "damaged\n"),
    ],
)
def test_what_does_not_listen_there_is_no_finding(tmp_path: Path, table: str, text: str) -> None:
    assert look(proc(tmp_path, (table, text), processes={812: DNSMASQ})) == []


def test_our_own_sockets_are_no_finding(tmp_path: Path) -> None:
    folder = proc(tmp_path, ("udp", line("00000000", 67, 7, 7)), processes={812: DNSMASQ})
    assert look(folder, me=812) == []


def test_a_port_on_another_interface_is_a_note(tmp_path: Path) -> None:
    folder = proc(tmp_path, ("udp", line("00000000", 67, 7, 7)), processes={812: DNSMASQ})
    (finding,) = look(folder, free=True)
    assert finding.level == "note"
    assert "at an address or interface that is not ours" in finding.what


DAEMON = ports.Daemon(4711, 990)


@pytest.mark.parametrize(
    ("uid", "daemon", "free", "level", "what"),
    [
        (990, DAEMON, None, "note", "UDP port 67 (DHCP) is served by a pxeboot that runs (pid 4711)"),
        (0, DAEMON, None, "note", "UDP port 67 (DHCP) is served by a pxeboot that runs (pid 4711)"),  # by systemd
        (65534, DAEMON, False, "error", "UDP port 67, which DHCP needs, is taken by a program of nobody"),
        (65534, None, None, "warning", "UDP port 67, which DHCP needs, has a socket of a program of nobody; if that is"
                                       " in our way, only root can tell"),
        (54321, None, False, "error", "UDP port 67, which DHCP needs, is taken by a program of user 54321"),
        (0, None, True, "note", "UDP port 67 is also used by a program of root, at an address or interface that is not"
                                " ours"),
    ],
)  # fmt: skip
def test_without_root_the_users_of_sockets_say_whose_they_are(
    tmp_path: Path, uid: int, daemon: ports.Daemon | None, free: bool | None, level: str, what: str
) -> None:
    folder = proc(tmp_path, ("udp", line("00000000", 67, 7, 7, uid)), processes={})
    (found,) = ports.look(FARM, ["eth1"], folder, lambda _wanted, _interface: free, 1000, daemon)
    assert (found.level, found.what) == (level, what)
    assert found.remedy == ("" if level == "note" else "as root, `ss -lnpu sport = :67` says whose it is")


def test_a_daemon_that_does_not_answer_is_none(tmp_path: Path) -> None:
    assert ports.answering(tmp_path / "control.sock") is None
    assert ports.answering(tmp_path / ("x" * 200)) is None


def test_the_page_needs_its_own_address_alone(tmp_path: Path) -> None:
    farm = FARM.model_copy(update={"web": FARM.web.model_copy(update={"listen": ("127.0.0.1:8067",)})})
    other = proc(tmp_path / "a", ("tcp", line("0100000A", 8067, 10, 7)), processes={40: NGINX})
    assert look(other, farm=farm) == []
    same = proc(tmp_path / "b", ("tcp", line("0100007F", 8067, 10, 7)), processes={40: NGINX})
    (finding,) = look(same, farm=farm)
    assert (finding.level, finding.about) == ("warning", "TCP port 8067")


@pytest.mark.parametrize("listen", ["0.0.0.0:8067", "[::]:8067"])
def test_a_page_for_everybody_is_no_port_of_machines(tmp_path: Path, listen: str) -> None:
    farm = FARM.model_copy(update={"web": FARM.web.model_copy(update={"listen": (listen,)})})
    taken = proc(tmp_path, ("tcp", line("0100000A", 8067, 10, 7)), processes={40: NGINX})
    tried: list[str] = []

    def is_free(_: Wanted, interface: str) -> bool:
        tried.append(interface)
        return False

    (finding,) = ports.look(farm, ["eth1"], taken, is_free, 1000)
    assert (finding.level, tried) == ("warning", [""])


def test_the_ports_that_are_needed_follow_the_farm() -> None:
    farm = Farm.model_validate({
        "server": {"http_port": 8080, "nbd_port": 9000}, "machine_logs": {"syslog_port": 514},
        "web": {"listen": ["[::1]:81"]},
    })  # fmt: skip
    assert [(port.protocol, port.port, port.host) for port in ports.wanted(farm)] == [
        ("UDP", 69, "0.0.0.0"), ("TCP", 8080, "0.0.0.0"), ("TCP", 9000, "0.0.0.0"), ("TCP", 81, "::1"),
        ("UDP", 514, "0.0.0.0"),
    ]  # fmt: skip


def test_an_error_that_is_no_taken_port_stays_as_it_is() -> None:
    assert ports.explained(OSError(errno.EACCES, "not permitted"), FARM, ["eth1"]) == "not permitted"


def test_a_socket_that_several_processes_share_is_the_youngest_ones(tmp_path: Path) -> None:
    folder = proc(tmp_path, processes={9: SYSTEMD, 812: DNSMASQ})
    assert ports.owners({7}, folder) == {7: Owner(812, "dnsmasq", "dnsmasq.service")}


def test_a_port_of_ours_is_free_to_bind() -> None:
    assert ports.can_bind(Wanted("UDP", 0, "nothing", "127.0.0.1"), "") is True
    assert ports.can_bind(Wanted("TCP", 0, "nothing", "192.0.2.1"), "") is None
