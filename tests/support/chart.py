"""The Helm chart: what of it is made from other files, rendering it, and taking apart what was rendered.

    python -m tests.support.chart        # writes what is made; a test says when that is due

Helm itself does the work, by way of its library: there is no program to install.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

from config.check_options import OPTION_KEYS
from config.optiontable import CATALOGUE, OPTIONS
from config.optiontypes import Kind
from config.schema import schema as farm_schema
from pxeboot.imports.ltspconf import VARIABLES
from pxeboot.reloading.fixed import FIXED, OPTIONAL

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/pxeboot"
MONITORING = (ROOT / "deploy/monitoring/alerts.yaml", ROOT / "deploy/monitoring/grafana-dashboard.json")
DOCUMENT = ROOT / "docs/helm.md"
BEGIN, END = "<!-- values: made by tests/support/chart.py -->", "<!-- end of values -->"

_LISTS = frozenset(
    (Kind.IPS, Kind.IP_PAIRS, Kind.UINT16S, Kind.DOMAINS, Kind.PLAIN_DOMAINS, Kind.CLASSES, Kind.SIP_SERVERS)
)
_KEYS_WITH_LISTS = frozenset((3, 6, 7, 42, 119))
_UNTYPED = frozenset((Kind.BINARY, Kind.SPACE))

Object = dict[str, Any]


def render(values: Mapping[str, Any], name: str = "pxeboot", namespace: str = "pxeboot") -> dict[str, str]:
    """Return the text of each template. Raises `helm_python.HelmError`, with Helm's words."""
    return dict(_rendered(json.dumps(values), name, namespace))


@cache
def _rendered(values: str, name: str, namespace: str) -> Mapping[str, str]:
    made = _chart().render(json.loads(values), name=name, namespace=namespace)
    return {path.removeprefix("pxeboot/templates/"): text for path, text in made.items()}


@cache
def _chart() -> helm_python.Chart:
    """Loaded once: its schema is long."""
    return helm_python.Chart.load(CHART)


def objects(rendered: Mapping[str, str]) -> list[Object]:
    """Return every object that would be installed."""
    texts = [text for name, text in rendered.items() if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def only(found: list[Object], kind: str, name: str = "") -> Object:
    """Return the one object of a kind, or the one with that name."""
    (one,) = [one for one in found if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    return one


def farm_text(found: list[Object]) -> str:
    """Return the farm.yaml that the pods get."""
    (text,) = [
        (one.get("data") or one["stringData"])["farm.yaml"]
        for one in found
        if one["kind"] in ("ConfigMap", "Secret") and one["metadata"]["name"].endswith("-farm")
    ]
    assert isinstance(text, str)
    return text


# What is made.


def dhcp_options() -> str:
    """DHCP options by dnsmasq's names and by number: what each is called in a farm, and how its value is written."""
    names = {name: row.code for row in OPTIONS for name in (row.name, *row.also)}
    options: dict[str, Any] = {}
    for code, row in sorted(CATALOGUE.items()):
        if code in OPTION_KEYS:
            form = "list" if code in _KEYS_WITH_LISTS else "routes" if row.kind is Kind.ROUTES else "text"
            options[str(code)] = {"key": OPTION_KEYS[code], "form": form}
        elif row.kind not in _UNTYPED:
            form = "list" if row.kind in _LISTS else "text"
            options[str(code)] = {"name": row.name, "form": form}
    made = yaml.safe_dump({"names": names, "options": options}, default_flow_style=None, width=110)
    return f"# Made by tests/support/chart.py of config/optiontable.py.\n{made}"


def fixed() -> str:
    """The settings that a running server keeps until a restart; of `sections`, whether they are there."""
    made = {"values": [".".join(place) for place in FIXED], "sections": [".".join(place) for place in OPTIONAL]}
    return f"# Made by tests/support/chart.py of pxeboot/reloading/fixed.py.\n{yaml.safe_dump(made)}"


def values_schema() -> str:
    """The schema of the chart's values: its own part as it is, and the farm's, which is `config.schema`'s."""
    mine: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    farm = farm_schema()
    parts = farm.pop("$defs")
    farm.pop("$schema")
    mine["$defs"] = {name: part for name, part in mine["$defs"].items() if name.startswith("kubefarm")}
    mine["$defs"] |= {**parts, "Farm": farm}
    return json.dumps(mine, indent=2, ensure_ascii=False) + "\n"


def values_table() -> str:
    """The values with their comments and defaults, as a table for people."""
    rows = ["| value | default | what it does |", "|---|---|---|"]
    rows += [f"| `{key}` | {default} | {comment} |" for key, default, comment in described()]
    return "\n".join(rows)


def described() -> list[tuple[str, str, str]]:
    """Every value of values.yaml: its key with dots, its default as Markdown, its comment. Raises `ValueError`."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return [*_described(root, "", text.splitlines())]


def _described(node: yaml.MappingNode, before: str, lines: list[str]) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for key, value in node.value:
        comment = _comment(lines, key.start_mark.line)
        name = f"{before}{key.value}"
        inner = isinstance(value, yaml.MappingNode) and not value.flow_style
        if not comment and not inner:
            raise ValueError(f"values.yaml: {name} has no comment")
        if (inner and not comment) or name == "image":
            found += _described(value, f"{name}.", lines)
            continue
        plain = yaml.safe_load(yaml.serialize(value))
        if inner and all(_comment(lines, one.start_mark.line) for one, _ in value.value):
            found.append((name, "", comment))
            found += _described(value, f"{name}.", lines)
            continue
        default = json.dumps(plain) if plain not in ("", [], {}, None) else ""
        found.append((name, f"`{default}`" if default else "", comment))
    return found


def _comment(lines: list[str], line: int) -> str:
    found: list[str] = []
    while line and (match := re.fullmatch(r"\s*# (.*)", lines[line - 1])):
        found.insert(0, match[1])
        line -= 1
    return " ".join(found)


def document() -> str:
    """docs/helm.md with the table as it is now."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{values_table()}\n{END}{after}"


def made() -> dict[Path, str]:
    """Every file that is made, wholly or in part, with what it has to hold."""
    return {
        CHART / "files/dhcp-options.yaml": dhcp_options(),
        CHART / "files/ltsp-variables.sh": VARIABLES,
        CHART / "files/fixed.yaml": fixed(),
        **{CHART / "files" / path.name: path.read_text() for path in MONITORING},
        CHART / "values.schema.json": values_schema(),
        DOCUMENT: document(),
    }


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text)
