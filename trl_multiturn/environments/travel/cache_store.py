"""The records of a tool cache in one SQLite file, for several processes and threads that read and write at once."""

import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from .cache_connections import CacheError, Connection, Connections, immediate


__all__ = ["CacheError", "CacheStore", "Record"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, tool TEXT NOT NULL, arguments TEXT NOT NULL, response TEXT NOT NULL, error INTEGER NOT NULL,
    version TEXT NOT NULL, epoch INTEGER NOT NULL, latency REAL NOT NULL, created_at REAL NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS responses_of_tool ON responses (version, tool, key);
CREATE TABLE IF NOT EXISTS refreshes (
    number INTEGER PRIMARY KEY, fraction REAL NOT NULL, seed INTEGER NOT NULL, created_at REAL NOT NULL,
    UNIQUE (fraction, seed)
);
"""
# A record replaces only what a refresh has made old: whoever records a call first decides its answer.
_INSERT = """
INSERT INTO responses (key, tool, arguments, response, error, version, epoch, latency, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET response = excluded.response, error = excluded.error, epoch = excluded.epoch,
    latency = excluded.latency, created_at = excluded.created_at, hits = 0
WHERE excluded.epoch > responses.epoch
"""


@dataclass(frozen=True)
class Record:
    """
    One stored answer.

    Args:
        key (`str`):
            Key of the call.
        tool (`str`):
            Name of the tool.
        arguments (`str`):
            Arguments as canonical JSON.
        response (`str`):
            Answer as JSON; of an error, its code and message.
        error (`bool`):
            Whether the answer is an error.
        version (`str`):
            Version of the world that gave it.
        epoch (`int`):
            How often the call had been refreshed when it was recorded.
        latency (`float`):
            Seconds that the backend took.
        created_at (`float`):
            Time of recording, in seconds since 1970.
    """

    key: str
    tool: str
    arguments: str
    response: str
    error: bool
    version: str
    epoch: int
    latency: float
    created_at: float


_COLUMNS = tuple(each.name for each in fields(Record))


class CacheStore:
    """
    Records and refreshes in one SQLite file.

    The file is in write-ahead mode, so readers never wait for writers, and writers wait for each other; it must be on a local disk,
    for SQLite's shared memory does not work across a network. What was committed is in the operating system's hands and survives the
    end of the process, `kill -9` included. Only when the machine itself loses power can the last commits be lost; the file stays
    whole.

    Args:
        path (`str` or `Path`):
            File. A new one is created if `create`.
        create (`bool`):
            Whether the file must be writable, and is created if there is none. Otherwise it must exist, and may be read-only.

    Attributes:
        read_only (`bool`):
            Whether the file cannot be written to.

    Raises:
        [`CacheError`]: If the file cannot be used: missing, not writable, damaged, or not a cache.
    """

    def __init__(self, path: str | Path, create: bool) -> None:
        self.path = Path(path).absolute()
        if not create and not self.path.exists():
            raise CacheError(f"{self.path}: there is no such cache. Record one first, with mode='record'.")
        self._connections = Connections(self.path, create, _SCHEMA)
        self.read_only = self._connections.read_only
        self._refreshes: tuple[tuple[float, int], ...] = ()
        with self._connections.use():
            pass

    def get(self, key: str) -> Record | None:
        """
        Looks up a call.

        Args:
            key (`str`):
                Key of the call.

        Returns:
            [`Record`] or `None`: What was recorded last, whether or not it was refreshed since.

        Raises:
            [`CacheError`]: If the file cannot be read.
        """
        with self._connections.use() as connection:
            row = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM responses WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        values = dict(zip(_COLUMNS, row, strict=True))
        return Record(**{**values, "error": bool(values["error"])})

    def add(self, record: Record) -> bool:
        """
        Stores an answer, unless one of the same or a later epoch is there. It is committed when this returns.

        Args:
            record ([`Record`]):
                What to store.

        Returns:
            `bool`: Whether it was stored.

        Raises:
            [`CacheError`]: If it could not be stored, because the disk is full for instance. Nothing is stored then.
        """
        with self._connections.use() as connection:
            cursor = connection.execute(_INSERT, astuple(record))
        return cursor.rowcount == 1

    def add_hits(self, hits: dict[str, int]) -> None:
        """
        Adds to the numbers of hits.

        Args:
            hits (`dict[str, int]`):
                Number of hits for each key.

        Raises:
            [`CacheError`]: If they could not be stored.
        """
        with self._connections.use() as connection, immediate(connection):
            connection.executemany(
                "UPDATE responses SET hits = hits + ? WHERE key = ?", [(count, key) for key, count in hits.items()]
            )

    def refreshes(self) -> tuple[tuple[float, int], ...]:
        """
        Every refresh so far, those of other processes included.

        Returns:
            `tuple` of (fraction, seed), the oldest first.

        Raises:
            [`CacheError`]: If the file cannot be read.
        """
        with self._connections.use() as connection:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if connection.data_version != version:
                self._read_refreshes(connection)
                connection.data_version = version
        return self._refreshes

    def add_refresh(self, fraction: float, seed: int) -> None:
        """
        Remembers a refresh; the same one again changes nothing.

        Args:
            fraction (`float`):
                Share of the keys.
            seed (`int`):
                What chooses them.

        Raises:
            [`CacheError`]: If it could not be stored.
        """
        with self._connections.use() as connection:
            connection.execute(
                "INSERT INTO refreshes (fraction, seed, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (fraction, seed, time.time()),
            )
            self._read_refreshes(connection)

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """
        Reads anything else.

        Args:
            sql (`str`):
                A `SELECT`.
            *parameters (`Any`):
                Values of its placeholders.

        Returns:
            `list[tuple]`: Rows.

        Raises:
            [`CacheError`]: If the file cannot be read.
        """
        with self._connections.use() as connection:
            return connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Closes every connection of this process. A later call opens a new one."""
        self._connections.close()

    def _read_refreshes(self, connection: Connection) -> None:
        self._refreshes = tuple(connection.execute("SELECT fraction, seed FROM refreshes ORDER BY number"))
