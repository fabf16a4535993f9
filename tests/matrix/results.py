"""What came of which cells, in a file that a run goes on with and the table is made from."""

import datetime
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.matrix.cells import LOSSES, Cell
from tests.matrix.running import Outcome


PATH = Path(__file__).parents[2] / "docs" / "results" / "support_matrix.json"
_PACKAGES = ("trl", "transformers", "torch", "peft", "accelerate", "bitsandbytes", "datasets")


class Results:
    """
    Outcomes by cell.

    Args:
        content (`Mapping`):
            What [`Results.content`] returned, or nothing.
    """

    def __init__(self, content: Mapping[str, Any] | None = None):
        content = content or {}
        self.date: str = content.get("date", "")
        self.versions: dict[str, str] = dict(content.get("versions", {}))
        self.losses: list[str] = list(content.get("losses", []))
        self.messages: dict[str, str] = dict(content.get("messages", {}))
        self.outcomes: dict[Cell, Outcome] = {}
        for where, found in content.get("cells", {}).items():
            trainer, adapter, environment = where.split("/")

            def put(lifecycles: str, outcome: Outcome, trainer=trainer, adapter=adapter, environment=environment):
                for lifecycle in lifecycles.split():
                    self.outcomes[Cell(trainer, lifecycle, adapter, environment)] = outcome

            put(found.get("ok", ""), Outcome("ok"))
            for name, lifecycles in found.get("refused", {}).items():
                put(lifecycles, Outcome("refused", name))
            for lifecycle, message in found.get("defect", {}).items():
                put(lifecycle, Outcome("defect", "", message))

    @classmethod
    def read(cls, path: Path) -> "Results":
        """What a file holds; nothing if there is none."""
        return cls(json.loads(path.read_text(encoding="utf-8")) if path.exists() else None)

    @property
    def is_of_these_versions(self) -> bool:
        """Whether it was made with what is installed, as far as there is anything in it."""
        return not self.outcomes or (self.versions, self.losses) == (_installed(), LOSSES)

    def add(self, cell: Cell, outcome: Outcome) -> None:
        """Put in what came of a cell, today and with what is installed."""
        self.date = datetime.date.today().isoformat()
        self.versions, self.losses = dict(_installed()), list(LOSSES)
        self.outcomes[cell] = outcome
        if outcome.status == "refused":
            self.messages[outcome.name] = outcome.message

    def content(self) -> dict[str, Any]:
        """What goes into the file: lifecycles by outcome, by what they were run with."""
        cells: dict[str, Any] = {}
        for cell, (status, name, message) in sorted(self.outcomes.items()):
            found = cells.setdefault(f"{cell.trainer}/{cell.adapter}/{cell.environment}", {})
            if status == "ok":
                found["ok"] = f"{found.get('ok', '')} {cell.lifecycle}".strip()
            elif status == "refused":
                refused = found.setdefault("refused", {})
                refused[name] = f"{refused.get(name, '')} {cell.lifecycle}".strip()
            else:
                found.setdefault("defect", {})[cell.lifecycle] = message
        return {
            "made_by": "python -m tests.matrix",
            "date": self.date,
            "versions": self.versions,
            "losses": self.losses,
            "messages": dict(sorted(self.messages.items())),
            "cells": cells,
        }

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(self.content(), indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)


@lru_cache
def _installed() -> dict[str, str]:
    return {name: version(name).partition("+")[0] for name in _PACKAGES}
