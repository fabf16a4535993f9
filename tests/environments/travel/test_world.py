import json
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.travel import CATEGORIES, RouteData, ToolError, TravelWorld
from trl_multiturn.environments.travel.arguments import TOOL_NAMES


RULE = RouteData()
WORLD = TravelWorld(routes=RULE)
IDS = re.compile(r"[A-Z0-9-]{1,10}")
FLIGHT = ["flight_no", "carrier", "origin", "destination", "depart", "arrive", "duration_min"]
TRAIN = ["train_no", *FLIGHT[1:]]

# One call of each tool, and one with all its arguments.
CALLS = [
    ("search_flights", {"origin": "Beijing", "destination": "London", "date": "2026-03-28"}),
    (
        "search_flights",
        {
            "origin": "JFK",
            "destination": "巴黎",
            "date": "2026-07-03",
            "depart_after": "08:00",
            "depart_before": "22:00",
            "cabin": "business",
            "max_price": 9000,
        },
    ),
    ("search_trains", {"origin": "Beijing", "destination": "上海", "date": "2026-05-01", "seat_class": "first"}),
    ("plan_route", {"origin_place_id": "PEK", "destination_place_id": "ST-PEK", "mode": "taxi", "depart_at": "04:00"}),
    ("search_hotels", {"city": "Paris", "check_in": "2026-05-01", "check_out": "2026-05-04"}),
    (
        "search_hotels",
        {
            "city": "Paris",
            "check_in": "2026-05-01",
            "check_out": "2026-05-04",
            "near": "ST-CDG",
            "max_price": 300,
            "min_star": 2,
        },
    ),
    ("search_pois", {"city": "Xi'an"}),
    ("search_pois", {"city": "Xi'an", "category": "museum", "keyword": "xi'an", "near": "XIY", "radius_km": 60.5}),
    ("search_web", {"query": "museums in Paris closed", "top_k": 2}),
]
SCRIPT = """
import json
from tests.environments.travel.test_world import CALLS, RULE, TravelWorld
world = TravelWorld(routes=RULE)
calls = reversed(CALLS) if {backwards} else CALLS
answers = {{json.dumps(call): world.call(*call) for call in calls}}
print(json.dumps([world.version, answers], sort_keys=True))
"""


def utc(text, zone):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(timezone.utc)


def zone(place_id):
    return WORLD.place(place_id).tz


class TestDeterminism:
    def test_another_process_gives_the_same_bytes_in_any_order_of_calls(self):
        told = set()
        for hash_seed, backwards in (("1", False), ("2", True)):
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT.format(backwards=backwards)],
                env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
                cwd=Path(__file__).parents[3],
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            told.add(done.stdout)
        assert len(told) == 1
        here = {json.dumps(call): WORLD.call(*call) for call in CALLS}
        assert json.loads(told.pop()) == [WORLD.version, json.loads(json.dumps(here))]

    def test_threads_get_what_one_thread_gets(self):
        world = TravelWorld(routes=RULE)
        calls = CALLS * 20
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda call: world.call(*call), calls))
        assert told == [WORLD.call(*call) for call in calls]

    def test_a_caller_cannot_change_the_world(self):
        for name, arguments in CALLS:
            before = json.dumps(WORLD.call(name, arguments))
            spoilt = WORLD.call(name, arguments)
            for row in spoilt if isinstance(spoilt, list) else [spoilt]:
                if "closed_days" in row:
                    row["closed_days"].append("never")
                row.clear()
            assert json.dumps(WORLD.call(name, arguments)) == before
        leg = WORLD.search_trains("Beijing", "Shanghai", "2026-05-01")[0]
        day = date(2026, 5, 1)
        WORLD.leg(leg["train_no"], day)["classes"]["second"]["price"] = 0
        assert WORLD.leg(leg["train_no"], day)["classes"]["second"]["price"] == leg["price"]
        poi = WORLD.search_pois("Paris")[0]["poi_id"]
        WORLD.poi(poi)["closed_days"].append("never")
        assert "never" not in WORLD.poi(poi)["closed_days"]

    def test_a_pickled_world_is_the_same(self):
        world = TravelWorld(seed=3, cities=["Paris", "Rome"], today=date(2026, 2, 1), routes=RULE)
        copy = pickle.loads(pickle.dumps(world))
        assert (copy.version, copy.cities, copy.today) == (world.version, world.cities, world.today)
        assert copy.search_pois("Rome") == world.search_pois("Rome")

    def test_the_version_tells_worlds_apart(self):
        worlds = [
            TravelWorld(cities=["Paris", "Rome"], routes=RULE),
            TravelWorld(cities=["Paris", "Rome"], routes=RULE, seed=1),
            TravelWorld(cities=["Paris", "Rome"], routes=RULE, today=date(2026, 1, 2)),
            TravelWorld(cities=["Paris", "Rome", "Nice"], routes=RULE),
            TravelWorld(cities=["Paris", "Rome"], routes=RouteData(digest="other")),
        ]
        assert len({world.version for world in worlds}) == len(worlds)
        assert TravelWorld(cities=["Rome", "Paris", "Rome"], routes=RULE).version == worlds[0].version

    def test_another_seed_gives_another_world(self):
        other = TravelWorld(seed=1, routes=RULE)
        for name, arguments in CALLS[:1] + CALLS[2:3] + CALLS[4:5] + CALLS[6:7]:
            assert other.call(name, arguments) != WORLD.call(name, arguments)


