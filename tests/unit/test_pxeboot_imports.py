"""pxeboot.imports: whole files of other servers, and anything at all, become farms that load."""

import doctest
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.load import load
from config.model import Farm
from pxeboot.cli import main
from pxeboot.imports import (
    dhcpd,
    dhcpd_options,
    dnsmasq,
    dnsmasq_text,
    found,
    kea,
    kubefarm,
    ltspconf,
    options,
    ranges,
    words,
    write,
)
from pxeboot.imports.found import Imported, NotReadable, Source
from pxeboot.imports.sound import sound

DATA = Path(__file__).parent.parent / "data" / "imports"
FILES = {"kubefarm": "kubefarm.yaml", "dnsmasq": "dnsmasq.conf", "dhcpd": "dhcpd.conf", "kea": "kea-dhcp4.conf"}


def nothing_else(path: str, _: bool) -> str:
    """There are no other files."""
    return f"{path} is not here"


READERS: dict[str, Callable[[str], Imported]] = {
    "kubefarm": lambda text: kubefarm.read(Source("values.yaml", text)),
    "dnsmasq": lambda text: dnsmasq.read([Source("dnsmasq.conf", text)], nothing_else),
    "dhcpd": lambda text: dhcpd.read(Source("dhcpd.conf", text), nothing_else),
    "kea": lambda text: kea.read(Source("kea-dhcp4.conf", text)),
}


