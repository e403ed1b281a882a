"""dhcp.formats: lease files of other servers, read with mistrust and written as they are read there."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp.formats import dhcpd, dnsmasq, kea
from dhcp.formats.found import Found, NotThisFormat
from dhcp.leases import NEVER, Lease, State

DATA = Path(__file__).parent.parent / "data/leases"
MAC = "52:54:00:12:34:56"
NOW = 1_790_000_000

Read = Callable[[bytes], Found]


def lease(n: int, expires: int = NOW + 3600, state: State = State.BOUND, client: str = MAC, mac: str = MAC) -> Lease:
    return Lease(IPv4Address(f"10.77.0.{n}"), client, expires, state, mac)


def made(n: int, where: int, expires: int, state: State = State.BOUND) -> Lease:
    return Lease(IPv4Address(f"10.77.0.{where}"), f"02:10:00:00:00:{n:02x}", expires, state)


def test_what_dnsmasq_wrote_is_read() -> None:
    found = dnsmasq.read((DATA / "dnsmasq.leases").read_bytes())
    end = 1795276207
    expected = [made(6, 89, end), made(5, 88, end), made(4, 87, end), made(3, 86, NEVER)]
    assert list(found.leases.values()) == expected
    assert (found.mistakes, found.left_out.total()) == ([], 0)


def test_what_dhcpd_wrote_is_read() -> None:
    found = dhcpd.read((DATA / "dhcpd.leases").read_bytes())
    end, released = 1795276211, 1795272611
    expected = [
        made(1, 50, released, State.RELEASED),
        Lease(IPv4Address("10.77.0.51"), "unknown", released + 86400, State.DECLINED),
        *(made(n, 49 + n, end) for n in range(3, 7)),
    ]
    assert list(found.leases.values()) == expected
    assert (found.mistakes, found.left_out.total()) == ([], 0)


def test_what_kea_wrote_is_read() -> None:
    found = kea.read((DATA / "kea-leases4.csv").read_bytes())
    expected = {made(n, 49 + n, 1795276214) for n in range(3, 7)}
    expected.add(Lease(IPv4Address("10.77.0.51"), "unknown", 1795359014, State.DECLINED))
    assert set(found.leases.values()) == expected, "a row without lifetime is a lease that is no more"
    assert (found.mistakes, found.left_out.total()) == ([], 0)


@pytest.mark.parametrize(("read", "file"), [(dnsmasq.read, "dnsmasq.leases"), (dhcpd.read, "dhcpd.leases"),
                                            (kea.read, "kea-leases4.csv")])  # fmt: skip
def test_identity_is_the_client_identifier_where_that_is_asked_for(read: Callable[..., Found], file: str) -> None:
    found = read((DATA / file).read_bytes(), by_client_id=True)
    of = {(lease.client, lease.mac) for lease in found.leases.values() if lease.state is State.BOUND}
    assert ("id:01021000000004", "02:10:00:00:00:04") in of


DNSMASQ = [
    (f"{NOW} {MAC} 10.77.0.1 n1 01:52:54:00:12:34:56", lease(1, NOW)),
    (f"{NOW} 52:54:0:12:34:56 10.77.0.1 *", lease(1, NOW)),
    (f"0 {MAC} 10.77.0.1 * *", lease(1, NEVER)),
    (f"{NOW} 20-{MAC} 10.77.0.1 * *", lease(1, NOW)),
    (f"{NOW} 52:54:00:12:34:AB 10.77.0.1 * ff:00", lease(1, NOW, client="52:54:00:12:34:ab", mac="52:54:00:12:34:ab")),
]


@pytest.mark.parametrize(("line", "record"), DNSMASQ)
def test_a_line_of_dnsmasq_is_a_lease(line: str, record: Lease) -> None:
    assert list(dnsmasq.read(line.encode()).leases.values()) == [record]


def test_mistakes_in_dnsmasqs_file_are_told_by_line_and_the_rest_is_taken() -> None:
    lines = [
        f"{NOW} {MAC} 10.77.0.1 * *",
        f"soon {MAC} 10.77.0.2 * *",
        f"{NOW} 52:54:zz 10.77.0.2 * *",
        f"{NOW} {MAC} 10.77.0.256 * *",
        f"{NOW} {MAC} 224.0.0.1 * *",
        f"{NOW} {MAC} 10.77.0.2 * \x00",
        "9" * 10_000_000,
        f"-1 {MAC} 10.77.0.2 * *",
        f"{10**18} {MAC} 10.77.0.2 * *",
        f"{NOW} {':'.join(['00'] * 17)} 10.77.0.2 * *",
        "duid 00:01:00:01:2c:1f:1f:1f:52:54:00:12:34:56",
        f"{NOW} 1179206 fd00::1 * 00:01:00:01",
        "",
        f"{NOW + 1} {MAC} 10.77.0.1 * *",
    ]
    found = dnsmasq.read("\n".join(lines).encode("latin-1"))
    assert list(found.leases.values()) == [lease(1, NOW + 1)], "the newest entry wins"
    assert [row for row, _ in found.mistakes] == [*range(2, 11)]
    assert all(len(text) < 200 for _, text in found.mistakes)
    assert found.left_out == {"DHCPv6": 1}


DHCPD = """# comment with a "quotation mark
authoring-byte-order little-endian;
host h { dynamic; hardware ethernet 00:00:00:00:00:01; fixed-address 10.77.0.99; }
failover peer "dhcp" state { my state normal at 4 2026/11/21 14:00:00; }
lease 10.77.0.1 {
  starts 4 2026/11/21 14:00:00; ends 4 2026/09/21 14:13:20;
  binding state active;
  hardware ethernet 52:54:00:12:34:56;
  client-hostname "a } b; \\"quoted\\" lease 10.77.0.2 {";
  on expiry { if (1) { log (info, "}"); } }
}
lease 10.77.0.2 { ends never; hardware ethernet 52:54:00:12:34:56; uid 01:52:54; binding state active; }
lease 10.77.0.3 { ends epoch 1790000000; # Mon
  binding state active; uid "\\377\\000\\001\\\\\\"a"; }
lease 10.77.0.4 { ends epoch 1; binding state free; }
lease 10.77.0.5 { ends epoch 5; binding state expired; hardware ethernet 52:54:00:12:34:56; }
lease 10.77.0.6 { ends epoch 6; binding state active; uid "\\001RT\\000\\0224V"; }
lease 10.77.0.7 { ends epoch 7; hardware ethernet 52:54:00:12:34:56; abandoned; }
"""


def test_all_that_dhcpd_may_write_is_read() -> None:
    found = dhcpd.read(DHCPD.encode())
    nobody = "id:ff00015c2261"
    assert list(found.leases.values()) == [
        lease(1, 1_790_000_000),
        lease(2, NEVER),
        lease(3, 1_790_000_000, client=nobody, mac=nobody),
        lease(5, 5, State.RELEASED),
        lease(6, 6),
        lease(7, 7, State.DECLINED, "unknown", "unknown"),
    ]
    assert found.mistakes == []
    assert found.left_out == {"'host' blocks": 1, "'failover' blocks": 1, "never used": 1}


def test_mistakes_in_dhcpds_file_are_told_by_line_and_the_rest_is_taken() -> None:
    body = "ends epoch 9; hardware ethernet 52:54:00:12:34:56;"
    text = f"""lease 10.77.0.1 {{ {body} }}
lease 10.77.0.2 {{ {body}
lease 10.77.0.3 {{ ends 4 2026/02/30 14:00:00; hardware ethernet 52:54:00:12:34:56; }}
lease 10.77.0.4 {{ hardware ethernet 52:54:00:12:34:56; }}
lease 10.77.0.5 {{ ends epoch 9; }}
lease 10.77.0.6 {{ {body} binding state confused; }}
lease 10.77.0.777 {{ {body} }}
lease 10.77.0.8 {{ {body} uid "abc; }}
}}
lease 10.77.0.9 {{ {body} on expiry {{
lease 10.77.0.10 {{ {body} }}
lease 10.77.0.11;
host h {{ {{
lease 10.77.0.12 {{ {body} }}
"
lease 10.77.0.13 {{ {body} uid "{"x" * 300}
"""
    found = dhcpd.read(text.encode())
    assert [str(where) for where in found.leases] == ["10.77.0.1", "10.77.0.10", "10.77.0.12"]
    assert [row for row, _ in found.mistakes] == [2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16]


KEA_HEADER = ",".join(kea.COLUMNS)


@pytest.mark.parametrize(
    ("row", "records"),
    [
        (f"10.77.0.1,{MAC},,3600,{NOW},1,0,0,n1&#x2crack,0,", [lease(1, NOW)]),
        (f"10.77.0.1,{MAC},,4294967295,{NOW + 2**32 - 1},1,0,0,,0,", [lease(1, NEVER)]),
        (f"10.77.0.1,{MAC},01:02,3600,{NOW},1,0,0,,2,", [lease(1, NOW, State.RELEASED)]),
        (f"10.77.0.1,{MAC},01:02,3600,{NOW},1,0,0,,3,", [lease(1, NOW, State.RELEASED)]),
        (f"10.77.0.1,,ff:01,3600,{NOW},1,0,0,,0,", [lease(1, NOW, client="id:ff01", mac="id:ff01")]),
        (f"10.77.0.1,{MAC},,0,{NOW},1,0,0,,0,", []),
        (f"10.77.0.1,{MAC},,3600,{NOW},1,0,0,,0", [lease(1, NOW)]),
    ],
)
def test_a_row_of_kea_is_a_lease(row: str, records: list[Lease]) -> None:
    assert list(kea.read(f"{KEA_HEADER}\n{row}\n".encode()).leases.values()) == records


def test_a_kea_file_with_other_columns_is_read_by_their_names() -> None:
    text = f"expire,pool_id,valid_lifetime,client_id,hwaddr,address\r\n{NOW},0,60,,{MAC},10.77.0.1\r\n"
    assert list(kea.read(text.encode()).leases.values()) == [lease(1, NOW)]


def test_mistakes_in_keas_file_are_told_by_line_and_the_rest_is_taken() -> None:
    rows = [
        KEA_HEADER,
        f"10.77.0.1,{MAC},,3600,{NOW},1,0,0,,0,",
        "\0" * 100,
        f"10.77.0.2,{MAC},,3600,{NOW},1,0,0,,7,",
        f"10.77.0.2,{MAC},,3600,-1,1,0,0,,0,",
        f"10.77.0.2,,,3600,{NOW},1,0,0,,0,",
        f"10.77.0.2,{MAC},,3600,{NOW},1,0,0,a,b,0,",
        f"10.77.0.2,{MAC},,3600,{NOW},1,0,0,,0,",
        "10.77.0.3,52:5",
    ]
    found = kea.read("\n".join(rows).encode())
    assert list(found.leases.values()) == [lease(1, NOW), lease(2, NOW)]
    assert [row for row, _ in found.mistakes] == [3, 4, 5, 6, 7, 9]


@pytest.mark.parametrize("read", [dnsmasq.read, dhcpd.read, kea.read])
@pytest.mark.parametrize(
    "text", [b"hello\n", b"\x7fELF\0\0\0", b"address,duid,hwaddr,client_id,valid_lifetime,expire\n"]
)
def test_another_kind_of_file_is_refused(read: Read, text: bytes) -> None:
    with pytest.raises(NotThisFormat):
        read(text)


@pytest.mark.parametrize("read", [dnsmasq.read, dhcpd.read])
def test_an_empty_file_has_no_leases(read: Read) -> None:
    assert read(b"").leases == {}


@pytest.mark.parametrize("file", ["dnsmasq.leases", "dhcpd.leases", "kea-leases4.csv"])
@given(st.data())
def test_a_spoiled_file_is_read_as_far_as_it_can_be(file: str, data: st.DataObject) -> None:
    read: Read = {"dnsmasq.leases": dnsmasq.read, "dhcpd.leases": dhcpd.read, "kea-leases4.csv": kea.read}[file]
    whole = bytearray((DATA / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(whole)))
        whole[at : at + data.draw(st.integers(0, 80))] = data.draw(st.binary(max_size=20))
    try:
        found = read(bytes(whole))
    except NotThisFormat:
        return
    assert all(1 <= row <= whole.count(b"\n") + 1 for row, _ in found.mistakes)


any_lease = st.builds(
    lease,
    n=st.integers(1, 254),
    expires=st.integers(NOW + 1, NOW + 10**6) | st.just(NEVER),
    client=st.just(MAC) | st.binary(min_size=1, max_size=30).map(lambda value: f"id:{value.hex()}"),
)


@given(st.lists(any_lease, unique_by=lambda lease: lease.address))
def test_what_is_written_for_dnsmasq_and_kea_is_read_back(leases: list[Lease]) -> None:
    again = dnsmasq.read(dnsmasq.write(leases, NOW).encode(), by_client_id=True)
    assert (list(again.leases.values()), again.mistakes) == (leases, [])
    again = kea.read(kea.write(leases, NOW).encode(), by_client_id=True)
    assert (list(again.leases.values()), again.mistakes) == (leases, [])


def test_what_dnsmasq_has_no_place_for_is_left_out() -> None:
    others = [lease(1, NOW), lease(2, NOW - 5, State.RELEASED), lease(3, NOW + 5, State.DECLINED)]
    assert dnsmasq.write([*others, lease(4, NEVER)], NOW) == f"0 {MAC} 10.77.0.4 * *\n"


def test_kea_gets_quarantines_and_who_had_an_address() -> None:
    records = [lease(1, NOW + 60), lease(2, 0, State.RELEASED), lease(3, NOW + 5, State.DECLINED), lease(4, NOW - 9)]
    subnets = (IPv4Network("10.99.0.0/24"), IPv4Network("10.77.0.0/24"))
    assert kea.write(records, NOW, subnets).splitlines() == [
        KEA_HEADER,
        f"10.77.0.1,{MAC},,60,{NOW + 60},2,0,0,,0,",
        f"10.77.0.2,{MAC},,3600,3600,2,0,0,,2,",
        f"10.77.0.3,,,5,{NOW + 5},2,0,0,,1,",
        f"10.77.0.4,{MAC},,3600,{NOW - 9},2,0,0,,0,",
    ]
