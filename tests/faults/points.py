"""Every point inside of one save at which it can be interrupted, one after another."""

import errno
import itertools
import os
import random
import signal
import sys
import traceback
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FOLDERS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")


def die(error: Exception) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(error: Exception) -> None:
    raise error


class FaultAt:
    """
    Counts what this process does to files below a folder, and lets the `point`-th go wrong: `die`, or `fail` as on a full disk.

    A file is a point before it is opened, and one when half of it is written. Cannot be undone: for a process that ends.
    """

    def __init__(self, folder: Path, point: int, fault):
        self.folder, self.left, self.fault = str(folder), point, fault
        sys.addaudithook(self._audit)
        save, serialize = torch.save, safetensors.torch.serialize_file
        torch.save = lambda what, path, **rest: self._half(
            path, lambda: save(what, path, **rest), RuntimeError("[enforce fail at inline_container.cc:672]")
        )
        safetensors.torch.serialize_file = lambda tensors, path, *rest, **more: self._half(
            path, lambda: serialize(tensors, path, *rest, **more), SafetensorError("No space left on device")
        )

    def _is_it(self) -> bool:
        self.left -= 1
        return self.left == 0

    def _audit(self, event, args):
        full = OSError(errno.ENOSPC, "No space left on device")
        if event == "open" and str(args[0]).startswith(self.folder):
            if self._is_it():
                self.fault(full)
            if args[2] & WRITING and self._is_it():
                descriptor = os.open(args[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.write(descriptor, b'{"half": [')
                os.close(descriptor)
                self.fault(full)
        elif event in FOLDERS and self._is_it():
            self.fault(full)

    def _half(self, path, write, error):
        is_it = self._is_it()
        write()
        if is_it:
            os.truncate(path, os.path.getsize(path) // 2)
            self.fault(error)


def fault_at_every_point(folder: Path, fault, action, look, stride: int = 1) -> None:
    """
    Fork this process once for each `stride`-th point of `action`, and call `look(point, status)` on what each one left.

    The last child does all of `action` undisturbed.
    """
    numbers = random.getstate()
    for point in itertools.count(1, stride):
        child = os.fork()
        if child == 0:
            random.setstate(numbers)  # Python seeds it anew in a child
            faults = FaultAt(folder, point, fault)
            try:
                action()
                os._exit(0 if faults.left > 0 else 2)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        look(point, -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
        if status == 0:
            return
