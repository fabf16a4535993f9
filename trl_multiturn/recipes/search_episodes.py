"""Scripted episodes over the fact corpus, for the warm start of [`trl_multiturn.recipes.search_policy`].

An episode follows the oracle's searches, with mistakes mixed in: it searches for something else, stops early, guesses, or
searches twice. A policy that imitates it therefore knows every move and chooses badly, which is what reinforcement
learning can put right. In most episodes the names are replaced by made-up ones, the same everywhere in the episode: a
small model could learn the facts by heart, and would then not read.
"""

import functools
import json
import random
import re
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trl_multiturn.environments.search import BM25Index, SearchEnvironment


Message = dict[str, Any]

# One passage a call: the oracle's query has its evidence as the first result, and rollouts stay short.
TOP_K = 1

# Capitalised words of these are the environment's own, not parts of a name.
_FRAME = {"The", "What", "Airport", "ISO"}
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’])*|\d+")


@dataclass(frozen=True)
class Fact:
    """
    One search that leads somewhere.

    Args:
        query (`str`):
            What is searched.
        entity (`str`):
            What it is about.
        relation (`str`):
            The query with `{}` in the place of the entity.
        answer (`str`):
            What the passage says.
        result (`str`):
            What the environment returns.
    """

    query: str
    entity: str
    relation: str
    answer: str
    result: str


@dataclass(frozen=True)
class Habits:
    """
    How often the script errs.

    Args:
        wrong_search (`float`, *optional*, defaults to `0.2`):
            Probability of a search for another fact, of the same entity or of the same kind, before each right one.
        follow_wrong (`float`, *optional*, defaults to `0.3`):
            Probability of taking the result of a wrong search for the right one.
        early_answer (`float`, *optional*, defaults to `0.15`):
            Probability of answering at each point where searches are still missing.
        repeat_search (`float`, *optional*, defaults to `0.08`):
            Probability of searching the last fact again before a complete answer.
    """

    wrong_search: float = 0.2
    follow_wrong: float = 0.3
    early_answer: float = 0.15
    repeat_search: float = 0.08


