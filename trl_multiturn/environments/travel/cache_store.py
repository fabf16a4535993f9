"""The file of a tool cache: SQLite, for several processes and threads that read and write at once."""

import ctypes
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


BUSY_SECONDS = 60.0
_APPLICATION_ID = 0x54524C43  # "TRLC"
_FORMAT = 1
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


_ADVICE = {
    "database disk image is malformed": "The cache is damaged: move it away and record anew.",
    "file is not a database": "The cache is damaged or not a cache: move it away and record anew.",
    "database or disk is full": "Nothing was stored.",
    "unable to open database file": "Recording needs a file and a folder that can be written to.",
    "attempt to write a readonly database": "Recording needs a file and a folder that can be written to.",
    "database is locked": f"Other processes kept it locked for {BUSY_SECONDS:.0f} seconds.",
}


class CacheError(RuntimeError):
    """The file of a cache cannot be used, or a response cannot be stored in it."""


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


class CacheStore:
    """
    Records and refreshes in one SQLite file.

    Each thread of each process has its own connection, also after a fork. The file is in write-ahead mode, so readers never
    wait for writers, and writers wait for each other; it must be on a local disk, for SQLite's shared memory does not work across
    a network. `synchronous` is `NORMAL`: what was committed is in the operating system's hands and survives the end of the
    process, `kill -9` included. Only when the machine itself loses power can the last commits be lost; the file stays whole.

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
        self.read_only = not create and not _writable(self.path)
        self._create = create
        self._pid = os.getpid()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._versions: dict[sqlite3.Connection, int] = {}
        self._refreshes: tuple[tuple[float, int], ...] = ()
        self._lock = threading.Lock()
        with self._errors():
            if not create and not self.path.exists():
                raise CacheError(f"{self.path}: there is no such cache. Record one first, with mode='record'.")
            self._connection()

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
        columns = "key, tool, arguments, response, error, version, epoch, latency, created_at"
        with self._errors():
            row = self._connection().execute(f"SELECT {columns} FROM responses WHERE key = ?", (key,)).fetchone()
        return None if row is None else Record(*row[:4], bool(row[4]), *row[5:])

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
        values = (record.key, record.tool, record.arguments, record.response, record.error, record.version)
        with self._errors():
            cursor = self._connection().execute(_INSERT, (*values, record.epoch, record.latency, record.created_at))
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
        with self._errors(), self._transaction() as connection:
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
        with self._errors():
            connection = self._connection()
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if self._versions.get(connection) != version:
                self._read_refreshes(connection)
                self._versions[connection] = version
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
        with self._errors():
            connection = self._connection()
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
        with self._errors():
            return self._connection().execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Closes every connection of this process. A later call opens a new one."""
        with self._lock:
            connections, self._connections, self._versions = self._connections, {}, {}
            for connection in connections.values():
                connection.close()

    def _read_refreshes(self, connection: sqlite3.Connection) -> None:
        self._refreshes = tuple(connection.execute("SELECT fraction, seed FROM refreshes ORDER BY number"))

    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread in this process."""
        if os.getpid() != self._pid:
            self._after_fork()
        thread = threading.current_thread()
        connection = self._connections.get(thread)
        if connection is None:
            connection = self._open()
            with self._lock:
                for ended in [other for other in self._connections if not other.is_alive()]:
                    stale = self._connections.pop(ended)
                    self._versions.pop(stale, None)
                    stale.close()
                self._connections[thread] = connection
        return connection

    def _after_fork(self) -> None:
        # SQLite forbids using a connection in a forked child, and closing one there could delete the parent's log. Not even
        # the interpreter's end may close them.
        for connection in self._connections.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self._connections, self._versions, self._lock = {}, {}, threading.Lock()
        self._pid = os.getpid()

    def _open(self) -> sqlite3.Connection:
        if self.read_only:
            return self._open_read_only()
        mode = "rwc" if self._create else "rw"
        connection = self._connect(f"mode={mode}")
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, parameters: str) -> sqlite3.Connection:
        # Other threads close connections whose thread has ended; each is otherwise used by its own thread alone.
        return sqlite3.connect(
            f"{self.path.as_uri()}?{parameters}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    def _open_read_only(self) -> sqlite3.Connection:
        # In a folder that cannot be written to either, SQLite has no place for its shared memory, and needs none if nobody is
        # writing: then there is no log beside the file.
        log = self.path.with_name(self.path.name + "-wal")
        alone = not os.access(self.path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
        connection = self._connect("mode=ro&immutable=1" if alone else "mode=ro")
        try:
            self._check_format(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if not self._check_format(connection):
            _use_write_ahead_log(connection)
            with _immediate(connection):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("PRAGMA synchronous = NORMAL")

    def _check_format(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is a cache; `False` if it is empty."""
        found = tuple(
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if found == (_APPLICATION_ID, _FORMAT):
            return True
        empty = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and self._create:
            return False
        raise CacheError(
            f"{self.path}: {'empty, nothing was recorded' if empty else 'this SQLite file is no tool cache'}."
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        with _immediate(connection):
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors, with the file and what to do about it."""
        try:
            yield
        except sqlite3.Error as error:
            raise CacheError(f"{self.path}: {error}. {_advice(str(error))}".rstrip()) from error


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # The switch needs the file for itself and does not wait for it by the busy timeout.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _advice(message: str) -> str:
    # Python 3.10 knows no error codes of SQLite.
    for beginning, advice in _ADVICE.items():
        if message.startswith(beginning):
            return advice
    return ""
