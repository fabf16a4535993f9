"""Connections to the SQLite file of a cache: one a thread, none across a fork."""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


BUSY_SECONDS = 60.0
_APPLICATION_ID = 0x54524C43  # "TRLC"
_FORMAT = 1
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


class Connection(sqlite3.Connection):
    """
    A connection to a cache.

    Attributes:
        data_version (`int` or `None`):
            SQLite's `data_version` up to which the user of the connection has read.
    """

    data_version: int | None = None


class Connections:
    """
    Opens the file of a cache for each thread that uses it.

    All connections are closed before a fork and opened again when they are needed: SQLite must not be carried into a child, where it
    would take the parent's locks for its own, and what the child records after the parent has closed the file would be lost.

    Args:
        path (`Path`):
            File.
        create (`bool`):
            Whether the file must be writable, and is created if there is none. Otherwise it must exist, and may be read-only.
        schema (`str`):
            Statements that a new file begins with.

    Attributes:
        read_only (`bool`):
            Whether the file cannot be written to.
    """

    def __init__(self, path: Path, create: bool, schema: str) -> None:
        self.path = path
        self.read_only = not create and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
        self._create = create
        self._schema = schema
        self._slots: dict[threading.Thread, _Slot] = {}
        self._lock = threading.Lock()
        _all.add(self)

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """
        Lends this thread its connection, which nobody closes meanwhile.

        Raises:
            [`CacheError`]: In place of any error of SQLite: with the file, and what to do about it.
        """
        slot = self._slots.get(threading.current_thread()) or self._add_slot()
        with slot.lock:
            try:
                if slot.connection is None:
                    slot.connection = self._open()
                yield slot.connection
            except sqlite3.Error as error:
                raise CacheError(f"{self.path}: {error}. {_advice(str(error))}".rstrip()) from error

    def close(self) -> None:
        """Closes every connection of this process. A later use opens a new one."""
        with self._lock:
            for slot in self._slots.values():
                with slot.lock:
                    slot.close()

    def _add_slot(self) -> "_Slot":
        with self._lock:
            for ended in [thread for thread in self._slots if not thread.is_alive()]:
                self._slots.pop(ended).close()
            slot = self._slots[threading.current_thread()] = _Slot()
        return slot

    def _open(self) -> Connection:
        connection = self._connect()
        try:
            if not self._check_format(connection):
                self._set_up(connection)
            # In write-ahead mode a commit is with the operating system then, and survives the end of the process, but does not wait
            # for the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> Connection:
        parameters = f"mode={'rwc' if self._create else 'rw'}"
        if self.read_only:
            # In a folder that cannot be written to either, SQLite has no place for its shared memory, and needs none if nobody
            # is writing: then there is no log beside the file.
            log = self.path.with_name(self.path.name + "-wal")
            alone = not os.access(self.path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
            parameters = "mode=ro&immutable=1" if alone else "mode=ro"
        return sqlite3.connect(
            f"{self.path.as_uri()}?{parameters}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # used by its own thread alone, but closed by any
            factory=Connection,
        )

    def _set_up(self, connection: Connection) -> None:
        _use_write_ahead_log(connection)
        with immediate(connection):
            for statement in self._schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")

    def _check_format(self, connection: Connection) -> bool:
        """Whether the file is a cache; `False` if it is empty and may become one."""
        connection.execute("BEGIN")  # one view of the file, which somebody else may be setting up
        application, version, objects = (
            connection.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT COUNT(*) FROM sqlite_master")
        )
        connection.execute("COMMIT")
        if (application, version) == (_APPLICATION_ID, _FORMAT):
            return True
        empty = objects == 0
        if empty and self._create:
            return False
        raise CacheError(
            f"{self.path}: {'empty, nothing was recorded' if empty else 'this SQLite file is no tool cache'}."
        )

    def _before_fork(self) -> None:
        self._lock.acquire()
        for slot in self._slots.values():
            slot.lock.acquire()
            slot.close()

    def _after_fork_in_parent(self) -> None:
        for slot in self._slots.values():
            slot.lock.release()
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._slots, self._lock = {}, threading.Lock()


class _Slot:
    """A thread's connection, if it is open, and the lock that is held while it is used."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.lock = threading.Lock()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


@contextmanager
def immediate(connection: Connection) -> Iterator[None]:
    """
    A transaction that may write from its beginning.

    Args:
        connection ([`Connection`]):
            Where.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _use_write_ahead_log(connection: Connection) -> None:
    # The switch needs the file for itself and does not wait for it by the busy timeout.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _advice(message: str) -> str:
    # Python 3.10 knows no error codes of SQLite.
    return next((advice for beginning, advice in _ADVICE.items() if message.startswith(beginning)), "")


_all: "weakref.WeakSet[Connections]" = weakref.WeakSet()
_forking: list[Connections] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_all)
    for connections in _forking:
        connections._before_fork()


def _after_fork_in_parent() -> None:
    for connections in _forking:
        connections._after_fork_in_parent()
    _forking.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    for connections in _forking:
        connections._after_fork_in_child()
    _forking.clear()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
