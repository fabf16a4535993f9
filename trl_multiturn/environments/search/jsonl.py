"""JSON lines, read strictly: an error names the file and the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_jsonl(path: str | Path) -> Iterator[tuple[dict[str, Any], str]]:
    """
    Read the objects of a JSON lines file; blank lines are skipped.

    Args:
        path (`str` or `Path`):
            File in UTF-8.

    Yields:
        `tuple[dict, str]`: An object, and where it stands, for messages about it.

    Raises:
        `ValueError`: If a line is no JSON object.
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON: {error}") from error
            yield check_record(record, where)


def check_record(record: Any, where: str) -> tuple[dict[str, Any], str]:
    """
    Make sure that a record is a JSON object.

    Args:
        record (`Any`):
            Parsed record.
        where (`str`):
            Where it stands.

    Returns:
        `tuple[dict, str]`: Both, unchanged.

    Raises:
        `ValueError`: If the record is anything else.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{where}: must be an object, got {type(record).__name__}.")
    return record, where
