"""WebShop's adapter, against a small server that speaks its pages (webshop_stand_in.py)."""

import functools
import io
import sys
import threading
import time

import pytest

from tests.environments.webshop_stand_in import INSTRUCTION, StandIn
from trl_multiturn import check_environment
from trl_multiturn.environments.adapters import WebShopEnvironment, play
from trl_multiturn.environments.adapters.__main__ import main


pytest.importorskip("bs4", reason="the extra `webshop` is not installed")

END = f"\nInstruction: {INSTRUCTION}"
INVALID = "Invalid action!" + END
PURCHASE = ["search[red Shoes]", "click[B000000003]", "click[red]", "click[9]", "click[Buy Now]"]


@pytest.fixture(scope="module")
def shop():
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def environment(shop):
    return WebShopEnvironment(shop.url)


def transcript(environment, actions, session="fixed_0"):
    return [environment.reset(session=session)] + [environment.act(action) for action in actions]


def test_contract(shop):
    findings = check_environment(
        functools.partial(WebShopEnvironment, shop.url),
        reset_kwargs={"session": "fixed_0"},
        example_calls=[("act", {"action": action}) for action in PURCHASE],
    )
    assert findings == []


def test_purchase(shop, environment):
    pages = transcript(environment, PURCHASE, session="fixed_7")
    assert pages[0] == "WebShop\n[Search]" + END
    assert pages[1].startswith(
        "[Back to Search]\nPage 1 (Total results: 10)\n[Next >]\n[B000000001]\nShoes number 1\n$10.0\n[B000000002]\n"
    )
    assert "hidden" not in pages[1]  # a comment
    assert pages[2] == (
        "[Back to Search]\n[< Prev]\ncolor\n[red]\n[blue]\nsize\n[8]\n[9 <wide>]\n[9]\nShoes number 3\nPrice: $30.0\n"
        "Rating: N.A.\n[Description]\n[Features]\n[Reviews]\n[Buy Now]" + END
    )
    assert "\n[[red]]\n[blue]\nsize\n[8]\n[9 <wide>]\n[9]\n" in pages[3]
    assert "\n[[red]]\n[blue]\nsize\n[8]\n[9 <wide>]\n[[9]]\n" in pages[4]
    assert pages[5] == "Your score (min 0.0, max 1.0): 1" + END  # and not the goal that the page hides
    assert environment.turn_rewards == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert environment.terminated and not environment.truncated
    assert shop.server.bought["fixed_7"] == ("B000000003", {"color": "red", "size": "9"})


@pytest.mark.parametrize(
    ("actions", "score"),
    [
        (["search[shoes]", "click[B000000003]", "click[Buy Now]"], 1 / 3),
        (["search[shoes]", "click[b000000003]", "click[blue]", "click[Red]", "click[buy now]"], 2 / 3),
        (["search[hat]", "click[B000000011]", "click[Buy Now]"], 0.0),
    ],
)
def test_score(environment, actions, score):
    transcript(environment, actions)
    assert environment.turn_rewards == [*[0.0] * (len(actions) - 1), pytest.approx(score)]
    assert environment.terminated


def test_pages_and_the_way_back(environment):
    pages = transcript(
        environment,
        [
            "search[shoes hat]",
            "click[Next >]",
            "click[B000000011]",
            "click[Features]",
            "click[< Prev]",
            "click[< Prev]",
            "click[< Prev]",
            "click[Back to Search]",
        ],
    )
    assert "Page 1 (Total results: 12)" in pages[1] and "[< Prev]" not in pages[1]
    assert "Page 2 (Total results: 12)\n[< Prev]\n[Next >]\n[B000000011]" in pages[2]
    assert pages[4] == "[Back to Search]\n[< Prev]\nRubber sole\nMade & sewn by hand" + END
    assert pages[5] == pages[3] and pages[6] == pages[2] and pages[7] == pages[1] and pages[8] == pages[0]


def test_sub_pages_keep_the_options(shop, environment):
    start = ["search[shoes]", "click[B000000003]", "click[9 <wide>]"]
    pages = transcript(
        environment, [*start, "click[Description]", "click[< Prev]", "click[Buy Now]"], session="fixed_8"
    )
    assert "[[9 <wide>]]" in pages[5]
    assert shop.server.bought["fixed_8"] == ("B000000003", {"size": "9 <wide>"})


def test_long_text_is_cut_and_buttons_are_not(shop):
    environment = WebShopEnvironment(shop.url, max_chars=40)
    pages = transcript(environment, ["search[shoes]", "click[B000000002]", "click[Description]"])
    assert pages[3] == "[Back to Search]\n[< Prev]\nDescription of product 2. Very good. Ver..." + END


@pytest.mark.parametrize(
    "action",
    [
        None,
        7,
        "",
        "shoes",
        "search",
        "search[]",
        "search[ ]",
        "Search[shoes]",
        "click[Search]",
        "click[Buy Now]",
        "click[B000000003]",
        "search[shoes]\nclick[B000000003]",
        "search[" + "x" * 300 + "]",
        "think[I should search]",
    ],
)
def test_invalid_action_costs_a_turn(shop, environment, action):
    environment.reset(session="fixed_0")
    requests = len(shop.server.requests)
    assert environment.act(action) == INVALID
    assert environment.turn_rewards == [0.0] and not environment.terminated
    assert len(shop.server.requests) == requests


