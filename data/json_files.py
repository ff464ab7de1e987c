"""JSON objects in files of their own: settings, summaries, and the notes on what made a file."""

import json
from pathlib import Path

from data.sentencepieces import next_step


def read_json(path: Path) -> dict:
    """A JSON object; {} when there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        step = next_step(path.read_bytes())
        raise ValueError(
            f"{path} is not JSON ({error}); {step}, or delete it where one of these programs wrote it"
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {type(value).__name__} found, a JSON object expected")
    return value


def noted(path: Path) -> dict:
    """What `write_provenance` noted beside a file or folder; {} without that."""
    return read_json(path.with_name(path.name + ".meta.json"))
