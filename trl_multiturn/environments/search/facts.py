"""Real facts about countries and airports as a corpus, and questions over one to four of them."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from .countries import Airport, Country, capital_airports, key, load_airports, load_countries
from .index import BM25Index, Document, strip_accents


if TYPE_CHECKING:
    from datasets import Dataset

Split = Literal["train", "validation", "test"]

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
# Chosen among sixty because it leaves questions of four hops in every split.
# Changing it moves entities between the splits: results before and after can no longer be compared.
_SPLIT_SALT = "facts-40"
# Else a tenth of the questions with several hops would start in the United States.
_MAX_START_AIRPORTS = 8


@dataclass(frozen=True)
class _Relation:
    """A fact that countries have, with `{country}`, `{value}` in its passage and `{subject}` in its phrases."""

    name: str
    title: str
    passage: str
    # A noun phrase that ends in the country; with "What is" before it, a question.
    phrase: str
    # How the value names the country, `None` if it can't: "the country whose capital is {value}".
    inverse: str | None = None


_CAPITAL = _Relation(
    "capital", "capital", "The capital of {country} is {value}.", "the capital of {subject}",
    "the country whose capital is {value}",
)  # fmt: skip
_ATTRIBUTES = (
    _CAPITAL,
    _Relation(
        "currency", "currency", "The currency of {country} is the {value}.", "the currency of {subject}",
        "the country whose currency is the {value}",
    ),
    _Relation(
        "domain", "internet domain", "The internet domain of {country} is {value}.",
        "the internet domain of {subject}", "the country with the internet domain {value}",
    ),
    _Relation(
        "calling_code", "calling code", "The calling code of {country} is {value}.", "the calling code of {subject}",
        "the country with the calling code {value}",
    ),
    _Relation(
        "iso", "ISO code", "The ISO code of {country} is {value}.", "the ISO code of {subject}",
        "the country with the ISO code {value}",
    ),
    _Relation("subregion", "region", "The region of {country} is {value}.", "the region of {subject}"),
)  # fmt: skip
_NEIGHBOURS = tuple(
    _Relation(
        f"{kind}_neighbour",
        f"{kind} neighbour",
        f"The {kind} neighbour of {{country}} is {{value}}.",
        f"the {kind} neighbour of {{subject}}",
    )
    for kind in ("only", "largest", "smallest")
)


@dataclass(frozen=True)
class _Hop:
    """One step of a chain: what to search, the passage that answers, and what it answers."""

    query: str
    evidence: str
    answer: str


@dataclass(frozen=True)
class _Chain:
    """Hops so far. `phrase` names the last answer in words; `country` is the country that it is, if it is one."""

    start: str
    phrase: str
    hops: tuple[_Hop, ...]
    name: str
    country: str | None = None

    def then(self, hop: _Hop, phrase: str, name: str, country: str | None = None) -> "_Chain":
        hops = (*self.hops, hop)
        return _Chain(self.start, phrase.format(subject=self.phrase), hops, f"{self.name}>{name}", country)


def _value(country: Country, relation: _Relation) -> str | None:
    value: str | None = getattr(country, relation.name)
    if value is None or relation not in _NEIGHBOURS:
        return value
    return load_countries()[value].name


@cache
def _documents() -> tuple[Document, ...]:
    return tuple(_write_documents())


def _write_documents() -> Iterator[Document]:
    countries, airports = load_countries(), capital_airports()
    for country in countries.values():
        for relation in (*_ATTRIBUTES, *_NEIGHBOURS):
            value = _value(country, relation)
            if value is not None:
                text = relation.passage.format(country=country.name, value=value)
                yield Document(f"{country.code}/{relation.name}", f"{country.name} {relation.title}", text)
        if country.code in airports:
            text = f"The airport code of {country.capital} is {airports[country.code]}."
            yield Document(f"{country.code}/airport", f"{country.capital} airport code", text)
    for airport in load_airports():
        name = countries[airport.country].name
        yield Document(f"{airport.code}/country", f"Airport {airport.code} country", f"{airport.code} is in {name}.")
        if airport.city is not None:
            text = f"{airport.code} is in the city {airport.city}."
            yield Document(f"{airport.code}/city", f"Airport {airport.code} city", text)


@cache
def _index() -> BM25Index:
    return BM25Index(_documents())


@cache
def _finds(query: str, evidence: str) -> bool:
    """Whether the passage is the first result of the query, ahead of every other."""
    found = _index().search(query, 2)
    return bool(found) and found[0].id == evidence and (len(found) == 1 or found[0].score > found[1].score)


@cache
def _entity_key(spelling: str) -> str:
    """Form under which spellings must share a split: matching of answers takes "Basse-Terre" for "Basseterre"."""
    return key(spelling).replace(" ", "")


@cache
def _owners() -> dict[str, frozenset[str]]:
    """Countries that each spelling belongs to, by the spelling's key; a region belongs to all its countries."""
    owners: dict[str, set[str]] = {}
    for country in load_countries().values():
        values = [_value(country, relation) for relation in _ATTRIBUTES]
        spellings = {country.name, *(value for value in values if value)}
        spellings.update(alias for aliases in country.aliases.values() for alias in aliases)
        for spelling in spellings:
            owners.setdefault(_entity_key(spelling), set()).add(country.code)
    for airport in load_airports():
        for name in (airport.code, airport.city):
            if name is not None:
                owners.setdefault(_entity_key(name), set()).add(airport.country)
    return {name: frozenset(codes) for name, codes in owners.items()}