class EpisodeWriter:
    """
    Writes scripted episodes about questions.

    Only facts that the given questions ask for are ever searched, so that nothing of another split's questions enters.

    Args:
        questions (`Iterable[Mapping]`):
            Rows of [`~trl_multiturn.environments.search.load_fact_questions`].
        index ([`~trl_multiturn.environments.search.BM25Index`]):
            Index over the corpus of facts.
        names (`Iterable[str]`, *optional*):
            Names whose words made-up names are put together of, besides invented words. With the names of all splits a
            policy learns to copy their pieces, and of their facts nothing.
        habits ([`Habits`], *optional*):
            How often the script errs.
        made_up (`float`, *optional*, defaults to `0.85`):
            Share of episodes with made-up names.
    """

    def __init__(
        self,
        questions: Iterable[Mapping[str, Any]],
        index: BM25Index,
        names: Iterable[str] = (),
        habits: Habits | None = None,
        made_up: float = 0.85,
    ) -> None:
        self._habits = habits or Habits()
        self._made_up = made_up
        self._facts: dict[str, dict[str, Fact]] = defaultdict(dict)  # of an entity, by relation
        self._by_relation: dict[str, list[Fact]] = defaultdict(list)
        self._chains: dict[int, list[tuple[str, list[Fact]]]] = defaultdict(list)
        environment = SearchEnvironment(index)
        search = functools.cache(functools.partial(environment.search, top_k=TOP_K))
        for row in questions:
            chain = []
            for query, entity, answer in zip(row["queries"], row["entities"], row["entities"][1:], strict=False):
                relation = query.replace(entity, "{}")
                if relation not in self._facts[entity]:
                    fact = Fact(query, entity, relation, answer, search(query))
                    self._facts[entity][relation] = fact
                    self._by_relation[relation].append(fact)
                chain.append(self._facts[entity][relation])
            self._chains[len(chain)].append((row["question"], chain))
        # Plain words only: the tokenizer's decoder would take an accented letter of a whole word for a byte.
        self.words = sorted(
            {word for name in (*names, *self._facts) for word in _WORD.findall(name) if _is_plain(word)}
        )

    def write(self, rng: random.Random) -> list[Message]:
        """
        Write one episode.

        Args:
            rng (`random.Random`):
                Source of all choices.

        Returns:
            `list[dict]`: The conversation, from the question to the answer.
        """
        # Numbers of hops come equally often, however many questions there are of each.
        question, chain = rng.choice(self._chains[rng.choice(sorted(self._chains))])
        made_up = rng.random() < self._made_up
        searched, answer = self._play(chain, rng, made_up)
        rename: Callable[[str], str] = str
        if made_up:
            rename = self._renaming(
                [question, answer, *(text for fact in searched for text in (fact.query, fact.result))], rng
            )
        messages: list[Message] = [{"role": "user", "content": rename(question)}]
        for fact in searched:
            call = {"name": "search", "arguments": {"query": rename(fact.query), "top_k": TOP_K}}
            messages += [
                {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
                {"role": "tool", "name": "search", "content": rename(fact.result)},
            ]
        return [*messages, {"role": "assistant", "content": f"<answer>{rename(answer)}</answer>"}]

    def texts(self) -> Iterator[str]:
        """
        What a tokenizer should know: the questions and the facts, without what stands around messages.

        Yields:
            `str`: A text.
        """
        for chains in self._chains.values():
            yield from (question for question, _ in chains)
        for facts in self._facts.values():
            for fact in facts.values():
                call = {"name": "search", "arguments": {"query": fact.query, "top_k": TOP_K}}
                yield from (json.dumps(call, ensure_ascii=False), fact.result, fact.answer)

    def _play(self, chain: list[Fact], rng: random.Random, made_up: bool) -> tuple[list[Fact], str]:
        """What is searched, and what is answered."""
        habits = self._habits
        searched: list[Fact] = []
        for step, fact in enumerate(chain):
            # Nobody answers before the first search as often as in the middle.
            if rng.random() < habits.early_answer * (1.0 if step else 0.3):
                return searched, self._guess(chain, searched, rng, made_up)
            if rng.random() < habits.wrong_search:
                wrong = self._other_fact(fact, rng)
                if wrong is not None:
                    searched.append(wrong)
                    if rng.random() < habits.follow_wrong:
                        return searched, wrong.answer
            searched.append(fact)
        if rng.random() < habits.repeat_search:
            searched.append(chain[-1])
        return searched, chain[-1].answer

    def _other_fact(self, fact: Fact, rng: random.Random) -> Fact | None:
        same_entity = [other for other in self._facts[fact.entity].values() if other is not fact]
        if same_entity and rng.random() < 0.95:
            return rng.choice(same_entity)
        others = [other for other in self._by_relation[fact.relation] if other is not fact]
        return rng.choice(others) if others else None

    def _guess(self, chain: list[Fact], searched: list[Fact], rng: random.Random, made_up: bool) -> str:
        # A made-up name can't be guessed, only read: an episode full of them has nothing that isn't copied.
        if made_up or rng.random() < 0.5:
            return searched[-1].answer if searched else chain[0].entity
        # Some guesses are right: from a country one can tell its codes.
        if rng.random() < 0.3:
            return chain[-1].answer
        return rng.choice(self._by_relation[chain[-1].relation]).answer

    def _renaming(self, texts: list[str], rng: random.Random) -> Callable[[str], str]:
        names: dict[str, str] = {}
        for word in (word for text in texts for word in _WORD.findall(text)):
            if word not in _FRAME and word not in names and (word[0].isupper() or (word.isdigit() and len(word) > 1)):
                names[word] = self._made_up_word(word, rng)
        # Domains are the only names in lower case; they stand behind a dot.
        domains: dict[str, str] = {}

        def domain(match: re.Match[str]) -> str:
            return domains.setdefault(match[0], "." + "".join(rng.choices(string.ascii_lowercase, k=2)))

        def rename(text: str) -> str:
            text = _WORD.sub(lambda match: names.get(match[0], match[0]), text)
            return re.sub(r"\.[a-z]{2}\b", domain, text)

        return rename

    def _made_up_word(self, word: str, rng: random.Random) -> str:
        if word.isdigit():
            return "".join(rng.choices(string.digits, k=len(word)))
        if word.isupper():
            return "".join(rng.choices(string.ascii_uppercase, k=len(word)))
        return rng.choice(self.words)


def _is_plain(word: str) -> bool:
    return len(word) > 1 and word.isascii() and word.isalpha() and word.istitle() and word not in _FRAME
