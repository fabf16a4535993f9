"""A run in which something raises on the second of two processes only, in its second step."""

import sys

from accelerate import PartialState

from tests.tiny import Counter, QuietCounter, answer_length, build_model, build_tokenizer, dataset, settings

from .worker import CRITIC, TRAINERS, Placed


MESSAGE = "only this process fails"


class Failure:
    """Raises when it is called for the `after`-th time on the second process."""

    def __init__(self, after: int):
        self.left = after

    def __call__(self) -> None:
        self.left -= PartialState().process_index == 1
        if self.left < 0:
            raise RuntimeError(MESSAGE)


def main(place: str, folder: str) -> None:
    """`place`: where it raises."""
    processes = PartialState(cpu=True).num_processes
    fails = Failure(after=0 if place == "environment" else 1)

    class Environment(QuietCounter if place == "answer" else Counter):
        def __init__(self):
            super().__init__()
            if place == "environment":
                fails()

        def reset(self, **row):
            if place == "reset" and row["number"] % 2:
                fails()
            return super().reset(**row)

    trainer_class, config_class = TRAINERS[{"critic": "archer", "answer": "igpo"}.get(place, "base")]

    class Run(Placed, trainer_class):
        def compute_turn_rewards(self, rollouts):
            if place == "hook":
                fails()
            return super().compute_turn_rewards(rollouts)

    def reward(completions, **kwargs):
        if place == "reward":
            fails()
        return answer_length(completions)

    # The second group of the second batch, which is the second process's, has no answer.
    data = dataset(16, answers=["" if place == "answer" and i == 3 else "Paris" for i in range(16)])
    if place == "answer":  # a dataset that is there is checked at construction
        data = data.to_iterable_dataset()
    tokenizer = build_tokenizer()
    trainer = Run(
        model=build_model(tokenizer),
        reward_funcs=reward,
        args=config_class(
            **settings(folder, per_device_train_batch_size=8 // processes, **(CRITIC if place == "critic" else {}))
        ),
        train_dataset=data,
        processing_class=tokenizer,
        environment_factory=Environment,
    )
    if place == "critic":
        update = trainer.learner.update

        def failing_update(*args, **kwargs):
            fails()
            return update(*args, **kwargs)

        trainer.learner.update = failing_update
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
