"""The configurations for `accelerate launch`, read by accelerate itself, and what is refused with them."""

from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType

from trl_multiturn.sharded import check_rollouts, is_sharded

from .forked import ROOT


CONFIGS = {path.stem: path for path in (ROOT / "examples" / "accelerate_configs").glob("*.yaml")}


def test_accelerate_reads_them():
    read = {name: load_config_from_file(str(path)) for name, path in CONFIGS.items()}
    assert {name: config.distributed_type for name, config in read.items()} == {
        "ddp": DistributedType.MULTI_GPU,
        "deepspeed_zero2": DistributedType.DEEPSPEED,
        "deepspeed_zero3": DistributedType.DEEPSPEED,
        "fsdp2": DistributedType.FSDP,
    }
    for config in read.values():
        assert isinstance(config, ClusterConfig)
        assert (config.num_machines, config.mixed_precision, config.use_cpu) == (1, "bf16", False)
    for stage in (2, 3):
        chosen = read[f"deepspeed_zero{stage}"].deepspeed_config
        assert (chosen["zero_stage"], chosen["zero3_init_flag"]) == (stage, stage == 3)
    assert read["deepspeed_zero3"].deepspeed_config["zero3_save_16bit_model"] is True
    chosen = read["fsdp2"].fsdp_config
    assert (chosen["fsdp_version"], chosen["fsdp_state_dict_type"]) == (2, "FULL_STATE_DICT")


def accelerator(distributed_type: DistributedType, stage: int = 0, processes: int = 2) -> SimpleNamespace:
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage))
    return SimpleNamespace(num_processes=processes, distributed_type=distributed_type, state=state)


FSDP, ZERO2, ZERO3 = (
    accelerator(DistributedType.FSDP),
    accelerator(DistributedType.DEEPSPEED, 2),
    accelerator(DistributedType.DEEPSPEED, 3),
)


def test_what_is_sharded():
    assert is_sharded(FSDP) and is_sharded(ZERO3)
    assert not is_sharded(ZERO2) and not is_sharded(accelerator(DistributedType.MULTI_GPU))
    assert not is_sharded(accelerator(DistributedType.DEEPSPEED, 3, processes=1))


@pytest.mark.parametrize(("kind", "gathers"), [(FSDP, True), (ZERO3, False)])
def test_rollouts_with_images_that_would_wait_for_ever_are_refused(kind, gathers):
    with pytest.raises(ValueError, match="use_vllm=True, or use ZeRO-2"):
        check_rollouts(kind, gathers, is_vision_language=True, has_tools=True)
    check_rollouts(kind, gathers, is_vision_language=False, has_tools=True)
    check_rollouts(kind, gathers, is_vision_language=True, has_tools=False)
    check_rollouts(ZERO3, True, is_vision_language=True, has_tools=True)
    check_rollouts(ZERO2, True, is_vision_language=True, has_tools=True)
