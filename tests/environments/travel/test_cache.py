import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_multiturn.environments.travel import CacheError, ToolCache, ToolError, TransientError
from trl_multiturn.environments.travel.call_keys import call_key, canonical_json, normalize_arguments

from .backends import Constant, Prices


SEARCH = {"city": "Xi'an", "date": "2026-03-01", "max": 3}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def key(arguments, tool="search", version="v"):
    return call_key(tool, canonical_json(normalize_arguments(arguments)), version)


def numbers(count):
    return [{"number": number} for number in range(count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite"


class TestKeys:
    @pytest.mark.parametrize(
        "other",
        [
            {"max": 3, "date": "2026-03-01", "city": "Xi'an"},
            {**SEARCH, "near": None},
            {**SEARCH, "max": 3.0},
            {**SEARCH, "city": "  Xi'an\n"},
            {**SEARCH, "date": "\u30002026-03-01\t"},
        ],
    )
    def test_the_same_call_has_the_same_key(self, other):
        assert key(other) == key(SEARCH)

    @pytest.mark.parametrize(
        "other",
        [
            {**SEARCH, "city": "xi'an"},
            {**SEARCH, "city": "Xi 'an"},
            {**SEARCH, "max": "3"},
            {**SEARCH, "max": 3.5},
            {**SEARCH, "max": True},
            {**SEARCH, "extra": 0},
            {**SEARCH, "city": ["Xi'an"]},
        ],
    )
    def test_another_call_has_another_key(self, other):
        assert key(other) != key(SEARCH)

    def test_true_is_not_one_and_order_in_a_list_counts(self):
        assert key({"a": True}) != key({"a": 1}) and key({"a": [1, 2]}) != key({"a": [2, 1]})
        assert key({"a": -0.0}) == key({"a": 0})

    def test_composed_and_decomposed_letters_are_the_same(self):
        assert key({"q": "Bogot\u00e1"}) == key({"q": "Bogota\u0301"})

    def test_tool_and_version_are_in_the_key(self):
        assert len({key(SEARCH), key(SEARCH, tool="other"), key(SEARCH, version="w")}) == 3
        assert call_key("a", "b", "c") != call_key("a", "bc", "")

    def test_none_is_dropped_in_objects_at_any_depth_but_not_in_lists(self):
        assert normalize_arguments({"a": {"b": None, "c": [None, {"d": None}]}}) == {"a": {"c": [None, {}]}}

    @given(st.dictionaries(st.text(max_size=8), json_values, max_size=5))
    def test_normal_form_is_stable_and_survives_json(self, arguments):
        once = normalize_arguments(arguments)
        assert normalize_arguments(once) == once
        try:
            text = canonical_json(once)
        except ToolError as error:  # half a surrogate pair, or a float of 300 digits
            assert error.code == "bad_arguments"
        else:
            assert canonical_json(normalize_arguments(json.loads(text))) == text
            assert canonical_json(normalize_arguments(dict(reversed(arguments.items())))) == text

    @pytest.mark.parametrize(
        "arguments",
        [
            {"q": "x" * 1_000_000},
            {"q": ["x" * 900] * 1000},
            {"q": [0] * 1_000_000},
            {"q" * 1_000_000: 1},
        ],
    )
    def test_a_megabyte_is_refused(self, path, arguments):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache, pytest.raises(ToolError, match="^arguments_too_large: "):
            cache.call("search", arguments)
        assert backend.asked == [] and cache.stats["records"] == 0

    @pytest.mark.parametrize(
        "arguments",
        [
            None,
            "city=Rome",
            [1],
            {1: 2},
            {"q": math.nan},
            {"q": math.inf},
            {"q": {1, 2}},
            {"q": object()},
            {"q": "\ud83d"},
            {"q": 10**5000},
        ],
    )
    def test_what_is_no_json_object_is_refused(self, path, arguments):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache, pytest.raises(ToolError, match="^bad_arguments: "):
            cache.call("search", arguments)
        assert backend.asked == []

    def test_nesting_is_bounded(self):
        deep: dict = {}
        for _ in range(5000):
            deep = {"a": deep}
        with pytest.raises(ToolError, match="^arguments_too_large: nested"):
            normalize_arguments(deep)


class TestModes:
    def test_record_asks_once_and_stores(self, path):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache:
            first = cache.call("search", SEARCH)
            assert cache.call("search", {**SEARCH, "max": 3.0, "near": None}) == first
        assert len(backend.asked) == 1
        with ToolCache(path, backend, "record") as cache:
            assert cache.call("search", SEARCH) == first
        assert len(backend.asked) == 1

    def test_the_backend_gets_the_normal_form(self, path):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache:
            cache.call("search", {"b": " two  words ", "a": 1.0, "c": None})
        assert backend.asked == [("search", {"a": 1, "b": "two words"}, 0)]

    def test_replay_never_asks(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            first = cache.call("search", SEARCH)
        backend = Prices()
        with ToolCache(path, backend, "replay") as cache:
            assert cache.call("search", SEARCH) == first
            with pytest.raises(ToolError, match="^cache_miss: "):
                cache.call("search", {"city": "Rome"})
        assert backend.asked == []

    def test_a_miss_names_the_nearest_recorded_calls(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            for city in ("Rome", "Paris", "Oslo", "Lima", "Cairo", "Delhi"):
                for day in (1, 2, 3):
                    cache.call("search", {"city": city, "day": day})
        with ToolCache(path) as cache, pytest.raises(ToolError) as miss:
            cache.call("search", {"city": "Rome", "day": 4})
        assert miss.value.code == "cache_miss"
        for day in (1, 2, 3):
            assert f'{{"city":"Rome","day":{day}}}' in miss.value.message
        assert "Paris" not in miss.value.message and len(miss.value.message) < 800

    def test_a_miss_of_an_unknown_tool_and_of_long_arguments_is_short(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            cache.call("search", {"text": "x" * 5000})
        with ToolCache(path) as cache:
            with pytest.raises(ToolError, match="Nothing was recorded for fly"):
                cache.call("fly", SEARCH)
            with pytest.raises(ToolError) as miss:
                cache.call("search", {"text": "y" * 5000})
        assert len(miss.value.message) < 800

    def test_live_neither_reads_nor_writes(self, path):
        with ToolCache(path, Constant("old"), "record") as cache:
            cache.call("search", SEARCH)
        before = path.read_bytes()
        with ToolCache(path, Constant("new"), "live") as cache:
            assert [cache.call("search", SEARCH) for _ in range(2)] == ["new", "new"]
            assert cache.stats["misses"] == 2
            with pytest.raises(ValueError, match="nothing to refresh"):
                cache.refresh(1.0, 0)
        assert path.read_bytes() == before

    def test_live_needs_no_file(self, tmp_path):
        path = tmp_path / "no" / "such" / "folder"
        assert ToolCache(path, Constant(1), "live").call("f", {}) == 1
        assert not path.parent.exists()

    def test_an_answer_is_the_callers_own(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            cache.call("search", SEARCH)[0]["price"] = -1
            cache.call("search", SEARCH).clear()
            assert cache.call("search", SEARCH)[0]["price"] == 0

    def test_recording_and_replay_give_the_same_value(self, path):
        answer = {"t": (1, 2), 5: "five", "zh": "北京", "f": 1.0, "n": None}
        with ToolCache(path, Constant(answer), "record") as cache:
            recorded = cache.call("f", {})
        with ToolCache(path) as cache:
            assert cache.call("f", {}) == recorded == {"t": [1, 2], "5": "five", "zh": "北京", "f": 1.0, "n": None}

    @pytest.mark.parametrize("memory", [0, 1, 3, 1000])
    def test_memory_is_bounded_and_changes_nothing(self, path, memory):
        with ToolCache(path, Prices(), "record", memory=memory) as cache:
            recorded = [cache.call("search", arguments) for arguments in numbers(20)]
            assert [cache.call("search", arguments) for arguments in numbers(20)] == recorded
            assert len(cache._memory) <= memory

    @pytest.mark.parametrize(
        "arguments", [{"mode": "write"}, {"mode": "record"}, {"mode": "live"}, {"mode": "replay", "memory": -1}]
    )
    def test_wrong_arguments(self, path, arguments):
        with pytest.raises(ValueError):
            ToolCache(path, **arguments)


class TestErrors:
    def test_a_tool_error_is_an_answer(self, path):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache:
            for _ in range(3):
                with pytest.raises(ToolError) as error:
                    cache.call("closed", {"city": "北京"})
        assert len(backend.asked) == 1
        with ToolCache(path) as cache, pytest.raises(ToolError) as replayed:
            cache.call("closed", {"city": "北京"})
        assert str(replayed.value) == str(error.value) == "closed: 北京 is closed."
        assert (replayed.value.code, replayed.value.message) == ("closed", "北京 is closed.")

    @pytest.mark.parametrize(("tool", "kind"), [("busy", TransientError), ("broken", ConnectionError)])
    def test_what_passes_is_not_stored(self, path, tool, kind):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache:
            for _ in range(2):
                with pytest.raises(kind):
                    cache.call(tool, {})
            assert cache.stats["records"] == 0
        assert len(backend.asked) == 2

    @pytest.mark.parametrize("answer", [math.nan, [math.inf], object(), {"a": {1}}, b"x", "\ud83d", 1 + 2j])
    @pytest.mark.parametrize("mode", ["record", "live"])
    def test_an_answer_that_is_no_json_is_not_stored(self, path, answer, mode):
        with ToolCache(path, Constant(answer), mode) as cache:
            with pytest.raises(CacheError, match="answer to quote is no JSON"):
                cache.call("quote", {})
            assert cache.stats["records"] == 0

    def test_an_answer_that_holds_itself_is_not_stored(self, path):
        answer: list = []
        answer.append(answer)
        with ToolCache(path, Constant(answer), "record") as cache, pytest.raises(CacheError, match="no JSON"):
            cache.call("quote", {})


class TestVersions:
    def test_versions_share_a_file_and_nothing_else(self, path):
        with ToolCache(path, Prices("a"), "record") as a, ToolCache(path, Prices("b"), "record") as b:
            a.call("search", SEARCH)
            with ToolCache(path, Prices("b"), "replay") as replay, pytest.raises(ToolError, match="^cache_miss: "):
                replay.call("search", SEARCH)
            b.call("search", SEARCH)
            assert a.stats["records"] == b.stats["records"] == 1

    def test_without_a_backend_the_version_must_be_clear(self, path):
        with ToolCache(path, Prices("a"), "record") as a:
            with pytest.raises(ValueError, match="holds none"):
                ToolCache(path)
            a.call("search", SEARCH)
            assert ToolCache(path).version == "a"
            with ToolCache(path, Prices("b"), "record") as b:
                b.call("search", SEARCH)
            with pytest.raises(ValueError, match="'a', 'b'"):
                ToolCache(path)
            assert ToolCache(path, version="b").call("search", SEARCH)


class TestRefresh:
    def test_it_changes_exactly_the_chosen_keys(self, path):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache:
            before = [cache.call("search", arguments) for arguments in numbers(1000)]
            chosen = cache.refresh(0.2, seed=7)
            assert 150 < chosen < 250
            backend.asked.clear()
            after = [cache.call("search", arguments) for arguments in numbers(1000)]
        changed = [number for number in range(1000) if after[number] != before[number]]
        assert len(changed) == chosen == len(backend.asked)
        assert [arguments["number"] for _, arguments, _ in backend.asked] == changed
        assert {epoch for _, _, epoch in backend.asked} == {1}

    def test_the_same_keys_whatever_was_recorded_when(self, tmp_path):
        answers = []
        for name, steps in {
            "before": ["up", "refresh"],
            "after": ["refresh", "up"],
            "backwards": ["down", "refresh"],
            "never": [],
        }.items():
            with ToolCache(tmp_path / name, Prices(), "record") as cache:
                for step in steps:
                    if step == "refresh":
                        cache.refresh(0.3, seed=1)
                    else:
                        for arguments in numbers(300)[:: 1 if step == "up" else -1]:
                            cache.call("search", arguments)
                answers.append([cache.call("search", arguments) for arguments in numbers(300)])
        assert answers[0] == answers[1] == answers[2] != answers[3]

    def test_in_replay_a_refreshed_call_is_a_miss_until_recorded_anew(self, path):
        backend = Prices()
        with ToolCache(path, backend, "record") as recorder, ToolCache(path, backend, "replay") as replay:
            old = [recorder.call("search", arguments) for arguments in numbers(50)]
            assert [replay.call("search", arguments) for arguments in numbers(50)] == old
            replay.refresh(0.5, seed=0)
            backend.asked.clear()
            missing = []
            for number, arguments in enumerate(numbers(50)):
                try:
                    assert replay.call("search", arguments) == old[number]
                except ToolError as error:
                    assert error.code == "cache_miss"
                    missing.append(number)
            assert 10 < len(missing) < 40 and backend.asked == [] and replay.stats["stale"] == len(missing)
            for number in missing:
                new = recorder.call("search", {"number": number})
                assert replay.call("search", {"number": number}) == new != old[number]
            assert replay.stats["stale"] == 0 and replay.stats["records"] == 50

    def test_a_miss_does_not_advise_calls_that_are_old(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            cache.call("search", SEARCH)
            cache.refresh(1.0, seed=0)
        with ToolCache(path) as cache, pytest.raises(ToolError, match="Nothing was recorded for search"):
            cache.call("search", SEARCH)

    def test_the_same_refresh_again_changes_nothing_and_another_does(self, path):
        backend = Prices()
        with ToolCache(path, backend, "record") as cache, ToolCache(path, backend, "record") as other:
            cache.call("search", SEARCH)
            assert cache.refresh(1.0, seed=3) == other.refresh(1.0, seed=3) == 1
            assert cache.call("search", SEARCH)[0]["price"] == other.call("search", SEARCH)[0]["price"] == 1000
            other.refresh(1.0, seed=4)
            assert cache.call("search", SEARCH)[0]["price"] == 2000
            assert cache.stats["refreshes"] == 2
            cache.refresh(0.0, seed=5)
            assert cache.call("search", SEARCH)[0]["price"] == 2000
        assert [epoch for _, _, epoch in backend.asked] == [0, 1, 2]

    def test_a_backend_that_knows_no_epochs_is_asked_anew_too(self, path):
        backend = Constant("old")
        with ToolCache(path, backend, "record") as cache:
            cache.call("f", {})
            backend.answer = "new"
            assert cache.call("f", {}) == "old"
            cache.refresh(1.0, seed=0)
            assert cache.call("f", {}) == "new"

    def test_the_old_answer_stays_in_the_file_until_there_is_a_new_one(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            cache.call("search", SEARCH)
            cache.refresh(1.0, seed=0)
            assert cache.stats["records"] == cache.stats["stale"] == 1

    @pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
    def test_a_fraction_out_of_range(self, path, fraction):
        with ToolCache(path, Prices(), "record") as cache, pytest.raises(ValueError, match="fraction"):
            cache.refresh(fraction, seed=0)


class TestStats:
    def test_counts(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            for tool, times in {"search": 3, "plan": 1}.items():
                for _ in range(times):
                    cache.call(tool, SEARCH)
            with pytest.raises(ToolError):
                cache.call("closed", {})
            assert cache.stats == {
                "mode": "record",
                "version": "prices-1",
                "refreshes": 0,
                "records": 3,
                "stale": 0,
                "hits": 2,
                "misses": 3,
                "by_tool": {
                    "closed": {"records": 1, "stale": 0, "hits": 0, "misses": 1},
                    "plan": {"records": 1, "stale": 0, "hits": 0, "misses": 1},
                    "search": {"records": 1, "stale": 0, "hits": 2, "misses": 1},
                },
            }

    def test_hits_reach_the_file_in_batches_and_at_the_end(self, path):
        def stored():
            return cache._store.query("SELECT SUM(hits) FROM responses")[0][0]

        with ToolCache(path, Prices(), "record") as cache:
            for _ in range(1001):
                cache.call("search", SEARCH)
            assert stored() == 1000
            for _ in range(5):
                cache.call("search", SEARCH)
            assert stored() == 1000
            cache.flush()
            assert stored() == 1005
        with ToolCache(path) as cache:
            cache.call("search", SEARCH)
        with ToolCache(path) as cache:
            assert stored() == 1006

    def test_what_is_stored_of_a_call(self, path):
        with ToolCache(path, Prices(), "record") as cache:
            cache.call("search", SEARCH)
            columns = "tool, arguments, response, error, version, epoch, hits, latency >= 0, created_at > 1e9"
            [row] = cache._store.query(f"SELECT {columns} FROM responses")
        text = '{"city":"Xi\'an","date":"2026-03-01","max":3}'
        assert row[:2] == ("search", text) and row[3:] == (0, "prices-1", 0, 0, 1, 1)
        assert json.loads(row[2]) == Prices().call("search", SEARCH)
