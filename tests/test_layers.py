"""Who may import whom: every room only from the rooms below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "trioraft"

LAYERS = [
    ["_errors", "_limits", "_frozen"],
    ["_snapshots.compression"],
    ["_clock", "_config"],
    ["_rules.evolving", "_rules.ids"],
    ["_rules.membership"],
    ["_rules.log"],
    ["_rules.messages"],
    ["_rules.events", "_rules.effects"],
    ["_rules.node"],
    ["_rules.elections"],
    ["_rules.tenure", "_rules.reads"],
    ["_rules.transfer"],
    ["_rules.reconfiguration"],
    ["_rules.commitment"],
    ["_rules.following", "_rules.replication"],
    ["_rules.snapshots"],
    ["_rules.step", "_rules.invariants"],
    ["_garbage"],
    ["_wire.frames", "_wire.strict"],
    ["_wire.asking", "_wire.installing", "_wire.stamps", "_promise"],
    ["_wire.codec", "abc"],
    ["_transport.inbox", "_turns"],
    ["_transport.guard", "_transport.http", "_transport.visitor"],
    ["_storage", "_transport.addresses", "_transport.websocket", "_transport.conversation"],
    ["_snapshots.form"],
    ["_state", "_commands", "_reads", "_status", "_outbox", "_recent", "_events", "_observer"],
    ["_sessions", "_changes", "_stopwatch", "_snapshots.progress"],
    ["_snapshots.naming"],
    ["_payloads", "_wire.levels"],
    ["_trace"],
    [
        "_cluster_time",
        "_naming",
        "_tickets",
        "_diskwriter",
        "_gate",
        "_pace",
        "_reading",
        "_background",
    ],
    ["_handshake"],
    ["_network", "_membership"],
    ["_transport.peers", "_applier", "_logbook"],
    ["_snapshots.keeper", "_snapshots.restoring"],
    ["_directory"],
    ["_recovery"],
    ["_snapshots.sending", "_snapshots.receiving"],
    ["_plan"],
    ["_json", "_json_calls", "_web_metrics", "_web_requests", "_web_members", "_web"],
    ["_roles"],
    ["_announcing"],
    ["_core"],
    ["_answering", "_leadership"],
    ["_client"],
    ["_forwarding"],
    ["_front"],
    ["_desk"],
    ["_view"],
    ["_changing"],
    ["_administration"],
    ["_server"],
    ["__init__"],
    ["recipes"],
    ["testing"],
    ["_bench.figures", "_bench.speaking"],
    ["_bench.loop"],
    ["_bench.foreign", "_bench.node"],
    ["_bench.callers", "_bench.cluster", "_bench"],
    ["_cli"],
    ["__main__"],
]
RULES_KNOW = {"__future__", "attrs", "bisect", "collections", "math", "typing", "trioraft"}


def layer_of(module: str) -> int:
    for number, rooms in enumerate(LAYERS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return number
    raise AssertionError(f"{module} has no place in LAYERS")


def modules() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = (".".join(path.parts) for path in paths)
    return sorted(name for name in names if name not in ("_rules.__init__", "_wire.__init__"))


def imports(module: str) -> list[str]:
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def own(imported: str) -> str | None:
    """The module of this package that an import reaches, if it is one."""
    path = PACKAGE.parent / imported.replace(".", "/")
    if imported.startswith("trioraft.") and (path.is_dir() or path.with_suffix(".py").exists()):
        return imported.removeprefix("trioraft.")
    return None


@pytest.mark.parametrize("module", [m for m in modules() if not m.endswith("__init__")])
def test_a_room_imports_only_from_rooms_below_it(module: str) -> None:
    for imported in filter(None, map(own, imports(module))):
        if (PACKAGE / imported.replace(".", "/")).is_dir() and imported in ("_rules", "_wire"):
            continue
        above = layer_of(imported) > layer_of(module)
        assert not above, f"{module} imports {imported}, which stands above it"


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("_rules.")])
def test_rules_know_no_clock_no_chance_no_io_and_no_trio(module: str) -> None:
    assert {imported.split(".")[0] for imported in imports(module)} <= RULES_KNOW


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("_rules.")])
def test_rules_never_wait(module: str) -> None:
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(tree) if isinstance(node, waits)]
