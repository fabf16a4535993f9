"""Questions to train on and an environment to search in, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset


# Sets in their published form, beside the embedded "facts".
PUBLIC_SETS = ("hotpotqa", "2wikimultihopqa", "musique", "natural_questions")


@dataclass
class SearchTask:
    """
    Args:
        train (`Dataset`):
            Questions to train on: `prompt`, `answers` and what the set has besides.
        eval (`Dataset` or `None`):
            Held-out questions.
        environment_factory (`Callable`):
            Makes a search environment over the set's corpus.
    """

    train: Dataset
    eval: Dataset | None
    environment_factory: Callable[[], Any]


def load_search_task(
    name: str = "facts",
    *,
    path: str | None = None,
    corpus_path: str | None = None,
    hops: list[int] | None = None,
    eval_limit: int | None = None,
    browse: bool = False,
    seed: int = 0,
) -> SearchTask:
    """
    Load questions and build the index that they are searched in.

    Args:
        name (`str`, *optional*, defaults to `"facts"`):
            `"facts"` (embedded, needs no download), or one of [`PUBLIC_SETS`].
        path (`str`, *optional*):
            Folder with the public set's files in their published form; without it the Hub's copy is loaded.
        corpus_path (`str`, *optional*):
            JSONL file with `id`, `title` and `text` to search in, in place of the set's own passages.
        hops (`list[int]`, *optional*):
            Keep the questions of these numbers of hops.
        eval_limit (`int`, *optional*):
            Keep at most so many held-out questions.
        browse (`bool`, *optional*, defaults to `False`):
            Whether the environment can open documents too.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order of the questions.

    Returns:
        [`SearchTask`]: Questions and environment.

    Raises:
        `ValueError`: For an unknown name, or a set without passages and no `corpus_path`.
    """
    from ..environments import search

    if name == "facts":
        train = search.load_fact_questions("train", hops=hops, seed=seed)
        held_out = search.load_fact_questions("validation", hops=hops, seed=seed, limit=eval_limit)
        corpus = search.load_fact_corpus()
    elif name in PUBLIC_SETS:
        load = getattr(search, f"load_{name}")
        train, corpus = load(path, split="train")
        held_out, eval_corpus = load(path, split="validation")
        corpus = _merge(corpus, eval_corpus)
        train, held_out = (_select(part, hops, None if part is train else eval_limit) for part in (train, held_out))
    else:
        raise ValueError(f"Unknown question set {name!r}. Expected 'facts' or one of {list(PUBLIC_SETS)}.")

    if corpus_path is not None:
        index = search.BM25Index.from_jsonl(Path(corpus_path))
    elif len(corpus) == 0:
        raise ValueError(f"{name} comes without passages: name a JSONL file to search in as the corpus.")
    else:
        index = search.BM25Index.from_dataset(corpus)
    return SearchTask(train, held_out, search_environment_factory(index, browse))


def search_environment_factory(index: Any, browse: bool) -> Callable[[], Any]:
    """
    What makes search environments over an index.

    Args:
        index ([`~trl_multiturn.environments.search.BM25Index`]):
            Passages to search in.
        browse (`bool`):
            Whether the environment can open documents too.

    Returns:
        `Callable`: For a trainer's `environment_factory`.
    """
    from ..environments.search import BrowseEnvironment, SearchEnvironment

    return partial(BrowseEnvironment if browse else SearchEnvironment, index)


def _merge(first: Dataset, second: Dataset) -> Dataset:
    """Both corpora, each passage once: the published sets give most questions passages of their own."""
    seen, rows = set(), []
    for row in [*first, *second]:
        key = (row["title"], row["text"])
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return Dataset.from_list(rows) if rows else first


def _select(questions: Dataset, hops: list[int] | None, limit: int | None) -> Dataset:
    if hops is not None:
        questions = questions.filter(lambda row: row["hops"] in hops)
    return questions if limit is None else questions.select(range(min(limit, len(questions))))
