import json
import random
import re
from datetime import date

import pytest

from trl_multiturn.environments.travel import (
    CATEGORIES,
    Stay,
    TravelQuery,
    TravelWorld,
    generate_tasks,
    parse_itinerary,
    solve,
)
from trl_multiturn.environments.travel.task_queries import network
from trl_multiturn.environments.travel.tasks import LEVELS, TRAVEL_SYSTEM_PROMPT, draw_tasks
from trl_multiturn.environments.travel.texts import constraint_names, write_request


CITIES = ["Beijing", "Shanghai", "Paris", "London", "Rome", "New York"]


@pytest.fixture(scope="module")
def world():
    return TravelWorld(cities=CITIES)


@pytest.fixture(scope="module")
def rows(world):
    return generate_tasks(120, world=world).to_list()


def queries(rows):
    return [TravelQuery.model_validate_json(row["query"]) for row in rows]


def pair(query):
    return frozenset((query.origin, query.stays[0].city))


class TestDataset:
    def test_columns(self, rows):
        for row, query in zip(rows, queries(rows), strict=True):
            assert list(row) == ["prompt", "query", "level", "task_id"]
            assert [message["role"] for message in row["prompt"]] == ["system", "user"]
            assert row["prompt"][0]["content"] == TRAVEL_SYSTEM_PROMPT
            assert (row["level"], row["task_id"]) == (query.level, query.id)
        assert len({row["task_id"] for row in rows}) == len(rows)

    def test_a_row_does_not_depend_on_how_many_there_are(self, world, rows):
        assert generate_tasks(7, world=world).to_list() == rows[:7]
        assert generate_tasks(7, world=TravelWorld(cities=CITIES)).to_list() == rows[:7]

    def test_seed_split_and_world_matter(self, world, rows):
        for other in (
            generate_tasks(8, seed=1, world=world),
            generate_tasks(8, split="test", world=world),
            generate_tasks(8, world=TravelWorld(seed=1, cities=CITIES)),
        ):
            assert not {row["task_id"] for row in other} & {row["task_id"] for row in rows}

    def test_the_levels_take_turns(self, world, rows):
        assert [row["level"] for row in rows[:8]] == [*LEVELS, *LEVELS]
        assert set(generate_tasks(4, levels=["hard"], world=world)["level"]) == {"hard"}

    def test_language(self, world, rows):
        assert {query.language for query in queries(rows)} == {"en", "zh"}
        for language in ("en", "zh"):
            chosen = generate_tasks(8, language=language, world=world).to_list()
            assert {query.language for query in queries(chosen)} == {language}
            has_chinese = [bool(re.search("[\u4e00-\u9fff]", row["prompt"][-1]["content"])) for row in chosen]
            assert set(has_chinese) == {language == "zh"}

    def test_without_system_prompt(self, world, rows):
        bare = generate_tasks(3, system_prompt=None, world=world).to_list()
        assert [row["prompt"] for row in bare] == [row["prompt"][1:] for row in rows[:3]]

    def test_the_prompt_has_answers_that_can_be_read(self):
        examples = [
            parse_itinerary(line[line.find("{") :]) for line in TRAVEL_SYSTEM_PROMPT.splitlines() if '{"feas' in line
        ]
        assert [example.feasible for example in examples] == [True, False]
        assert examples[0].total_price == sum(getattr(item, "price", 0) for _, item in examples[0].items())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n": 0}, "`n` must be"),
            ({"n": True}, "`n` must be"),
            ({"n": 1, "split": "validation"}, "`split` must be"),
            ({"n": 1, "levels": ["easy", "tricky"]}, "`levels` must be"),
            ({"n": 1, "levels": []}, "`levels` must be"),
            ({"n": 1, "language": "fr"}, "`language` must be"),
        ],
    )
    def test_bad_arguments(self, world, arguments, message):
        with pytest.raises(ValueError, match=message):
            generate_tasks(**arguments, world=world)

    def test_a_world_with_too_few_connections(self):
        with pytest.raises(ValueError, match="pairs of cities are connected; tasks need at least 3"):
            generate_tasks(1, world=TravelWorld(cities=["Beijing", "Shanghai"]))


class TestSplits:
    @pytest.mark.parametrize("cities", [CITIES, None])
    def test_no_pair_is_in_two_splits(self, cities):
        world = TravelWorld(cities=cities)
        seen = {
            split: {pair(query) for query in queries(generate_tasks(60, split=split, world=world).to_list())}
            for split in ("train", "dev", "test")
        }
        assert all(seen.values())
        assert not seen["train"] & seen["dev"] and not seen["train"] & seen["test"] and not seen["dev"] & seen["test"]

    def test_every_pair_is_in_one_split(self, world):
        net = network(world)
        found = [
            frozenset(p) for groups in (net.connected, net.unconnected) for pairs in groups.values() for p in pairs
        ]
        assert len(found) == len(set(found)) == len(CITIES) * (len(CITIES) - 1) // 2

    def test_shares(self):
        net = network(TravelWorld())
        total = sum(map(len, net.connected.values()))
        assert len(net.connected["train"]) / total == pytest.approx(0.8, abs=0.01)


