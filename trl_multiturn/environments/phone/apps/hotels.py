"""Hotels: a city and dates, hotels with filters, rooms, bookings and saved hotels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import field, listed, tabs, toggle


if TYPE_CHECKING:
    from ..state import PhoneState

TABS = (("main", "Search"), ("bookings", "Bookings"), ("saved", "Saved"))
DAYS = ("Mon 1 June", "Tue 2 June", "Wed 3 June", "Thu 4 June", "Fri 5 June", "Sat 6 June", "Sun 7 June", "Mon 8 June")
NIGHTS = ("1 night", "2 nights", "3 nights", "4 nights", "5 nights")
FILTERS = {"breakfast": "Breakfast", "pool": "Pool", "pets": "Pets allowed"}


class Hotels(App):
    """
    A hotel portal. Hotels in its data have a `name`, a `city`, `offers` (keys of [`FILTERS`]) and `rooms` (price of a night by name).
    What is being looked for (`day`, `nights`, `filters`) is data as well; a booking's key is `<hotel>:<room>`.
    """

    name = "Hotels"

    def data(self) -> dict[str, Any]:
        rooms = {"Single room": 70, "Double room": 95, "Double room, sea": 120}
        hotels = {
            "h1": {"name": "Harbor Inn", "city": "Bergen", "offers": {"breakfast": True}, "rooms": rooms},
            "h2": {"name": "Harbor Inn West", "city": "Bergen", "offers": {"pool": True}, "rooms": rooms},
            "h3": {"name": "Park Hotel", "city": "Bern", "offers": {"pets": True}, "rooms": rooms},
        }
        booking = {"hotel": "h3", "room": "Single room", "day": DAYS[6], "nights": NIGHTS[1], "late": False}
        search = {"day": DAYS[0], "nights": NIGHTS[0], "filters": {}}
        return {"hotels": hotels, "search": search, "bookings": {"h3:Single room": booking}, "saved": {}}

    # --- what is shown

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        search = state.get("Hotels", "search")
        if name == "main":
            body: tuple[Widget, ...] = (
                field(state, "city", "City"),
                Widget("day", "row", "Check-in", search["day"]),
                Widget("nights", "row", "Length of stay", search["nights"]),
                Widget("search", "button", "Search"),
                Widget("offers", "row", "Offers of the week"),
            )
            return Screen("Hotels", body, tabs=tabs(TABS, name))
        if name == "choose":
            values = DAYS if params["what"] == "day" else NIGHTS
            body = tuple(Widget(f"value:{v}", "row", v, on=v == search[params["what"]]) for v in values)
            return Screen("Check-in" if params["what"] == "day" else "Length of stay", body)
        if name == "results":
            rows = [_hotel_row(key, h) for key, h in state.get("Hotels", "hotels").items() if _fits(h, params, search)]
            return Screen(params["city"], listed(rows, "No hotel fits"), (Widget("filter", "button", "Filter"),))
        if name == "filter":
            switches = (Widget(f"only:{k}", "switch", text, on=k in search["filters"]) for k, text in FILTERS.items())
            return Screen("Filter", (*switches, Widget("show", "button", "Show hotels")))
        if name == "hotel":
            return self._hotel(state, params["hotel"])
        if name == "bookings":
            rows = [Widget(f"booking:{k}", "row", *_booking(state, k)) for k in state.get("Hotels", "bookings")]
            return Screen("Bookings", listed(rows, "No bookings"), tabs=tabs(TABS, name))
        if name == "booking":
            return self._booking(state, params["booking"])
        if name == "saved":
            rows = [_hotel_row(key, state.get("Hotels", "hotels", key)) for key in state.get("Hotels", "saved")]
            return Screen("Saved", listed(rows, "Nothing saved"), tabs=tabs(TABS, name))
        return Screen("Offers", (Widget("none", "label", "No offers this week"),))

    def _hotel(self, state: PhoneState, key: str) -> Screen:
        hotel = state.get("Hotels", "hotels", key)
        offers = ", ".join(text for name, text in FILTERS.items() if name in hotel["offers"])
        rooms = (Widget(f"room:{room}", "row", room, f"{price} USD a night") for room, price in hotel["rooms"].items())
        body = (
            Widget("what", "label", hotel["name"], offers or hotel["city"]),
            Widget("save", "switch", "Saved", on=state.get("Hotels", "saved", key) is not None),
            *rooms,
            Widget("call", "row", "Call the hotel"),
        )
        return Screen("Hotel", body)

    def _booking(self, state: PhoneState, key: str) -> Screen:
        name, detail = _booking(state, key)
        booking = state.get("Hotels", "bookings", key)
        body = (
            Widget("what", "label", name, detail),
            Widget("room", "label", booking["room"]),
            Widget("late", "switch", "Late check-out", on=booking["late"]),
            Widget("call", "row", "Call the hotel"),
            Widget("cancel", "button", "Cancel booking"),
        )
        return Screen("Booking", body)

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        if name == "book":
            search, hotel = state.get("Hotels", "search"), state.get("Hotels", "hotels", params["hotel"])
            buttons = (Widget("confirm", "button", "Book now"), Widget("close", "button", "Not yet"))
            return Popup("Book this room?", f"{hotel['name']}, {search['day']}, {search['nights']}", buttons)
        if name == "call":
            buttons = (Widget("dial", "button", "Call"), Widget("close", "button", "Close"))
            return Popup("Call the hotel?", "The desk is open day and night.", buttons)
        buttons = (Widget("keep", "button", "Keep booking"), Widget("cancel", "button", "Cancel booking"))
        return Popup("Cancel the booking?", "The room is given to others.", buttons)

    # --- what is done

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        return self._search(state)

    def _search(self, state: PhoneState) -> bool:
        words = (state.field("city") or "").strip().casefold()
        cities = {hotel["city"] for hotel in state.get("Hotels", "hotels").values()}
        city = next((city for city in sorted(cities) if city.casefold() == words), None)
        if city is None:
            state.show_toast(f"No hotels in {words[:20]}" if words else "Enter a city")
            return bool(words)
        state.push("results", city=city)
        return True

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, key = widget.partition(":")
        if kind == "tab":
            state.replace(key)
        elif kind == "search":
            self._search(state)
        elif kind == "call":
            state.show_popup("call")
        elif kind in ("day", "nights"):
            state.push("choose", what=kind)
        elif kind in ("filter", "offers"):
            state.push(kind)
        elif kind in ("hotel", "booking"):
            state.push(kind, **{kind: key})
        elif kind == "value":
            state.pop()
            state.set("Hotels", "search", params["what"], value=key)
        elif kind == "show":
            state.pop()
        elif kind == "only":
            toggle(state, "Hotels", "search", "filters", key)
        elif kind == "save":
            toggle(state, "Hotels", "saved", params["hotel"])
        elif kind == "room":
            state.show_popup("book", hotel=params["hotel"], room=key)
        elif kind == "late":
            path = ("Hotels", "bookings", params["booking"], "late")
            state.set(*path, value=not state.get(*path))
        elif kind == "cancel":
            state.show_popup("cancel", booking=params["booking"])

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        if widget == "confirm":
            search = state.get("Hotels", "search")
            booking = {**params, "day": search["day"], "nights": search["nights"], "late": False}
            state.set("Hotels", "bookings", f"{params['hotel']}:{params['room']}", value=booking)
            state.show_toast("Booked")
        elif widget == "cancel":
            state.pop()
            state.remove("Hotels", "bookings", params["booking"])
        elif widget == "dial":
            state.show_toast("The line is busy")


def _fits(hotel: dict[str, Any], params: dict[str, Any], search: dict[str, Any]) -> bool:
    return hotel["city"] == params["city"] and all(name in hotel["offers"] for name in search["filters"])


def _hotel_row(key: str, hotel: dict[str, Any]) -> Widget:
    return Widget(f"hotel:{key}", "row", hotel["name"], f"{hotel['city']}, from {min(hotel['rooms'].values())} USD")


def _booking(state: PhoneState, key: str) -> tuple[str, str]:
    """A booking in words: the hotel's name, and the dates."""
    booking = state.get("Hotels", "bookings", key)
    return state.get("Hotels", "hotels", booking["hotel"], "name"), f"{booking['day']}, {booking['nights']}"
