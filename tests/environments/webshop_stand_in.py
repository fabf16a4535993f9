"""A small server that speaks WebShop's pages: the same addresses, forms, ids and classes, twelve products, and some mischief.

It serves from memory and keeps no state but which sessions bought what. `python -m tests.environments.webshop_stand_in` runs it.
"""

import ast
import threading
import time
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit


PER_PAGE = 10
INSTRUCTION = "Find me a pair of red shoes in size 9, and price lower than 50.00 dollars"
PRODUCTS = {
    f"B{number:09}": {
        "title": f"Shoes number {number}" if number < 11 else f"Hat number {number}",
        "price": f"${10 * number}.0",
        "options": {"color": ["red", "blue"], "size": ["8", "9 <wide>", "9"]} if number == 3 else {},
        "description": f"Description of product {number}. " + "Very good. " * (200 if number == 2 else 1),
        "bullets": ["Rubber sole", "Made & sewn by hand"],
    }
    for number in range(1, 13)
}
GOAL = ("B000000003", {"color": "red", "size": "9"})


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self._answer({name: values[0] for name, values in parse_qs(body).items()})

    def log_message(self, *args) -> None:
        """Says nothing."""

    def _answer(self, fields: dict[str, str]) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        self.server.requests.append((self.command, self.path))
        if len(parts) == 1:
            self._index(parts[0], fields)
        elif parts[0] in ("search_results", "item_page", "item_sub_page", "done"):
            try:
                getattr(self, f"_{parts[0]}")(*parts[1:])
            except (KeyError, SyntaxError, TypeError, ValueError):
                self._send(500, "<h1>Internal Server Error</h1>")
        else:
            self._send(404, "<h1>Not Found</h1>")

    def _index(self, session: str, fields: dict[str, str]) -> None:
        if "search_query" in fields:
            words = fields["search_query"].lower().split(" ")
            if words == ["break"]:
                self._send(500, "<h1>Internal Server Error</h1>")
                return
            self._redirect(_path("search_results", session, words, 1))
        elif session in MISCHIEF:
            MISCHIEF[session](self)
        else:
            form = '<input id="search_input" type="text" name="search_query" placeholder="Search..." required/>'
            self._page(
                f'<h2>WebShop</h2>{_instruction()}<form role="form" method="post" action="{_path(session)}">{form}'
                '<button class="btn btn-success" type="submit"><i></i>Search</button></form>'
            )

    def _search_results(self, session: str, keywords: str, page: str) -> None:
        words, number = ast.literal_eval(keywords), int(page)
        found = [a for a, product in PRODUCTS.items() if set(words) & set(product["title"].lower().split())]
        items = "".join(
            f'<h4 class="product-asin"><a class="product-link" href="{_path("item_page", session, asin, words, page, {})}">'
            f'{asin}</a></h5><h4 class="product-title">{PRODUCTS[asin]["title"]}</h5><h5>{PRODUCTS[asin]["price"]}</h6>'
            "<!-- <h5>hidden category</h5> -->"
            for asin in found[(number - 1) * PER_PAGE : number * PER_PAGE]
        )
        buttons = _button("< Prev", "search_results", session, words, number - 1) if number > 1 else ""
        buttons += _button("Next >", "search_results", session, words, number + 1)
        title = f"<h3>Page {number} (Total results: {len(found)})</h3>"
        self._page(_instruction() + _button("Back to Search", session) + title + buttons + items)

    def _item_page(self, session: str, asin: str, keywords: str, page: str, options: str) -> None:
        product, chosen, here = PRODUCTS[asin], ast.literal_eval(options), (session, asin, _words(keywords), page)
        html = _instruction() + _button("Back to Search", session)
        html += _button("< Prev", "search_results", session, _words(keywords), page)
        for name, values in product["options"].items():
            html += f"<h4>{name}</h4>"
            for index, value in enumerate(values):
                url = _path("item_page", *here, {**chosen, name: value})
                html += f'<input type="radio" id="radio_{name}{index}" name="{name}" value="{escape(value)}" data-url="{url}">'
                html += f'<label for="radio_{name}{index}">{escape(value)}</label>'
        html += f"<h2>{product['title']}</h2><h4>Price: {product['price']}</h4><h4>Rating: N.A.</h4>"
        for sub_page in ("Description", "Features", "Reviews"):
            html += _button(sub_page, "item_sub_page", *here, sub_page, chosen)
        self._page(html + _button("Buy Now", "done", session, asin, chosen) + "<script>let options = {};</script>")

    def _item_sub_page(self, session: str, asin: str, keywords: str, page: str, sub_page: str, options: str) -> None:
        product, chosen = PRODUCTS[asin], ast.literal_eval(options)
        html = _instruction() + _button("Back to Search", session)
        html += _button("< Prev", "item_page", session, asin, _words(keywords), page, chosen)
        if sub_page == "Description":
            html += f'<p class="product-info">{product["description"]}</p>'
        elif sub_page == "Features":
            html += "".join(f'<li><p class="product-info"> {escape(b)}</p></li>' for b in product["bullets"])
        self._page(html)

    def _done(self, session: str, asin: str, options: str) -> None:
        chosen = ast.literal_eval(options)
        score = 0.0 if asin != GOAL[0] else (1 + sum(chosen.get(k) == v for k, v in GOAL[1].items())) / 3
        self.server.bought[session] = (asin, chosen)
        shown = "7.5" if session == "cheat" else str(score)
        self._page(
            f'<h1>Thank you for shopping with us!</h1><div style="display:none"><h4 id="goal-asin">asin<pre>{GOAL[0]}</pre></p>'
            f'</div><h3   id="reward">Your score (min 0.0, max 1.0)<pre>{shown}</pre></h3>'
        )

    def _page(self, body: str) -> None:
        self._send(200, f"<!DOCTYPE html>\n<html>\n<head><title>x</title></head>\n<body>\n{body}\n</body>\n</html>")

    def _send(self, status: int, html: str) -> None:
        data = html.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b"<p>")
                time.sleep(0.05)
        except OSError:
            self.close_connection = True  # the client has had enough, which is what is tested