class TestLevels:
    def test_feasible_as_the_level_says(self, world, rows):
        for query in queries(rows):
            assert solve(query, world).feasible == (query.level != "infeasible"), query

    def test_what_a_level_asks(self, rows):
        for query in queries(rows):
            asked = constraint_names(query)
            if query.level == "easy":
                assert len(query.stays) == 1 and query.stays[0].nights <= 2 and not asked
            elif query.level == "medium":
                assert len(query.stays) == 1 and 1 <= len(asked) <= 2
            elif query.level == "hard":
                assert len(query.stays) > 1 or len(asked) >= 3

    def test_constraints_and_obstacles_vary(self):
        world = TravelWorld()
        drawn = draw_tasks(levels=["medium", "hard", "infeasible"], world=world)
        kinds, fields = set(), set()
        for _, (query, _, solution) in zip(range(240), drawn, strict=False):
            fields.update(constraint_names(query))
            if solution.obstacle is not None:
                kinds.add(solution.obstacle.kind)
        assert len(fields) == 9
        assert {
            "connection",
            "transport",
            "depart_after",
            "return_before",
            "load",
            "rooms",
            "schedule",
            "budget",
        } <= kinds

    def test_infeasible_by_its_budget_alone(self, world):
        found = 0
        for _, (query, _, solution) in zip(range(80), draw_tasks(levels=["infeasible"], world=world), strict=False):
            if solution.obstacle.kind == "budget":
                found += 1
                assert query.budget < solution.obstacle.cheapest
                assert solve(query.model_copy(update={"budget": solution.obstacle.cheapest}), world).feasible
        assert found > 5


class TestTexts:
    FULL = {
        "id": "q",
        "level": "hard",
        "origin": "Paris",
        "stays": [Stay(city="Beijing", nights=2), Stay(city="Rome", nights=3)],
        "start_date": date(2026, 3, 9),
        "adults": 4,
        "transport": "flight",
        "cabin": "business",
        "budget": 7770,
        "min_star": 5,
        "depart_after": "11:30",
        "return_before": "20:45",
        "categories": ["museum", "park"],
        "meals": True,
        "max_active_hours": 9.5,
    }
    FACTS = {
        "en": "Paris Beijing Rome 4 flight business 7770 5 11:30 20:45 museum park lunch dinner 9.5".split(),
        "zh": "Paris Beijing Rome 4位成人 飞机 商务舱 7770 5星 11:30 20:45 博物馆 公园 午餐 晚餐 9.5".split(),
    }
    DATES = {
        "en": ("March 9, 2026", "9 March 2026", "2026-03-09"),
        "zh": ("2026年3月9日", "2026-03-09"),
    }

    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_every_fact_is_told(self, language):
        query = TravelQuery(**self.FULL, language=language)
        for seed in range(200):
            text = write_request(query, random.Random(seed))
            assert not [fact for fact in self.FACTS[language] if fact.lower() not in text.lower()], text
            assert any(day in text for day in self.DATES[language]), text
            stays = "2 nights|Beijing for 2" if language == "en" else "Beijing(住|待|停留)2晚"
            assert re.search(stays, text), text
            assert "{" not in text and "None" not in text

    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_nothing_is_told_that_is_not_asked(self, language):
        bare = {name: self.FULL[name] for name in ("id", "level", "origin", "stays", "start_date")}
        texts = [write_request(TravelQuery(**bare, language=language), random.Random(seed)) for seed in range(200)]
        words = {
            "en": "stars|class|budget|cost|lunch|hours|visit|must|flight|train",
            "zh": "星|舱|预算|费用|午餐|小时|景点|飞机|火车",
        }
        assert not [text for text in texts if re.search(words[language], text)]

    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_many_forms(self, language):
        query = TravelQuery(**self.FULL, language=language)
        openings = {write_request(query, random.Random(seed))[:12] for seed in range(400)}
        assert len(openings) >= 12
        assert len({write_request(query, random.Random(seed)) for seed in range(400)}) == 400

    def test_the_chinese_names_are_the_worlds(self, world):
        query, text, _ = next(draw_tasks(language="zh", world=world))
        assert world.city(query.origin).zh in text and world.city(query.stays[0].city).zh in text
        assert query.origin not in text

    def test_every_category_has_a_chinese_word(self):
        query = TravelQuery(**self.FULL | {"categories": list(CATEGORIES)}, language="zh")
        text = write_request(query, random.Random(0))
        assert not [category for category in CATEGORIES if category in text]

    def test_one_night_and_one_adult_in_english(self):
        query = TravelQuery(**self.FULL | {"stays": [Stay(city="Rome", nights=1)], "adults": 1}, language="en")
        texts = [write_request(query, random.Random(seed)) for seed in range(100)]
        assert not [text for text in texts if "1 nights" in text or "1 adults" in text]


def test_a_query_in_the_dataset_is_plain_json(rows):
    assert json.loads(rows[0]["query"])["id"] == rows[0]["task_id"]
