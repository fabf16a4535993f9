"""Processes that ask vLLM together, as threads: what TRL does with their prompts is repeated here in a few lines."""

import random
import threading
from types import SimpleNamespace

import pytest
from PIL import Image

from trl_multiturn import vllm_requests
from trl_multiturn.vllm_requests import SharedRequests


class Processes:
    """Threads with a rank each, which can gather lists; a rank that does not come makes the others fail, not wait."""

    def __init__(self, world, monkeypatch):
        self.world, self.rank = world, threading.local()
        self.barrier = threading.Barrier(world, timeout=10)
        self.lists: list[list] = [[] for _ in range(world)]
        self.asked: list[tuple[list, int]] = []  # of vLLM: prompts, completions of each
        self.errors: list[Exception] = []
        monkeypatch.setattr(vllm_requests, "gather_object", self.gather)

    def gather(self, values):
        self.lists[self.rank.value] = list(values)
        self.barrier.wait()
        gathered = [value for own in self.lists for value in own]
        self.barrier.wait()
        return gathered

    def sample(self, prompt_ids, images, num_generations):
        """As TRL in server mode: one request, of which each process takes as many completions as it has prompts."""
        prompts = self.gather(list(zip(prompt_ids, images or [None] * len(prompt_ids), strict=True)))
        ordered = prompts[::num_generations]
        assert len(ordered) * num_generations == len(prompts)
        if self.rank.value == 0:
            self.asked.append((ordered, num_generations))
        written = [([*ids, len(row or []), k], [0.5] * 2) for ids, row in ordered for k in range(num_generations)]
        own = slice(self.rank.value * len(prompt_ids), (self.rank.value + 1) * len(prompt_ids))
        return [ids for ids, _ in written[own]], [logprobs for _, logprobs in written[own]]

    def run(self, turns):
        """Each process completes its prompts turn by turn; returns what each got."""
        got: list[list] = [[] for _ in range(self.world)]

        def work(rank):
            self.rank.value = rank
            requests = SharedRequests(SimpleNamespace(process_index=rank, num_processes=self.world), self.sample)
            try:
                for prompt_ids, images, num_generations in turns[rank]:
                    got[rank].append(requests.generate(prompt_ids, images, num_generations)[0])
                requests.finish()
            except Exception as error:
                self.errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.errors == []
        return got


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_each_process_gets_what_it_asked_for(monkeypatch, world, seed):
    rng = random.Random(seed)
    processes = Processes(world, monkeypatch)
    number = iter(range(10**6))
    groups = [[next(number)] for _ in range(2)]
    # Two groups of three in the first turn, over all processes; then other numbers on each, for other numbers of turns.
    share = 6 // world
    everybody = [ids for ids in groups for _ in range(3)]
    turns = []
    for rank in range(world):
        own = [(everybody[rank * share : (rank + 1) * share], None, 3)]
        for _ in range(rng.randint(0, 4)):
            prompts = [[next(number)] for _ in range(rng.randint(0, 3))]
            images = [rng.choice([None, ["image"]]) for _ in prompts] if rng.random() < 0.5 else None
            own.append((prompts, images, 1))
        turns.append(own)
    got = processes.run(turns)
    first = [ids for own in got for ids in own[0]]
    assert first == [[*ids, 0, k] for ids in groups for k in range(3)]
    for own, answers in zip(turns, got, strict=True):
        for (prompts, images, _), written in zip(own[1:], answers[1:], strict=True):
            shown = [len(row or []) for row in images or [None] * len(prompts)]
            assert written == [[*ids, count, 0] for ids, count in zip(prompts, shown, strict=True)]
    wanted = sum(len(prompts) for own in turns for prompts, _, _ in own[1:])
    assert wanted <= sum(len(ordered) for ordered, _ in processes.asked[1:]) <= wanted + (world - 1) * 5 * world


@pytest.mark.parametrize("world", [1, 2])
def test_a_group_of_several_prompts_is_not_completed_from_its_first(monkeypatch, world):
    processes = Processes(world, monkeypatch)
    everybody = [[0], [0], [1], [2]]
    share = 4 // world
    got = processes.run([[(everybody[rank * share : (rank + 1) * share], None, 2)] for rank in range(world)])
    assert [ids for own in got for ids in own[0]] == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert processes.asked[0][1] == 1


@pytest.mark.parametrize(("color", "completions"), [((0, 0, 0), 2), ((9, 0, 0), 1)])
def test_other_images_are_another_prompt(monkeypatch, color, completions):
    processes = Processes(1, monkeypatch)
    images = [[Image.new("RGB", (2, 2))], [Image.new("RGB", (2, 2), color)]]
    processes.run([[([[0], [0]], images, 2)]])
    assert processes.asked[0][1] == completions


def test_without_it_completions_go_to_the_wrong_process(monkeypatch):
    """What TRL does by itself, and why this is needed."""
    processes = Processes(2, monkeypatch)
    monkeypatch.setattr(SharedRequests, "generate", lambda self, ids, images, count: self.sample(ids, images, count))
    got = processes.run([[([[0], [1], [2]], None, 1)], [([[3]], None, 1)]])
    assert got[1][0] == [[1, 0, 0]]
