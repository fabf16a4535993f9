"""A small round trip by hand, and what the tools said before it."""

import json
from functools import lru_cache

from trl_multiturn.environments.travel import TravelQuery, TravelWorld, parse_itinerary
from trl_multiturn.rewards.verifiers import ToolTurn


@lru_cache
def world():
    return TravelWorld()


def query(**changes):
    asked = {
        "id": "q",
        "level": "medium",
        "origin": "Beijing",
        "stays": [{"city": "Shanghai", "nights": 2}],
        "start_date": "2026-05-05",
        "adults": 2,
    }
    return TravelQuery.model_validate(asked | changes)


def call(name, turn, **arguments):
    """A tool call of the real world, as the environment answers it."""
    rows = world().call(name, arguments)
    response = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return ToolTurn(name, arguments, response, turn)


@lru_cache
def turns():
    """What the policy asked for before it wrote the plan."""
    return (
        call("search_flights", 0, origin="Beijing", destination="Shanghai", date="2026-05-05"),
        call("search_flights", 1, origin="Shanghai", destination="Beijing", date="2026-05-07"),
        call("search_hotels", 2, city="Shanghai", check_in="2026-05-05", check_out="2026-05-07"),
        call("search_pois", 3, city="Shanghai"),
        call("search_pois", 3, city="Shanghai", category="tower"),
    )


def leg(row):
    fields = ("origin", "destination", "depart", "arrive", "price")
    return {"type": "flight", "id": row["flight_no"], **{name: row[name] for name in fields}}


def visit(category, start, end):
    poi = world().search_pois("Shanghai", category=category)[0]
    return {"type": "visit", "id": poi["poi_id"], "start": start, "end": end, "price": poi["ticket"]}


def plan():
    """The plan as plain values, so that a test can break it."""
    flights = [json.loads(turn.response) for turn in turns()[:2]]
    there = next(row for row in flights[0] if "T06:00" < row["depart"][10:] < "T09:00" and row["seats_left"] > 3)
    back = next(row for row in flights[1] if "T12:00" < row["depart"][10:] < "T20:00" and row["seats_left"] > 3)
    hotel = json.loads(turns()[2].response)[0]
    day = "2026-05-0"
    return {
        "feasible": True,
        "days": [
            {
                "date": f"{day}5",
                "items": [
                    leg(there),
                    {"type": "meal", "meal": "lunch", "start": f"{day}5T12:00", "end": f"{day}5T13:00"},
                    {
                        "type": "hotel",
                        "id": hotel["hotel_id"],
                        "check_in": f"{day}5T15:00",
                        "nights": 2,
                        "price": hotel["nightly_price"],
                    },
                ],
            },
            {
                "date": f"{day}6",
                "items": [
                    visit("park", f"{day}6T09:00", f"{day}6T11:00"),
                    {"type": "meal", "meal": "lunch", "start": f"{day}6T12:00", "end": f"{day}6T13:00"},
                    visit("tower", f"{day}6T15:00", f"{day}6T17:00"),
                    {"type": "meal", "meal": "dinner", "start": f"{day}6T18:00", "end": f"{day}6T19:00"},
                ],
            },
            {"date": f"{day}7", "items": [leg(back)]},
        ],
    }


def itinerary(values=None):
    return parse_itinerary(json.dumps(plan() if values is None else values))


def messages(calls, answer):
    """A completion as TRL builds it: each turn its calls and their responses, then the answer."""
    listed = []
    for number in sorted({turn.turn for turn in calls}):
        mine = [turn for turn in calls if turn.turn == number]
        made = [{"type": "function", "function": {"name": t.name, "arguments": t.arguments}} for t in mine]
        listed.append({"role": "assistant", "content": "", "tool_calls": made})
        listed += [{"role": "tool", "name": turn.name, "content": turn.response} for turn in mine]
    return [*listed, {"role": "assistant", "content": f"<answer>{answer}</answer>"}]
