"""DeepSpeed and FSDP2 on two processes without a GPU, under the configurations that the examples are started with.

Each run equals that of one process without them, is resumed to the same weights, and saves a model that loads.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.tiny import build_model, build_tokenizer

from .forked import ROOT, run_all, written


needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed: see docs/distributed.md"
)
CONFIGS = ["fsdp2", *(pytest.param(f"deepspeed_zero{stage}", marks=needs_deepspeed) for stage in (2, 3))]


def variables(config: str) -> dict[str, str]:
    """What `accelerate launch` would start the processes with."""
    path = ROOT / "examples" / "accelerate_configs" / f"{config}.yaml"
    words = ["--config_file", str(path), "--num_processes", "2", "--mixed_precision", "no"]
    args = launch_command_parser().parse_args([*words, "--main_process_port", "0", "script.py"])
    args, defaults, _ = _validate_launch_command(args)
    if not args.use_deepspeed:
        found = prepare_multi_gpu_env(args)
    else:
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        found = prepare_deepspeed_cmd_env(args)[1] | {"DS_ACCELERATOR": "cpu", "DS_BUILD_OPS": "0"}
    return {name: value for name, value in found.items() if name.startswith(("ACCELERATE", "FSDP", "DS_"))}


def run(case: str, processes: int, folder: Path, given: dict[str, str] | None = None) -> dict:
    if "loaded" in case:
        build_model(build_tokenizer()).save_pretrained(folder / "policy")
    (codes,) = run_all("tests.distributed.sharded_worker", [(case, processes, folder)], 240, given)
    assert codes == [0] * processes, [text[-3000:] for text in written(folder, processes)]
    return json.loads((folder / f"told_{processes}.json").read_text())


def check(config: str, case: str, folder: Path) -> None:
    one = run(case, 1, folder / "one")
    two = run(case, 2, folder / "two", variables(config))
    assert (one["type"], two["type"]) == (
        "DistributedType.NO",
        "DistributedType.FSDP" if config == "fsdp2" else "DistributedType.DEEPSPEED",
    )
    assert two["model"].startswith("FSDP" if config == "fsdp2" else "DeepSpeedEngine")
    assert one["generated"] > 3 and len(one["losses"]) == 3
    for expected, found in zip(one["losses"], two["losses"], strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=2e-4)
    assert one["resumed"] == one["losses"] and two["resumed"] == two["losses"]
    weights = "adapter_model.safetensors" if "lora" in case else "model.safetensors"
    saved = {place: load_file(folder / place / weights) for place in ("one/final", "two/final", "two/resumed")}
    assert saved["one/final"].keys() <= saved["two/final"].keys() == saved["two/resumed"].keys()
    for name, value in saved["one/final"].items():
        assert (saved["two/final"][name] - value).abs().max() < 1e-4, name
        assert (saved["two/resumed"][name] == saved["two/final"][name]).all(), name
    load(folder / "two" / "final", saved["two/final"], "lora" in case)


def load(folder: Path, saved: dict, is_adapter: bool) -> None:
    """The saved model is one that anybody can load, with the weights that were trained."""
    if is_adapter:
        model = PeftModel.from_pretrained(build_model(build_tokenizer()), folder)
        loaded = {name.replace(".default.", "."): value for name, value in model.state_dict().items()}
    else:
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").state_dict()
    for name, value in saved.items():
        assert (loaded[name] == value).all(), name


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("config", CONFIGS)
def test_sharded_processes_equal_one(tmp_path, config):
    check(config, "replay_igpo:full", tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["full", "full_loaded", "lora", "lora_loaded"])
@pytest.mark.parametrize("method", ["base", "igpo", "archer", "replay", "replay_archer"])
@pytest.mark.parametrize("config", CONFIGS)
def test_every_trainer_sharded_equals_one(tmp_path, config, method, kind):
    check(config, f"{method}:{kind}", tmp_path)
