import re
from pathlib import Path, PurePath

import config
from config.load import load
from config.model import DhcpOptions, Farm
from config.schema import schema, text
from config.wording import fields, settings_at
from config.yamltree import Place
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
    levels = option_levels()
    for place, _, field in leaves(Farm):
        level = next((level for level in levels if place[: len(level)] == level), ())
        key = place[len(level)]
        if level and key in fields(DhcpOptions):
            # The same keys at every level: each is shown at one of them.
            found = [value for other in levels for value in values_at(given, (*other, *place[len(level) :]))]
        else:
            found = values_at(given, place)
        assert found, f"{place} is not in the example"
        if isinstance(field.default, str | int | PurePath) and str(field.default):
            key, default = place[-1], str(field.default)
            said = default.lower() if isinstance(field.default, bool) else default
            shown = [line for line in lines if re.search(rf"\b{key}: .*# .*[Dd]efault {re.escape(said)}$", line)]
            assert shown, f"the example does not say that {key} is {said} by default"


def test_the_example_shows_every_place_that_options_can_stand_in() -> None:
    given = load(EXAMPLE).model_dump(by_alias=True, exclude_unset=True)
    levels = option_levels()
    assert len(levels) == 7
    for level in levels:
        keys = {key for found in values_at(given, level) if isinstance(found, dict) for key in found}
        assert keys & {*fields(DhcpOptions)}, f"no option stands at {level} in the example"


def option_levels() -> list[Place]:
    """The places that carry options, the most specific of those that lie in another first."""
    found = {place[:length] for place, *_ in leaves(Farm) for length in range(1, len(place))}
    concrete = {place: settings_at(tuple(0 if part == "*" else part for part in place)) for place in found}
    levels = [place for place, kind in concrete.items() if kind is not None and issubclass(kind, DhcpOptions)]
    return sorted(levels, key=len, reverse=True)


def values_at(given: object, place: Place) -> list[object]:
    """Everything that stands at a place; * stands for any key or index."""
    found = [given]
    for part in place:
        inside: list[object] = []
        for value in found:
            if isinstance(value, dict):
                inside += value.values() if part == "*" else [value[part]] if part in value else []
            elif part == "*" and isinstance(value, list | tuple):
                inside += value
        found = inside
    return found
