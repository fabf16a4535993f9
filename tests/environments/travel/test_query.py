import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trl_multiturn.environments.travel import Stay, TravelQuery


VALUES = {
    "id": "q",
    "level": "hard",
    "origin": "Paris",
    "stays": [{"city": "Beijing", "nights": 2}, {"city": "Rome", "nights": 1}],
    "start_date": "2026-02-27",
}


def query(**changes):
    return TravelQuery.model_validate_json(json.dumps(VALUES | changes))


class TestTravelQuery:
    def test_dates_follow_from_the_nights(self):
        asked = query()
        assert asked.end_date == date(2026, 3, 2)
        assert asked.dates == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2)]

    @pytest.mark.parametrize(("adults", "rooms"), [(1, 1), (2, 1), (3, 2), (4, 2), (8, 4)])
    def test_two_share_a_room(self, adults, rooms):
        assert query(adults=adults).rooms == rooms

    @pytest.mark.parametrize(
        "changes",
        [
            {"stays": []},
            {"stays": [{"city": "Rome", "nights": 0}]},
            {"stays": [{"city": "Paris", "nights": 1}]},
            {"stays": [{"city": "Rome", "nights": 1}, {"city": "Rome", "nights": 1}]},
            {"stays": [{"city": "Rome", "nights": 1}] * 6},
            {"adults": 0},
            {"adults": 9},
            {"transport": "bus"},
            {"transport": "train", "cabin": "economy"},
            {"budget": 0},
            {"min_star": 6},
            {"depart_after": "24:00"},
            {"depart_after": "9:00"},
            {"return_before": "18:60"},
            {"max_active_hours": 0},
            {"language": "fr"},
            {"level": "very hard"},
            {"children": 1},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, changes):
        with pytest.raises(ValidationError):
            query(**changes)

    def test_a_city_may_come_twice_if_not_in_a_row(self):
        stays = [{"city": name, "nights": 1} for name in ("Rome", "Beijing", "Rome")]
        assert [stay.city for stay in query(stays=stays).stays] == ["Rome", "Beijing", "Rome"]

    @given(
        st.lists(st.sampled_from(["Rome", "Oslo"]), min_size=1, max_size=5),
        st.integers(1, 8),
        st.none() | st.integers(1, 5),
        st.sets(st.sampled_from(["museum", "park"])),
    )
    def test_round_trip(self, cities, adults, min_star, categories):
        stays = [Stay(city=f"{city} {i}", nights=i + 1) for i, city in enumerate(cities)]
        asked = TravelQuery(
            id="q",
            level="easy",
            origin="Paris",
            stays=stays,
            start_date=date(2026, 3, 4),
            adults=adults,
            min_star=min_star,
            categories=sorted(categories),
        )
        assert TravelQuery.model_validate_json(asked.model_dump_json()) == asked
