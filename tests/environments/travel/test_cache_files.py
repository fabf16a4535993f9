"""The file of a cache: several processes, kills, forks, threads, damage, a full disk."""

import functools
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trl_multiturn.environments.travel import CacheError, ToolCache, ToolError

from .backends import Clock, Constant, Prices


ROOT = Path(__file__).parents[3]
CALLS = 5000


def start(path, mode, first, last):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.environments.travel.cache_worker", *map(str, (path, mode, first, last))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


def acknowledged(output: bytes) -> list[tuple[int, str]]:
    """What a worker said was committed; the last line may have been cut by a kill."""
    lines = output.decode().split("\n")[:-1]
    return [(int(number), digest) for number, digest in (line.split() for line in lines)]


def connection(cache):
    """The connection of this thread."""
    with cache._store._connections.use() as found:
        return found


def in_child(function) -> None:
    """Runs a function in a forked process, which must return from it."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


@pytest.fixture
def full(path):
    """A cache with 2,000 records, closed."""
    with ToolCache(path, Prices(), "record") as cache:
        for number in range(2000):
            cache.call("search", {"number": number})
    return path


class TestProcesses:
    @pytest.mark.slow
    def test_a_killed_recorder_loses_nothing_that_was_committed(self, path):
        kills, rng, said = 8, random.Random(0), []
        steady = start(path, "record", CALLS // 2, CALLS // 2 + CALLS)
        killed = start(path, "record", 0, CALLS)
        for _ in range(kills):
            beginning = killed.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            killed.send_signal(signal.SIGKILL)
            rest, _ = killed.communicate()
            assert killed.returncode == -signal.SIGKILL
            said += acknowledged(beginning + rest)
            killed = start(path, "record", 0, CALLS)
        for process in (steady, killed):
            output, _ = process.communicate()
            assert process.returncode == 0
            said += acknowledged(output)
            assert len(acknowledged(output)) == CALLS

        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT json_extract(arguments, '$.number'), response FROM responses").fetchall()
        connection.close()
        stored = {}
        for number, response in rows:
            assert number not in stored, "recorded twice"
            answer = json.dumps(json.loads(response), ensure_ascii=False)
            stored[number] = hashlib.sha256(answer.encode()).hexdigest()
        assert sorted(stored) == list(range(CALLS // 2 + CALLS))
        # Every process was given, at any time, what is in the file now, though the backend never says the same twice.
        assert all(stored[number] == digest for number, digest in said)

    def test_ten_thousand_calls_are_replayed_byte_for_byte(self, path):
        backend = Clock()
        with ToolCache(path, backend, "record") as cache:
            recorded = [json.dumps(cache.call("quote", {"number": number})) for number in range(10_000)]
        assert backend.calls == 10_000
        for memory in (0, 10_000):
            with ToolCache(path, memory=memory) as cache:
                order = list(range(10_000))
                random.Random(memory).shuffle(order)
                assert all(json.dumps(cache.call("quote", {"number": n})) == recorded[n] for n in order)
                assert cache.stats["misses"] == 0
        first, second = (acknowledged(start(path, "replay", 0, 10_000).communicate()[0]) for _ in range(2))
        assert first == second and len(first) == 10_000

    def test_a_refresh_of_another_process_is_seen(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            assert cache.call("search", {})[0]["price"] == 0

            def refresh():
                with ToolCache(path, Prices(), "record") as other:
                    other.refresh(1.0, seed=0)

            in_child(refresh)
            assert cache.call("search", {})[0]["price"] == 1000

    def test_a_forked_child_goes_on_with_the_parents_cache(self, path):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache:
            cache.call("search", {"number": 0})
            cache.call("search", {"number": 0})

            def child():
                assert cache.call("search", {"number": 0})[0]["price"] == 0
                cache.call("search", {"number": 1})
                assert cache.stats["hits"] == 1 and cache.stats["misses"] == 1
                cache.close()

            in_child(child)
            asked = len(backend.asked)
            cache.call("search", {"number": 1})
            assert len(backend.asked) == asked  # the child's record is there
        with ToolCache(path) as cache:
            assert cache._store.query("SELECT SUM(hits) FROM responses") == [(3,)]

    def test_no_connection_goes_into_a_forked_child(self, full):
        with ToolCache(full) as cache:
            before = connection(cache)

            def child():
                assert cache._store._connections._slots == {}
                with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                    before.execute("SELECT 1")
                assert cache.call("search", {"number": 1})

            in_child(child)
            assert cache.call("search", {"number": 1})

    def test_a_child_goes_on_recording_after_its_parent_has_closed(self, path):
        cache, pipe = ToolCache(path, Prices(), "record"), os.pipe()
        cache.call("search", {"number": 0})
        pid = os.fork()
        if pid == 0:
            os.read(pipe[0], 1)
            cache.call("search", {"number": 1})
            os._exit(0)  # as if killed: nothing is closed
        cache.close()
        os.write(pipe[1], b"x")
        os.waitpid(pid, 0)
        with ToolCache(path) as reader:
            assert reader.stats["records"] == 2

    def test_forks_beside_busy_threads(self, path):
        with ToolCache(path, Prices(), "record") as cache, ThreadPoolExecutor(3) as pool:
            done = [pool.submit(lambda n=n: cache.call("search", {"number": n})) for n in range(600)]
            for number in range(600, 620):
                in_child(functools.partial(cache.call, "search", {"number": number}))
            for future in done:
                future.result()
            assert cache.stats["records"] == 620

    def test_a_child_that_ends_late_does_not_take_the_log_of_others_with_it(self, path):
        # Unlike a pool's worker, a forked child that runs to the interpreter's end finalises the connections it inherited. By then
        # the file has a log of somebody else, who was killed.
        code = f"""
