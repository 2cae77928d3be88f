"""What was measured, as JSON lines in a file: it can be read again, and drawn, later."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Results:
    """What was measured; each goes to a file as soon as it is known."""

    def __init__(self, path: Path | None) -> None:
        self.lines: list[dict[str, Any]] = []
        self._path = path

    def add(self, **line: Any) -> None:
        """One more."""
        self.lines.append(line)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """What some files hold."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]
