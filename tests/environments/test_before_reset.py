"""TRL 1.14 reads all properties of an environment while it looks for tools: none may need a reset first."""

import inspect

import pytest

from trl_multiturn.environments.phone import PhoneEnvironment
from trl_multiturn.environments.search import BM25Index, BrowseEnvironment, Document, SearchEnvironment
from trl_multiturn.environments.travel import TravelEnvironment
from trl_multiturn.environments.word_games import GuessMyCity, TwentyQuestions


def search_of(kind):
    pytest.importorskip("bm25s")
    return kind(BM25Index([Document("0", "Paris", "Paris is the capital of France.")]))


ENVIRONMENTS = {
    "browse": lambda: search_of(BrowseEnvironment),
    "city": GuessMyCity,
    "phone": PhoneEnvironment,
    "search": lambda: search_of(SearchEnvironment),
    "travel": TravelEnvironment,
    "twenty questions": TwentyQuestions,
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_properties_can_be_read_before_the_first_reset(environment):
    names = {name for name, _ in inspect.getmembers(environment())}
    assert "reset" in names


def test_a_phone_has_no_state_then():
    phone = PhoneEnvironment()
    assert phone.state is None and phone.is_done is None and phone.side_effects == []
