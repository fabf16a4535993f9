import itertools
import random
from datetime import date, datetime, timedelta

import pytest

from trl_multiturn.environments.travel import (
    CATEGORIES,
    Itinerary,
    Stay,
    ToolError,
    TravelQuery,
    TravelWorld,
    parse_itinerary,
    solve,
)
from trl_multiturn.environments.travel import solver as solver_module
from trl_multiturn.environments.travel.itinerary import Hotel, Leg, Meal, Visit
from trl_multiturn.environments.travel.solver import Undecided, _in_order
from trl_multiturn.environments.travel.solver_days import MEAL_STARTS, Frame, Poi, schedule_day
from trl_multiturn.environments.travel.solver_options import find_legs, find_stays, to_local, to_utc
from trl_multiturn.environments.travel.tasks import draw_tasks
from trl_multiturn.rewards.verifiers import TrajectoryVerifier


@pytest.fixture(scope="module")
def world():
    return TravelWorld(cities=["Beijing", "Shanghai", "Paris", "London", "Rome", "New York"])


def query(**changes):
    values = {
        "id": "q",
        "level": "hard",
        "origin": "Beijing",
        "stays": [Stay(city="Shanghai", nights=2)],
        "start_date": date(2026, 3, 4),
    }
    return TravelQuery(**(values | changes))


def random_query(rng, world, i):
    """A request about anything; many cannot be met."""
    route = rng.sample(world.cities, rng.choice((2, 2, 3)))
    return TravelQuery(
        id=str(i),
        level="hard",
        origin=route[0],
        stays=[Stay(city=city, nights=rng.randint(1, 3)) for city in route[1:]],
        start_date=world.today + timedelta(days=rng.randint(1, 300)),
        adults=rng.randint(1, 4),
        transport=rng.choice((None, None, "flight", "train")),
        min_star=rng.choice((None, None, 3, 4)),
        depart_after=rng.choice((None, None, "12:00")),
        return_before=rng.choice((None, None, "18:00")),
        categories=rng.sample(CATEGORIES, rng.choice((0, 0, 1, 2))),
        meals=rng.random() < 0.3,
        max_active_hours=rng.choice((14, 14, 10)),
    )


def items_of(solution, kind):
    return [item for _, item in solution.itinerary.items() if isinstance(item, kind)]


class TestPlans:
    def test_random_requests_get_plans_that_pass_or_a_reason(self, world):
        verifier, rng = TrajectoryVerifier(world), random.Random(0)
        feasible = 0
        for i in range(200):
            asked = random_query(rng, world, i)
            solution = solve(asked, world)
            assert solution.proof
            assert parse_itinerary(solution.itinerary.to_json()) == solution.itinerary
            if solution.feasible:
                feasible += 1
                verdict = verifier(asked, solution.itinerary)
                assert verdict.passed, (asked, verdict)
                assert solution.itinerary.total_price == solution.cost
            else:
                assert solution.itinerary == Itinerary(feasible=False, reason=solution.obstacle.text)
        assert 50 < feasible < 180  # both kinds are tried

    @pytest.mark.slow
    def test_plans_of_a_thousand_tasks_pass(self):
        world = TravelWorld()
        verifier = TrajectoryVerifier(world)
        for asked, _, solution in itertools.islice(draw_tasks("train", world=world), 1000):
            assert solution.feasible == (asked.level != "infeasible")
            assert verifier(asked, solution.itinerary).passed, asked

    def test_the_same_each_time(self, world):
        asked = query(categories=["museum", "park"], meals=True)
        other = TravelWorld(cities=["Beijing", "Shanghai", "Paris", "London", "Rome", "New York"])
        assert solve(asked, world) == solve(asked, world) == solve(asked, other)

    def test_everything_asked_for_is_in_the_plan(self, world):
        asked = query(categories=["museum", "park"], meals=True, stays=[Stay(city="Shanghai", nights=3)])
        solution = solve(asked, world)
        assert sorted(world.poi(visit.id)["category"] for visit in items_of(solution, Visit)) == ["museum", "park"]
        assert [meal.meal for meal in items_of(solution, Meal)] == ["lunch", "dinner"] * 2
        assert len(items_of(solution, Leg)) == 2 and [bed.nights for bed in items_of(solution, Hotel)] == [3]

    def test_the_hotel_stays_the_same_where_that_is_possible(self, world):
        for day in range(30):
            solution = solve(query(start_date=date(2026, 3, 1) + timedelta(days=day)), world)
            assert not solution.feasible or len(items_of(solution, Hotel)) == 1

    def test_an_unknown_city_is_an_error(self, world):
        with pytest.raises(ToolError, match="unknown_city"):
            solve(query(origin="Atlantis"), world)
        with pytest.raises(ToolError, match="past_date"):
            solve(query(start_date=date(2025, 3, 4)), world)