import os, sys
from tests.environments.travel.backends import Prices
from trl_multiturn.environments.travel import ToolCache
cache = ToolCache({str(path)!r}, Prices(), "record")
cache.call("search", {{"number": 0}})
pipe = os.pipe()
if os.fork() == 0:
    cache.call("search", {{"number": 1}})
    cache.close()
    os.close(pipe[1])
    os.read(pipe[0], 1)
    sys.exit(0)
cache.close()
other = os.fork()
if other == 0:
    cache.call("search", {{"number": 2}})
    os.kill(os.getpid(), 9)
os.waitpid(other, 0)
os.close(pipe[1])
os.wait()
os._exit(0)
"""
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
        with ToolCache(path) as cache:
            assert cache.stats["records"] == 3

    def test_who_records_a_call_first_decides_its_answer(self, path):
        class Slow(Constant):
            def call(self, name, arguments):
                assert faster.call(name, arguments) == "first"  # recorded by another process in the meantime
                return "second"

        with ToolCache(path, Constant("first"), "record") as faster, ToolCache(path, Slow(None), "record") as slower:
            assert slower.call("quote", {}) == "first"
            assert slower.call("quote", {}) == faster.call("quote", {}) == "first"
            assert faster.stats["records"] == 1

    def test_many_create_the_file_at_once(self, tmp_path):
        for attempt in range(10):
            path, barrier = tmp_path / str(attempt), threading.Barrier(6)

            def create(number, path=path, barrier=barrier):
                barrier.wait()
                with ToolCache(path, Prices(), "record") as cache:
                    cache.call("search", {"number": number})

            with ThreadPoolExecutor(6) as pool:
                list(pool.map(create, range(6)))
            with ToolCache(path) as cache:
                assert cache.stats["records"] == 6


class TestThreads:
    def test_many_threads_ask_the_backend_once_for_each_call(self, path):
        backend = Clock(seconds=0.002)
        with ToolCache(path, backend, "record") as cache:
            calls = [{"number": number} for number in range(40)] * 8
            random.Random(0).shuffle(calls)
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda arguments: json.dumps(cache.call("quote", arguments)), calls))
            assert backend.calls == 40
            assert len({(call["number"], answer) for call, answer in zip(calls, answers, strict=True)}) == 40
            assert cache.stats["misses"] == 40 and cache.stats["hits"] == 280

    def test_connections_of_ended_threads_are_closed(self, full):
        with ToolCache(full) as cache:
            for number in range(30):
                thread = threading.Thread(target=cache.call, args=("search", {"number": number}))
                thread.start()
                thread.join()
            assert len(cache._store._connections._slots) <= 2


class TestDamage:
    def test_a_file_that_is_no_database(self, path):
        path.write_bytes(b"not a database at all, but long enough to be looked at. " * 100)
        for mode in ("record", "replay"):
            with pytest.raises(CacheError, match=f"{path}: file is not a database. .* move it away"):
                ToolCache(path, Prices(), mode)

    def test_a_database_of_something_else_is_left_alone(self, path):
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE accounts (id)")
        connection.commit()
        connection.close()
        before = path.read_bytes()
        for mode in ("record", "replay"):
            with pytest.raises(CacheError, match="is no tool cache"):
                ToolCache(path, Prices(), mode)
        assert path.read_bytes() == before

    def test_a_cut_file(self, full):
        os.truncate(full, full.stat().st_size // 2)
        with pytest.raises(CacheError, match="malformed.*move it away"), ToolCache(full, Prices(), "replay") as cache:
            for number in range(2000):
                cache.call("search", {"number": number})

    def test_overwritten_pages_never_give_another_answer(self, full):
        expected = {number: Prices().call("search", {"number": number}) for number in range(2000)}
        content = bytearray(full.read_bytes())
        rng = random.Random(0)
        for page in range(1, len(content) // 4096, 3):
            content[page * 4096 : (page + 1) * 4096] = rng.randbytes(4096)
        full.write_bytes(content)
        outcomes = Counter()
        with ToolCache(full, version="prices-1") as cache:
            for number in expected:
                try:
                    assert cache.call("search", {"number": number}) == expected[number]
                    outcomes["right"] += 1
                except CacheError:
                    outcomes["error"] += 1
        assert outcomes["error"] > 0

    @pytest.mark.parametrize("mode", ["record", "replay"])
    def test_a_folder(self, tmp_path, mode):
        with pytest.raises(CacheError, match="unable to open"):
            ToolCache(tmp_path, Prices(), mode)

    def test_no_file_and_an_empty_file(self, path):
        with pytest.raises(CacheError, match="no such cache. Record one first"):
            ToolCache(path, Prices(), "replay")
        assert not path.exists()
        path.touch()
        with pytest.raises(CacheError, match="empty"):
            ToolCache(path, Prices(), "replay")
        with ToolCache(path, Prices(), "record") as cache:
            assert cache.call("search", {})

    def test_recording_into_no_folder(self, tmp_path):
        with pytest.raises(CacheError, match="unable to open.*can be written"):
            ToolCache(tmp_path / "missing" / "cache.sqlite", Prices(), "record")


class TestFullDisk:
    def fill(self, cache, rows=1000):
        """Records until the disk is full; the numbers that were acknowledged."""
        done = []
        with pytest.raises(CacheError, match="(full|disk I/O error)"):
            for number in range(rows):
                cache.call("search", {"number": number})
                done.append(number)
        assert done
        return done

    def check(self, cache, done):
        assert [cache.call("search", {"number": n}) for n in done] == [
            Prices().call("search", {"number": n}) for n in done
        ]
        assert cache.stats["records"] == len(done)
        assert cache._store.query("PRAGMA integrity_check") == [("ok",)]

    def test_nothing_is_lost_or_half_stored(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            disk = connection(cache)
            disk.execute("PRAGMA max_page_count = 40")
            done = self.fill(cache)
            self.check(cache, done)
            disk.execute("PRAGMA max_page_count = 4000")
            cache.call("search", {"number": len(done)})
            self.check(cache, [*done, len(done)])
        with ToolCache(path) as cache:
            self.check(cache, [*done, len(done)])

    def test_a_disk_that_is_really_full(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        try:
            with ToolCache(disk / "cache.sqlite", Prices(), "record") as cache:
                done = self.fill(cache, rows=5000)
                self.check(cache, done)
                with pytest.raises(CacheError, match="(full|disk I/O error)"):
                    ToolCache(disk / "new.sqlite", Prices(), "record")
            with ToolCache(disk / "cache.sqlite") as cache:
                self.check(cache, done)
        finally:
            subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def shared():
    """A folder that other users can reach, with a cache of one record."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "cache.sqlite"
        with ToolCache(path, Prices(), "record") as cache:
            cache.call("search", {})
        yield path