@pytest.mark.parametrize(
    "module",
    [dhcpd_options, dnsmasq_text, found, kea, ltspconf, options, ranges, words, write],
    ids=lambda m: m.__name__,
)
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def run(*argv: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(main, ["import", *argv])
    return found.exit_code, found.stdout, found.stderr


@pytest.mark.parametrize("kind", FILES)
def test_a_whole_file_becomes_the_farm_that_is_expected(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DATA)
    status, out, err = run(kind, FILES[kind])
    assert (status, out) == (1, (DATA / f"{kind}.farm.yaml").read_text())
    assert err == (DATA / f"{kind}.said").read_text()
    written = tmp_path / "farm.yaml"
    written.write_text(out)
    farm = load(written)
    assert Farm.model_validate(as_values(kind)).pools == farm.pools


def as_values(kind: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(run(kind, FILES[kind], "--json")[1])["farm"]
    return answer


@pytest.mark.parametrize("kind", FILES)
def test_every_line_that_is_left_out_is_one_of_the_files(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    answer = json.loads(run(kind, FILES[kind], "--json")[1])
    assert answer["left"]
    for left in answer["left"]:
        lines = Path(left["file"]).read_text().split("\n")
        assert 1 <= left["line"] <= len(lines)
        assert 1 <= left["column"] <= len(lines[left["line"] - 1]) + 1


def farm_of(text: str, kind: str, tmp_path: Path) -> tuple[Farm, Sequence[str]]:
    """The farm of a text, as it is loaded from what was written, and what was lost."""
    imported = sound(READERS[kind](text))
    path = tmp_path / "farm.yaml"
    path.write_text(write.text(imported, f"pxeboot import {kind}"))
    return load(path), [str(one) for one in imported.left if one.lost]


MAC = st.sampled_from(["52:54:00:12:34:56", "52:54:0:1:2:3", "01:00:5e:00:00:01", "zz", "52-54-00-12-34-57", ""])
ADDRESS = st.sampled_from(
    [
        "10.28.0.1",
        "10.28.0.0",
        "10.28.255.255",
        "10.28.72.10",
        "10.28.72.250",
        "10.29.0.9",
        "0.0.0.0",
        "300.1.1.1",
        "::1",
        "",
    ]
)
MASK = st.sampled_from(["255.255.0.0", "255.255.255.0", "255.255.255.255", "0.0.0.0", "255.0.255.0", ""])
NAME = st.sampled_from(["m1", "M_2", "--", "m1", "naïve", "a" * 70, "all", "no", "12", "x: y", "a.b.c", "'", '"', "#"])
LEASE = st.sampled_from(["12h", "infinite", "1", "99999999999", "soon", "45m", ""])
VALUE = st.one_of(
    ADDRESS, NAME, LEASE, st.sampled_from(["1500", "0a:4d", "\\n", "a b", "{}", "[", "10.0.0.0/8", "true"])
)
OPTION = st.sampled_from(
    [
        "3",
        "6",
        "router",
        "option:mtu",
        "121",
        "43",
        "51",
        "60",
        "66",
        "67",
        "150",
        "224",
        "domain-search",
        "nonsense",
        "82",
    ]
)
TAG = st.sampled_from(["", "tag:a,", "tag:!a,", "set:a,", "tag:efi,", "tag:ipxe,", "tag:a,tag:efi,", "encap:175,"])


@st.composite
def dnsmasq_texts(draw: st.DrawFn) -> str:
    lines = [
        st.builds("dhcp-range={}{},{},{},{}".format, TAG, ADDRESS, ADDRESS, MASK, LEASE),
        st.builds("dhcp-range={}{},{},{}".format, TAG, ADDRESS, st.sampled_from(["static", "proxy"]), MASK),
        st.builds("dhcp-host={},{},{},{}".format, MAC, NAME, ADDRESS, LEASE),
        st.builds("dhcp-host={},set:{},{}".format, MAC, st.sampled_from("ab"), ADDRESS),
        st.builds("dhcp-host=id:{},{}".format, NAME, ADDRESS),
        st.builds("dhcp-option={}{},{},{}".format, TAG, OPTION, VALUE, VALUE),
        st.builds("dhcp-option-force={}{},{}".format, TAG, OPTION, VALUE),
        st.builds("dhcp-boot={}{},{},{}".format, TAG, VALUE, NAME, ADDRESS),
        st.builds("pxe-service={},text,{}".format, st.sampled_from(["x86PC", "X86-64_EFI", "9", "?"]), VALUE),
        st.builds("dhcp-match=set:{},{},{}".format, st.sampled_from(["a", "efi"]), OPTION, VALUE),
        st.sampled_from(["dhcp-match=set:efi,93,7", "dhcp-userclass=set:ipxe,iPXE", "dhcp-ignore=tag:!known"]),
        st.builds("{}={}".format, st.sampled_from(["interface", "domain", "tftp-root", "conf-file", "x"]), VALUE),
    ]
    return "\n".join(["dhcp-authoritative", *draw(st.lists(st.one_of(*lines), max_size=12))])


@st.composite
def dhcpd_texts(draw: st.DrawFn) -> str:
    quoted = VALUE.map(lambda value: '"' + value.replace('"', "") + '"')
    inner = st.one_of(
        st.builds("range {} {};".format, ADDRESS, ADDRESS),
        st.builds(
            "option {} {};".format, st.sampled_from(["routers", "domain-name", "interface-mtu", "x", "hall"]), VALUE
        ),
        st.builds(
            "option {} {};".format, st.sampled_from(["root-path", "domain-name", "hall", "tftp-server-name"]), quoted
        ),
        st.builds("filename {};".format, quoted),
        st.builds("next-server {};".format, ADDRESS),
        st.builds("{} {};".format, st.sampled_from(["default-lease-time", "max-lease-time"]), LEASE),
        st.builds("host {} {{ hardware ethernet {}; fixed-address {}; }}".format, NAME, MAC, ADDRESS),
        st.builds("if option arch = 00:0{} {{ filename {}; }}".format, st.sampled_from("079z"), quoted),
        st.sampled_from(["deny unknown-clients;", "else { }", "authoritative;", "}", "pool { range 10.28.1.1; }"]),
    )
    blocks = st.sampled_from(
        ["", "subnet 10.28.0.0 netmask 255.255.0.0", "group", "shared-network s", "pool", "host h"]
    )
    parts = ["option hall code 224 = text;", "option arch code 93 = unsigned integer 16;"]
    for block in draw(st.lists(blocks, max_size=4)):
        body = "\n".join(draw(st.lists(inner, max_size=5)))
        parts.append(f"{block} {{ {body} }}" if block else body)
    return "\n".join(parts)


def nested(keys: st.SearchStrategy[str], leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


KEA_KEYS = st.sampled_from(
    """subnet4 subnet pools pool reservations hw-address ip-address hostname client-id option-data name code data space
    valid-lifetime next-server boot-file-name client-classes test shared-networks interfaces-config interfaces
    authoritative option-def type encapsulate always-send csv-format""".split()  # noqa: SIM905
)
KUBEFARM_KEYS = st.sampled_from(
    """nodePools nodes name mac ip clientID leaseTime tags range extraOpts dhcpOptions ltspOptions kubernetesLabels
    kubernetesTaints all gpu key value effect ltsp config options sections extraFiles timezone sshAuthorizedKeys
    rootPasswd sysctls modules dockerConfig init/ KERNEL_PARAMETERS POST_INIT_X dhcp-circuitid router 1 mtu""".split()  # noqa: SIM905
)
LEAF = st.one_of(
    VALUE, MAC, st.none(), st.booleans(), st.integers(-1, 70000), st.just("10.28.0.0/16"), st.just("a\nb\n")
)


@st.composite
def kea_texts(draw: st.DrawFn) -> str:
    machine = st.fixed_dictionaries(
        {}, optional={"hw-address": MAC, "ip-address": ADDRESS, "hostname": NAME, "client-classes": st.just(["a"])}
    )
    option = st.fixed_dictionaries(
        {"data": VALUE}, optional={"name": OPTION, "code": st.integers(0, 300), "csv-format": st.booleans()}
    )
    subnet = st.fixed_dictionaries(
        {"subnet": st.sampled_from(["10.28.0.0/16", "10.28.0.0/24", "10.29.0.1/24", "x"])},
        optional={
            "pools": st.lists(
                st.fixed_dictionaries({"pool": st.builds("{} - {}".format, ADDRESS, ADDRESS)}), max_size=3
            ),
            "reservations": st.lists(machine, max_size=3),
            "option-data": st.lists(option, max_size=3),
            "next-server": ADDRESS,
        },
    )
    shaped = st.fixed_dictionaries(
        {"subnet4": st.lists(subnet, max_size=3)},
        optional={"option-data": st.lists(option, max_size=3), "reservations": st.lists(machine, max_size=3)},
    )
    return json.dumps({"Dhcp4": draw(st.one_of(shaped, st.dictionaries(KEA_KEYS, nested(KEA_KEYS, LEAF))))})


@st.composite
def kubefarm_texts(draw: st.DrawFn) -> str:
    node = st.fixed_dictionaries(
        {}, optional={"name": NAME, "mac": MAC, "ip": ADDRESS, "leaseTime": LEASE, "clientID": NAME}
    )
    ranged = st.builds("{},{},{},{}".format, ADDRESS, st.one_of(ADDRESS, st.just("static")), MASK, LEASE)
    pool = st.fixed_dictionaries(
        {},
        optional={
            "name": NAME, "nodes": st.lists(node, max_size=3), "range": ranged, "tags": st.lists(NAME, max_size=2),
            "extraOpts": st.just([{"dhcp-circuitid": "set:p,x"}, {"dhcp-range": "tag:p,10.28.0.9,10.28.0.9"}]),
        },
    )  # fmt: skip
    tags = st.dictionaries(NAME, st.dictionaries(st.one_of(OPTION, NAME), LEAF, max_size=3), max_size=2)
    shaped = st.fixed_dictionaries(
        {"nodePools": st.lists(pool, max_size=3)},
        optional={
            "tags": st.fixed_dictionaries(
                {}, optional={"dhcpOptions": tags, "ltspOptions": tags, "kubernetesLabels": tags}
            )
        },
    )
    wild = st.dictionaries(KUBEFARM_KEYS, nested(KUBEFARM_KEYS, LEAF)).map(lambda values: {"nodePools": [], **values})
    return json.dumps(draw(st.one_of(shaped, wild)))


TEXTS = {"kubefarm": kubefarm_texts(), "dnsmasq": dnsmasq_texts(), "dhcpd": dhcpd_texts(), "kea": kea_texts()}


@pytest.mark.parametrize("kind", TEXTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_imported_is_a_farm_that_loads(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = data.draw(TEXTS[kind])
    with suppress(NotReadable):
        farm_of(text, kind, tmp_path_factory.mktemp("farm"))


@pytest.mark.parametrize("kind", TEXTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_no_such_file_is_refused_in_words(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = (DATA / FILES[kind]).read_text()
    at = data.draw(st.integers(0, len(whole)))
    text = whole[:at] + data.draw(st.text(max_size=8)) + whole[at + data.draw(st.integers(0, 40)) :]
    with suppress(NotReadable):
        farm_of(text, kind, tmp_path_factory.mktemp("farm"))


@pytest.mark.parametrize("kind", TEXTS)
def test_text_that_nests_without_end_is_refused(kind: str) -> None:
    text = {"kea": '{"Dhcp4": ' + "[" * 20000, "dhcpd": "group {" * 20000, "kubefarm": "nodePools: " + "[" * 20000}
    with pytest.raises(NotReadable):
        READERS[kind](text.get(kind, "[" * 20000))


SCALARS = st.one_of(
    st.none(),
    st.text(max_size=20),
    VALUE,
    st.sampled_from(["a\n", "\n", " a\nb", "a\n\nb\n", "\tx\ny", "- a", "a #b"]),
)


KEYS = st.text(max_size=8).filter(lambda key: key != "<<")


@settings(max_examples=300, deadline=None)
@given(value=st.dictionaries(KEYS.filter(bool), nested(KEYS, SCALARS), min_size=1, max_size=4))
@example(value={"\u2028": None})
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    from config.yamltree import Mapping, plain, read

    root = found.tree(without_surrogates(value), found.MADE)
    assert isinstance(root, Mapping)
    written = write.text(Imported(root, (), found.Sources()), "a test")
    mistakes: list[str] = []
    again = read(written, lambda _, message: mistakes.append(message))
    assert again is not None
    assert (plain(again), mistakes) == (plain(root), [])


def without_surrogates(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {without_surrogates(key): without_surrogates(inner) for key, inner in value.items()}
        case list():
            return [without_surrogates(inner) for inner in value]
        case _:
            return value


def lost_of(text: str, kind: str, tmp_path: Path) -> list[str]:
    """What is said of a text, without its place."""
    return [one.partition(": ")[2] for one in farm_of(text, kind, tmp_path)[1]]


DNSMASQ_RANGE = "dhcp-range=10.28.72.10,10.28.72.250,255.255.0.0,12h\n"

DNSMASQ_HOSTS = [
    pytest.param("52:54:00:12:34:56,m1,10.28.0.5", ("m1", ("52:54:00:12:34:56",), None), id="mac"),
    pytest.param("52:54:0:12:34:56,10.28.0.5", ("host-10-28-0-5", ("52:54:00:12:34:56",), None), id="no-name"),
    pytest.param("1-52:54:00:12:34:56,m1,10.28.0.5", ("m1", ("52:54:00:12:34:56",), None), id="hardware-type"),
    pytest.param("id:rack-7,10.28.0.5,m1,45m", ("m1", (), "72:61:63:6b:2d:37"), id="client-id"),
    pytest.param("52:54:00:12:34:56,id:*,10.28.0.5,m1", ("m1", ("52:54:00:12:34:56",), None), id="any-client-id"),
    pytest.param("52:54:00:12:34:56,52:54:00:12:34:57,10.28.0.5,m1,infinite",
                 ("m1", ("52:54:00:12:34:56", "52:54:00:12:34:57"), None), id="two-cards"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "machine"), DNSMASQ_HOSTS)
def test_a_dhcp_host_is_a_machine(line: str, machine: tuple[object, ...], tmp_path: Path) -> None:
    farm, lost = farm_of(f"{DNSMASQ_RANGE}dhcp-host={line}\n", "dnsmasq", tmp_path)
    (node,) = farm.pools[0].nodes
    assert ((node.name, node.macs, node.client_id), lost) == (machine, [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("52:54:00:12:34:56,ignore", "who is not listed gets an address of a pool"),
        ("52:54:00:*:*:*,10.28.0.5", "not by a pattern of them"),
        ("52:54:00:12:34:56,m1", "give it one"),
        ("m1,10.28.0.5", "give its MAC"),
        ("52:54:00:12:34:56,tag:x,10.28.0.5", "not decided by tags"),
        ("52:54:00:12:34:56,192.0.2.5", "is in none of the subnets"),
    ],
)
def test_a_dhcp_host_that_is_no_machine_here_is_said(line: str, why: str, tmp_path: Path) -> None:
    (said,) = lost_of(f"{DNSMASQ_RANGE}dhcp-host={line}\n", "dnsmasq", tmp_path)
    assert why in said


@pytest.mark.parametrize(
    ("condition", "architectures"),
    [
        ("option arch = 00:07", {"uefi-x64"}),
        ("option arch = 7", {"uefi-x64"}),
        ("(option arch = 00:00) or (option arch = 00:06)", {"bios", "uefi-ia32"}),
        ('substring (option vendor-class-identifier, 15, 5) = "00011"', {"uefi-arm64"}),
        ('substring(option vendor-class-identifier, 0, 20) = "PXEClient:Arch:00007"', {"uefi-x64"}),
        ('exists user-class and option user-class = "iPXE"', {"ipxe"}),
        ("exists ipxe.http", {"ipxe"}),
        ("option pxe-system-type = 00:10", {"uefi-x64-http"}),
        ('option host-name = "m1"', set()),
        ("not known", set()),
    ],
)
def test_the_ways_to_tell_firmware_in_dhcpd_are_known(condition: str, architectures: set[str], tmp_path: Path) -> None:
    text = f"""option arch code 93 = unsigned integer 16;
        subnet 10.28.0.0 netmask 255.255.0.0 {{}} if {condition} {{ filename "http://x/a.efi"; }}"""
    assert set(farm_of(text, "dhcpd", tmp_path)[0].dhcp.architectures) == architectures


@pytest.mark.parametrize(
    ("test", "architectures"),
    [
        ("option[93].hex == 0x0007", {"uefi-x64"}),
        ("option[client-system].hex == 0x0000 or option[93].hex == 0x000b", {"bios", "uefi-arm64"}),
        ("substring(option[60].hex,0,20) == 'PXEClient:Arch:00007'", {"uefi-x64"}),
        ("substring(option[60].hex, 15, 5) == '00007' and not (option[77].text == 'iPXE')", {"uefi-x64"}),
        ("option[175].exists", {"ipxe"}),
        ("pkt4.mac == 0x525400123456", set()),
    ],
)
def test_the_ways_to_tell_firmware_in_kea_are_known(test: str, architectures: set[str], tmp_path: Path) -> None:
    text = json.dumps({"Dhcp4": {"client-classes": [{"name": "c", "test": test, "boot-file-name": "http://x/a.efi"}]}})
    assert set(farm_of(text, "kea", tmp_path)[0].dhcp.architectures) == architectures


def test_an_address_that_is_everybodys_mistake_is_left_out(tmp_path: Path) -> None:
    text = "dhcp-range=0.0.0.0,0.0.0.0,255.255.0.0,12h\n"
    assert any("no machine of 0.0.0.0/16" in one for one in lost_of(text, "dnsmasq", tmp_path))


def test_a_farm_with_a_password_is_for_its_owner_alone(tmp_path: Path) -> None:
    values, farm = tmp_path / "values.yaml", tmp_path / "farm.yaml"
    values.write_text("nodePools: []\nltsp: {config: {rootPasswd: $6$salt$x}}\n")
    assert run("kubefarm", str(values), "-o", str(farm))[0] == 0
    assert farm.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_replaced_only_when_told(tmp_path: Path) -> None:
    values, farm = tmp_path / "values.yaml", tmp_path / "farm.yaml"
    values.write_text("nodePools: []\n")
    farm.write_text("mine")
    status, _, err = run("kubefarm", str(values), "-o", str(farm))
    assert (status, "--force" in err, farm.read_text()) == (1, True, "mine")
    assert run("kubefarm", str(values), "-o", str(farm), "--force")[0] == 0


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_read_is_named(kind: str, tmp_path: Path) -> None:
    status, out, err = run(kind, str(tmp_path / "nowhere"))
    assert (status, out) == (1, "")
    assert "nowhere cannot be read: No such file" in err


def test_what_yaml_takes_for_a_merge_is_left_out(tmp_path: Path) -> None:
    text = f"{DNSMASQ_RANGE}dhcp-host=52:54:00:12:34:56,set:<<,10.28.0.5,m1\n"
    farm, lost = farm_of(text, "dnsmasq", tmp_path)
    assert "nothing can be called '<<' in YAML" in lost[0]
    assert not farm.tags
