"""Habits that a reader relies on, held by a ratchet: the figures may fall, not rise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "trioraft").rglob("*.py"))
LONGEST_MODULE = 422
LONGEST_FUNCTION = 60

NEVER = {
    r"\bpickle\b": "bytes are never trusted",
    r"\beval\(|\bexec\(": "bytes are never trusted",
    r"\bprint\(": "a library writes to nobody's stdout",
    r"\btime\.sleep\(|\basyncio\b": "Trio only",
    r"open_memory_channel\(math\.inf": "everything is bounded",
    r"timeout\s*:\s*float\b.*=": "no timeout= parameters: callers use cancel scopes",
}
MAY = {"_config.py": r"timeout\s*:\s*float\b.*="}
SHIELDS = {"websocket.py", "guard.py", "_transport_suite.py", "_hop.py"}
THREADS = {"worker.py", "extents.py"}


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_tells_one_story(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_must_never_stand_in_the_package(path: Path) -> None:
    code = path.read_text()
    for pattern, why in NEVER.items():
        if MAY.get(path.name) != pattern:
            assert not re.search(pattern, code), f"{pattern}: {why}"
    if path.name not in SHIELDS:
        assert "shield=True" not in code, "a shield needs an end that somebody else holds"
    if path.name not in THREADS:
        assert "import threading" not in code, "threads stay behind the disk"