class TestReadOnly:
    """The tests may run as root, to whom nothing is read-only; a child takes another user's rights."""

    def as_nobody(self, function):
        def child():
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            function()

        in_child(child)

    @pytest.mark.parametrize("folder", [0o555, 0o777])
    def test_replay_works_and_recording_says_what_it_needs(self, shared, folder):
        shared.chmod(0o444)
        shared.parent.chmod(folder)

        def child():
            with ToolCache(shared) as cache:
                for _ in range(1001):
                    assert cache.call("search", {})[0]["price"] == 0
                with pytest.raises(ToolError, match="^cache_miss"):
                    cache.call("search", {"number": 1})
                with pytest.raises(CacheError, match="readonly.*can be written"):
                    cache.refresh(0.5, seed=0)
            with pytest.raises(CacheError, match="can be written"), ToolCache(shared, Prices(), "record") as cache:
                cache.call("search", {"number": 1})

        self.as_nobody(child)
        shared.parent.chmod(0o755)

    def test_a_log_beside_the_file_is_not_passed_over(self, shared):
        # A recorder at work, which this process's forks do not disturb: its log holds records that the file alone has not.
        code = f"""
import sys
from tests.environments.travel.backends import Prices
from trl_multiturn.environments.travel import ToolCache
cache = ToolCache({str(shared)!r}, Prices(), "record")
cache.call("search", {{"number": 1}})
print(flush=True)
sys.stdin.read()
"""
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as recorder:
            recorder.stdout.readline()
            for file in shared.parent.iterdir():
                file.chmod(0o444)

            def replay():
                with ToolCache(shared) as cache:
                    assert cache.call("search", {"number": 1})

            self.as_nobody(replay)
            recorder.kill()
        self.as_nobody(replay)
