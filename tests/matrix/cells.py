"""The cells of the support matrix, as data: what is combined, what is refused and why, what is run first.

Nothing here imports a trainer.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple


TRAINERS = ("MultiTurnGRPO", "IGPO", "ArCHer", "ReplayGRPO", "ReplayIGPO")

ADAPTERS = {
    "full": "none",
    "lora": "LoRA",
    "qlora": "QLoRA, 4-bit nf4",
    "dora": "DoRA",
}

ENVIRONMENTS = {
    "prompts": "none: prompts alone",
    "tools": "`tools`",
    "environment": "`environment_factory`",
    "environments": "dictionary of factories",
    "images": "environment with images, vision-language model",
}

LEVELS = ("token", "sequence")

# Title, and what must hold.
_LIFECYCLES = {
    "train": ("train", "what is to be trained has changed and is finite, and nothing else has changed"),
    "evaluate": ("`evaluate()`", "metrics are there; policy, critic and stored tasks are as before"),
    "evaluate_in_training": (
        "evaluation during training, without `compute_metrics`",
        "one evaluation for each that is due, and as many generation batches as without",
    ),
    "save": ("save and load", "a new model has the trained weights, and the base of an adapter has not changed"),
    "resume": (
        "resume a run that was stopped inside an accumulation window",
        "weights, logs and what the method has learnt equal the uninterrupted run's bit for bit, from a checkpoint between two "
        "generation batches (TRL generates anew the batch that a checkpoint falls into)",
    ),
    "resume_1_to_2": ("resume on 2 processes what 1 began", "equals the uninterrupted run on 1, weights within 1e-4"),
    "resume_2_to_1": ("resume on 1 process what 2 began", "equals the uninterrupted run on 1, weights within 1e-4"),
    "save_only_model": (
        "`save_only_model`",
        "the checkpoint has the trained weights and no state; a run that is resumed from it begins with them",
    ),
    "load_best": ("`load_best_model_at_end`", "the weights in the end are those of the best step, not the last"),
    "hub_end": ('`push_to_hub`, `hub_strategy="end"`', "nothing is pushed before the end, then model and card"),
    "hub_every_save": ('`push_to_hub`, `hub_strategy="every_save"`', "the model is there after a save"),
    "hub_checkpoint": (
        '`push_to_hub`, `hub_strategy="checkpoint"`',
        "one folder with everything that a resumed run needs",
    ),
    "hub_all_checkpoints": (
        '`push_to_hub`, `hub_strategy="all_checkpoints"`',
        "a folder for each checkpoint with everything that a resumed run needs",
    ),
    "callbacks": ("callbacks", "every event in order, and a callback stops the training"),
    "streaming": ("streaming dataset", "as `train`, from an `IterableDataset`"),
    "num_iterations": ("`num_iterations=2`", "two steps on one generation batch"),
    "steps_per_generation": ("`steps_per_generation` above accumulation", "one generation batch for two steps"),
    "gradient_checkpointing": ("gradient checkpointing", "weights equal those without it bit for bit"),
    "no_answers": ("dataset without answers", "as `train`"),
}


def installed_losses() -> list[str]:
    """Every loss of the installed TRL, as the help of its configuration names them."""
    from trl import GRPOConfig

    text = GRPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    listed = re.search(r"Supported values are (.*?)\.\s", text)
    if listed is None:
        raise ValueError(f"GRPOConfig says nothing of its losses: {text}")
    return re.findall(r"'(\w+)'", listed[1])


def lifecycles(losses: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Title of each lifecycle and what must hold in it; with some losses, at both levels of their ratios."""
    return _LIFECYCLES | {
        f"loss_{loss}_{level}": (
            f'`loss_type="{loss}"`, `importance_sampling_level="{level}"`',
            "as `train`, two steps on one generation batch, so that ratios are not 1",
        )
        for loss in losses
        for level in LEVELS
    }


LOSSES = installed_losses()
LIFECYCLES = lifecycles(LOSSES)


class Cell(NamedTuple):
    """One combination."""

    trainer: str
    lifecycle: str
    adapter: str
    environment: str

    def __str__(self) -> str:
        return "/".join(self)

    @staticmethod
    def parse(name: str) -> "Cell":
        """The cell of a name as `str` gives it."""
        cell = Cell(*name.split("/"))
        known = (TRAINERS, LIFECYCLES, ADAPTERS, ENVIRONMENTS)
        for value, values in zip(cell, known, strict=True):
            if value not in values:
                raise ValueError(f"{value!r} of {name!r} is none of {list(values)}.")
        return cell

    @property
    def group(self) -> str:
        """What it must be run by: `hub` (a stand-in of the Hub), `processes` (two of them) or `plain`."""
        kind = self.lifecycle.split("_")[0]
        return {"hub": "hub", "resume": "processes" if "_to_" in self.lifecycle else "plain"}.get(kind, "plain")


