"""What each strategy leaves on the Hub, of which a stand-in keeps every file."""

from collections.abc import Callable

from safetensors.torch import load

from tests.matrix.bench import Bench, model_of, same, saved_weights


_STATE = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
_METHOD_STATE = {"method_state.json", "method_state.safetensors"}
# Folders of checkpoints after two steps with a checkpoint each.
_FOLDERS = {
    "end": set(),
    "every_save": set(),
    "checkpoint": {"last-checkpoint"},
    "all_checkpoints": {"checkpoint-1", "checkpoint-2"},
}


def _hub_check(strategy: str) -> Callable[[Bench], None]:
    def check(bench: Bench) -> None:
        """During training the strategy's files are there; after the last push the trained weights and a model card."""
        repository = f"tester/{str(bench.cell).replace('/', '-')}"
        trainer = bench.trainer(
            save_strategy="steps",
            save_steps=1,
            push_to_hub=True,
            hub_model_id=repository,
            hub_strategy=strategy,
            hub_always_push=True,
        )
        trainer.train()
        files = bench.hub.repos[repository]
        weights = "model.safetensors" if bench.cell.adapter == "full" else "adapter_model.safetensors"
        expected = _STATE | {weights}
        if trainer.method_state():
            expected |= _METHOD_STATE
        folders = {name.partition("/")[0] for name in files if "/" in name}
        assert folders == _FOLDERS[strategy], folders
        for folder in folders:
            missing = expected - {name.partition("/")[2] for name in files}
            assert not missing, f"{folder} is without {missing}"
        assert (weights in files) == (strategy != "end")
        trainer.push_to_hub()
        pushed = load(files[weights])
        ours = saved_weights(model_of(trainer))
        if bench.cell.environment != "images":  # saved by other names: `tests/test_image_rollouts.py` looks at those
            assert pushed.keys() <= ours.keys()
            assert same(pushed, {name: ours[name] for name in pushed})
        assert "trl_multiturn" in files["README.md"].decode()
        other = "adapter_model.safetensors" if bench.cell.adapter == "full" else "model.safetensors"
        assert other not in files

    return check


HUB_CHECKS = {f"hub_{strategy}": _hub_check(strategy) for strategy in _FOLDERS}
