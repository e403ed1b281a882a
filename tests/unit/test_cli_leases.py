"""`pxeboot leases`: what is printed, what is taken from other servers, and with which exit code."""

import asyncio
import json
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from click.testing import CliRunner

from config.model import Farm
from dhcp import journal
from dhcp.engine import Server
from dhcp.grants import is_at_port
from dhcp.journal import HEADER, Journal
from dhcp.leases import NEVER, Lease, State
from dhcp.plan import plan
from dhcp.store import LeaseStore
from pxeboot.api.leases import lease_json, lease_of, routes
from pxeboot.cli import asking, main
from pxeboot.cli.leases import show

DATA = Path(__file__).parent.parent / "data/leases"
MAC = "52:54:00:12:34:56"
NOW = 1_790_000_000
FARM = """\
server: {{interfaces: [eth1], state: {state}}}
dhcp:
  match_client_id: {match}
  subnets: [{{subnet: 10.76.0.0/24}}, {{subnet: 10.77.0.0/24, pool: 10.77.0.50-10.77.0.90}}]
images: {{node: {{path: /srv/pxeboot/images/node}}}}
pools: [{{name: a, image: node, nodes: [{{name: m1, macs: [{mac}], ip: 10.77.0.55}}]}}]
"""


def lease(n: int, expires: int = NOW + 3600, state: State = State.BOUND, client: str = "", mac: str = "") -> Lease:
    mac = mac or f"02:00:00:00:00:{n:02x}"
    return Lease(IPv4Address(f"10.77.0.{n}"), client or mac, expires, state, mac)


def run(*argv: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["leases", *map(str, argv)], env={"COLUMNS": "120"})
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOW))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    records = [
        lease(9, NEVER, client="id:ff0102"),
        lease(10, NOW - 7200),
        lease(11, NOW - 50, State.RELEASED),
        lease(2, NOW + 3000),
        lease(3, NOW + 86000, State.DECLINED),
        lease(7, NOW + 500, client=f"port:{MAC}"),  # a listed machine's address, which is no lease
    ]
    (tmp_path / "leases").write_bytes(HEADER + b"".join(map(journal.encode, records)))
    return tmp_path / "leases"


@pytest.fixture
def alone(file: Path) -> tuple[str, Path, str, Path]:
    """The options of a place where no daemon runs."""
    return "--file", file, "--control", file.with_name("none.sock")


Alone = tuple[str, Path, str, Path]


def test_without_a_daemon_the_file_is_shown_and_said_to_be(alone: Alone) -> None:
    code, out, err = run(*alone)
    assert code == 0
    assert err == f"pxeboot leases: no daemon at {alone[3]}; this is what {alone[1]} says\n"
    rows = [" ".join(line.split()) for line in out.splitlines() if line.strip()]
    assert rows[0] == "address mac state ends client"
    assert rows[2:] == [
        "10.77.0.2 02:00:00:00:00:02 bound in 50 min 0 s",
        "10.77.0.3 02:00:00:00:00:03 declined in 23 h 53 min",
        "10.77.0.9 02:00:00:00:00:09 bound never id:ff0102",
        "2 leases, 1 in quarantine, 2 over (--all shows who had them)",
    ]


def test_all_of_them_are_those_that_are_over_too(alone: Alone) -> None:
    _, out, _ = run(*alone, "--all")
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "10.77.0.10 02:00:00:00:00:0a over 2 h 0 min ago" in rows
    assert "10.77.0.11 02:00:00:00:00:0b released 50 s ago" in rows
    assert out.endswith("\n2 leases, 1 in quarantine, 2 over\n")


def test_a_file_is_shown_while_another_process_has_it_and_is_not_changed(alone: Alone, file: Path) -> None:
    before = file.read_bytes()
    book = Journal(file)
    assert run(*alone)[0] == 0
    book.close()
    assert file.read_bytes() == before


def test_json_has_what_the_table_has_and_is_read_back(alone: Alone) -> None:
    code, out, _ = run(*alone, "--json")
    assert code == 0
    assert [lease["address"] for lease in json.loads(out)["leases"]] == ["10.77.0.2", "10.77.0.3", "10.77.0.9"]
    code, out, _ = run(*alone, "--json", "--all")
    assert code == 0
    answer = json.loads(out)
    assert answer["leases"][0] == {
        "address": "10.77.0.2", "mac": "02:00:00:00:00:02", "client": "02:00:00:00:00:02", "state": "bound",
        "valid": True, "expires_s": NOW + 3000, "machine": None,
    }  # fmt: skip
    stored = {lease for lease in Journal(alone[1]).leases if not is_at_port(lease)}
    assert {lease_of(value) for value in answer["leases"]} == stored
    assert run(*alone, "--format", "json", "--all")[1].count("\n") == out.count("\n")