class Refusal(NamedTuple):
    """Cells that must raise before the first step, and what they must say. An axis that is left out matches all of it."""

    name: str
    pattern: str
    reason: str
    trainers: tuple[str, ...] = TRAINERS
    lifecycles: str = ".*"
    adapters: tuple[str, ...] = tuple(ADAPTERS)
    environments: tuple[str, ...] = tuple(ENVIRONMENTS)

    def covers(self, cell: Cell) -> bool:
        """Whether a cell must be refused for this reason."""
        return (
            cell.trainer in self.trainers
            and re.fullmatch(self.lifecycles, cell.lifecycle) is not None
            and cell.adapter in self.adapters
            and cell.environment in self.environments
        )


_RATIOS_OF_SEQUENCES = r"loss_(?!cispo|vespo)\w+_sequence"

# The first that covers a cell is the one it must be refused by.
REFUSALS = (
    Refusal(
        "no-answers",
        r"IGPO needs the right answer of every prompt, but train_dataset has none of the columns",
        "The information gain is measured on the right answer.",
        trainers=("IGPO", "ReplayIGPO"),
        lifecycles="no_answers",
    ),
    Refusal(
        "sequence-ratios-igpo",
        r"trains every token of a rollout on the mean of its turns' advantages: information gains would make no difference",
        "Through a ratio of the whole sequence every token gets the same gradient.",
        trainers=("IGPO", "ReplayIGPO"),
        lifecycles=_RATIOS_OF_SEQUENCES,
    ),
    Refusal(
        "sequence-ratios-archer",
        r"trains every token of a rollout on the mean of its turns' advantages: the critic would make no difference",
        "The same.",
        trainers=("ArCHer",),
        lifecycles=_RATIOS_OF_SEQUENCES,
    ),
    Refusal(
        "sequence-ratios-turn-rewards",
        r"trains every token of a rollout on the mean of its turns' advantages: `turn_rewards` would make no difference",
        "The same, for environments that say what each turn was worth.",
        trainers=("MultiTurnGRPO", "ReplayGRPO"),
        lifecycles=_RATIOS_OF_SEQUENCES,
        environments=("environment", "environments"),
    ),
    Refusal(
        "igpo-images",
        r"IGPOTrainer does not support vision-language models yet",
        "The belief in the answer is scored on text alone.",
        trainers=("IGPO", "ReplayIGPO"),
        environments=("images",),
    ),
    Refusal(
        "archer-images",
        r"ArCHerTrainer does not support vision-language models yet",
        "The critic would not see the images.",
        trainers=("ArCHer",),
        environments=("images",),
    ),
)


def refusal(cell: Cell) -> Refusal | None:
    """Why a cell must be refused; `None` if it must work."""
    return next((refusal for refusal in REFUSALS if refusal.covers(cell)), None)


def _in_pass(number: int) -> list[Cell]:
    """Every trainer with every lifecycle once. Five passes in a row hold each triple of values at least once."""
    adapters, environments = list(ADAPTERS), list(ENVIRONMENTS)
    cells = []
    for i, trainer in enumerate(TRAINERS):
        for j, lifecycle in enumerate(LIFECYCLES):
            # 4 and 5 have no common divisor: 20 numbers in a row are the 20 pairs of adapter and environment.
            k = number + 5 * i + 7 * j
            cells.append(Cell(trainer, lifecycle, adapters[k % 4], environments[k % 5]))
    return cells


@lru_cache
def selection() -> tuple[Cell, ...]:
    """
    What CI runs: every trainer with every lifecycle, every adapter and every environment, and all that are refused by
    their reason. Where another pair of adapter and environment works, the lifecycle is shown by one that works.
    """
    chosen = []
    for alternatives in zip(*(_in_pass(number) for number in range(20)), strict=True):
        chosen.append(next((cell for cell in alternatives if refusal(cell) is None), alternatives[0]))
    told = {refusal(cell) for cell in chosen}
    for cell in all_cells():
        missing = (cell.trainer, cell.environment) not in {(c.trainer, c.environment) for c in chosen}
        if missing or refusal(cell) not in told:
            chosen.append(cell)
            told.add(refusal(cell))
    return tuple(chosen)


@lru_cache
def all_cells() -> tuple[Cell, ...]:
    """All cells, in the order in which a run that is stopped early has covered most: pairs first, then triples."""
    return tuple(_in_passes(range(20)))


def _in_passes(numbers: Iterable[int]) -> list[Cell]:
    return [cell for number in numbers for cell in _in_pass(number)]


def run_order() -> list[Cell]:
    """What CI runs, then five passes, then the rest; in each part those that need two processes, which take longest, come last."""
    parts = [selection(), _in_passes(range(5)), _in_passes(range(5, 20))]
    ordered = [sorted(part, key=lambda cell: cell.group == "processes") for part in parts]
    return list(dict.fromkeys(cell for part in ordered for cell in part))
