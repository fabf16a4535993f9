"""Every point inside of one save at which a process can be killed, one after another."""

import itertools
import os
import random
import signal
import sys
from pathlib import Path

import safetensors.torch
import torch


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FOLDERS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


class DieAt:
    """
    Counts what this process does to files below a folder, and ends it by SIGKILL at the `point`-th.

    A file is a point before it is opened, and one when half of it is written. Cannot be undone: for a process that ends.
    """

    def __init__(self, folder: Path, point: int):
        self.folder, self.left = str(folder), point
        sys.addaudithook(self._audit)
        self._save, self._serialize = torch.save, safetensors.torch.serialize_file
        torch.save = lambda what, path, **rest: self._half(path, lambda: self._save(what, path, **rest))
        safetensors.torch.serialize_file = lambda tensors, path, *rest, **more: self._half(
            path, lambda: self._serialize(tensors, path, *rest, **more)
        )

    def _is_it(self) -> bool:
        self.left -= 1
        return self.left == 0

    def _audit(self, event, args):
        if event == "open" and str(args[0]).startswith(self.folder):
            if self._is_it():
                self._die()
            if args[2] & WRITING and self._is_it():
                descriptor = os.open(args[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.write(descriptor, b'{"half": [')
                self._die()
        elif event in FOLDERS and self._is_it():
            self._die()

    def _half(self, path, write):
        dies = self._is_it()
        write()
        if dies:
            os.truncate(path, os.path.getsize(path) // 2)
            self._die()

    def _die(self):
        os.kill(os.getpid(), signal.SIGKILL)


def kill_at_every_point(folder: Path, action, look) -> int:
    """
    Fork this process once for each kill point of `action`, and call `look(point)` on what each one left.

    Returns the number of points. The last child does all of `action` and is not killed.
    """
    numbers = random.getstate()
    for point in itertools.count(1):
        child = os.fork()
        if child == 0:
            random.setstate(numbers)  # Python seeds it anew in a child
            DieAt(folder, point)
            try:
                action()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the save failed at point {point}"
        look(point)
        if not os.WIFSIGNALED(status):
            return point - 1