def test_no_search_away_from_the_search_page(environment):
    assert transcript(environment, ["search[shoes]", "search[hat]"])[-1] == INVALID


def test_horizon(shop):
    environment = WebShopEnvironment(shop.url, max_turns=3)
    transcript(environment, ["search[shoes]", "click[nothing]", "click[B000000003]"])
    assert environment.truncated and not environment.terminated
    with pytest.raises(ValueError, match="over"):
        environment.act("click[Buy Now]")
    assert environment.turn_rewards == [0.0] * 4
    transcript(environment, ["search[hat]", "click[B000000012]", "click[Buy Now]"])
    assert environment.terminated and not environment.truncated


def test_words_are_quoted(shop, environment):
    transcript(environment, ["search[50% off ../../done/x/B000000003/{} #shoes? & é]"])
    assert shop.server.requests[-1] == (
        "GET",
        "/search_results/fixed_0/%5B%2750%25%27%2C%20%27off%27%2C%20%27..%2F..%2Fdone%2Fx%2Fb000000003%2F%7B%7D%27%2C%20%27"
        "%23shoes%3F%27%2C%20%27%26%27%2C%20%27%C3%A9%27%5D/1",
    )


def test_server_error_leaves_the_page(environment):
    environment.reset(session="fixed_0")
    with pytest.raises(RuntimeError, match=r"HTTP 500"):
        environment.act("search[break]")
    assert environment.turn_rewards == [0.0]
    assert "Page 1" in environment.act("search[shoes]")


def test_score_out_of_range(environment):
    with pytest.raises(RuntimeError, match="not a number from 0 to 1"):
        transcript(environment, ["search[hat]", "click[B000000011]", "click[Buy Now]"], session="cheat")
    assert not environment.terminated and environment.turn_rewards == [0.0] * 3


@pytest.mark.parametrize(
    ("session", "message"),
    [
        ("error", "HTTP 500"),
        ("away", "another server"),
        ("port", "another server"),
        ("nonsense", "makes no sense"),
        ("loop", "without end"),
        ("huge", "more than 4000000 bytes"),
        ("other", "Is it the right server"),
    ],
)
def test_bad_first_page_ends_the_run(environment, session, message):
    with pytest.raises(RuntimeError, match=message):
        environment.reset(session=session)


def test_slow_server(shop):
    environment = WebShopEnvironment(shop.url, timeout=0.3)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"within 0\.3 seconds"):
        environment.reset(session="slow")
    assert time.monotonic() - begin < 3


def test_no_server():
    with StandIn() as stand_in:
        url = stand_in.url
    with pytest.raises(RuntimeError, match="cannot be reached"):
        WebShopEnvironment(url).reset(session="fixed_0")


def test_arguments(shop, monkeypatch):
    for url in ("127.0.0.1:3000", "file:///etc", "http://", "http://host:99999999"):
        with pytest.raises(ValueError, match=r"base_url|[Pp]ort"):
            WebShopEnvironment(url)
    for name in ("max_turns", "timeout", "max_chars"):
        with pytest.raises(ValueError, match=name):
            WebShopEnvironment(shop.url, **{name: 0})
    for session in (None, 3, "", "../x", "a/b"):
        with pytest.raises(ValueError, match="session"):
            WebShopEnvironment(shop.url).reset(session=session)
    with pytest.raises(ValueError, match="over"):
        WebShopEnvironment(shop.url).act("search[shoes]")
    monkeypatch.setitem(sys.modules, "bs4", None)
    with pytest.raises(ImportError, match=r"trl-multiturn\[webshop\]"):
        WebShopEnvironment(shop.url)


def test_threads(shop):
    expected = transcript(WebShopEnvironment(shop.url), PURCHASE)
    environments = [WebShopEnvironment(shop.url) for _ in range(6)]
    results = [None] * len(environments)

    def run(index):
        results[index] = transcript(environments[index], PURCHASE)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(environments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * len(environments)


def test_play(environment):
    lines = iter(["click[nothing]", *PURCHASE])
    output = io.StringIO()
    assert play(environment, {"session": "fixed_0"}, read=lambda prompt: next(lines), output=output) == 1.0
    assert INVALID in output.getvalue()
    assert output.getvalue().endswith("[Reward: 1]\nTurns: 6. Sum of rewards: 1.\n")


def test_play_from_the_command_line(shop, monkeypatch, capsys):
    lines = iter(["search[break]", "search[hat]"])

    def read(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    main(["webshop", shop.url])
    shown = capsys.readouterr().out
    assert "HTTP 500" in shown and "[B000000011]" in shown and shown.endswith("Turns: 2. Sum of rewards: 0.\n")
    with pytest.raises(SystemExit, match="error: .*HTTP 500"):
        main(["webshop", shop.url, "--session", "error"])
