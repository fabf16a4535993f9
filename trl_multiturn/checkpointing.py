"""The part of a trainer that saves and resumes: checkpoints that are whole, weights as they were, pushes that do not fail in silence.

Every touch of the private surface of transformers' Trainer is in this file, those of TRL's in `trainer.py`.
"""

from typing import Any

from transformers import Trainer

from .checkpoints import check_resumed, checkpoint_path, rotate, whole_checkpoint
from .pushes import report_failed_pushes
from .qlora import dtypes_kept
from .renamed_weights import has_renamed_weights, load_renamed_weights


class CheckpointingTrainer(Trainer):
    """
    Trainer whose checkpoints are there whole or not at all. It stands before one of TRL's among a trainer's bases, and calls that
    one's methods.
    """

    # Folder that stands for the run's while a checkpoint is written.
    _incomplete: str | None = None
    _failed_pushes = 0

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        if not self._load_renamed(resume_from_checkpoint):
            with dtypes_kept(model or self.model):
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        if not self._load_renamed(self.state.best_model_checkpoint):
            with dtypes_kept(self.model):
                super()._load_best_model()

    def _load_renamed(self, folder: Any) -> bool:
        model = self.accelerator.unwrap_model(self.model)
        if self.is_deepspeed_enabled or self.is_fsdp_enabled or not has_renamed_weights(model, folder):
            return False
        load_renamed_weights(model, folder)
        return True

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """Train, as [`~transformers.Trainer.train`]; a damaged checkpoint is refused before anything of it is loaded."""
        check_resumed(resume_from_checkpoint, self.args.output_dir)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_output_dir(self, trial):
        return super()._get_output_dir(trial) if self._incomplete is None else self._incomplete

    def _save_checkpoint(self, model, trial):
        run_dir = self._get_output_dir(trial)
        try:
            with whole_checkpoint(
                run_dir, self.state, self.args, self.accelerator.wait_for_everyone
            ) as self._incomplete:
                super()._save_checkpoint(model, trial)
        finally:
            self._incomplete = None
        if self.args.push_to_hub:
            self._push_from_checkpoint(checkpoint_path(run_dir, self.state))
        if self.args.should_save:
            rotate(run_dir, self.args.save_total_limit, self.state.best_model_checkpoint)

    def _push_from_checkpoint(self, checkpoint_folder):
        if self._incomplete is not None:
            return  # `_save_checkpoint` does it when the folder has its name
        self._failed_pushes += report_failed_pushes(getattr(self, "push_in_progress", None))
        super()._push_from_checkpoint(checkpoint_folder)

    def _finish_current_push(self):
        super()._finish_current_push()
        self._failed_pushes += report_failed_pushes(getattr(self, "push_in_progress", None))