# Sessions whose first page is not what it should be.
MISCHIEF = {
    "error": lambda handler: handler._send(500, "<h1>Internal Server Error</h1>"),
    "away": lambda handler: handler._redirect("http://example.invalid/"),
    "port": lambda handler: handler._redirect(f"http://127.0.0.1:{handler.server.server_port + 1}/"),
    "nonsense": lambda handler: handler._redirect("http://[/"),
    "loop": lambda handler: handler._redirect("/loop"),
    "huge": lambda handler: handler._send(200, "<p>" + "x" * 5_000_000),
    "slow": lambda handler: handler._drip(),
    "other": lambda handler: handler._page("<h1>It works!</h1>"),
}


def _path(*parts) -> str:
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


def _button(text: str, *parts) -> str:
    button = f'<button type="submit" class="btn btn-primary">{escape(text)}</button>'
    return f'<form method="post" action="{_path(*parts)}">{button}</form>\n'


def _instruction() -> str:
    return f'<div id="instruction-text" class="text-center"><h4>Instruction:<br>{INSTRUCTION}</h4></div>\n'


def _words(keywords: str) -> list[str]:
    return ast.literal_eval(keywords)


class StandIn:
    """
    The server, in a thread, as a context manager.

    Attributes:
        url (`str`):
            Its address.
        server (`ThreadingHTTPServer`):
            Has `requests` (method and path of each) and `bought` (by session).
    """

    def __enter__(self) -> "StandIn":
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.requests, self.server.bought = [], {}
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


if __name__ == "__main__":
    with StandIn() as stand_in:
        print(f"WebShop stand-in at {stand_in.url}; stop with Ctrl-C.")
        threading.Event().wait()
