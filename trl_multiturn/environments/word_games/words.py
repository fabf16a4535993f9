"""Objects to guess, and what is known about them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any


_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class WordFacts:
    """
    An object and its properties.

    Attributes:
        word (`str`):
            The object.
        category (`str`):
            One of the 17 groups of the list, such as `"fruits"`.
        synonyms (`tuple[str, ...]`):
            Other words that count as the object when it is guessed.
        attributes (`Mapping[str, bool]`):
            Answer to each canonical question.
        definition (`str`):
            What WordNet says it is.
        kinds (`frozenset[str]`):
            Everything that it is a kind of, in WordNet's words.
        parts (`frozenset[str]`):
            Parts that WordNet lists. The list is not complete: what is missing may be a part all the same.
        substances (`frozenset[str]`):
            What WordNet says it is made of; not complete either.
    """

    word: str
    category: str
    synonyms: tuple[str, ...]
    attributes: Mapping[str, bool]
    definition: str
    kinds: frozenset[str]
    parts: frozenset[str]
    substances: frozenset[str]


@cache
def load_sources() -> dict[str, Any]:
    """
    Reads what was chosen by hand: words and their meanings, and the attributes with the rules that decide them.

    Returns:
        `dict[str, Any]`: Content of `data/word_sources.json`.
    """
    sources: dict[str, Any] = json.loads((_DATA / "word_sources.json").read_text(encoding="utf-8"))
    return sources


@cache
def _load_words() -> Mapping[str, WordFacts]:
    table = json.loads((_DATA / "words.json").read_text(encoding="utf-8"))
    has = {question: frozenset(words) for question, words in table["attributes"].items()}
    return MappingProxyType(
        {
            word: WordFacts(
                word=word,
                category=row["category"],
                synonyms=tuple(row["synonyms"]),
                attributes=MappingProxyType({question: word in words for question, words in has.items()}),
                definition=row["definition"],
                kinds=frozenset(row["kinds"]),
                parts=frozenset(row["parts"]),
                substances=frozenset(row["substances"]),
            )
            for word, row in table["words"].items()
        }
    )


def load_words() -> dict[str, WordFacts]:
    """
    Loads the objects of Twenty Questions.

    Returns:
        `dict[str, WordFacts]`: The 157 objects by their word, ordered by category.
    """
    return dict(_load_words())


def load_word_subset() -> tuple[str, ...]:
    """
    Loads the short list, for small models.

    Returns:
        `tuple[str, ...]`: Ten of the words of [`load_words`], each of another category.
    """
    return tuple(load_sources()["subset"])
