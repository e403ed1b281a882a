from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.check import check
from config.check_dhcp import levels
from config.model import Farm
from dhcp.plan import plan
from tests.support.marked import assert_said, said

LEVELS = {
    "dhcp": "dhcp: {%s}\n",
    "shared network": "dhcp: {subnets: [{subnet: 10.0.0.0/8, shared_network: n}], shared_networks: {n: {%s}}}\n",
    "subnet": "dhcp: {subnets: [{subnet: 10.0.0.0/8, %s}]}\n",
    "address pool": "dhcp: {subnets: [{subnet: 10.0.0.0/8, pools: [{range: 10.0.0.5, %s}]}]}\n",
    "architecture": "dhcp: {architectures: {bios: {%s}}}\n",
    "tag": "tags: {t: {dhcp: {%s}}}\n",
    "machine": "images: {i: {path: /i}}\n"
    "pools: [{name: p, image: i, nodes: [{name: a, serial: a, ip: 10.0.0.1, dhcp: {%s}}]}]\n",
}
WRONG = [
    ("options: {▸53: '05'}", "option 53 is decided by the server for each answer"),
    ("options: {▸host-nam: x}", "there is no option 'host-nam'; .* did you mean 'host-name'"),
    ("options: {▸0: x}", "0 is not the number of an option; allowed: 1 to 254"),
    ("options: {150: ▸0a1}", "option 150 .*: '0a1' is not hex; write its bytes"),
    ("options: {time-servers: ▸10.0.0}", "option 4 .time-servers.: "),
    ("routers: [], options: {▸3: 0a1c0001}", "option 3 is already given as routers"),
    ("routers: [], options: {▸routers: [10.0.0.9]}", "option 3 is already given as routers"),
    ("server_name: a, options: {▸66: x}", "option 66 is already given as server_name"),
    ("boot_file: a, options: {▸67: x}", "option 67 is already given as boot_file"),
    ("options: {▸66: {text: 10.0.0.1}}", "option 66 alone is not what all firmware reads; write server_name"),
    ("options: {▸tftp-server-name: boot}", "write server_name"),
    (
        "options: {43: ▸{menu-prompt: {timeout_s: 3, text: hello}}}",
        "add `discovery-control: 8`. Without it, .*PXE-E21",
    ),
    ("options: {161: ▸0a1}", "'0a1' may be a text, or hex with a digit missing"),
    ("options: {164: ▸12}", "'12' may be a number, or bytes in hex; write .uint8: 12., or .hex: 12."),
    ("options: {23: ▸{uint9: 3}}", "'uint9' is not the word of a type; words: hex, text, ip"),
    ("options: {4: 0a1c0001, ▸time-servers: [10.0.0.9]}", "option 4 is already given as 4"),
    ("options: {time-servers: [10.0.0.9], ▸time_servers: [10.0.0.9]}", "option 4 is already given as time-servers"),
    ("always_send: [mtu, ▸mtuu]", "there is no option 'mtuu'"),
    ("always_send: ▸mtu", "'mtu' is not a list; write .mtu."),
    ("never_send: [▸51]", "option 51 .*sent as the protocol says"),
    ("always_send: [mtu], never_send: [▸26]", "option 26 .interface-mtu. is already in always_send"),
    ("never_send: [mtu, ▸26]", "is already in never_send"),
    ("server_name: ▸" + 64 * "x", "server_name: it has 64 bytes; at most 63"),
    ("server_name: ▸'a b'", "server_name: 'a b' is not a server; write its name or its address"),
    ("boot_file: ▸" + 256 * "x", "boot_file: it has 256 bytes; at most 255"),
    ("boot_file: ▸" + 128 * "é", "it has 256 bytes; at most 255"),
    ('boot_file: ▸"a\\0b"', "has control characters; write a path or a URL"),
    ("domain_name: ▸a_b", "domain_name: 'a_b' is not a domain"),
    (
        "domain_search: [a.example.org, ▸\u212a.example.org]",
        "domain_search: .* is not a domain",
    ),  # a Kelvin sign, not a K
    ("lease_s: ▸5", "lease_s: 5 is too little; the least allowed is 60"),
    ("lease_s: ▸4294967295", "lease_s: 4294967295 is too much; the most allowed is 4294967294"),
    ("lease_s: ▸infinit", "'infinit' is neither a whole number nor infinite; did you mean 'infinite'"),
    ("lease_s: ▸[60]", "a list is neither a whole number nor infinite"),
    ("▸router: [10.0.0.9]", "router is not known; did you mean 'routers'"),
    ("▸tftp-server-address: [10.0.0.9]", "an option such as tftp-server-address stands in `options`"),
    ("mtu: ▸67", "67 is too little; the least allowed is 68"),
    ("next_server: ▸boot.example.org", "is not an IPv4 address"),
]
RIGHT = [
    "options: {150: '0a:1c 00:01', 43: '', time-servers: ~, 224: {text: x}}",
    "always_send: [26, host-name], never_send: [2]",
    "lease_s: infinite",
    "server_name: " + 63 * "x",
    "boot_file: " + 255 * "x",
    "boot_file: ''",
    "domain_name: ''",
    "boot_file: http://10.0.0.1/x, next_server: 10.0.0.1",
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_what_cannot_be_sent_is_told_with_its_place(tmp_path: Path, settings: str, message: str) -> None:
    assert_said(tmp_path, LEVELS["tag"] % settings, message)


@pytest.mark.parametrize("settings", RIGHT)
def test_what_can_be_sent_is_right(tmp_path: Path, settings: str) -> None:
    assert said(tmp_path, LEVELS["tag"] % settings) == []


@pytest.mark.parametrize("level", LEVELS)
def test_options_are_checked_at_every_level(tmp_path: Path, level: str) -> None:
    settings = "mtu: 1500, options: {▸26: '05dc', ▸nonsens: x}, lease_s: ▸59x"
    assert_said(
        tmp_path,
        LEVELS[level] % settings,
        "option 26 is already given as mtu .line",
        "there is no option 'nonsens'",
        "'59x' is neither a whole number nor infinite",
    )


words = st.sampled_from(
    ["", "a.example.org", "\u212a.example.org", "a..b", "x" * 64, "é", "a b", "core.efi", "10.0.0.1"]
)
keys = st.sampled_from(
    ["3", "43", "150", "mtu", "time-servers", "nonsense", "51", "255", "224", "119", "domain-search"]
)
values = st.one_of(
    st.none(),
    words,
    st.sampled_from(["0a1c0001", "0a1", "1500", "true"]),
    st.lists(words, max_size=2),
    st.dictionaries(st.sampled_from(["text", "hex", "1", "nonsense"]), words, max_size=2),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "domain_name": words,
            "domain_search": st.lists(words, max_size=3),
            "server_name": words,
            "boot_file": words,
            "options": st.dictionaries(keys, values, max_size=3),
            "always_send": st.lists(keys, max_size=2),
            "never_send": st.lists(keys, max_size=2),
            "mtu": st.integers(68, 70),
        },
    )
)
def test_a_server_can_send_what_the_check_lets_through(settings: dict[str, object]) -> None:
    try:
        farm = Farm.model_validate({"tags": {"all": {"dhcp": settings}}})
    except ValidationError:
        return
    if not list(check(farm)):
        plan(farm)  # raises nothing


def test_every_level_is_walked_once() -> None:
    farm = Farm.model_validate(
        {
            "dhcp": {
                "subnets": [{"subnet": "10.0.0.0/8", "pools": [{"range": "10.0.0.5"}]}],
                "shared_networks": {"n": {}},
                "architectures": {"bios": {}},
            },
            "images": {"i": {"path": "/i"}},
            "pools": [{"name": "p", "image": "i", "nodes": [{"name": "a", "serial": "a", "ip": "10.0.0.1"}]}],
            "tags": {"t": {}},
        }
    )
    assert {place for place, _ in levels(farm)} == {
        ("dhcp",),
        ("dhcp", "shared_networks", "n"),
        ("dhcp", "subnets", 0),
        ("dhcp", "subnets", 0, "pools", 0),
        ("dhcp", "architectures", "bios"),
        ("tags", "t", "dhcp"),
        ("pools", 0, "nodes", 0, "dhcp"),
    }