def test_other_servers_formats_are_printed(alone: Alone, tmp_path: Path) -> None:
    code, out, _ = run(*alone, "--format", "dnsmasq")
    assert (code, out) == (
        0,
        f"{NOW + 3000} 02:00:00:00:00:02 10.77.0.2 * *\n0 02:00:00:00:00:09 10.77.0.9 * ff:01:02\n",
    )
    farm = tmp_path / "farm.yaml"
    farm.write_text(FARM.format(state=tmp_path, match="false", mac=MAC))
    code, out, _ = run("--config", farm, *alone[2:], "--format", "kea-csv")
    assert code == 0
    assert out.startswith("address,hwaddr,client_id,valid_lifetime,expire,subnet_id,")
    assert "\n10.77.0.11," in out, "without --all too: who had an address gets it again"
    assert f"\n10.77.0.2,02:00:00:00:00:02,,3000,{NOW + 3000},2,0,0,,0,\n" in out, (
        "the second subnet of the farm's file is Kea's number 2"
    )


@pytest.mark.parametrize("form", ["dnsmasq", "kea-csv"])
def test_what_another_servers_format_has_no_place_for_is_said_to_be_left_out(tmp_path: Path, form: str) -> None:
    told = {
        "dnsmasq": {"10.77.0.3": "is in quarantine", "10.77.0.4": "has no hardware address", "10.77.0.5": "is over"},
        "kea-csv": {"10.77.0.99": "is in no subnet of the farm"},
    }
    infiniband = lease(4, client="id:ff01", mac="id:ff01")
    records = [lease(2), lease(3, state=State.DECLINED), infiniband, lease(5, NOW - 1), lease(99)]
    file = tmp_path / "leases"
    file.write_bytes(HEADER + b"".join(map(journal.encode, records)))
    (tmp_path / "farm.yaml").write_text("dhcp: {subnets: [{subnet: 10.77.0.0/28}]}")
    argv = ("--config", tmp_path / "farm.yaml", "--file", file, "--control", tmp_path / "none.sock", "--format", form)
    code, out, err = run(*argv, "--all")
    said = [f"pxeboot leases: {address} {why}; left out" for address, why in told[form].items()]
    assert (code, err.splitlines()[1:]) == (0, said)
    assert {address for record in records if (address := str(record.address)) not in out} == set(told[form])
    assert "is over" not in run(*argv)[2], "dnsmasq drops by itself what is over"


def test_of_many_that_are_left_out_some_are_named_and_the_others_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pxeboot.cli.leases.MOST_SAID", 2)
    leases = [lease_json(lease(n, state=State.DECLINED), NOW, None) for n in range(1, 6)]
    show({"now_s": NOW, "degraded": None, "leases": leases}, "dnsmasq", None, everything=False)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "pxeboot leases: 10.77.0.2 is in quarantine; left out",
        "... and 3 more of these",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), (b"hello\n", "not a lease file"), (HEADER + b"x\n" * 99, "unreadable")],
)
def test_a_file_that_cannot_be_shown_is_1(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "leases").write_bytes(content)
    code, out, err = run("--file", tmp_path / "leases", "--control", tmp_path / "none.sock")
    assert (code, out) == (1, "")
    assert said in err


def test_a_table_ends_somewhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pxeboot.cli.leases.MOST_ROWS", 3)
    leases = [lease_json(lease(n), NOW, None) for n in range(9)]
    show({"now_s": NOW, "degraded": "the disk is full", "leases": leases}, "table", None, everything=False)
    said = capsys.readouterr()
    assert said.out.count("10.77.0.") == 3
    assert said.out.endswith("9 leases, only 3 shown (--format json has all)\n")
    assert said.err == "pxeboot leases: the disk is full\n"


def test_the_daemon_tells_its_leases_with_the_names_it_knows(tmp_path: Path) -> None:
    farm = Farm.model_validate(
        {"dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.50-10.77.0.90"}]},
         "images": {"node": {"path": "/srv/node"}},
         "pools": [{"name": "a", "image": "node", "nodes": [{"name": "m1", "macs": [MAC], "ip": "10.78.0.5"}]}]}
    )  # fmt: skip
    records = [lease(60, mac=MAC), *(lease(n, NEVER) for n in range(61, 90))]
    store = LeaseStore(Journal(tmp_path / "leases"), LeaseStore.open(tmp_path / "other").clock)
    server = Server(plan(farm), records, time.time())
    [route] = routes(server, store)
    assert (route.method, route.path) == ("GET", "/v1/leases")
    answer = asyncio.run(cast("Any", route.handler)(None))
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    told: dict[str, Any] = json.loads(answer.body)
    assert {lease_of(value) for value in told["leases"]} == set(server.leases)
    assert told["leases"][0]["machine"] == "m1"
    assert told["degraded"] is None
    store.close()


