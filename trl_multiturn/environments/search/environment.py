"""The search tool as a TRL environment."""

from typing import Any

from .index import BM25Index, Document


class SearchEnvironment:
    """
    Environment with one tool, `search`, over a shared index.

    Pass `functools.partial(SearchEnvironment, index)` as `environment_factory`. The index is shared and read-only, the
    state of a rollout is only what it searched, so tools of many rollouts may run in threads.

    Args:
        index ([`BM25Index`]):
            Index to search.
        max_top_k (`int`, *optional*, defaults to `10`):
            Largest number of results that one call may ask for.
        max_chars (`int`, *optional*, defaults to `1000`):
            Length in characters at which the text of one result is cut.
        max_query_chars (`int`, *optional*, defaults to `500`):
            Length in characters above which a query is refused.

    Attributes:
        queries (`list[str]`):
            Queries of this rollout that were answered, in order.
        retrieved (`list[str]`):
            Ids of the documents this rollout has seen, in order, each once. Compare with a row's `evidence`.
    """

    def __init__(
        self, index: BM25Index, max_top_k: int = 10, max_chars: int = 1000, max_query_chars: int = 500
    ) -> None:
        for name, value in (("max_top_k", max_top_k), ("max_chars", max_chars), ("max_query_chars", max_query_chars)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        self._index = index
        self._max_top_k = max_top_k
        self._max_chars = max_chars
        self._max_query_chars = max_query_chars
        self.queries: list[str] = []
        self.retrieved: list[str] = []

    def reset(self, **row: Any) -> None:
        # No docstring section for arguments: TRL passes whatever columns the dataset has, and none matters here.
        self.queries = []
        self.retrieved = []

    def search(self, query: str, top_k: int = 3) -> str:
        """
        Search for passages.

        Args:
            query: Words to look for.
            top_k: Number of results.

        Returns:
            The results, one per line.
        """
        if not isinstance(query, str) or not query.strip():
            raise ValueError("query must be a non-empty string.")
        if len(query) > self._max_query_chars:
            raise ValueError(f"query is too long: at most {self._max_query_chars} characters.")
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= self._max_top_k:
            raise ValueError(f"top_k must be an integer from 1 to {self._max_top_k}.")
        found = self._index.search(query, top_k)
        self.queries.append(query)
        self._remember(found)
        if not found:
            return "No results."
        return "\n".join(f"[{number}] {self._line(document)}" for number, document in enumerate(found, start=1))

    def _line(self, document: Document) -> str:
        # One result is one line whatever the text holds, so that a passage cannot pass for a result of its own.
        title, text = " ".join(document.title.split()), " ".join(document.text.split())
        if len(text) > self._max_chars:
            text = text[: self._max_chars].rstrip() + "..."
        return f"{title}: {text}" if title else text

    def _remember(self, documents: list[Document]) -> None:
        self.retrieved.extend(document.id for document in documents if document.id not in self.retrieved)


class BrowseEnvironment(SearchEnvironment):
    """
    [`SearchEnvironment`] with a second tool, `open`, that returns a whole document.

    Use with a small `max_chars`, so that results are snippets.

    Args:
        index ([`BM25Index`]):
            Index to search.
        max_top_k (`int`, *optional*, defaults to `10`):
            Largest number of results that one call may ask for.
        max_chars (`int`, *optional*, defaults to `200`):
            Length in characters at which the text of one result is cut.
        max_query_chars (`int`, *optional*, defaults to `500`):
            Length in characters above which a query is refused.
    """

    def __init__(
        self, index: BM25Index, max_top_k: int = 10, max_chars: int = 200, max_query_chars: int = 500
    ) -> None:
        super().__init__(index, max_top_k, max_chars, max_query_chars)

    def open(self, document: str) -> str:
        """
        Open a document.

        Args:
            document: Title of the document.

        Returns:
            The whole text.
        """
        if not isinstance(document, str) or not document.strip():
            raise ValueError("document must be the title of a search result.")
        found = self._index.get(document)
        if found is None:
            raise ValueError("There is no such document. Use a title from the search results.")
        self._remember([found])
        return f"{found.title}\n{found.text}"
