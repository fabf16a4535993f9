"""Images in rollouts by vLLM: each turn is written with the images that it is trained with."""

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from tests.tiny_vlm import build_model, build_processor, look_about, make_trainer, rows
from tests.vllm_stand_in import Engine, colocate, serve


class SeeingEngine(Engine):
    def load(self):
        return Qwen2_5_VLForConditionalGeneration.from_pretrained(self.folder).eval(), build_processor().tokenizer

    def image_fields(self, ids, images):
        if not images:
            return {}
        fields = build_processor().image_processor(images=images, return_tensors="pt")
        mask = torch.tensor([ids]) == self.model.config.image_token_id
        return {**fields, "mm_token_type_ids": mask.long()}


def script(text, turn, rng):
    return look_about(text, turn, rng.randrange(10**6)).removesuffix("<|im_end|>")


@pytest.mark.parametrize(
    ("mode", "keep"),
    [(serve, 1), *(pytest.param(*cell, marks=pytest.mark.exhaustive) for cell in [(serve, None), (colocate, 1)])],
)
def test_images(tmp_path, mode, keep):
    build_model().save_pretrained(tmp_path / "model")
    engine = SeeingEngine(str(tmp_path / "model"), script)
    with mode(engine) as vllm:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(engine.folder)
        options = {"history_images": keep, "max_steps": 2, "num_generations": 2, **vllm}
        trainer = make_trainer(tmp_path, model=model, data=rows(shown=(1, 0)), **options)
        trainer.train()
    shown = [len(row or []) for request in engine.requests for row in request.images]
    assert 0 in shown and max(shown) == (keep or max(shown)) and (keep == 1 or max(shown) > 1)
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(log) == 2
    for entry in log:
        # The pass over each turn's context in training finds what the engine found with the images that it was sent.
        assert 0 < entry["sampling/sampling_logp_difference/max"] < 1e-4
        assert entry["images/mismatched"] == 0
        assert entry["grad_norm"] > 0
        assert entry["turns/max"] > 2
