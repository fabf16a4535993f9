"""What a push uploads, seen by a local stand-in of the Hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.stand_in import HubStandIn


ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["", "lora"])
def test_push_to_hub(tmp_path, adapter):
    with HubStandIn() as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_not_a_real_token",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, str(Path(__file__).with_name("push.py")), str(tmp_path / "out"), adapter]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, (done.stderr[-3000:], hub.requests)
    files = hub.repos["tester/searcher"]
    assert ("adapter_model.safetensors" if adapter else "model.safetensors") in files
    assert ("model.safetensors" in files) == (not adapter)
    assert {"tokenizer.json", "training_args.bin", "README.md"} <= files.keys()
    card = files["README.md"].decode()
    assert "arXiv:2510.14967" in card
    assert "igpo" in card
    assert "tester/questions" in card
    assert not any(name.endswith((".pt", ".pth")) and "rng" not in name for name in files)
    assert "hf_not_a_real_token" not in "".join(data.decode(errors="ignore") for data in files.values())
