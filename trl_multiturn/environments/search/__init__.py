"""Search over passages as a TRL environment, an embedded set of real facts to ask about, and public question sets."""

from .datasets import load_2wikimultihopqa, load_hotpotqa, load_musique, load_natural_questions
from .environment import BrowseEnvironment, SearchEnvironment
from .facts import load_fact_corpus, load_fact_questions
from .index import BM25Index, Document
from .play import play


__all__ = [
    "BM25Index",
    "BrowseEnvironment",
    "Document",
    "SearchEnvironment",
    "load_2wikimultihopqa",
    "load_fact_corpus",
    "load_fact_questions",
    "load_hotpotqa",
    "load_musique",
    "load_natural_questions",
    "play",
]