IMPORTS = [("dnsmasq", "dnsmasq.leases", 4), ("dhcpd", "dhcpd.leases", 6), ("kea", "kea-leases4.csv", 5)]


@pytest.mark.parametrize(("origin", "name", "number"), IMPORTS)
def test_leases_of_another_server_are_taken(tmp_path: Path, origin: str, name: str, number: int) -> None:
    path = tmp_path / "state" / "leases"
    code, out, err = run("--file", path, "import", "--from", origin, "--dry-run", DATA / name)
    assert (code, err, path.exists()) == (0, "", False)
    assert out.startswith("would take ")
    code, out, err = run("--file", path, "import", "--from", origin, DATA / name)
    assert (code, err) == (0, "")
    assert out.startswith("took ")
    assert out.endswith(f" into {path}\n")
    book = Journal(path)
    book.close()
    assert len(book.leases) == number
    assert any(lease.client == "02:10:00:00:00:04" for lease in book.leases)


def test_what_is_wrong_in_a_file_is_told_by_line_and_the_rest_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "theirs"
    file.write_text(f"{NOW + 9} {MAC} 10.77.0.1 * *\nnonsense\n{NOW + 9} {MAC} fd00::1 * *\n" + "x\n" * 30)
    code, out, err = run("--file", tmp_path / "leases", "import", "--from", "dnsmasq", file)
    assert (code, out) == (1, f"took 1 lease into {tmp_path / 'leases'}\n")
    lines = err.splitlines()
    assert lines[0] == f"{file}:2: 1 words, expected EXPIRY MAC ADDRESS NAME CLIENT-ID"
    assert lines[20:] == [f"{file}: and 11 more wrong entries", f"{file}: left out 1 DHCPv6"]


def test_a_running_server_keeps_its_leases_to_itself(tmp_path: Path) -> None:
    book = Journal(tmp_path / "leases")
    code, out, err = run("--file", tmp_path / "leases", "import", "--from", "kea", DATA / "kea-leases4.csv")
    assert (code, out) == (1, "")
    assert "another process keeps its leases here; stop `pxeboot serve` first" in err
    book.close()


def test_a_file_of_another_server_is_not_taken_for_it(tmp_path: Path) -> None:
    code, out, err = run("--file", tmp_path / "leases", "import", "--from", "kea", DATA / "dhcpd.leases")
    assert (code, out) == (1, "")
    assert "is no lease file of kea: its first line does not name the columns" in err
    assert not (tmp_path / "leases").exists()
    assert run("--file", tmp_path / "leases", "import", "--from", "kea", tmp_path / "none")[0] == 1
    assert run("import", DATA / "dhcpd.leases")[0] == 2


def test_what_is_in_use_here_stays_and_what_lasts_longer_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    book = Journal(path)
    ours = [lease(1), lease(2), lease(3), lease(4, NOW - 5), lease(5, NOW + 50, State.DECLINED)]
    book.append(ours)
    book.close()
    other = "02:99:00:00:00:00"
    theirs = [lease(1, mac=other), lease(2, NOW + 9999), lease(3, NOW + 5), lease(4, mac=other), lease(5, mac=other)]
    file = tmp_path / "theirs"
    file.write_text("".join(f"{record.expires} {record.mac} {record.address} * *\n" for record in theirs))
    code, out, err = run("--file", path, "import", "--from", "dnsmasq", file)
    assert (code, out) == (1, f"took 2 leases into {path}\n")
    assert err.splitlines() == [
        f"10.77.0.1 is {other}'s there and 02:00:00:00:00:01's here; not taken",
        f"10.77.0.5 is {other}'s there and 02:00:00:00:00:05's here; not taken",
    ]
    book = Journal(path)
    book.close()
    assert set(book.leases) == {ours[0], theirs[1], ours[2], theirs[3], ours[4]}


