"""What a recipe leaves in its output folder beside the model: the logged values as a table, and the curves as a picture."""

import csv
import json
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging


logger = logging.get_logger(__name__)

# What an IGPO run's picture shows: title of each panel, and its metrics with their labels.
IGPO_PANELS = {
    "Reward": {"reward": "training", "eval_reward": "held out"},
    "Groups without learning signal": {
        "igpo/zero_advantage_groups": "IGPO",
        "igpo/zero_advantage_groups_outcome_only": "outcome alone (GRPO)",
    },
    "Information gain of a turn (nats)": {"igpo/gain_mean": "mean", "eval_igpo/gain_mean": "mean, held out"},
    "Turns of a rollout": {"turns/mean": "training", "eval_turns/mean": "held out"},
}

# The same of an ArCHer run. A word game is evaluated on the targets it is trained on, so no panel says "held out".
ARCHER_PANELS = {
    "Return": {"reward": "training", "eval_reward": "evaluation"},
    "Variance of returns that V explains": {
        "archer/explained_variance": "training",
        "eval_archer/explained_variance": "evaluation",
    },
    "Loss of the critic": {"archer/q_loss": "Q", "archer/v_loss": "V"},
    "Advantage of an utterance": {"archer/advantage_mean": "mean", "archer/advantage_std": "standard deviation"},
    "Turns of a rollout": {"turns/mean": "training", "eval_turns/mean": "evaluation"},
}

# The same of a run with failure replay.
REPLAY_PANELS = {
    "Reward": {"reward": "training", "eval_reward": "held out"},
    "Groups without learning signal": {"frac_reward_zero_std": "training"},
    "Failed tasks": {"replay/size": "stored", "replay/graduated": "graduated", "replay/retired": "given up"},
    "Replays": {"replay/success": "success rate", "replay/share": "share of the batch"},
    "Turns of a rollout": {"turns/mean": "training", "eval_turns/mean": "held out"},
}

# The same of each stage of Mobile-R1.
MOBILE_R1_PANELS: dict[str, dict[str, dict[str, str]]] = {
    "sft": {
        "Loss": {"loss": "training", "eval_loss": "held out"},
        "Right tokens": {"mean_token_accuracy": "training"},
    },
    "action": {
        "Reward of a step": {"reward": "training", "eval_reward": "held out"},
        "What it is made of": {
            "rewards/action_reward/mean": "right action",
            "rewards/gui_format_reward/mean": "right format",
            "action/type": "right type of action",
        },
        "Groups without learning signal": {"frac_reward_zero_std": "training"},
    },
    "task": {
        "Reward of an episode": {"reward": "training", "eval_reward": "held out"},
        "What it is made of": {"task/completed": "task done", "rewards/gui_format_reward/mean": "right format"},
        "Claims": {"task/claimed": "claimed success", "task/false_completion": "falsely"},
        "Groups without learning signal": {"frac_reward_zero_std": "training"},
        "Turns of an episode": {"turns/mean": "training"},
    },
}


def save_history(log_history: list[dict[str, Any]], path: str | Path) -> None:
    """
    Write everything a trainer has logged as CSV, a row for each step; several where a step has logged the same twice.

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history`.
        path (`str` or `Path`):
            File to write.
    """
    rows: dict[int, list[dict[str, Any]]] = {}
    for entry in log_history:
        of_step = rows.setdefault(entry["step"], [{}])
        # Batches that warm up a critic are all logged at step 0.
        if entry.keys() & of_step[-1].keys() - {"step", "epoch"}:
            of_step.append({})
        of_step[-1].update(entry)
    names = sorted({name for entry in log_history for name in entry} - {"step", "epoch"})
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "epoch", *names])
        writer.writeheader()
        writer.writerows(row for step in sorted(rows) for row in rows[step])


def save_json(values: dict[str, Any], path: str | Path) -> None:
    """
    Write values as JSON, readable.

    Args:
        values (`dict[str, Any]`):
            JSON values by name.
        path (`str` or `Path`):
            File to write.
    """
    Path(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def plot_curves(
    log_history: list[dict[str, Any]], panels: dict[str, dict[str, str]], path: str | Path, title: str = ""
) -> bool:
    """
    Draw logged values over the steps, a panel for each subject.

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history`.
        panels (`dict[str, dict[str, str]]`):
            Title of each panel, and the metrics it shows with their labels. Metrics that were not logged are left out.
        path (`str` or `Path`):
            PNG file to write.
        title (`str`, *optional*, defaults to `""`):
            Heading of the picture.

    Returns:
        `bool`: Whether the picture was drawn: `False`, with a warning, if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("No curves: matplotlib is not installed. `pip install trl-multiturn[plot]` brings it.")
        return False
    series = {
        name: [(entry["step"], entry[name]) for entry in log_history if entry.get(name) is not None]
        for metrics in panels.values()
        for name in metrics
    }
    panels = {panel: metrics for panel, metrics in panels.items() if any(series[name] for name in metrics)}
    figure = Figure(figsize=(4.6 * max(len(panels), 1), 3.6), layout="constrained")
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axis, (panel, metrics) in zip(axes, panels.items(), strict=False):
        for name, label in metrics.items():
            if series[name]:
                steps, values = zip(*series[name], strict=True)
                axis.plot(steps, values, marker="o" if len(steps) < 12 else None, markersize=3, label=label)
        axis.set_title(panel)
        axis.set_xlabel("training step")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    return True


class CompactProgress(TrainerCallback):
    """
    A progress bar that shows a few metrics, in place of a printed dictionary for each step.

    Args:
        metrics (`dict[str, str]`):
            Metrics to show, and what to call them.
    """

    def __init__(self, metrics: dict[str, str]):
        self.metrics = metrics
        self.bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, desc="training", dynamic_ncols=True)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and logs:
            shown = {label: f"{logs[name]:.2f}" for name, label in self.metrics.items() if logs.get(name) is not None}
            self.bar.set_postfix(shown, refresh=False)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
            self.bar = None
