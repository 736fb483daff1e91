"""`python -m services.control.configuration.schema`: the JSON Schema of the configuration file, for editors."""

import json
from typing import Final

from services.control.config import Config

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """Return the schema, made from the same models that check the file."""
    schema = {"$schema": _DIALECT, **Config.model_json_schema(), "title": "hopwire's configuration file"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")  # noqa: T201 - its output is its product
