"""The JSON Schema of a farm's file, for editors: `python -m config.schema > config/farm.schema.json`."""

import json
from typing import Any

from config.model import Farm

_SCALAR = ["string", "number", "boolean"]


def schema() -> dict[str, Any]:
    """Return the schema of what a person may write.

    It is a little wider than the model in one point: where a name stands for a text, a bare number or true will
    do, since `config.yamltree` reads plain words as text.
    """
    made = Farm.model_json_schema(by_alias=True, mode="validation")
    _widen(made)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "A farm served by pxeboot"}


def text() -> str:
    """Return the schema as the committed file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _widen(part: Any) -> None:
    match part:
        case dict():
            if "patternProperties" in part:
                part["additionalProperties"] = False
            for values in (part.get("additionalProperties"), *part.get("patternProperties", {}).values()):
                if isinstance(values, dict) and values.get("type") == "string":
                    values["type"] = _SCALAR
            for value in part.values():
                _widen(value)
        case list():
            for value in part:
                _widen(value)
        case _:
            pass


if __name__ == "__main__":
    print(text(), end="")
