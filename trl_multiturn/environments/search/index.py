"""BM25 over passages, held in memory and shared by all rollouts."""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..requirements import require
from .jsonl import read_jsonl


# Words that say nothing about which passage is meant. Kept small on purpose: prepositions of longer lists ("down",
# "before") are words of titles.
STOP_WORDS = frozenset(
    "a an and are as at be by did do does for from has have how in is it its of on or that the their this to was were "
    "what when where which who whom whose with".split()
)
MAX_QUERY_TOKENS = 64

_DOCUMENTS = "documents.jsonl"
_SETTINGS = "index.json"
_FORMAT = 1


def strip_accents(text: str) -> str:
    """Turns "Bogotá" into "Bogota"."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def fold(text: str) -> str:
    """Lower case without accents, so that "bogota" finds "Bogotá"."""
    return strip_accents(text.casefold())


def tokenize(text: str) -> list[str]:
    """
    Splits text into the words that are indexed and searched.

    Args:
        text (`str`):
            Any text.

    Returns:
        `list[str]`: Words in lower case, without accents and stop words; when all are stop words, all of them, so that
        a title such as "It" can be found.
    """
    words = re.findall(r"\w+", fold(text))
    return [word for word in words if word not in STOP_WORDS] or words


@dataclass(frozen=True)
class Document:
    """
    One passage.

    Args:
        id (`str`):
            Identifier, unique in the corpus.
        title (`str`):
            Title.
        text (`str`):
            Text.
        score (`float`, *optional*, defaults to `0.0`):
            BM25 score for the query that found it.
    """

    id: str
    title: str
    text: str
    score: float = 0.0


class BM25Index:
    """
    Read-only BM25 index over a corpus of passages, built with `bm25s`.

    Searching changes nothing, so that one index serves any number of environments and threads.

    Args:
        documents (`Iterable[Document]`):
            The passages; ids must be unique. Title and text are both indexed.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._set_documents(documents)
        # A passage of punctuation alone keeps its place in the numbering.
        tokens = [tokenize(f"{document.title} {document.text}") for document in self._documents]
        if not any(tokens):
            raise ValueError("The corpus holds no words to index.")
        self._bm25 = require("bm25s", "search").BM25()
        self._bm25.index(tokens, show_progress=False)

    def _set_documents(self, documents: Iterable[Document]) -> None:
        self._documents = list(documents)
        if not self._documents:
            raise ValueError("The corpus is empty.")
        self._by_id: dict[str, int] = {}
        self._by_title: dict[str, int] = {}
        for position, document in enumerate(self._documents):
            if self._by_id.setdefault(document.id, position) != position:
                raise ValueError(f"Two documents have the id {document.id!r}.")
            self._by_title.setdefault(fold(document.title).strip(), position)

    @classmethod
    def from_dataset(cls, corpus: Iterable[Mapping[str, Any]]) -> "BM25Index":
        """
        Builds an index from a dataset.

        Args:
            corpus (`datasets.Dataset` or iterable of mappings):
                Rows with the columns `id`, `title` and `text`, all strings.

        Returns:
            `BM25Index`: The index.

        Raises:
            `ValueError`: If a column is missing or not a string, an id occurs twice, or there is nothing to index.
        """
        return cls(_to_document(row, f"row {number}") for number, row in enumerate(corpus))

    @classmethod
    def from_jsonl(cls, path: str | Path) -> "BM25Index":
        """
        Builds an index from a file with one JSON object per line.

        Args:
            path (`str` or `Path`):
                File of objects with the keys `id`, `title` and `text`.

        Returns:
            `BM25Index`: The index.

        Raises:
            `ValueError`: As for `from_dataset`, and if a line is not a JSON object; the message names file and line.
        """
        return cls(_read_documents(Path(path)))

    def save(self, folder: str | Path) -> None:
        """
        Writes the index and its documents as NumPy arrays and JSON.

        Args:
            folder (`str` or `Path`):
                Folder to write to; made if missing.
        """
        folder = Path(folder)
        self._bm25.save(str(folder), allow_pickle=False, show_progress=False)
        with open(folder / _DOCUMENTS, "w", encoding="utf-8") as file:
            for document in self._documents:
                row = {"id": document.id, "title": document.title, "text": document.text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        # Written last: its presence says that the folder is complete.
        settings = {"format": _FORMAT, "documents": len(self._documents)}
        (folder / _SETTINGS).write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "BM25Index":
        """
        Reads an index written by `save`.

        Args:
            folder (`str` or `Path`):
                Folder that `save` wrote.

        Returns:
            `BM25Index`: An index that answers every query as the saved one did.

        Raises:
            `FileNotFoundError`: If the folder holds no complete index.
            `ValueError`: If the parts of the index do not fit together.
        """
        folder = Path(folder)
        if not (folder / _SETTINGS).is_file():
            raise FileNotFoundError(f"{folder} holds no search index ({_SETTINGS} is missing).")
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        if settings.get("format") != _FORMAT:
            raise ValueError(f"{folder} has index format {settings.get('format')!r}; this version reads {_FORMAT}.")
        index = cls.__new__(cls)
        index._set_documents(_read_documents(folder / _DOCUMENTS))
        index._bm25 = require("bm25s", "search").BM25.load(str(folder), allow_pickle=False, show_progress=False)
        counts = {settings.get("documents"), len(index._documents), int(index._bm25.scores["num_docs"])}
        if len(counts) > 1:
            raise ValueError(f"The parts of the index in {folder} have different numbers of documents.")
        return index

    def __len__(self) -> int:
        return len(self._documents)

    def search(self, query: str, top_k: int = 3) -> list[Document]:
        """
        Finds the passages that fit a query best.

        Args:
            query (`str`):
                Words to look for. Only the first 64 count, once each.
            top_k (`int`, *optional*, defaults to `3`):
                Largest number of passages to return.

        Returns:
            `list[Document]`: Passages that share a word with the query, best first; equal scores in corpus order.
        """
        if top_k < 1:
            raise ValueError(f"`top_k` must be at least 1, got {top_k}.")
        words = list(dict.fromkeys(tokenize(query)))[:MAX_QUERY_TOKENS]
        token_ids = self._bm25.get_tokens_ids(words)
        if not token_ids:
            return []
        scores = self._bm25.get_scores_from_ids(token_ids)
        hits = np.flatnonzero(scores > 0)
        if len(hits) > top_k:
            # All that score at least as much as the k-th, so that the sort below sees every tie.
            threshold = np.partition(scores[hits], len(hits) - top_k)[len(hits) - top_k]
            hits = hits[scores[hits] >= threshold]
        best = hits[np.argsort(-scores[hits], kind="stable")][:top_k]
        found = ((self._documents[position], float(scores[position])) for position in best)
        return [Document(document.id, document.title, document.text, score) for document, score in found]

    def get(self, title_or_id: str) -> Document | None:
        """
        Looks one document up.

        Args:
            title_or_id (`str`):
                Id, or title in any case. Of several documents with one title, the first.

        Returns:
            `Document` or `None`: The document, `None` if there is none.
        """
        position = self._by_id.get(title_or_id)
        if position is None:
            position = self._by_title.get(fold(title_or_id).strip())
        return None if position is None else self._documents[position]


def _to_document(row: Mapping[str, Any], where: str) -> Document:
    for name in ("id", "title", "text"):
        if not isinstance(row.get(name), str):
            raise ValueError(f"Corpus {where}: `{name}` must be a string, got {row.get(name)!r}.")
    return Document(row["id"], row["title"], row["text"])


def _read_documents(path: Path) -> Iterable[Document]:
    return (_to_document(row, where) for row, where in read_jsonl(path))
