"""
An API of one's own behind `ToolCache`: the first run records what it answers, later ones do without it.

    python examples/travel_live_api.py --model Qwen/Qwen3-0.6B --url http://localhost:8080
    accelerate launch examples/travel_live_api.py --model Qwen/Qwen3-0.6B --mode replay

It answers `GET /trains?city=Paris&date=2026-05-01` with a JSON list. The model learns to ask it rightly.
"""

import json
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlencode
from urllib.request import HTTPError, urlopen

from datasets import Dataset
from trl import TrlParser

from trl_multiturn import ReplayGRPOConfig, ReplayGRPOTrainer
from trl_multiturn.environments.travel import ToolCache, ToolError, TransientError


def ask(url: str, name: str, arguments: dict) -> list:
    try:
        with urlopen(f"{url}/{name}?{urlencode(arguments)}", timeout=10) as answer:
            return json.load(answer)
    except HTTPError as error:  # "no such city" is an answer, and recorded; "service unavailable" is none
        raise (TransientError if error.code >= 500 else ToolError)("refused", error.reason) from error


class Trains:
    def __init__(self, backend: ToolCache):
        self._backend = backend

    def reset(self, city: str, date: str, **row) -> None:
        self._trip, self._found = (city, date), False

    def trains(self, city: str, date: str) -> str:
        """
        List the trains that leave a city.

        Args:
            city: English name.
            date: Day, YYYY-MM-DD.
        """
        found = self._backend.call("trains", {"city": city, "date": date})
        self._found = self._found or self._trip == (city, date)
        return json.dumps(found)

    def get_reward(self) -> float:
        return float(self._found)


@dataclass
class Arguments:
    model: str = "Qwen/Qwen3-0.6B"
    url: str = "http://localhost:8080"
    cache: str = "trains.sqlite"
    mode: str = "record"


if __name__ == "__main__":
    parser = TrlParser((Arguments, ReplayGRPOConfig))
    parser.set_defaults(output_dir="trains", max_completion_length=1024, max_steps=100)
    a, training_args = parser.parse_args_and_config()
    days = [{"city": city, "date": f"2026-05-{day:02d}"} for city in ("Paris", "Rome") for day in range(1, 32)]
    text = "Which train leaves {city} first on {date}?"
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": text.format(**row)}], **row} for row in days])
    api = SimpleNamespace(call=partial(ask, a.url), version="trains-1")  # with another, the cache asks again
    environment = partial(Trains, ToolCache(a.cache, api, a.mode))
    trainer = ReplayGRPOTrainer(a.model, None, training_args, data, environment_factory=environment)
    trainer.train()
    trainer.save_model()
