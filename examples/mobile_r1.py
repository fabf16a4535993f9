"""
Mobile-R1 in one script: a vision-language model learns the reply format, then single actions, then whole tasks on a phone.

    python examples/mobile_r1.py --model Qwen/Qwen3-VL-2B-Instruct
    accelerate launch examples/mobile_r1.py --model Qwen/Qwen3-VL-2B-Instruct --max_steps 200

The phone is simulated and needs no emulator. `trl-multiturn mobile-r1` does the same with held-out tasks, resuming and an evaluation.
Every field of `MultiTurnGRPOConfig` can be given; `--max_steps` is that of each stage.
"""

from dataclasses import dataclass, replace
from functools import partial

from transformers import AutoModelForImageTextToText
from trl import GRPOTrainer, SFTConfig, SFTTrainer, TrlParser

from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer
from trl_multiturn.environments.phone import PhoneEnvironment, demonstrations, generate_phone_tasks, phone_dataset
from trl_multiturn.recipes.gui_data import step_dataset
from trl_multiturn.recipes.processors import load_processor, tools_as_system_text
from trl_multiturn.rewards.gui import action_reward, gui_format_reward, task_reward


@dataclass
class Arguments:
    model: str = "Qwen/Qwen3-VL-2B-Instruct"
    tasks: int = 400
    scale: float = 1.0


def system_message(text: str) -> dict:
    return {"role": "system", "content": [{"type": "text", "text": text}]}


if __name__ == "__main__":
    parser = TrlParser((Arguments, MultiTurnGRPOConfig))
    parser.set_defaults(output_dir="mobile-r1", max_steps=200, learning_rate=1e-6, max_completion_length=4096)
    # One screenshot in context, and a call that cannot be parsed is answered, as any other wrong action is.
    parser.set_defaults(history_images=1, answer_malformed_calls=True, max_tool_calling_iterations=16)
    arguments, args = parser.parse_args_and_config()

    phone = partial(PhoneEnvironment, scale=arguments.scale)
    processor = load_processor(arguments.model)
    model = AutoModelForImageTextToText.from_pretrained(arguments.model, dtype="float32")
    tasks = generate_phone_tasks(arguments.tasks)
    shown = list(demonstrations(tasks, mistakes=0.1, scale=arguments.scale))
    # In the first two stages there are no tools: what the chat template says of them stands in the system message.
    system = tools_as_system_text(processor, shown[0].system, [phone().mobile_use])
    steps = step_dataset([replace(trajectory, system=system) for trajectory in shown], history_images=1)

    same = {name: getattr(args, name) for name in ("use_cpu", "bf16", "per_device_train_batch_size", "report_to")}
    sft = SFTConfig(
        args.output_dir, max_steps=args.max_steps, learning_rate=1e-5, max_length=None, save_strategy="no", **same
    )
    SFTTrainer(model, sft, train_dataset=steps, processing_class=processor).train()

    single = GRPOTrainer(
        model=model,
        reward_funcs=[action_reward, gui_format_reward],
        args=args,
        train_dataset=steps.remove_columns("completion"),
        processing_class=processor,
    )
    single.train()

    rows = phone_dataset(tasks).map(lambda row: {"prompt": [system_message(shown[0].system), *row["prompt"]]})
    whole = MultiTurnGRPOTrainer(
        model=model,
        reward_funcs=[task_reward, gui_format_reward],
        args=args,
        train_dataset=rows,
        processing_class=processor,
        environment_factory=phone,
    )
    whole.train()
    whole.save_model()
    processor.save_pretrained(args.output_dir)