class TestCheapest:
    def test_no_combination_of_legs_and_hotels_is_cheaper(self, world):
        """All combinations by hand, without the solver's order and bounds."""
        verifier, rng = TrajectoryVerifier(world), random.Random(3)
        checked = 0
        for i in range(30):
            asked = random_query(rng, world, i).model_copy(
                update={
                    "categories": [],
                    "meals": False,
                    "stays": [Stay(city="Shanghai", nights=2)],
                    "origin": "Beijing",
                }
            )
            solution = solve(asked, world)
            if not solution.feasible:
                continue
            checked += 1
            costs = [
                out.cost + home.cost + stay.cost
                for out in find_legs(asked, world, 0)
                for home in find_legs(asked, world, 1)
                for stay in find_stays(asked, world, 0, change_hotels=False)
                if _passes(verifier, asked, world, out, stay, home)
            ]
            assert solution.cost == min(costs)
        assert checked > 5

    def test_the_budget_is_met_to_the_dollar(self, world):
        asked = query(categories=["museum"], adults=3)
        cost = solve(asked, world).cost
        assert solve(asked.model_copy(update={"budget": cost}), world).cost == cost

    def test_below_the_cheapest_plan_there_is_none(self, world):
        asked = query(categories=["museum"], adults=3)
        # Hotels may be changed to save money, so the least of all is what the proof says.
        cheapest = solve(asked.model_copy(update={"budget": 1}), world).obstacle.cheapest
        assert cheapest <= solve(asked, world).cost
        assert solve(asked.model_copy(update={"budget": cheapest}), world).cost == cheapest
        refused = solve(asked.model_copy(update={"budget": cheapest - 1}), world)
        assert refused.obstacle.kind == "budget" and str(cheapest) in refused.proof

    def test_combinations_come_in_order_and_once(self):
        class Choice:
            def __init__(self, cost):
                self.cost = cost

        rng = random.Random(0)
        groups = [[Choice(cost) for cost in sorted(rng.randint(0, 9) for _ in range(4))] for _ in range(3)]
        found = list(_in_order(groups))
        costs = [sum(choice.cost for choice in chosen) for chosen in found]
        assert costs == sorted(costs) and len(set(found)) == len(found) == 64


def _passes(verifier, asked, world, out, stay, home):
    tz = world.city(asked.stays[0].city).tz
    bed = stay.beds[0]
    check_in = to_local(max(bed.opens, out.end + world.route_minutes(out.destination, bed.hotel)), tz)
    if check_in.date() != bed.check_in:
        return False
    legs = [
        Leg(
            type=leg.type,
            id=leg.number,
            origin=leg.origin,
            destination=leg.destination,
            depart=leg.depart,
            arrive=leg.arrive,
            price=float(leg.price),
        )
        for leg in (out, home)
    ]
    hotel = Hotel(type="hotel", id=bed.hotel, check_in=check_in, nights=bed.nights, price=float(bed.price))
    days = [{"date": day, "items": []} for day in asked.dates]
    days[0]["items"] = [legs[0], hotel]
    days[-1]["items"] = [legs[1]]
    return verifier(asked, Itinerary(feasible=True, days=days)).passed


