"""A stand-in for `adb` with one device: it logs what reaches the device's programs, and misbehaves if told to."""

import io
import json
import os
import shlex
import sys
import time
from pathlib import Path

from PIL import Image


def main() -> None:
    folder = Path(os.environ["FAKE_ADB"])
    arguments = sys.argv[1:]
    if arguments[:2] != ["-s", "emulator-5554"]:
        sys.exit("error: no such device")
    mode = (folder / "mode").read_text() if (folder / "mode").exists() else ""
    if mode == "offline":
        sys.exit("error: device offline")
    if mode == "hang":
        time.sleep(60)
    verb, words = arguments[2], arguments[3:]
    if verb == "shell":
        # The device's shell takes one line and splits it once more.
        words = shlex.split(" ".join(words))
    with (folder / "log").open("a") as log:
        log.write(json.dumps([verb, *words]) + "\n")
    if words == ["wm", "size"]:
        sys.stdout.write("garbage" if mode == "garbage" else "Physical size: 1080x2400\nOverride size: 540x1200\n")
    elif words == ["screencap", "-p"]:
        png = io.BytesIO()
        Image.new("RGBA", (540, 1200), "teal").save(png, "PNG")
        sys.stdout.buffer.write(b"no image" if mode == "garbage" else png.getvalue()[: 60 if mode == "cut" else None])


main()
