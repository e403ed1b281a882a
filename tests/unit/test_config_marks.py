"""config.marks: where in a farm's file a setting stands."""

from textwrap import dedent

import pytest

from config.marks import Marks, dotted
from config.yamltree import Place

TEXT = dedent(
    """\
    dhcp:
      domain_name_servers: [10.0.0.1]
      always_send: [mtu]
      options:
        150: 0a000001
        time-offset: 3600
      subnets:
        - subnet: 10.0.0.0/24
          routers:
            - 10.0.0.1
    """
)
MARKS = Marks("/etc/farm.yaml", TEXT)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("dhcp",), 1),
        (("dhcp", "domain_name_servers"), 2),
        (("dhcp", "subnets", 0), 8),
        (("dhcp", "subnets", 0, "routers"), 9),
        (("dhcp", "subnets", 1), None),
        (("dhcp", "mtu"), None),
    ],
)
def test_a_setting_is_on_its_line_and_a_default_on_none(place: Place, line: int | None) -> None:
    found = MARKS.of(place)
    assert (found.line if found else None) == line


@pytest.mark.parametrize(
    ("place", "code", "line"),
    [
        (("dhcp",), 6, 2),
        (("dhcp",), 150, 5),
        (("dhcp",), 2, 6),
        (("dhcp", "subnets", 0), 3, 9),
        (("dhcp", "subnets", 0), 6, None),
        (("dhcp",), 26, None),
    ],
)
def test_an_option_is_found_by_its_setting_its_name_or_its_number(place: Place, code: int, line: int | None) -> None:
    found = MARKS.option(place, code)
    assert (found.line if found else None) == line


def test_a_place_is_said_as_its_file_and_line() -> None:
    where = MARKS.of(("dhcp", "subnets", 0, "routers"))
    assert where is not None
    assert str(where) == "farm.yaml:9"
    assert (where.file, where.setting) == ("/etc/farm.yaml", "dhcp.subnets[0].routers")


def test_what_is_not_written_has_the_line_of_what_would_hold_it() -> None:
    where = MARKS.nearest(("dhcp", "subnets", 0, "unknown"))
    assert where is not None
    assert (where.line, where.setting) == (8, "dhcp.subnets[0]")
    assert MARKS.nearest(("pools", 0)) is None


def test_an_option_in_a_list_is_found_by_any_of_its_names() -> None:
    where = MARKS.listed(("dhcp",), "always_send", 26)
    assert where is not None
    assert where.line == 3
    assert MARKS.listed(("dhcp",), "never_send", 26) is None


def test_a_farm_without_a_file_has_no_lines() -> None:
    assert Marks().of(("dhcp",)) is None
    assert Marks().option(("dhcp",), 6) is None
    assert Marks().listed(("dhcp",), "always_send", 6) is None


def test_a_place_is_written_with_dots_and_brackets() -> None:
    assert dotted(("pools", 0, "nodes", 12, "ip")) == "pools[0].nodes[12].ip"
