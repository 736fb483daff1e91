"""The published JSON Schema: current, and of one mind with what checks the file."""

import json
from pathlib import Path

from services.control.config import Config
from services.control.configuration.schema import schema_text

PUBLISHED = Path(__file__).parents[3] / "docs" / "hopwire.schema.json"


def test_the_committed_schema_is_current() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), "run: make schema"


def test_it_knows_all_keys_and_no_others() -> None:
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert schema["properties"].keys() == Config.model_fields.keys()
    assert schema["additionalProperties"] is False
    for name, definition in schema["$defs"].items():
        assert definition["additionalProperties"] is False, name
    route = schema["$defs"]["ConfiguredRoute"]
    assert set(route["properties"]) == {"dst", "type", "via", "dev", "metric", "mtu", "src", "onlink", "nexthops"}
    assert route["required"] == ["dst"]