class TestConstruction:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"seed": "0"}, "`seed`"),
            ({"seed": True}, "`seed`"),
            ({"today": "2026-01-01"}, "`today`"),
            ({"today": datetime(2026, 1, 1)}, "`today`"),
            ({"cities": []}, "at least two"),
            ({"cities": ["Paris"]}, "at least two"),
            ({"cities": "Paris"}, "at least two"),
            ({"cities": ["Paris", "Atlantis"]}, "Atlantis"),
        ],
    )
    def test_bad_arguments_are_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            TravelWorld(routes=RULE, **arguments)

    def test_a_world_of_some_cities_knows_no_others(self):
        world = TravelWorld(cities=["Rome", "Paris"], routes=RULE)
        assert world.cities == ["Paris", "Rome"]
        with pytest.raises(ToolError, match="unknown_city.*London"):
            world.search_pois("London")
        assert world.place("LHR") is None
        assert len(world.search_pois("Paris")) == len(WORLD.search_pois("Paris"))


class TestCities:
    def test_the_table_is_large_and_has_many_chinese_cities(self):
        cities = [WORLD.city(name) for name in WORLD.cities]
        assert len(cities) >= 60 and sum(city.country == "CN" for city in cities) >= 25
        assert WORLD.cities == sorted(WORLD.cities)
        assert len({city.zh for city in cities}) == len(cities)

    def test_airports_are_near_their_cities_and_belong_to_one(self):
        seen = set()
        for name in WORLD.cities:
            city = WORLD.city(name)
            assert city.airports and city.tz == zone(city.airports[0])
            for code in city.airports:
                place = WORLD.place(code)
                assert place.city == name and place.kind == "airport"
                assert abs(place.lat - city.lat) < 0.6 and abs(place.lon - city.lon) < 1, code
                assert code not in seen
                seen.add(code)

    @pytest.mark.parametrize(
        "name", ["Beijing", "beijing", "BEIJING", "北京", "北京市", "PEK", "pek", "PKX", "ST-PEK"]
    )
    def test_a_city_has_many_names(self, name):
        assert WORLD.city(name).name == "Beijing"

    @pytest.mark.parametrize("name", ["São Paulo", "Sao Paulo", "sao  paulo", "圣保罗", "GRU"])
    def test_accents_do_not_matter(self, name):
        assert WORLD.city(name).name == "São Paulo"
        assert WORLD.city("Xian").name == "Xi'an"

    def test_every_alias_leads_to_its_city(self):
        for name in WORLD.cities:
            city = WORLD.city(name)
            for alias in (city.zh, city.name.upper(), *city.airports, *city.stations):
                assert WORLD.city(alias) == city

    def test_an_unknown_city_names_close_matches(self):
        with pytest.raises(ToolError) as error:
            WORLD.city("Bejing")
        assert error.value.code == "unknown_city" and "Close matches: Beijing" in error.value.message
        with pytest.raises(ToolError, match="among others, .*Delhi"):
            WORLD.city("Qqqqqqqqq")
        with pytest.raises(ToolError) as error:
            WORLD.city("x" * 200)
        assert len(str(error.value)) < 250