class TestObstacles:
    """Each kind of obstacle, by a request that has it and that can be met without it."""

    def refused(self, world, kind, text, **changes):
        solution = solve(query(**changes), world)
        assert not solution.feasible and solution.cost is None
        assert solution.obstacle.kind == kind, solution.obstacle
        assert text in solution.proof
        return solution

    def test_connection(self):
        world = TravelWorld(cities=["Lhasa", "Nairobi", "Beijing"])
        changes = {"origin": "Lhasa", "stays": [Stay(city="Nairobi", nights=1)]}
        self.refused(world, "connection", "no direct flight or train from Lhasa to Nairobi on 2026-03-04", **changes)

    def test_transport(self, world):
        changes = {"origin": "London", "stays": [Stay(city="New York", nights=1)]}
        self.refused(world, "transport", "There is no train from London to New York", transport="train", **changes)

    def test_seats(self, world):
        found = 0
        for day in range(60):
            asked = query(
                start_date=date(2026, 3, 1) + timedelta(days=day), adults=8, cabin="business", transport="flight"
            )
            obstacle = solve(asked, world).obstacle
            if obstacle is not None and obstacle.kind == "seats":
                found += 1
                here, there = (("Beijing", "Shanghai"), ("Shanghai", "Beijing"))[obstacle.position]
                when = asked.start_date if obstacle.position == 0 else asked.end_date
                rows = world.search_flights(here, there, when, cabin="business")
                assert rows and all(row["seats_left"] < 8 for row in rows)
        assert found

    def test_depart_after(self, world):
        self.refused(world, "depart_after", "before 23:50", depart_after="23:50")

    def test_return_before(self, world):
        solution = self.refused(
            world, "return_before", "arrives by 05:00; the earliest arrival is", return_before="05:00"
        )
        assert solution.obstacle.position == 1

    def test_arrival(self, world):
        # Going east over the ocean, every flight lands on the next day.
        changes = {"origin": "New York", "stays": [Stay(city="Beijing", nights=2)], "max_active_hours": 24}
        self.refused(world, "arrival", "arrives on the same day", **changes)

    def test_load(self, world):
        changes = {"origin": "Paris", "stays": [Stay(city="New York", nights=1)], "max_active_hours": 4}
        self.refused(world, "load", "takes longer than 4 hours", **changes)

    def test_rooms(self, world):
        found = 0
        for day in range(40):
            asked = query(start_date=date(2026, 3, 1) + timedelta(days=day), adults=8, min_star=5)
            obstacle = solve(asked, world).obstacle
            if obstacle is not None and obstacle.kind == "rooms":
                found += 1
                nights = [
                    world.search_hotels("Shanghai", night, night + timedelta(days=1), min_star=5)
                    for night in asked.dates[:-1]
                ]
                assert any(all(row["rooms_left"] < 4 for row in rows) for rows in nights)
        assert found

    def test_category(self):
        """A kind of sight whose only places of a city are closed on both days of a trip."""
        world, monday = TravelWorld(), date(2026, 3, 2)
        refused = []
        for city, category, i in itertools.product(world.cities, ("gallery", "museum", "palace"), range(7)):
            days = [monday + timedelta(days=i + j) for j in (0, 1)]
            rows = world.search_pois(city, category=category)
            if any(Poi.of(row).is_open(day) for row in rows for day in days):
                continue
            origin = "Paris" if city != "Paris" else "London"
            asked = query(origin=origin, stays=[Stay(city=city, nights=1)], start_date=days[0], categories=[category])
            if solve(asked.model_copy(update={"categories": []}), world).feasible:
                obstacle = solve(asked, world).obstacle
                refused.append((obstacle.kind, obstacle.text))
                assert obstacle.text == f"There is no {category} in {city} that is open on a day of the stay."
        assert refused and {kind for kind, _ in refused} == {"category"}

    def test_schedule(self, world):
        # The museums of Paris are open, but not when the day of arrival and the day of departure leave time.
        one_night = {"stays": [Stay(city="Paris", nights=1)]}
        self.refused(world, "schedule", "leaves time for everything", categories=["museum"], **one_night)
        assert solve(query(**one_night), world).feasible
        assert solve(query(stays=[Stay(city="Paris", nights=2)], categories=["museum"]), world).feasible

    def test_too_many_combinations_are_no_answer(self, world, monkeypatch):
        monkeypatch.setattr(solver_module, "MAX_CHAINS", 2)
        asked = query(stays=[Stay(city="Shanghai", nights=1)], categories=list(CATEGORIES))
        with pytest.raises(Undecided, match="no answer for q after 2"):
            solve(asked, world)


