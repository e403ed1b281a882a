"""config.wording: what a mistake is called, to those who wrote the file."""

from pathlib import Path

import pytest

from tests.support.marked import assert_said

WRONG = [
    ("▸pools:\n", r"pools: an empty value is not a list; remove the line"),
    ("▸dhcp:\n", r"dhcp: an empty value is not a mapping of keys and values; remove the line"),
    ("▸tags:\n", r"tags: an empty value is not a mapping of names and values; remove the line"),
    ("dhcp: {subnets: [▸10.3.0.0/24]}\n", r"keys and values; write \{subnet: 10.3.0.0/24\}$"),
    ("dhcp: {subnets: [▸workers]}\n", r"'workers' is not a mapping of keys and values$"),
    (
        "dhcp: {subnets: [{subnet: 10.3.0.0/24, pools: [▸10.3.0.5-10.3.0.9]}]}\n",
        r"keys and values; write \{range: 10.3.0.5-10.3.0.9\}$",
    ),
    (
        "dhcp: {quirks: [{name: a, match: {macs: ['02:00:00']}, architecture: ▸uefi_x64}]}\n",
        "'uefi_x64' is no architecture; did you mean 'uefi-x64'.$",
    ),
    ("dhcp:\n▸\tmtu: 1500\n", "this is not YAML: a tab stands before the first word; indent with spaces"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_mistake_comes_with_what_to_write_instead(tmp_path: Path, text: str, message: str) -> None:
    assert_said(tmp_path, text, message)
