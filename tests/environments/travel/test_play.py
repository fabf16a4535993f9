import io
import json
import sys

import pytest

from trl_multiturn.environments.travel import RouteData, TravelEnvironment, TravelWorld
from trl_multiturn.environments.travel.__main__ import main
from trl_multiturn.environments.travel.play import play
from trl_multiturn.environments.travel.query import TravelQuery
from trl_multiturn.environments.travel.solver import solve
from trl_multiturn.environments.travel.tasks import generate_tasks


WORLD = TravelWorld(routes=RouteData())
ROW = {"prompt": [{"role": "system", "content": "no"}, {"role": "user", "content": "Take me to Paris."}]}


def session(*lines):
    output, waiting = io.StringIO(), iter(lines)

    def read(prompt):
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    environment = TravelEnvironment(WORLD)
    itinerary = play(environment, ROW, read, output)
    return itinerary, output.getvalue(), environment


class TestPlay:
    def test_it_shows_the_request_and_answers_calls(self):
        itinerary, shown, environment = session(
            'search_trains origin=Paris destination="London" date=2026-05-06',
            "search_pois city=Xi'an",
            'search_hotels city="New York" check_in=2026-05-06 check_out=2026-05-08 min_star=4 max_price=999.5',
            "plan_route origin_place_id=PEK destination_place_id=ST-PEK mode=taxi",
            "quit",
        )
        assert itinerary is None and shown.startswith("Take me to Paris.\n") and "no\n" not in shown
        assert "'train_no': 'EC-" in shown and "No closing quotation" in shown and "'duration_min'" in shown
        assert [name for name, _, _ in environment.tool_calls] == ["search_trains", "search_hotels", "plan_route"]
        assert environment.tool_calls[1][1]["min_star"] == 4 and environment.tool_calls[1][1]["max_price"] == 999.5

    @pytest.mark.parametrize(
        "line, told",
        [
            ("fly me", "the tools are search_flights"),
            ("search_pois Paris", "'Paris' is no argument: write name=value"),
            ("search_pois town=Paris", "unexpected keyword argument 'town'"),
            ("search_pois", "missing 1 required positional argument"),
            ("search_pois city=Bejing", "Close matches: Beijing"),
            ("search_trains origin=Paris destination=Beijing date=2026-05-06", "Nothing found."),
            ("answer", "the answer is empty"),
            ("answer {", "the answer is no JSON"),
            ("tools", "Search hotels for a stay"),
            ("", "the tools are search_flights"),
        ],
    )
    def test_a_mistake_is_explained_and_the_game_goes_on(self, line, told):
        itinerary, shown, _ = session(line, 'answer {"feasible": false, "reason": "too far"}')
        assert told in shown
        assert itinerary.reason == "too far"

    def test_the_end_of_input_ends_the_game(self):
        assert session()[0] is None


class TestProgram:
    def run(self, monkeypatch, capsys, *lines, level="easy"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        main(["--seed", "3", "--level", level])
        return capsys.readouterr().out

    def test_an_invented_plan_is_told_what_is_wrong(self, monkeypatch, capsys):
        plan = {"feasible": True, "days": [{"date": "2026-05-01", "items": []}]}
        shown = self.run(monkeypatch, capsys, "answer " + json.dumps(plan))
        assert "T1: " in shown and "All checks passed." not in shown

    def test_a_right_answer_passes(self, monkeypatch, capsys):
        row = generate_tasks(1, levels=["infeasible"], language="en", seed=3)[0]
        assert not solve(TravelQuery.model_validate_json(row["query"])).feasible
        answer = 'answer {"feasible": false, "reason": "there is no way"}'
        shown = self.run(monkeypatch, capsys, answer, level="infeasible")
        assert row["prompt"][-1]["content"] in shown and shown.endswith("All checks passed.\n")

    def test_leaving_is_no_mistake(self, monkeypatch, capsys):
        assert "T1" not in self.run(monkeypatch, capsys, "quit")