class TestDays:
    """The schedule of a day against all orders on a grid of five minutes."""

    DAY = date(2026, 3, 4)

    def fits_on_a_grid(self, asked, world, pois, meals, tz):
        items = [*pois, *(MEAL_STARTS if meals else ())]
        best = None
        for order in itertools.permutations(items):
            for first in range(0, 24 * 60, 5):
                start_of_day = to_utc(datetime.combine(self.DAY, datetime.min.time()), tz)
                time, ready, place, begin, possible = start_of_day + first, -(10**9), None, None, True
                for item in order:
                    if isinstance(item, str):
                        low, high = (to_utc(datetime.combine(self.DAY, clock), tz) for clock in MEAL_STARTS[item])
                        start, length = max(time, low), 45
                    else:
                        low = to_utc(datetime.combine(self.DAY, item.opens), tz)
                        high = to_utc(datetime.combine(self.DAY, item.closes), tz) - item.minutes
                        way = world.route_minutes(place, item.id) if place else 0
                        start, length = max(time, low, ready + way), item.minutes
                    if start > high:
                        possible = False
                        break
                    begin = start if begin is None else begin
                    time = start + length
                    ready, place = (ready + length, place) if isinstance(item, str) else (time, item.id)
                if possible:
                    best = min(time - begin, best if best is not None else 10**9)
        return best is not None and best <= asked.max_active_hours * 60

    def test_a_day_is_refused_exactly_where_no_order_fits(self, world):
        rng, outcomes = random.Random(5), []
        rows = [row for row in world.search_pois("Shanghai") if Poi.of(row).is_open(self.DAY)]
        tz = world.city("Shanghai").tz
        for _ in range(30):
            pois = tuple(Poi.of(row) for row in rng.sample(rows, rng.randint(1, 3)))
            meals = rng.random() < 0.5
            asked = query(max_active_hours=rng.choice((3, 4, 6, 8, 10)))
            frame = Frame(self.DAY, None, None, "Shanghai", None, meals)
            found = schedule_day(asked, world, frame, pois)
            assert (found is not None) == self.fits_on_a_grid(asked, world, pois, meals, tz)
            outcomes.append(found is not None)
        assert 5 < sum(outcomes) < 25

    def test_an_empty_day_has_nothing(self, world):
        assert schedule_day(query(), world, Frame(self.DAY, None, None, "Shanghai", None, False), ()) == []


class TestClock:
    @pytest.mark.parametrize(
        ("local", "tz", "utc"),
        [
            (datetime(2026, 3, 4, 8), "Asia/Shanghai", datetime(2026, 3, 4)),
            (datetime(2026, 3, 8, 1, 59), "America/New_York", datetime(2026, 3, 8, 6, 59)),
            (datetime(2026, 3, 8, 3), "America/New_York", datetime(2026, 3, 8, 7)),
        ],
    )
    def test_there_and_back(self, local, tz, utc):
        minutes = to_utc(local, tz)
        assert minutes == (utc - datetime(1970, 1, 1)).total_seconds() / 60
        assert to_local(minutes, tz) == local
