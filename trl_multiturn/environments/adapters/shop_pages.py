"""A browser for WebShop: pages over HTTP, as text with what can be clicked."""

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..requirements import require


MAX_PAGE_BYTES = 4_000_000
MAX_REDIRECTS = 5


class ShopError(RuntimeError):
    """The shop did not answer, or not with one of its pages. The message is fit for the model to read."""


@dataclass(frozen=True)
class Link:
    """
    Something that can be clicked, or the search field.

    Attributes:
        url (`str`):
            Where it leads.
        is_form (`bool`):
            Whether it is the button of a form, which is posted.
    """

    url: str
    is_form: bool


@dataclass
class Page:
    """
    A page of the shop.

    Attributes:
        text (`str`):
            What it says, without the instruction, a line for each piece; what can be clicked stands in brackets, and an
            option that was chosen in two.
        instruction (`str`):
            What is to be bought; empty on the page after a purchase.
        links (`dict[str, Link]`):
            What can be clicked, by its text in lower case.
        search (`Link`, *optional*):
            The search field, where there is one.
        score (`float`, *optional*):
            Score of the purchase, on the page after it.
    """

    text: str
    instruction: str
    links: dict[str, Link] = field(default_factory=dict)
    search: Link | None = None
    score: float | None = None


class Browser:
    """
    Fetches pages of one server.

    Args:
        base_url (`str`):
            Address of the server, with `http` or `https`.
        timeout (`float`):
            Seconds that a page may take, redirects included.
        max_chars (`int`):
            Length in characters at which a piece of text is cut.
    """

    def __init__(self, base_url: str, timeout: float, max_chars: int) -> None:
        self._httpx = require("httpx2", "webshop")
        require("bs4", "webshop")
        self._base_url = base_url.rstrip("/")
        self._origin = _origin(base_url)
        self._timeout = timeout
        self._max_chars = max_chars
        self._client = self._httpx.Client(timeout=timeout, follow_redirects=False)

    def open(self, path: str) -> Page:
        """
        The page at a path below the server's address.

        Args:
            path (`str`):
                Path.

        Returns:
            [`Page`]

        Raises:
            [`ShopError`]: If there is no such page.
        """
        return self._load("GET", f"{self._base_url}/{path}", None)

    def follow(self, link: Link, fields: dict[str, str] | None = None) -> Page:
        """
        The page that a link leads to.

        Args:
            link ([`Link`]):
                Link of the page before.
            fields (`dict[str, str]`, *optional*):
                What was typed into its form.

        Returns:
            [`Page`]

        Raises:
            [`ShopError`]: If there is no such page, or it would be on another server.
        """
        return self._load("POST" if link.is_form else "GET", link.url, fields)

    def _load(self, method: str, url: str, fields: dict[str, str] | None) -> Page:
        deadline = time.monotonic() + self._timeout
        for _ in range(MAX_REDIRECTS + 1):
            if _origin(url) != self._origin:
                raise ShopError("The shop sent us to another server: not followed.")
            status, target, html = self._request(method, url, fields, deadline)
            if target is not None:
                method, url, fields = "GET", _join(url, target), None
            elif status == 200:
                return read_page(html, url, self._max_chars)
            else:
                raise ShopError(f"The shop answered with an error (HTTP {status}).")
        raise ShopError("The shop sent us from page to page without end.")

    def _request(
        self, method: str, url: str, fields: dict[str, str] | None, deadline: float
    ) -> tuple[int, str | None, str]:
        """Status, target of a redirect, and text of a page."""
        body = bytearray()
        try:
            with self._client.stream(method, url, data=fields) as response:
                # The client's own limit is for each read: a server that sends a byte now and then would hold us for ever.
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_PAGE_BYTES:
                        raise ShopError(f"The shop sent a page of more than {MAX_PAGE_BYTES} bytes.")
                    if time.monotonic() > deadline:
                        raise ShopError(f"The shop did not answer within {self._timeout:g} seconds.")
                target = response.headers.get("location") if response.is_redirect else None
                return response.status_code, target, body.decode("utf-8", errors="replace")
        except self._httpx.TimeoutException as error:
            raise ShopError(f"The shop did not answer within {self._timeout:g} seconds.") from error
        except (self._httpx.HTTPError, self._httpx.InvalidURL) as error:
            raise ShopError(f"The shop cannot be reached ({type(error).__name__}).") from error


def read_page(html: str, url: str, max_chars: int) -> Page:
    """
    Reads a page.

    Args:
        html (`str`):
            Source.
        url (`str`):
            Its address, which links are relative to, and which names the options that were chosen.
        max_chars (`int`):
            Length in characters at which a piece of text is cut.

    Returns:
        [`Page`]
    """
    soup = require("bs4", "webshop").BeautifulSoup(html, "html.parser")
    score = _score(soup)
    instruction = soup.find(id="instruction-text")
    if instruction is not None:
        instruction.extract()
    wanted = "" if instruction is None else " ".join(instruction.get_text(" ").split()).removeprefix("Instruction:")
    if score is not None:
        # What else that page holds is the goal's own product, which is hidden from people too.
        return Page(f"Your score (min 0.0, max 1.0): {score:g}", wanted.strip(), score=score)
    page = Page("", wanted.strip())
    chosen = _find_links(soup, url, page)
    page.text = _text(soup, chosen, max_chars)
    return page


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError as error:
        raise ShopError("The shop sent us to an address that makes no sense.") from error


def _join(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise ShopError("The shop's page holds an address that makes no sense.") from error


def _score(soup: Any) -> float | None:
    element = soup.select_one("#reward pre")
    if element is None:
        return None
    try:
        score = float(element.get_text())
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:
        raise ShopError("The shop's score is not a number from 0 to 1.")
    return score


def _find_links(soup: Any, url: str, page: Page) -> set[str]:
    """Adds what can be clicked to a page, and returns the ids of the options that were chosen already."""
    for link in soup.select("a.product-link[href]"):
        page.links[_label(link)] = Link(_join(url, link["href"]), is_form=False)
    for form in soup.select("form[action]"):
        target = Link(_join(url, form["action"]), is_form=True)
        if form.find("input", attrs={"name": "search_query"}) is not None:
            page.search = target
            continue
        for button in form.find_all("button"):
            page.links[_label(button)] = target
    chosen = set()
    for option in soup.select("input[type=radio][data-url]"):
        target = Link(_join(url, option["data-url"]), is_form=False)
        page.links[option.get("value", "").strip().lower()] = target
        # An option leads to the page with that option chosen: to this one, if it is.
        if target.url == url:
            chosen.add(option.get("id"))
    return chosen


def _text(soup: Any, chosen: set[str], max_chars: int) -> str:
    from bs4 import Comment, Doctype

    pieces = []
    for string in soup.find_all(string=True):
        words, parent = " ".join(string.split()), string.parent
        if not words or isinstance(string, (Comment, Doctype)) or parent.name in ("script", "style", "title"):
            continue
        if parent.name == "label" and parent.get("for") in chosen:
            words = f"[[{words}]]"
        elif parent.name in ("button", "label") or "product-link" in parent.get("class", []):
            words = f"[{words}]"
        elif len(words) > max_chars:
            words = words[:max_chars].rstrip() + "..."
        pieces.append(words)
    return "\n".join(pieces)


def _label(element: Any) -> str:
    return " ".join(element.get_text().split()).lower()
