"""Runs workers on several processes each, after importing once what all of them need: that takes longer than the runs.

Usage: python -m tests.distributed.forked MODULE SECONDS CASE PROCESSES FOLDER [CASE PROCESSES FOLDER ...]

`MODULE.main(case, folder)` runs on each process as under a launcher, but nothing ends the other processes when one fails.
Prints the exit codes of each run's processes as a line of JSON; a process that takes too long is killed and has -9. What
they write goes to FOLDER/PROCESSES_RANK.txt.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path


ROOT = Path(__file__).parents[2]


def run_all(
    module: str, runs: list[tuple[str, int, Path]], seconds: float = 120, variables: dict[str, str] | None = None
) -> list[list[int]]:
    """Exit codes of every run's processes, under some environment variables. What a run wrote is in its folder."""
    for _, _, folder in runs:
        folder.mkdir(parents=True, exist_ok=True)
    arguments = [str(value) for run in runs for value in run]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= variables or {}
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.forked", module, str(seconds), *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60 + seconds * len(runs),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def written(folder: Path, processes: int) -> list[str]:
    """What each process wrote."""
    return [(folder / f"{processes}_{rank}.txt").read_text(errors="replace") for rank in range(processes)]


def start(main, case: str, folder: str, processes: int, rank: int, port: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    log = os.open(f"{folder}/{processes}_{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if processes > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    code = 1
    try:
        main(case, folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pids: list[int], seconds: float) -> list[int]:
    codes: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(codes) < len(pids):
        for pid in set(pids) - set(codes):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[pid] for pid in pids]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    module, seconds, *words = sys.argv[1:]
    main = importlib.import_module(module).main
    for case, processes, folder in zip(words[::3], words[1::3], words[2::3], strict=True):
        port = free_port()
        pids = [start(main, case, folder, int(processes), rank, port) for rank in range(int(processes))]
        print(json.dumps(wait(pids, float(seconds))), flush=True)
