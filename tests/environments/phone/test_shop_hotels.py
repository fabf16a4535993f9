import random

import pytest

from trl_multiturn.environments.phone.apps.hotels import DAYS, NIGHTS
from trl_multiturn.environments.phone.task_templates import hotels as hotel_tasks
from trl_multiturn.environments.phone.task_templates import shop as shop_tasks

from .app_case import phone, shown


def search(state, field, text):
    state.tap(field)
    state.type_text(text)
    return state.enter()


class TestShop:
    def test_the_search_finds_what_the_words_are_part_of(self):
        state = phone("Shop")
        assert search(state, "search", " kettle pro ")
        assert shown(state) == ["product:p2"]
        state.back()
        assert search(state, "search", "KETTLE")
        assert shown(state) == ["product:p1", "product:p2"]
        state.back()
        assert search(state, "search", "sofa")
        assert shown(state) == ["empty"]

    def test_an_empty_search_does_nothing(self):
        state = phone("Shop")
        state.tap("search")
        assert not state.enter()
        assert state.top["screen"] == "main"

    def test_only_deals_are_on_the_first_screen(self):
        assert shown(phone("Shop")) == ["search", "deals", "product:p1", "product:p3"]

    def test_a_product_with_options_needs_one(self):
        state = phone("Shop")
        state.tap("product:p1")
        state.tap("add")
        assert state.toast and state.get("Shop", "cart") == {}
        state.tap("option:White")
        state.tap("add")
        state.tap("add")
        assert state.get("Shop", "cart") == {"p1:White": {"product": "p1", "option": "White", "count": 2}}

    def test_saved_is_a_switch(self):
        state = phone("Shop")
        state.tap("product:p1")
        state.tap("save")
        assert state.get("Shop", "saved") == {"p1": True}
        state.tap("save")
        assert state.get("Shop", "saved") == {}

    def test_one_fewer_than_one_is_none(self):
        state = phone("Shop", cart={"p5:": {"product": "p5", "option": "", "count": 2}})
        state.tap("tab:cart")
        state.tap("item:p5:")
        state.tap("fewer")
        assert state.get("Shop", "cart", "p5:", "count") == 1
        state.tap("fewer")
        assert state.get("Shop", "cart") == {}
        assert shown(state) == ["empty"]

    def test_a_count_has_a_bound(self):
        state = phone("Shop", cart={"p5:": {"product": "p5", "option": "", "count": 9}})
        state.tap("tab:cart")
        state.tap("item:p5:")
        state.tap("more")
        assert state.get("Shop", "cart", "p5:", "count") == 9

    def test_an_order_is_placed_only_when_it_is_paid(self):
        state = phone("Shop", cart={"p2:Black": {"product": "p2", "option": "Black", "count": 2}})
        state.tap("tab:cart")
        before = state.data
        state.tap("order")
        state.tap("close")
        assert state.data is before
        state.tap("order")
        state.tap("pay")
        assert state.get("Shop", "cart") == {}
        assert state.get("Shop", "orders", "new-p2:Black") == {"name": "Kettle Pro", "price": 90, "status": "Open"}

    @pytest.mark.parametrize(
        ("status", "button", "after"), [("Open", "cancel", "Open"), ("Shipped", "received", "Received")]
    )
    def test_what_an_order_offers_depends_on_its_status(self, status, button, after):
        state = phone("Shop", orders={"o1": {"name": "Kettle", "price": 29, "status": status}})
        state.tap("tab:orders")
        state.tap("order:o1")
        assert [i for i in shown(state) if i in ("cancel", "received")] == [button]
        state.tap(button)
        state.tap("keep")
        assert state.get("Shop", "orders", "o1", "status") == after

    def test_a_cancelled_order_stays_so(self):
        state = phone("Shop")
        for widget in ("tab:orders", "order:o1", "cancel", "cancel"):
            assert state.tap(widget)
        assert state.get("Shop", "orders", "o1", "status") == "Cancelled"
        assert "cancel" not in shown(state)

    @pytest.mark.parametrize(("button", "coupon"), [("claim", "claimed"), ("close", "offered")])
    def test_the_coupon_comes_until_it_is_claimed(self, button, coupon):
        state = phone("Shop", coupon="offered")
        assert not state.tap("product:p1")
        assert state.tap(button)
        assert state.get("Shop", "coupon") == coupon
        state.open_app("Shop")
        assert (state.popup is not None) == (coupon == "offered")

    def test_products_of_a_task_have_namesakes(self):
        for seed in range(20):
            shelf = shop_tasks._Shelf(random.Random(seed))
            names = [product["name"] for product in shelf.products.values()]
            assert len(names) == len(set(names)) == 12
            assert sum(product["deal"] for product in shelf.products.values()) == 4
            assert shelf.key not in shelf.similar and len(shelf.similar) == 2


