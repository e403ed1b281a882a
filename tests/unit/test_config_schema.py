import re
from pathlib import Path, PurePath

import config
from config.load import load
from config.model import Farm
from config.schema import schema, text
from tests.unit.test_config_load import leaves

EXAMPLE = Path(config.__file__).parents[1] / "docs/farm.example.yaml"


def test_the_committed_schema_is_the_models() -> None:
    committed = Path(config.__file__).with_name("farm.schema.json").read_text()
    assert committed == text(), "run: python -m config.schema > config/farm.schema.json"


def test_the_schema_knows_what_a_person_writes() -> None:
    made = schema()
    assert made["additionalProperties"] is False
    assert "from" in made["$defs"]["NodeFile"]["properties"]
    assert made["$defs"]["Subnet"]["properties"]["pool"]["anyOf"][0] == {"type": "string"}
    assert made["$defs"]["Tag"]["properties"]["lts"]["additionalProperties"] is False
    assert "number" in made["$defs"]["NodeSettings"]["properties"]["sysctls"]["additionalProperties"]["type"]
    assert all("description" in field for field in made["$defs"]["Server"]["properties"].values())


def test_the_example_is_right() -> None:
    farm = load(EXAMPLE)
    assert farm.pools[0].nodes[0].name == "m1c29"


def test_the_example_points_editors_to_the_schema() -> None:
    first = EXAMPLE.read_text().split("\n")[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert match
    assert (EXAMPLE.parent / match[1]).resolve() == Path(config.__file__).with_name("farm.schema.json")


def test_the_example_shows_every_key_with_its_default() -> None:
    given = load(EXAMPLE).model_dump(by_alias=True, exclude_unset=True)
    lines = EXAMPLE.read_text().split("\n")
    for place, _, field in leaves(Farm):
        found: list[object] = [given]
        for part in place:
            inside: list[object] = []
            for value in found:
                if isinstance(value, dict):
                    inside += value.values() if part == "*" else [value[part]] if part in value else []
                elif part == "*" and isinstance(value, list | tuple):
                    inside += value
            found = inside
        if place[:3] == ("tags", "*", "dhcp"):
            continue  # the same keys as a subnet's
        assert found, f"{place} is not in the example"
        if isinstance(field.default, str | int | PurePath) and str(field.default):
            key, default = place[-1], str(field.default)
            said = default.lower() if isinstance(field.default, bool) else default
            shown = [line for line in lines if re.search(rf"\b{key}: .*# .*[Dd]efault {re.escape(said)}$", line)]
            assert shown, f"the example does not say that {key} is {said} by default"