def test_a_configured_machines_address_is_nobody_elses(tmp_path: Path) -> None:
    farm = tmp_path / "farm.yaml"
    farm.write_text(FARM.format(state=tmp_path, match="true", mac=MAC))
    file = tmp_path / "theirs"
    file.write_text(f"0 {MAC} 10.77.0.55 * *\n0 02:00:00:00:00:99 10.77.0.56 * 01:02:03\n")
    assert run("--config", farm, "import", "--from", "dnsmasq", file) == (
        0,
        f"took 1 lease into {tmp_path}/leases\n",
        "",
    )
    book = Journal(tmp_path / "leases")
    book.close()
    assert book.leases == (lease(56, NEVER, client="id:010203", mac="02:00:00:00:00:99"),)
    file.write_text("0 02:00:00:00:00:99 10.77.0.55 * *\n")
    code, _, err = run("--config", farm, "import", "--from", "dnsmasq", file)
    assert (code, err) == (1, "10.77.0.55 is 02:00:00:00:00:99's there and configured for m1 here; not taken\n")


LISTED = """\
server: {{interfaces: [eth1], state: {state}, control: /run/none-such/none.sock}}
dhcp: {{subnets: [{{subnet: 10.77.0.0/24, pool: 10.77.0.50-10.77.0.90}}]}}
images: {{node: {{path: /srv/pxeboot/images/node}}}}
pools: [{{name: a, image: node, nodes: [{{name: m1, macs: [{mac}], ip: 10.77.0.10}}]}}]
"""


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The farm's file at its usual place."""
    path = tmp_path / "usual.yaml"
    path.write_text(LISTED.format(state=tmp_path, mac=MAC))
    monkeypatch.setattr(asking, "FARM", path)
    return path


def test_what_has_no_place_in_the_farm_is_not_imported(usual: Path, tmp_path: Path) -> None:
    """The farm's usual file counts without being named; what is over is left out without a word."""
    other = "02:00:00:00:00:99"
    file = tmp_path / "theirs"
    rows = [("10.99.0.5", other), ("10.77.0.91", other), ("10.77.0.51", MAC),
            ("10.77.0.10", other), ("10.77.0.10", MAC), ("10.77.0.52", other)]  # fmt: skip
    file.write_text("".join(f"{NOW + 60} {mac} {address} * *\n" for address, mac in rows[:4]))
    code, out, err = run("import", "--from", "dnsmasq", "--dry-run", file)
    assert (code, out) == (1, f"would take 0 leases into {tmp_path}/leases\n")
    assert err.splitlines() == [
        f"10.99.0.5 ({other}) is in no subnet of the farm; not taken",
        f"10.77.0.91 ({other}) is in no pool of 10.77.0.0/24; not taken",
        "10.77.0.51 is a lease of m1, which the farm gives 10.77.0.10; not taken",
        f"10.77.0.10 is {other}'s there and configured for m1 here; not taken",
    ]
    file.write_text("".join(f"{NOW + 60} {mac} {address} * *\n" for address, mac in rows[4:]))
    file.write_text(file.read_text() + f"{NOW - 60} {other} 10.99.0.6 * *\n")
    assert run("import", "--from", "dnsmasq", file) == (0, f"took 1 lease into {tmp_path}/leases\n", "")
    code, out, _ = run("--json")
    assert [lease["address"] for lease in json.loads(out)["leases"]] == ["10.77.0.52"]


def test_a_usual_file_that_is_wrong_stops_an_import_and_no_list(usual: Path, file: Path) -> None:
    usual.write_text("nonsense: 1\n")
    code, _, err = run("--file", file, "--control", file.with_name("none.sock"))
    assert code == 0
    assert f"{usual} is wrong" in err
    assert run("--file", file, "import", "--from", "kea", DATA / "kea-leases4.csv")[0] == 1


def test_a_lease_in_no_subnet_is_not_put_into_one_of_keas(usual: Path, file: Path) -> None:
    with file.open("ab") as out_of_place:
        out_of_place.write(journal.encode(Lease(IPv4Address("10.99.0.5"), MAC, NOW + 9, State.BOUND, MAC)))
    code, out, err = run("--format", "kea-csv")
    assert code == 0
    assert "10.99.0.5 is in no subnet of the farm; left out" in err
    assert "10.99.0.5" not in out
    assert f"\n10.77.0.2,02:00:00:00:00:02,,3000,{NOW + 3000},1,0,0,,0,\n" in out
    usual.unlink()
    _, out, err = run("--file", file, "--control", file.with_name("none.sock"), "--format", "kea-csv")
    assert "without -c FARM all leases are Kea's subnet 1" in err
    assert "10.99.0.5" in out


def test_a_socket_that_we_may_not_use_is_said_in_plain_words(
    usual: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asking, "ask", refuses)
    code, out, err = run()
    assert (code, out) == (1, "")
    assert err == "pxeboot leases: /run/none-such/none.sock: only root and the socket's group may ask\n"
