"""SQLite, brought through the contract that any storage must keep."""

from __future__ import annotations

from pathlib import Path

from examples.sqlite_storage import SqliteStorage
from trioraft.testing import check_storage


async def test_sqlite_keeps_the_contract(tmp_path: Path) -> None:
    await check_storage(lambda: SqliteStorage(tmp_path / "log.sqlite"))
