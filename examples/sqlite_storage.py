"""Bring your own storage: SQLite behind `trioraft.abc.Storage`.

One connection, locked for this process, write-ahead log, `synchronous=FULL`: a committed
transaction survives a power cut.  Snapshots are files in a directory beside it.  trioraft's own
segment log is quicker, and tells a torn tail from damage, where SQLite forgets all that lies behind
a damaged frame of its log; this is to show what a storage has to do.
`trioraft.testing.check_storage` says whether it does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import trio

from trioraft import SnapshotDirectory, StorageError, StorageLocked
from trioraft.abc import Batch, Kind, Recovered, parse_entry

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, term INT, kind INT, frame BLOB) STRICT;
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), data BLOB) STRICT;
CREATE TABLE IF NOT EXISTS base (id INTEGER, term INT) STRICT;
INSERT INTO base SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM base);
"""


class SqliteStorage:
    """A server's log and state in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._database: sqlite3.Connection | None = None
        self.snapshots = SnapshotDirectory(f"{path}.snapshots")

    async def open(self) -> Recovered:
        """Open the file, for this process alone, and read what it holds."""
        recovered = await trio.to_thread.run_sync(self._open, limiter=self._one_at_a_time)
        try:
            await self.snapshots.open()
        except BaseException:
            await self.aclose()
            raise
        return recovered

    async def write(self, batch: Batch) -> None:
        """Commit a batch as one transaction."""
        await trio.to_thread.run_sync(self._write, batch, limiter=self._one_at_a_time)

    async def read(self, first: int, max_bytes: int) -> Sequence[bytes]:
        """Read frames until they fill `max_bytes`."""
        limiter = self._one_at_a_time
        return await trio.to_thread.run_sync(self._read, first, max_bytes, limiter=limiter)

    async def aclose(self) -> None:
        """Close the snapshots, then the file, which unlocks both."""
        await self.snapshots.aclose()
        database, self._database = self._database, None
        if database is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(database.close, limiter=self._one_at_a_time)

    def _open(self) -> Recovered:
        try:
            database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=0
            )
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                database.execute(f"PRAGMA {pragma}")
            database.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            database.close()
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StorageLocked(f"{self._path} is in use") from error
            raise StorageError(str(error)) from error
        self._database = database
        state = database.execute("SELECT data FROM state").fetchone()
        base = database.execute("SELECT id, term FROM base").fetchone()
        runs = "SELECT min(id), term FROM entry GROUP BY term ORDER BY term"
        (last,) = database.execute("SELECT coalesce(max(id), ?) FROM entry", base[:1]).fetchone()
        of_kind = "SELECT frame FROM entry WHERE kind = ? ORDER BY id"
        configurations = database.execute(of_kind, (Kind.CONFIGURATION,))
        return Recovered(
            None if state is None else state[0],
            tuple(database.execute(runs)),
            last,
            tuple(frame for (frame,) in configurations),
            base,
        )

    def _write(self, batch: Batch) -> None:
        if self._database is None:
            raise StorageError("the storage is not open, or has failed")
        try:
            with self._database as transaction:
                transaction.execute("BEGIN")
                if batch.cut is not None:
                    transaction.execute("DELETE FROM entry WHERE id > ?", (batch.cut,))
                if batch.base is not None:
                    transaction.execute("DELETE FROM entry WHERE id <= ?", batch.base[:1])
                    transaction.execute("UPDATE base SET id = ?, term = ?", batch.base)
                rows = [
                    (e.index, e.term, e.kind, f) for f in batch.entries for e in [parse_entry(f)]
                ]
                transaction.executemany("INSERT INTO entry VALUES (?, ?, ?, ?)", rows)
                if batch.state is not None:
                    transaction.execute("REPLACE INTO state VALUES (1, ?)", (batch.state,))
        except sqlite3.Error as error:
            self._database.close()  # a failed commit is never tried again
            self._database = None
            raise StorageError(f"{self._path}: {error}") from error

    def _read(self, first: int, max_bytes: int) -> list[bytes]:
        if self._database is None:
            raise StorageError("the storage is not open")
        found: list[bytes] = []
        behind = "SELECT frame FROM entry WHERE id >= ? AND ? > (SELECT id FROM base) ORDER BY id"
        rows = self._database.execute(behind, (first, first))
        for (frame,) in rows:
            max_bytes -= len(frame)
            if found and max_bytes < 0:
                break
            found.append(frame)
        return found
