"""A running WebShop server as a TRL environment."""

import re
from typing import Any
from urllib.parse import urlsplit

from .shop_pages import Browser, Page, ShopError


MAX_ACTION_CHARS = 300
_ACTION = re.compile(r"(search|click)\[([^\r\n]+)\]")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,100}")
_INVALID = "Invalid action!"


class WebShopEnvironment:
    """
    Environment with one tool, `act`, to shop on a running server of [WebShop](https://github.com/princeton-nlp/WebShop)
    ([arXiv:2207.01206](https://huggingface.co/papers/2207.01206)), as in the task of ArCHer
    ([arXiv:2402.19446](https://huggingface.co/papers/2402.19446)).

    Pass `functools.partial(WebShopEnvironment, "http://127.0.0.1:3000")` as `environment_factory`. The server is WebShop's
    web site (`run_dev.sh`), which needs its own Python, products and search index. Each environment follows the links of its
    pages and never leaves its host; tools of many rollouts may run in threads.

    Each row of the dataset needs a `session`, which gives the goal: `"fixed_2000"` is goal 2000 (ArCHer trains on 2000 to
    2099). The first observation is the search page with the instruction; every later one is a page too, with the instruction
    repeated at its end. What the server cannot serve (WebShop's site answers 404 where a query or an option holds a slash) is an
    error that the model reads, and leaves it on the page where it was.

    Args:
        base_url (`str`):
            Address of the server.
        max_turns (`int`, *optional*, defaults to `10`):
            Number of actions after which the episode is `truncated`.
        timeout (`float`, *optional*, defaults to `30.0`):
            Seconds that the server may take for a page.
        max_chars (`int`, *optional*, defaults to `1000`):
            Length in characters at which one piece of a page's text (a title, a description) is cut.

    Attributes:
        turn_rewards (`list[float]`):
            0 for each call of `act`, and the score of the purchase, from 0 to 1, for the one that buys. What the server could
            not answer counts as a turn too.
        terminated (`bool`):
            Whether something was bought.
        truncated (`bool`):
            Whether nothing was bought in `max_turns` actions.

    Raises:
        `ImportError`: If a package of the `webshop` extra is not installed.
        `ValueError`: If an argument is out of range.
    """

    def __init__(self, base_url: str, max_turns: int = 10, timeout: float = 30.0, max_chars: int = 1000) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(f"`base_url` must begin with http:// or https:// and name a host, got {base_url!r}.")
        for name, value in (("max_turns", max_turns), ("max_chars", max_chars)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if not timeout > 0:
            raise ValueError(f"`timeout` must be positive, got {timeout}.")
        self._base_url = base_url
        self._browser = Browser(base_url, timeout, max_chars)
        self._max_turns = max_turns
        self._page: Page | None = None
        self._instruction = ""
        self.turn_rewards: list[float] = []
        self.terminated = False
        self.truncated = False

    def reset(self, session: str, **row: Any) -> str:
        # Errors end the training run here, where they would only be words to the model in `act`.
        if not isinstance(session, str) or not _SESSION.fullmatch(session):
            raise ValueError(
                f"`session` must be letters, digits, - and _, such as 'fixed_2000', got {session!r:.100}."
            )
        self.turn_rewards = []
        self.terminated = False
        self.truncated = False
        try:
            page = self._browser.open(session)
        except ShopError as error:
            raise RuntimeError(f"No first page for session {session!r} from {self._base_url}: {error}") from error
        if page.search is None or not page.instruction:
            raise RuntimeError(
                f"{self._base_url} answers, but not with the search page of WebShop. Is it the right server?"
            )
        self._page = page
        self._instruction = page.instruction
        return self._observe(page.text)

    def act(self, action: str) -> str:
        """
        Search the shop, or click on something that the page shows in brackets.

        Args:
            action: Either "search[words]" or "click[text]", for instance "click[Buy Now]".

        Returns:
            The page that follows, and the instruction.
        """
        self.turn_rewards.append(0.0)
        if self._page is None or self.terminated or self.truncated:
            raise ValueError("The episode is over.")
        self.truncated = len(self.turn_rewards) >= self._max_turns
        page = self._next_page(self._page, action)
        if page is None:
            return self._observe(_INVALID)
        self._page = page
        if page.score is not None:
            self.turn_rewards[-1] = page.score
            self.terminated, self.truncated = True, False
        return self._observe(page.text)

    def _next_page(self, page: Page, action: Any) -> Page | None:
        """The page that an action leads to; `None` if it cannot be done here."""
        match = _ACTION.fullmatch(action.strip()) if isinstance(action, str) else None
        if match is None or len(action) > MAX_ACTION_CHARS:
            return None
        verb, words = match[1], match[2].strip()
        if verb == "search":
            if page.search is None or not words:
                return None
            return self._browser.follow(page.search, {"search_query": words})
        link = page.links.get(" ".join(words.split()).lower())
        if link is None:
            return None
        following = self._browser.follow(link)
        if words.lower() == "buy now" and following.score is None:
            raise ShopError("The shop gave no score for the purchase.")
        return following

    def _observe(self, text: str) -> str:
        return f"{text}\nInstruction: {self._instruction}"