class TestLegs:
    @pytest.mark.parametrize("kind", ["flight", "train"])
    def test_records_have_their_form_and_order(self, kind):
        search, keys, seats = (
            (WORLD.search_flights, [*FLIGHT, "cabin"], "economy")
            if kind == "flight"
            else (WORLD.search_trains, [*TRAIN, "seat_class"], "second")
        )
        rows = search("Beijing", "Shanghai", "2026-05-01")
        assert len(rows) >= 2
        for row in rows:
            assert list(row) == [*keys, "price", "seats_left", "synthetic"]
            assert row["synthetic"] is True and row[keys[-1]] == seats
            assert type(row["price"]) is int and type(row["seats_left"]) is int and row["seats_left"] >= 0
            assert row["depart"].startswith("2026-05-01T")
            assert all(IDS.fullmatch(row[name]) for name in (keys[0], "origin", "destination"))
        assert rows == sorted(rows, key=lambda row: (row["price"], row["depart"], row[keys[0]]))

    def test_a_leg_agrees_with_the_search_in_both_classes(self):
        day = date(2026, 8, 14)
        for cabin in ("economy", "business"):
            for row in WORLD.search_flights("Shanghai", "Beijing", day, cabin=cabin):
                leg = WORLD.leg(row["flight_no"], day)
                assert leg["type"] == "flight" and leg["number"] == row["flight_no"] and leg["synthetic"] is True
                assert leg["classes"][cabin] == {"price": row["price"], "seats_left": row["seats_left"]}
                for name in FLIGHT[1:]:
                    assert leg[name] == row[name]
                assert leg["classes"]["business"]["price"] > leg["classes"]["economy"]["price"]

    def test_a_number_belongs_to_one_flight_or_train_and_the_search_finds_it(self):
        day = date(2026, 6, 10)
        seen = set()
        for here, there in product(WORLD.cities[::5], WORLD.cities):
            if here == there:
                continue
            rows = WORLD.search_flights(here, there, day) + WORLD.search_trains(here, there, day)
            for row in rows:
                number = row.get("flight_no") or row["train_no"]
                assert number not in seen and WORLD.leg(number, day)["depart"] == row["depart"]
                seen.add(number)
        assert len(seen) > 500

    def test_there_is_no_leg_outside_the_year_or_of_an_unknown_number(self):
        row = WORLD.search_trains("Beijing", "Shanghai", "2026-01-05")[0]
        assert WORLD.leg(row["train_no"], date(2026, 1, 5)) is not None
        assert WORLD.leg(row["train_no"], date(2025, 12, 29)) is None
        assert WORLD.leg(row["train_no"], date(2027, 6, 7)) is None
        assert WORLD.leg("ZZ9999", date(2026, 1, 5)) is None

    @pytest.mark.parametrize(
        "here, there, days",
        [
            ("New York", "London", ("2026-03-28", "2026-10-24")),  # Europe's clocks change on the next morning
            ("London", "Dubai", ("2026-03-28", "2026-10-24")),
            ("Los Angeles", "New York", ("2026-03-07", "2026-10-31")),  # America's do
            ("Sydney", "Singapore", ("2026-04-04", "2026-10-03")),
            ("Tokyo", "Los Angeles", ("2026-03-08", "2026-11-01")),
        ],
    )
    def test_durations_are_right_while_the_clocks_change(self, here, there, days):
        found = 0
        for start in map(date.fromisoformat, days):
            for day in (start + timedelta(days=i) for i in range(3)):
                for row in WORLD.search_flights(here, there, day):
                    elapsed = utc(row["arrive"], zone(row["destination"])) - utc(row["depart"], zone(row["origin"]))
                    assert elapsed == timedelta(minutes=row["duration_min"]), row
                    found += 1
        assert found

    def test_the_clocks_of_a_place_change_on_the_right_day(self):
        found = set()
        for day in (date(2026, 3, 22) + timedelta(days=i) for i in range(14)):
            for row in WORLD.search_flights("Beijing", "London", day):
                shown = datetime.fromisoformat(row["arrive"]) - datetime.fromisoformat(row["depart"])
                hours = (shown - timedelta(minutes=row["duration_min"])) / timedelta(hours=1)
                found.add((day >= date(2026, 3, 29), hours))
        assert found == {(False, -8), (True, -7)}

    def test_no_arrival_needs_to_say_which_of_two_equal_times_it_means(self):
        pairs = [(here, there) for here, there in product(WORLD.cities, repeat=2) if here != there]
        late = 0
        for day, (here, there) in product((date(2026, 10, 24), date(2026, 10, 31)), pairs):
            for row in WORLD.search_flights(here, there, day):
                elapsed = utc(row["arrive"], zone(row["destination"])) - utc(row["depart"], zone(row["origin"]))
                assert elapsed == timedelta(minutes=row["duration_min"]), row
                usual = WORLD.leg(row["flight_no"], day - timedelta(days=7))["duration_min"]
                late += row["duration_min"] == usual + 60
        assert late > 100

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(WORLD.cities), st.sampled_from(WORLD.cities), st.integers(0, 365))
    def test_every_leg_takes_as_long_as_it_says(self, here, there, days):
        if here == there:
            return
        day = WORLD.today + timedelta(days=days)
        for row in WORLD.search_flights(here, there, day) + WORLD.search_trains(here, there, day):
            elapsed = utc(row["arrive"], zone(row["destination"])) - utc(row["depart"], zone(row["origin"]))
            assert elapsed == timedelta(minutes=row["duration_min"]) > timedelta(0)
            for end in ("depart", "arrive"):
                # A local time that is shown twice would not say when it is.
                local = datetime.fromisoformat(row[end])
                place = ZoneInfo(zone(row["origin" if end == "depart" else "destination"]))
                exists = local.replace(tzinfo=place).astimezone(timezone.utc).astimezone(place)
                assert exists.replace(tzinfo=None) == local

    def test_arguments_filter_the_flights(self):
        day = "2026-05-06"
        rows = WORLD.search_flights("London", "New York", day)
        assert len({(row["origin"], row["destination"]) for row in rows}) > 1
        some = rows[len(rows) // 2]
        after = WORLD.search_flights("London", "New York", day, depart_after=some["depart"][11:])
        assert after == [row for row in rows if row["depart"] >= some["depart"]] and some in after
        before = WORLD.search_flights("London", "New York", day, depart_before=some["depart"][11:])
        assert before == [row for row in rows if row["depart"] <= some["depart"]] and some in before
        cheap = WORLD.search_flights("London", "New York", day, max_price=some["price"])
        assert cheap == [row for row in rows if row["price"] <= some["price"]] and some in cheap
        airports = WORLD.search_flights(some["origin"].lower(), some["destination"], day)
        assert airports == [row for row in rows if all(row[k] == some[k] for k in ("origin", "destination"))]

    def test_trains_are_on_one_network_and_not_too_far(self):
        assert WORLD.search_trains("Paris", "London", "2026-05-06")
        assert WORLD.search_trains("Hong Kong", "Shenzhen", "2026-05-06")
        for here, there in (("Paris", "New York"), ("Beijing", "Urumqi"), ("Tokyo", "Sapporo"), ("Sanya", "Beijing")):
            assert WORLD.search_trains(here, there, "2026-05-06") == []
        services = {
            row["train_no"]
            for day in range(7)
            for row in WORLD.search_trains("Paris", "London", date(2026, 5, 4) + timedelta(days=day))
        }
        assert 3 <= len(services) <= 6

    def test_the_world_is_neither_too_easy_nor_too_hard(self):
        day = date(2026, 5, 6)
        hubs = [name for name in WORLD.cities if WORLD.city(name).rank == 1]
        pairs = [(here, there) for here in hubs for there in hubs if here != there]
        flown = [WORLD.search_flights(here, there, day) for here, there in pairs]
        assert sum(map(bool, flown)) > 0.7 * len(pairs)
        per_route = [0] * 8
        for rows in flown:
            routes = [(row["origin"], row["destination"]) for row in rows]
            for route in set(routes):
                per_route[routes.count(route)] += 1
        assert all(per_route[1:5]) and not any(per_route[5:])
        seats = [row["seats_left"] for rows in flown for row in rows]
        assert 0.05 < sum(left == 0 for left in seats) / len(seats) < 0.2
        assert 0.05 < sum(0 < left < 3 for left in seats) / len(seats) < 0.2


class TestStays:
    def test_every_city_has_hotels_of_all_kinds(self):
        prices, rooms = set(), set()
        for name in WORLD.cities:
            rows = WORLD.search_hotels(name, "2026-05-01", "2026-05-03")
            assert 6 <= len(rows) <= 12 and len({row["name"] for row in rows}) == len(rows)
            assert {2, 3, 4, 5} <= {row["star"] for row in rows} <= {1, 2, 3, 4, 5}
            assert rows == sorted(rows, key=lambda row: (row["nightly_price"], row["hotel_id"]))
            prices |= {row["nightly_price"] for row in rows}
            rooms |= {row["rooms_left"] for row in rows}
        assert min(prices) < 30 and max(prices) > 400 and {0, 1, 2} < rooms

    def test_a_stay_costs_what_its_first_night_says_and_has_the_rooms_of_its_scarcest(self):
        for row in WORLD.search_hotels("Tokyo", "2026-05-01", "2026-05-06"):
            nights = [WORLD.hotel_night(row["hotel_id"], date(2026, 5, 1) + timedelta(days=i)) for i in range(5)]
            assert row["nightly_price"] == nights[0]["price"]
            assert row["rooms_left"] == min(night["rooms_left"] for night in nights)
            assert (row["check_in"], row["check_out"]) == ("2026-05-01", "2026-05-06")
            static = WORLD.hotel(row["hotel_id"])
            assert static.items() <= row.items() and row["synthetic"] is True
            assert list(row)[:8] == list(static)[:8] and IDS.fullmatch(row["hotel_id"])
        assert WORLD.hotel("H-NOTHING") is None and WORLD.hotel("PEK") is None and WORLD.hotel("") is None
        with pytest.raises(ToolError, match="unknown_place"):
            WORLD.hotel_night("H-NOTHING", date(2026, 5, 1))

    def test_arguments_filter_the_hotels(self):
        stay = ("Tokyo", "2026-05-01", "2026-05-06")
        rows = WORLD.search_hotels(*stay)
        price = rows[3]["nightly_price"]
        assert WORLD.search_hotels(*stay, max_price=price) == [row for row in rows if row["nightly_price"] <= price]
        assert WORLD.search_hotels(*stay, min_star=4) == [row for row in rows if row["star"] >= 4]
        near = WORLD.search_hotels(*stay, near="ST-HND")
        distances = [row.pop("distance_km") for row in near]
        assert distances == sorted(distances) and sorted(near, key=rows.index) == rows

    def test_every_city_has_points_of_interest_of_all_categories(self):
        closed, hours = set(), set()
        for name in WORLD.cities:
            rows = WORLD.search_pois(name)
            assert 10 <= len(rows) <= 16 and len({row["name"] for row in rows}) == len(rows)
            assert {row["category"] for row in rows} == set(CATEGORIES)
            assert rows == sorted(rows, key=lambda row: row["poi_id"])
            for row in rows:
                opens, closes = (datetime.strptime(row[k], "%H:%M") for k in ("open", "close"))
                assert closes - opens >= timedelta(minutes=row["visit_min"]) > timedelta(0)
                assert len(row["closed_days"]) < 3 and row["ticket"] >= 0 and row["synthetic"] is True
                assert WORLD.poi(row["poi_id"]) == row and IDS.fullmatch(row["poi_id"])
                closed |= set(row["closed_days"])
                hours.add((row["open"], row["close"]))
        assert closed == {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
        assert len(hours) > 30
        assert WORLD.poi("P-NOTHING") is None

    def test_arguments_filter_the_points_of_interest(self):
        rows = WORLD.search_pois("Rome")
        assert WORLD.search_pois("罗马", category="zoo") == [row for row in rows if row["category"] == "zoo"]
        word = rows[0]["name"].split()[1]
        assert rows[0] in WORLD.search_pois("Rome", keyword=word.upper())
        assert WORLD.search_pois("Rome", keyword="nothing like it") == []
        near = WORLD.search_pois("Rome", near=rows[4]["poi_id"])
        assert near[0]["poi_id"] == rows[4]["poi_id"] and near[0]["distance_km"] == 0
        radius = near[5]["distance_km"]
        some = WORLD.search_pois("Rome", near=rows[4]["poi_id"], radius_km=radius)
        assert some == [row for row in near if row["distance_km"] <= radius] and len(some) < len(rows)
        assert 0 < len(WORLD.search_pois("Rome", radius_km=5)) < len(rows)

    def test_ids_are_unique_in_the_world(self):
        ids = [place for name in WORLD.cities for place in (*WORLD.city(name).airports, *WORLD.city(name).stations)]
        for name in WORLD.cities:
            ids += [row["hotel_id"] for row in WORLD.search_hotels(name, "2026-05-01", "2026-05-02")]
            ids += [row["poi_id"] for row in WORLD.search_pois(name)]
        assert len(set(ids)) == len(ids)
        for id in ids:
            assert WORLD.place(id).id == id


class TestRoutes:
    def test_a_way_costs_time_and_money(self):
        ways = {mode: WORLD.plan_route("PEK", "ST-PEK", mode) for mode in ("walk", "transit", "taxi")}
        assert ways["walk"]["cost"] == 0 < ways["transit"]["cost"] < ways["taxi"]["cost"]
        assert ways["taxi"]["duration_min"] < ways["transit"]["duration_min"] < ways["walk"]["duration_min"]
        assert 20 < ways["taxi"]["distance_km"] < 60
        for mode, way in ways.items():
            assert way["mode"] == mode and way["synthetic"] is True
            assert WORLD.route_minutes("PEK", "ST-PEK", mode) == way["duration_min"]
            back = WORLD.plan_route("ST-PEK", "PEK", mode)
            assert (back["duration_min"], back["cost"]) == (way["duration_min"], way["cost"])
        assert WORLD.route_minutes("PEK", "PEK") == 0
        assert WORLD.place("ST-PEK").kind == "station"

    def test_transit_does_not_run_at_night(self):
        with pytest.raises(ToolError, match="no_service.*05:00"):
            WORLD.plan_route("PEK", "ST-PEK", "transit", depart_at="04:59")
        day = WORLD.plan_route("PEK", "ST-PEK", "transit", depart_at="05:00")
        assert day == WORLD.plan_route("PEK", "ST-PEK", "transit")

    def test_a_way_stays_in_a_city(self):
        with pytest.raises(ToolError, match="different_cities.*Beijing.*Shanghai"):
            WORLD.plan_route("PEK", "PVG", "taxi")
        with pytest.raises(ToolError, match="different_cities"):
            WORLD.route_minutes("PEK", "PVG")
        with pytest.raises(ToolError, match="mode must be one of walk, transit, taxi, got 'bike'"):
            WORLD.route_minutes("PEK", "ST-PEK", "bike")


class TestGuides:
    def test_guides_tell_what_the_world_knows(self):
        poi = next(row for row in WORLD.search_pois("Paris", category="museum") if row["closed_days"])
        found = WORLD.search_web("Paris museum opening hours", top_k=1)
        assert list(found[0]) == ["doc_id", "title", "snippet", "synthetic"] and found[0]["synthetic"] is True
        assert "Paris" in found[0]["title"] and "museum" in found[0]["title"]
        assert f"{poi['name']} ({poi['poi_id']})" in found[0]["snippet"]
        assert poi["closed_days"][0] in found[0]["snippet"]

    def test_chinese_is_understood(self):
        assert WORLD.search_web("巴黎有什么博物馆", top_k=1) == WORLD.search_web("Paris museum", top_k=1)

    def test_the_number_of_results_is_the_callers(self):
        assert len(WORLD.search_web("museum", top_k=7)) == 7
        assert len(WORLD.search_web("museum")) == 3
        assert WORLD.search_web("qqqqq") == []


class TestBadInput:
    @pytest.mark.parametrize(
        "name, arguments, code, message",
        [
            ("book_flight", {}, "unknown_tool", "'book_flight' is no tool. The tools are search_flights, "),
            (None, {}, "unknown_tool", "NoneType is no tool"),
            ("search_web", [], "bad_argument", "must be an object, got list"),
            ("search_web", {}, "bad_argument", "search_web needs query"),
            ("search_web", {"query": None}, "bad_argument", "query must be text, got null"),
            ("search_web", {"query": 3}, "bad_argument", r"query must be text, got a whole number \('3'\)"),
            ("search_web", {"query": "  "}, "bad_argument", "query must not be empty"),
            ("search_web", {"query": "x" * 201}, "bad_argument", "query has 201 characters; at most 200"),
            ("search_web", {"query": "x" * 2**20}, "bad_argument", "1048576 characters; at most 200"),
            ("search_web", {"query": "x", "top_k": 0}, "bad_argument", "top_k must be a whole number from 1 to 10"),
            ("search_web", {"query": "x", "top_k": True}, "bad_argument", "top_k must be .*, got true or false"),
            ("search_web", {"query": "x", "top_k": 2.0}, "bad_argument", "top_k must be a whole number"),
            ("search_web", {"query": "x", "top_k": 10**5000}, "bad_argument", "top_k must be a whole number"),
            ("search_web", {"query": "x", "limit": 5}, "bad_argument", "no argument 'limit'. It takes query, top_k"),
            ("search_pois", {"city": "Bejing"}, "unknown_city", "Close matches: Beijing"),
            ("search_pois", {"city": ["Paris"]}, "bad_argument", "city must be text, got a list"),
            (
                "search_pois",
                {"city": "Paris", "category": "Museum"},
                "bad_argument",
                "one of museum, park, .*'Museum'",
            ),
            ("search_pois", {"city": "Paris", "near": "nowhere"}, "unknown_place", "'nowhere' is no place id"),
            ("search_pois", {"city": "Paris", "near": "PEK"}, "different_cities", "PEK is in Beijing, not in Paris"),
            ("search_pois", {"city": "Paris", "radius_km": -1}, "bad_argument", "radius_km must be a number from 0"),
            ("search_pois", {"city": "Paris", "radius_km": float("nan")}, "bad_argument", "radius_km must be"),
        ],
    )
    def test_each_mistake_has_its_message(self, name, arguments, code, message):
        self.check(name, arguments, code, message)

    @pytest.mark.parametrize("name", ["search_flights", "search_trains"])
    @pytest.mark.parametrize(
        "change, code, message",
        [
            ({"date": "2025-12-31"}, "past_date", "date 2025-12-31 is past: today is 2026-01-01"),
            ({"date": "2027-01-02"}, "beyond_horizon", "the last day on sale is 2027-01-01"),
            ({"date": "2026-02-30"}, "bad_argument", "'2026-02-30' is no date of the calendar"),
            ({"date": "tomorrow"}, "bad_argument", "date must be a date YYYY-MM-DD, got the text 'tomorrow'"),
            ({"date": "2026-5-1"}, "bad_argument", "date must be a date YYYY-MM-DD"),
            ({"date": "２０２６-05-01"}, "bad_argument", "date must be a date YYYY-MM-DD"),
            ({"date": 20260501}, "bad_argument", "date must be a date YYYY-MM-DD, got a whole number"),
            ({"destination": "北京"}, "same_city", "both Beijing. Use plan_route"),
            ({"origin": "Atlantis"}, "unknown_city", "'Atlantis' is no city"),
        ],
    )
    def test_each_mistake_of_a_trip_has_its_message(self, name, change, code, message):
        self.check(name, {"origin": "Beijing", "destination": "Paris", "date": "2026-05-01"} | change, code, message)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"depart_after": "8:00"}, "depart_after must be a time HH:MM from 00:00 to 23:59, got the text '8:00'"),
            ({"depart_before": "24:00"}, "depart_before must be a time HH:MM"),
            ({"cabin": "first"}, "cabin must be one of economy, business, got the text 'first'"),
            ({"max_price": "300"}, "max_price must be a number from 0 to 1e.06, got the text '300'"),
            ({"max_price": float("inf")}, "max_price must be a number"),
        ],
    )
    def test_each_mistake_of_a_flight_has_its_message(self, change, message):
        arguments = {"origin": "Beijing", "destination": "Paris", "date": "2026-05-01"} | change
        self.check("search_flights", arguments, "bad_argument", message)

    @pytest.mark.parametrize(
        "change, code, message",
        [
            ({"check_out": "2026-05-01"}, "bad_dates", "check_out 2026-05-01 must be after check_in 2026-05-01"),
            ({"check_out": "2026-04-30"}, "bad_dates", "must be after"),
            ({"check_out": "2026-06-01"}, "too_long", "at most 30 nights, got 31"),
            ({"check_in": "2025-12-31"}, "past_date", "check_in 2025-12-31 is past"),
            ({"check_out": "2027-01-02"}, "beyond_horizon", "check_out 2027-01-02 is too far ahead"),
            ({"min_star": 6}, "bad_argument", "min_star must be a whole number from 1 to 5"),
            ({"near": "H-CDG???"}, "unknown_place", "H-CDG"),
        ],
    )
    def test_each_mistake_of_a_stay_has_its_message(self, change, code, message):
        arguments = {"city": "Paris", "check_in": "2026-05-01", "check_out": "2026-05-03"} | change
        self.check("search_hotels", arguments, code, message)

    @pytest.mark.parametrize(
        "change, code, message",
        [
            ({"mode": "bike"}, "bad_argument", "mode must be one of walk, transit, taxi, got the text 'bike'"),
            ({"depart_at": "noon"}, "bad_argument", "depart_at must be a time HH:MM"),
            ({"origin_place_id": "Beijing"}, "unknown_place", "Use an id that a search tool returned"),
            ({"destination_place_id": "P-PEK000"}, "unknown_place", "'P-PEK000' is no place id"),
        ],
    )
    def test_each_mistake_of_a_way_has_its_message(self, change, code, message):
        arguments = {"origin_place_id": "PEK", "destination_place_id": "ST-PEK", "mode": "taxi"} | change
        self.check("plan_route", arguments, code, message)

    def check(self, name, arguments, code, message):
        with pytest.raises(ToolError, match=message) as error:
            WORLD.call(name, arguments)
        assert error.value.code == code
        assert len(str(error.value)) < 400

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(CALLS),
        st.data(),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=250), st.lists(st.text())),
    )
    def test_any_value_gets_an_answer_or_a_tool_error(self, call, data, value):
        name, arguments = call
        changed = arguments | {data.draw(st.sampled_from(list(arguments))): value}
        try:
            json.dumps(WORLD.call(name, changed))
        except ToolError as error:
            assert len(str(error)) < 500

    def test_optional_arguments_may_be_null(self):
        for name in TOOL_NAMES:
            arguments = [given for tool, given in CALLS if tool == name]
            nulls = {key: None for given in arguments for key in given}
            assert WORLD.call(name, nulls | arguments[0]) == WORLD.call(name, arguments[0])
