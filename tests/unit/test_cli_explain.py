"""`pxeboot explain`: its use, its exit status, what it prints, and where it has its knowledge from."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from dhcp.journal import HEADER, encode
from dhcp.leases import Lease
from pxeboot.api.leases import lease_json
from pxeboot.cli import main
from pxeboot.image import store
from pxeboot.intents import Boot, Intent, Origin, dump
from tests.support.dhcp_clients import recorded

STRANGER = "02:00:00:00:00:99"
FAR = 1 << 40


def put_image(folder: Path) -> None:
    """Make what is an image by its list of files."""
    folder.mkdir()
    names = (store.KERNEL, store.INITRD, store.SQUASHFS)
    for name in names:
        (folder / name).touch()
    (folder / store.SUMS).write_text("".join(f"{'0' * 64}  {name}\n" for name in names))


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    path = tmp_path / "farm.yaml"
    put_image(tmp_path / "image")
    path.write_text(
        dedent(f"""\
            server: {{state: {tmp_path}/state, control: {tmp_path}/control.sock}}
            dhcp:
              probe: false
              subnets:
                - subnet: 10.77.0.0/24
                  pool: 10.77.0.100-10.77.0.110
                  routers: [10.77.0.254]
                  unknown: workers
            images: {{node: {{path: {tmp_path}/image}}}}
            pools:
              - name: workers
                image: node
                nodes:
                  - {{name: n1, macs: [52:54:00:12:34:56, 52:54:00:12:34:57], ip: 10.77.0.10}}
                  - {{name: n2, macs: [52:54:00:00:00:02], ip: 10.77.0.20, boot: refuse}}
                  - {{name: n3, uuid: 00112233-4455-6677-8899-aabbccddeeff, ip: 10.77.0.30}}
                  - {{name: n4, circuit_id: eth0, ip: 10.77.0.40}}
            """)
    )
    return path


def run(farm: Path | None, *argv: str) -> tuple[int, str, str]:
    where = ["-c", str(farm)] if farm else []
    result = CliRunner().invoke(main, ["explain", *where, *argv], env={"COLUMNS": "100", "NO_COLOR": "1"})
    return result.exit_code, result.stdout, result.stderr


def told(farm: Path, *argv: str) -> dict[str, Any]:
    code, out, err = run(farm, *argv, "--json")
    assert code in (0, 1), err
    answer: dict[str, Any] = json.loads(out)
    return answer


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "which machine? give its name, its MAC or its address, or --pcap FILE"),
        (["n11"], "no machine is called 'n11', and it is no MAC; did you mean 'n1'?"),
        (["52:54:00:12:34"], "no machine is called '52:54:00:12:34', and it is no MAC"),
        (["10.77.0.99"], "10.77.0.99 is no machine's address in the farm's file, and nobody's by a lease"),
        ([" "], "an empty word names no machine"),
        (["01:00:5e:00:00:01"], "is no single machine's MAC"),
        (["n1", "--arch", "amd64"], "'amd64' is no architecture; the ones there are: bios, "),
        (["n1", "--circuit-id", "eth0"], "give its address with --giaddr"),
        (["n4"], "n4 is known by its switch port, which only a relay tells: add --giaddr"),
        (["n1", "--giaddr", "10.0.0"], "'10.0.0' is no IPv4 address"),
        (["n1", "--interface", "nosuch0"], "there is no interface nosuch0"),
        (["n1", "--interface", "lo", "--server-address", "10.77.0.1"], "give --interface or --server-address"),
        (["n1", "--message", "offer"], "'offer' is not one of"),
        (["--pcap", "/nonexistent.pcap"], "cannot be read: No such file or directory"),
        (["--pcap", "/etc/hostname"], "/etc/hostname: it is neither pcap nor pcapng"),
    ],
)
def test_a_wrong_use_is_2_and_says_what_is_right(farm: Path, argv: list[str], says: str) -> None:
    code, out, err = run(farm, *argv)
    assert (code, out) == (2, "")
    assert says in err.replace("\n", " ")


def test_a_farm_that_is_wrong_is_told_as_check_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text("dhcp: {subnets: [{subnet: 10.0.0.0/33}]}\n")
    code, out, err = run(path, "n1")
    assert (code, out) == (1, "")
    assert err.startswith(f"{path}:1:")


def test_a_farm_with_several_networks_wants_to_know_which(farm: Path) -> None:
    farm.write_text(farm.read_text().replace("  subnets:\n", "  subnets:\n    - subnet: 10.78.0.0/24\n"))
    code, _, err = run(farm, STRANGER)
    assert code == 2
    assert "which network is it on?" in err
    assert run(farm, "n1")[0] == 0
    assert run(farm, "n3")[0] == 0
    assert run(farm, STRANGER, "--server-address", "10.77.0.1")[0] == 0


EXITS = [
    pytest.param(["n1"], 0, id="it boots"),
    pytest.param(["52-54-00-12-34-57"], 0, id="another MAC of it, as some write it"),
    pytest.param(["525400123457"], 0, id="and as others do"),
    pytest.param(["5254.0012.3457"], 0, id="and as switches do"),
    pytest.param(["N1"], 0, id="its name in capitals"),
    pytest.param(["node-525400123456"], 0, id="by the name that it had before it was listed"),
    pytest.param(["10.77.0.10"], 0, id="by its address"),
    pytest.param(["node-020000000099"], 0, id="the name of a machine that is not listed"),
    pytest.param([STRANGER], 0, id="a machine that is not listed boots too"),
    pytest.param(["n1", "--message", "request"], 0, id="the request that follows"),
    pytest.param(["n1", "--message", "4011"], 0, id="the boot server"),
    pytest.param(["n1", "--message", "bootp"], 0, id="BOOTP"),
    pytest.param(["n1", "--class", "http"], 0, id="HTTP"),
    pytest.param(["n1", "--class", "plain"], 0, id="a plain client wants no boot file"),
    pytest.param(["n1", "--arch", "rpi"], 0, id="Raspberry Pi"),
    pytest.param(["n3"], 0, id="known by its UUID"),
    pytest.param(["n4", "--giaddr", "10.77.0.2"], 0, id="known by its port"),
    pytest.param(["n1", "--arch", "0x0b"], 1, id="no boot file for arm64"),
    pytest.param(["n2"], 1, id="refused"),
    pytest.param(["n1", "--giaddr", "10.99.0.1"], 1, id="an unknown network"),
    pytest.param([STRANGER, "--message", "bootp"], 1, id="a stranger by BOOTP"),
]


@pytest.mark.parametrize(("argv", "code"), EXITS)
def test_the_exit_status_says_whether_it_boots(farm: Path, argv: list[str], code: int) -> None:
    got, out, err = run(farm, *argv)
    assert (got, err) == (code, "")
    assert ("wrong " in out) or ("refuse" in out) if code else "wrong " not in out
    assert told(farm, *argv)["boots"] is (code == 0)


def test_a_table_fits_a_terminal_of_100_columns_and_has_the_lines(farm: Path) -> None:
    _, out, _ = run(farm, "n1", "--server-address", "10.77.0.1")
    rows = out.splitlines()
    assert all(len(line) <= 100 for line in rows if not line.startswith(("n1", " ")))
    assert rows[0].startswith("n1 (52:54:00:12:34:56), UEFI x64 firmware (PXE), sends a DHCPDISCOVER")
    (routers,) = (line for line in rows if line.startswith("3 routers"))
    assert "10.77.0.254" in routers
    assert "farm.yaml:7" in out
    assert "quirk pxe" in out


def test_a_name_with_several_macs_says_which_it_asks_from(farm: Path) -> None:
    notes = told(farm, "n1")["notes"]
    assert notes[0] == "n1 asks from its first MAC, 52:54:00:12:34:56; it also has 52:54:00:12:34:57"


def test_an_address_of_ours_that_is_made_up_is_said_to_be(farm: Path) -> None:
    assert any("10.77.0.1 stands for it" in note for note in told(farm, "n1")["notes"])
    given = told(farm, "n1", "--server-address", "10.77.0.5")
    assert not any("stands for it" in note for note in given["notes"])
    assert given["arrival"]["address"] == "10.77.0.5"


def test_the_json_has_every_value_with_its_line(farm: Path) -> None:
    answer = told(farm, "n1")["answer"]
    routers = next(option for option in answer["options"] if option["code"] == 3)
    assert (routers["value"], routers["raw"], routers["size_bytes"]) == ("10.77.0.254", "0a4d00fe", 4)
    assert routers["where"] == {"file": str(farm), "line": 7, "setting": "dhcp.subnets[0].routers"}
    assert answer["address"]["where"]["line"] == 14
    assert all(row["why"] for row in (*answer["fields"], *answer["options"]))


def test_leases_and_intents_are_read_from_the_state_folder(farm: Path) -> None:
    state = farm.parent / "state"
    state.mkdir()
    lease = Lease(IPv4Address("10.77.0.107"), STRANGER, FAR)
    (state / "leases").write_bytes(HEADER + encode(lease))
    (state / "intents.json").write_text(dump({"n1": Intent(Boot.LOCAL, Origin.COMMAND, 5.0)}))
    stranger = told(farm, STRANGER)
    assert stranger["answer"]["address"]["value"] == "10.77.0.107"
    assert "it has a lease of it" in stranger["answer"]["address"]["why"]
    assert f"no daemon runs here; {state}/leases" in stranger["notes"][0]
    assert told(farm, "n1")["intent"]["boot"] == "local"


def test_a_damaged_state_is_said_and_does_no_harm(farm: Path) -> None:
    state = farm.parent / "state"
    state.mkdir()
    (state / "leases").write_bytes(b"no leases\n")
    (state / "intents.json").write_text("{")
    answer = told(farm, "n1")
    assert [note.partition(";")[0] for note in answer["notes"][1:3]] == [
        "leases: unknown",
        "intents: those of `pxeboot node` are unknown",
    ]
    assert answer["boots"]


@pytest.fixture
def daemon(farm: Path) -> Iterator[None]:
    """What a running daemon answers on its control socket."""
    lease = Lease(IPv4Address("10.77.0.105"), STRANGER, FAR)
    answers = {
        "/v1/leases": {"now_s": 1000.0, "degraded": None, "leases": [lease_json(lease, 1000.0, None)]},
        "/v1/nodes": {
            "pools": [],
            "nodes": [
                {"name": "n1", "boot": "once", "origin": "pxeboot node", "since_s": 9.0},
                {"name": "n2", "boot": "netboot", "origin": "the farm's file", "since_s": None},
            ],
        },
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingUnixStreamServer(str(farm.parent / "control.sock"), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("daemon")
def test_a_running_daemon_is_asked_for_leases_and_intents(farm: Path) -> None:
    answer = told(farm, STRANGER)
    assert answer["answer"]["address"]["value"] == "10.77.0.105"
    assert answer["notes"][0] == "leases and intents: the running daemon's"
    intent = told(farm, "n1")["intent"]
    assert (intent["boot"], intent["origin"], intent["since_s"]) == ("once", "pxeboot node", 9.0)
    refused = told(farm, "n2")["intent"]  # the file was changed since the daemon read it
    assert (refused["boot"], refused["origin"], refused["where"]["line"]) == ("refuse", "the farm's file", 15)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "boot.pcap"
    sent = [recorded("D-OVMF-PXE"), recorded("D-EDK2-HTTP", STRANGER), recorded("D-IPCONFIG", STRANGER)]
    wrpcap(
        str(path),
        [
            Ether(dst="ff:ff:ff:ff:ff:ff")
            / IP(src="0.0.0.0", dst="255.255.255.255")
            / UDP(sport=68, dport=67)
            / Raw(message.encode())
            for message in sent
        ],
    )
    return path


def test_each_request_of_a_capture_is_explained(farm: Path, capture: Path) -> None:
    code, out, _ = run(farm, "--pcap", str(capture))
    assert code == 0
    assert "boot.pcap: 3 frames, 3 requests explained" in out
    assert "frame 1: DHCPDISCOVER of n1 (52:54:00:12:34:56); we would send" in out
    assert "in the capture: nobody answered it" in out
    requests = json.loads(run(farm, "--pcap", str(capture), "--json")[1])["requests"]
    assert [request["frame"] for request in requests] == [1, 2, 3]
    assert [request["ours"]["model"] for request in requests] == ["EDK2 PXE", "EDK2 HTTP boot", "DHCP client"]


def test_a_capture_is_narrowed_to_one_machine(farm: Path, capture: Path) -> None:
    requests = json.loads(run(farm, "n1", "--pcap", str(capture), "--json")[1])["requests"]
    assert [request["ours"]["machine"] for request in requests] == ["n1"]
    code, out, _ = run(farm, "n2", "--pcap", str(capture))
    assert code == 1
    assert "0 requests explained" in out


def test_the_example_farm_is_explained_without_a_gap() -> None:
    example = Path(__file__).parent.parent.parent / "docs/farm.example.yaml"
    answer = told(example, "m1c29")["answer"]
    assert all(row["why"] for row in (*answer["fields"], *answer["options"], *answer["not_sent"]))


def test_a_machine_whose_image_is_not_there_does_not_boot(farm: Path) -> None:
    (farm.parent / "image" / store.SQUASHFS).unlink()
    code, out, _ = run(farm, "n1")
    assert code == 1
    assert "image 'node' cannot be loaded: " in " ".join(out.split())
    answer = told(farm, "n1")
    assert answer["problem"]["where"]["setting"].startswith("images.node")
    assert run(farm, "n1", "--class", "plain")[0] == 0, "who boots nothing needs no image"


def test_an_image_that_we_may_not_look_at_is_taken_to_be_there(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.open

    def refuses(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == store.SUMS:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *args, **more)

    def no_image(path: Path) -> None:
        raise store.ImageError(f"{path}: no image here (Permission denied)")

    monkeypatch.setattr(Path, "open", refuses)
    monkeypatch.setattr(store, "open_image", no_image)
    answer = told(farm, "n1")
    assert answer["boots"]
    assert any("is taken to be there" in note for note in answer["notes"])


def test_a_listed_machine_has_its_name_even_where_its_network_is_unknown(farm: Path) -> None:
    code, out, _ = run(farm, "52:54:00:12:34:57", "--giaddr", "10.99.0.1")
    assert code == 1
    assert out.startswith("n1 (52:54:00:12:34:57), ")


def test_the_advice_names_no_architecture_that_cannot_be_configured(farm: Path) -> None:
    advice = told(farm, "n1", "--arch", "99")["problem"]["advice"]
    assert "boot_file" in advice
    assert "dhcp.architectures" not in advice
    assert told(farm, "n1", "--arch", "arm64")["problem"]["advice"] == "set dhcp.architectures.uefi-arm64.boot_file"


def test_a_capture_without_what_is_looked_for_says_so(farm: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    wrpcap(str(path), [Ether() / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / Raw(
        recorded("D-EDK2-PXE", mac="52:54:00:12:34:57").encode())])  # fmt: skip
    code, out, _ = run(farm, "--pcap", str(path), "n2")
    assert code == 1
    assert "no request of n2 is in it" in out
    assert run(farm, "--pcap", str(path), "n1")[0] == 0, "by any of its MACs"
    path.write_bytes(path.read_bytes()[:-1])
    code, out, _ = run(farm, "--pcap", str(path))
    assert code == 1
    assert "it is cut off after 0 frames" in out
    assert "no request of any machine is in it" in out


def test_on_80_columns_each_field_has_its_source_below_it(farm: Path) -> None:
    result = CliRunner().invoke(main, ["explain", "-c", str(farm), "n1"], env={"COLUMNS": "80", "NO_COLOR": "1"})
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith("3 routers"))
    assert lines[at].split() == ["3", "routers", "10.77.0.254", "4"]
    assert lines[at + 1].startswith("  subnet 10.77.0.0/24 ")
    assert max(map(len, lines[len(lines) // 2 :])) <= 80


@pytest.mark.parametrize(
    ("argv", "summary"),
    [
        (["n1"], "n1 gets 10.77.0.10 and is told to fetch grub/x86_64-efi/core.efi by TFTP from 10.77.0.1; then our"
                 " GRUB loads image 'node' of pool 'workers'."),
        (["n1", "--class", "http"], "n1 gets 10.77.0.10 and is told to fetch http://10.77.0.1/grub/x86_64-efi/core.efi;"
                                    " then our GRUB loads image 'node' of pool 'workers'."),
        (["n1", "--class", "plain"], "n1 gets 10.77.0.10 and uses the address for 86400 s."),
        (["n1", "--arch", "rpi"], "n1 gets 10.77.0.10 and fetches start4.elf or start.elf by TFTP from 10.77.0.1,"
                                  " below SERIAL/ and then without it."),
        (["n1", "--arch", "0x0b"], "n1 gets 10.77.0.10 and is told of nothing to boot. It does not boot: there is no"
                                   " boot file for UEFI ARM 64 (PXEClient)."),
        (["n2"], "n2 gets 10.77.0.20 and is told to fetch grub/x86_64-efi/core.efi by TFTP from 10.77.0.1. It does not"
                 " boot: our GRUB says that it is refused, and starts again after 60 s."),
        (["n1", "--giaddr", "10.99.0.1"], "n1 gets no answer from us: it came from a network that is not configured:"
                                          " no subnet has 10.99.0.1."),
    ],
)  # fmt: skip
def test_what_becomes_of_the_machine_is_said_in_a_sentence_before_all_else(
    farm: Path, argv: list[str], summary: str
) -> None:
    assert told(farm, *argv)["summary"] == summary
    lines = run(farm, *argv)[1].splitlines()
    head = next(number for number, text in enumerate(lines) if not text.strip())
    assert " ".join(" ".join(lines[:head]).split()).endswith(summary)
    rest = [text.split()[0] for text in lines[head + 1 :] if text[:1].strip()]
    assert rest[0] == "answer"
    assert rest.index("next") < rest.index("quirks" if "quirks" in rest else "goes"), "what it does next comes first"