@cache
def _split_of(spelling: str) -> Split:
    """
    Split of an entity: the one of its country, or, if several countries share it, one of its own.
    """
    name = _entity_key(spelling)
    codes = _owners().get(name, frozenset())
    # By the countries rather than the name, so that "Euro" and "EUR" stay together.
    owner = ",".join(sorted(codes)) or name
    share = int.from_bytes(hashlib.sha256(f"{_SPLIT_SALT}/{owner}".encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"


def _starts() -> Iterator[_Chain]:
    """Chains of one hop that end in a country, none of which the phrase names."""
    countries = load_countries()
    for code, country in countries.items():
        for relation in _ATTRIBUTES:
            value = _value(country, relation)
            if value is None or relation.inverse is None or not _is_unique(relation, value):
                continue
            hop = _Hop(f"{relation.title} {value}", f"{code}/{relation.name}", country.name)
            yield _Chain(value, relation.inverse.format(value=value), (hop,), f"{relation.name}:{code}", code)
    seen: dict[str, int] = {}
    for airport in sorted(load_airports(), key=lambda airport: hashlib.sha256(airport.code.encode()).digest()):
        seen[airport.country] = seen.get(airport.country, 0) + 1
        if seen[airport.country] <= _MAX_START_AIRPORTS:
            yield _airport_start(airport)


def _airport_start(airport: Airport) -> _Chain:
    hop = _Hop(f"airport {airport.code} country", f"{airport.code}/country", load_countries()[airport.country].name)
    phrase = f"the country where airport {airport.code} is"
    return _Chain(airport.code, phrase, (hop,), f"airport:{airport.code}", airport.country)


@cache
def _counts(relation: _Relation) -> Counter[str]:
    return Counter(key(value) for country in load_countries().values() if (value := _value(country, relation)))


def _is_unique(relation: _Relation, value: str) -> bool:
    if relation.name == "calling_code":
        # +7 is Russia's and the beginning of Kazakhstan's.
        countries = load_countries().values()
        return sum(code.startswith(value) for country in countries for code in country.calling_codes) == 1
    return _counts(relation)[key(value)] == 1


def _ends(chain: _Chain) -> Iterator[_Chain]:
    """Everything that can be asked about the country a chain has reached, other than what it started from."""
    code = chain.country
    if code is None:
        return
    country = load_countries()[code]
    for relation in _ATTRIBUTES:
        value = _value(country, relation)
        if value is None or key(value) == key(chain.start):
            continue
        hop = _Hop(f"{relation.title} {country.name}", f"{code}/{relation.name}", value)
        longer = chain.then(hop, relation.phrase, relation.name)
        yield longer
        airport = capital_airports().get(code)
        if relation is _CAPITAL and airport is not None and chain.start != airport:
            hop = _Hop(f"airport code {value}", f"{code}/airport", airport)
            yield longer.then(hop, "the airport code of {subject}", "airport")


def _to_neighbours(chain: _Chain) -> Iterator[_Chain]:
    code = chain.country
    if code is None:
        return
    country = load_countries()[code]
    for relation in _NEIGHBOURS:
        neighbour = getattr(country, relation.name)
        if neighbour is not None:
            name = load_countries()[neighbour].name
            hop = _Hop(f"{relation.title} {country.name}", f"{code}/{relation.name}", name)
            yield chain.then(hop, relation.phrase, relation.name, neighbour)


def _chains() -> Iterator[_Chain]:
    """All chains of up to four hops."""
    # A country named in the question itself: no hop yet.
    roots = [_Chain(country.name, country.name, (), code, code) for code, country in load_countries().items()]
    starts = list(_starts())
    yield from starts
    for airport in load_airports():
        yield _airport_start(airport)
        if airport.city is not None:
            hop = _Hop(f"airport {airport.code} city", f"{airport.code}/city", airport.city)
            yield _Chain(
                airport.code, f"the city where airport {airport.code} is", (hop,), f"airport:{airport.code}>city"
            )
    level = [*roots, *starts]
    while level:
        for chain in level:
            yield from _ends(chain)
        level = [longer for chain in level for longer in _to_neighbours(chain) if len(longer.hops) <= 3]
        yield from level


def _aliases(chain: _Chain) -> list[str]:
    """Other spellings of the answer, without those that belong to another split."""
    answer = chain.hops[-1].answer
    # Values hang on the country of the last passage, a country's name on that country itself.
    country = load_countries().get(chain.country or chain.hops[-1].evidence.split("/")[0])
    listed = list(country.aliases.get(answer, [])) if country else []
    listed += [answer.lstrip(".+"), strip_accents(answer)]
    return [alias for alias in dict.fromkeys(listed) if alias != answer and _split_of(alias) == _split_of(answer)]


@cache
def _questions() -> dict[Split, tuple[dict, ...]]:
    """All questions by split, in a fixed order."""
    rows: dict[Split, dict[str, dict]] = {split: {} for split in _SPLITS}
    for chain in _chains():
        entities = [chain.start, *(hop.answer for hop in chain.hops)]
        splits = {_split_of(entity) for entity in entities}
        # A chain that comes back to where it was has a shorter way to its answer.
        if not 1 <= len(chain.hops) <= 4 or len(splits) > 1 or len({key(name) for name in entities}) < len(entities):
            continue
        question = f"What is {chain.phrase}?"
        answers = [chain.hops[-1].answer, *_aliases(chain)]
        if any(f" {key(answer)} " in f" {key(question)} " for answer in answers):
            continue
        if all(_finds(hop.query, hop.evidence) for hop in chain.hops):
            rows[splits.pop()].setdefault(
                question,
                {
                    "id": f"{len(chain.hops)}hop/{chain.name}",
                    "prompt": [{"role": "user", "content": question}],
                    "question": question,
                    "answers": answers,
                    "hops": len(chain.hops),
                    "queries": [hop.query for hop in chain.hops],
                    "evidence": [hop.evidence for hop in chain.hops],
                    "entities": entities,
                },
            )
    return {split: tuple(found.values()) for split, found in rows.items()}


def load_fact_corpus() -> "Dataset":
    """
    Builds the corpus of facts: countries, their capitals, currencies, codes and neighbours, and airports.

    Returns:
        `datasets.Dataset`: One fact per row, with the columns `id`, `title` and `text`, always in the same order.

    Raises:
        `ImportError`: If the packages of the `search` extra are not installed.
    """
    from datasets import Dataset

    columns = ("id", "title", "text")
    return Dataset.from_dict({name: [getattr(document, name) for document in _documents()] for name in columns})


def load_fact_questions(
    split: Split, hops: int | Sequence[int] | None = None, seed: int = 0, limit: int | None = None
) -> "Dataset":
    """
    Builds questions over the corpus of [`load_fact_corpus`].

    No entity of a split's questions, and so no answer, occurs in the questions of another split. Each query of
    `queries` finds its passage of `evidence` as the first result of a [`BM25Index`] over the corpus, and is made of
    words of the question and of the passages before it.

    Args:
        split (`str`):
            `"train"`, `"validation"` or `"test"`.
        hops (`int` or `Sequence[int]`, *optional*):
            Numbers of facts that a question needs, from 1 to 4; all by default.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order.
        limit (`int`, *optional*):
            Largest number of questions; they are the first in the order of `seed`.

    Returns:
        `datasets.Dataset`: Rows with the columns `id`, `prompt` (conversational), `question`, `answers` (the canonical
        one first), `hops`, `queries`, `evidence` (ids in the corpus) and `entities` (the chain from the question to
        the answer).

    Raises:
        `ImportError`: If the packages of the `search` extra are not installed.
        `ValueError`: If an argument is out of range.
    """
    from datasets import Dataset, Features, Value

    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(_SPLITS)}, got {split!r}.")
    wanted = _check_hops(hops)
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    rows = [row for row in _questions()[split] if row["hops"] in wanted]
    random.Random(seed).shuffle(rows)
    text, texts = Value("string"), [Value("string")]
    features = Features(
        {
            "id": text,
            "prompt": [{"role": text, "content": text}],
            "question": text,
            "answers": texts,
            "hops": Value("int64"),
            "queries": texts,
            "evidence": texts,
            "entities": texts,
        }
    )
    return Dataset.from_list(rows[:limit], features=features)


def _check_hops(hops: int | Iterable[int] | None) -> set[int]:
    if hops is None:
        return {1, 2, 3, 4}
    wanted = {hops} if isinstance(hops, int) else set(hops)
    if not wanted or not wanted <= {1, 2, 3, 4}:
        raise ValueError(f"`hops` must be numbers from 1 to 4, got {hops!r}.")
    return wanted