class TestHotels:
    def test_a_city_is_found_by_its_whole_name(self):
        state = phone("Hotels")
        search(state, "city", "Ber")
        assert state.top["screen"] == "main" and "ber" in state.toast
        search(state, "city", "bergen ")
        assert shown(state) == ["hotel:h1", "hotel:h2"]

    def test_the_button_searches_too(self):
        state = phone("Hotels")
        state.tap("search")
        assert state.toast
        state.tap("city")
        state.type_text("Bern")
        state.tap("search")
        assert shown(state) == ["hotel:h3"]

    def test_filters_leave_out_hotels(self):
        state = phone("Hotels")
        search(state, "city", "Bergen")
        state.tap("filter")
        state.tap("only:pool")
        state.tap("show")
        assert shown(state) == ["hotel:h2"]
        state.tap("filter")
        state.tap("only:breakfast")
        state.tap("show")
        assert shown(state) == ["empty"]

    def test_a_booking_has_the_dates_that_were_chosen(self):
        state = phone("Hotels")
        for widget in ("day", f"value:{DAYS[3]}", "nights", f"value:{NIGHTS[2]}"):
            assert state.tap(widget)
        search(state, "city", "Bergen")
        state.tap("hotel:h1")
        state.tap("room:Double room")
        state.tap("close")
        assert len(state.get("Hotels", "bookings")) == 1
        state.tap("room:Double room")
        state.tap("confirm")
        booking = {"hotel": "h1", "room": "Double room", "day": DAYS[3], "nights": NIGHTS[2], "late": False}
        assert state.get("Hotels", "bookings", "h1:Double room") == booking

    def test_typed_text_is_still_there_after_a_date_was_chosen(self):
        state = phone("Hotels")
        state.tap("city")
        state.type_text("Bern")
        state.tap("day")
        state.tap(f"value:{DAYS[1]}")
        assert state.screen().body[0].value == "Bern"

    def test_a_booking_is_cancelled_after_a_question(self):
        state = phone("Hotels")
        state.tap("tab:bookings")
        state.tap("booking:h3:Single room")
        state.tap("late")
        assert state.get("Hotels", "bookings", "h3:Single room", "late") is True
        state.tap("cancel")
        state.tap("keep")
        assert state.get("Hotels", "bookings")
        state.tap("cancel")
        state.tap("cancel")
        assert state.get("Hotels", "bookings") == {} and shown(state) == ["empty"]

    def test_a_call_is_no_way_to_anything(self):
        state = phone("Hotels")
        before = state.data
        for widget in ("tab:bookings", "booking:h3:Single room", "call", "dial"):
            assert state.tap(widget)
        assert state.toast and state.data is before

    def test_hotels_of_a_task_have_namesakes_in_the_same_city(self):
        for seed in range(20):
            town = hotel_tasks._Town(random.Random(seed))
            cities = {town.hotels[key]["city"] for key in (town.key, *town.similar, *town.far)}
            assert cities == {town.city} and len(town.similar) == 2
            assert len({hotel["name"] for hotel in town.hotels.values()}) == len(town.hotels) == 9
