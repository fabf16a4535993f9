"""Shop: products by search or among the deals, a product's options, the cart, saved products and orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import field, listed, tabs, toggle


if TYPE_CHECKING:
    from ..state import PhoneState

TABS = (("main", "Home"), ("saved", "Saved"), ("cart", "Cart"), ("orders", "Orders"))
MAX_COUNT = 9


class Shop(App):
    """
    A shop. Products in its data have a `name`, a `price`, `options` of which one has to be chosen (may be empty) and whether they
    are a `deal`, shown on the first screen. A cart's key is `<product>:<option>`.
    """

    name = "Shop"

    def data(self) -> dict[str, Any]:
        products = {
            "p1": {"name": "Kettle", "price": 29, "options": ["Black", "White"], "deal": True},
            "p2": {"name": "Kettle Pro", "price": 45, "options": ["Black", "White"], "deal": False},
            "p3": {"name": "Running Shoes", "price": 79, "options": ["38", "40", "42"], "deal": True},
            "p4": {"name": "Running Shoes 2", "price": 89, "options": ["38", "40", "42"], "deal": False},
            "p5": {"name": "Desk Lamp", "price": 25, "options": [], "deal": False},
            "p6": {"name": "Desk Lamp Mini", "price": 19, "options": [], "deal": False},
        }
        orders = {"o1": {"name": "Desk Lamp", "price": 25, "status": "Open"}}
        return {"products": products, "cart": {}, "saved": {}, "orders": orders, "coupon": "none"}

    # --- what is shown

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        if name == "main":
            search = field(state, "search", "Search products")
            deals = [_product_row(key, p) for key, p in state.get("Shop", "products").items() if p["deal"]]
            return Screen(
                "Shop", (search, Widget("deals", "label", "Deals of the day"), *deals), tabs=tabs(TABS, name)
            )
        if name == "results":
            words = params["query"].casefold()
            found = [(key, p) for key, p in state.get("Shop", "products").items() if words in p["name"].casefold()]
            return Screen("Results", listed([_product_row(*item) for item in found], "Nothing found"))
        if name == "product":
            return self._product(state, params)
        if name == "reviews":
            lines = ("Good for the price.", "Came late, works well.", "Too small for me.")
            return Screen("Reviews", tuple(Widget(f"review:{i}", "label", line) for i, line in enumerate(lines)))
        if name == "saved":
            rows = [_product_row(key, state.get("Shop", "products", key)) for key in state.get("Shop", "saved")]
            return Screen("Saved", listed(rows, "Nothing saved"), tabs=tabs(TABS, name))
        if name == "cart":
            rows = [Widget(f"item:{key}", "row", *self._item(state, key)) for key in state.get("Shop", "cart")]
            order = (Widget("order", "button", "Place order"),) if rows else ()
            return Screen("Cart", (*listed(rows, "The cart is empty"), *order), tabs=tabs(TABS, name))
        if name == "item":
            title, detail = self._item(state, params["item"])
            buttons = (("more", "One more"), ("fewer", "One fewer"), ("remove", "Remove from cart"))
            body = (Widget("what", "label", title, detail), *(Widget(key, "button", text) for key, text in buttons))
            return Screen("In your cart", body)
        if name == "orders":
            rows = [
                Widget(f"order:{key}", "row", order["name"], f"{order['status']}, {order['price']} USD")
                for key, order in state.get("Shop", "orders").items()
            ]
            return Screen("Orders", listed(rows, "No orders"), tabs=tabs(TABS, name))
        return self._order(state, params["order"])

    def _product(self, state: PhoneState, params: dict[str, Any]) -> Screen:
        key = params["product"]
        product = state.get("Shop", "products", key)
        options = (
            Widget(f"option:{option}", "row", option, on=option == params["option"]) for option in product["options"]
        )
        body = (
            Widget("what", "label", product["name"], f"{product['price']} USD"),
            Widget("save", "switch", "Saved", on=state.get("Shop", "saved", key) is not None),
            Widget("reviews", "row", "Reviews"),
            *options,
            Widget("add", "button", "Add to cart"),
        )
        return Screen("Product", body)

    def _item(self, state: PhoneState, key: str) -> tuple[str, str]:
        """A thing in the cart in words: its name, and the option with the count."""
        item = state.get("Shop", "cart", key)
        name = state.get("Shop", "products", item["product"])["name"]
        return name, ", ".join(part for part in (item["option"], f"count {item['count']}") if part)

    def _order(self, state: PhoneState, key: str) -> Screen:
        order = state.get("Shop", "orders", key)
        body = [Widget("what", "label", order["name"], f"{order['status']}, {order['price']} USD")]
        if order["status"] == "Open":
            body.append(Widget("cancel", "button", "Cancel order"))
        if order["status"] == "Shipped":
            body.append(Widget("received", "button", "Confirm receipt"))
        body.append(Widget("help", "row", "Help with this order"))
        return Screen("Order", tuple(body))

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        if name == "coupon":
            buttons = (Widget("claim", "button", "Claim coupon"), Widget("close", "button", "No, thanks"))
            return Popup("A coupon for you", "10 USD off your next order.", buttons)
        if name == "order":
            buttons = (Widget("pay", "button", "Pay"), Widget("close", "button", "Not now"))
            return Popup("Place the order?", "All that is in the cart is ordered.", buttons)
        buttons = (Widget("keep", "button", "Keep order"), Widget("cancel", "button", "Cancel order"))
        return Popup("Cancel the order?", "This cannot be taken back.", buttons)

    # --- what is done

    def opened(self, state: PhoneState) -> None:
        if state.get("Shop", "coupon") == "offered":
            state.show_popup("coupon")

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        query = (state.field("search") or "").strip()
        if not query:
            return False
        state.push("results", query=query)
        return True

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, key = widget.partition(":")
        if kind == "tab":
            state.replace(key)
        elif kind == "product":
            state.push("product", product=key, option="")
        elif kind == "item":
            state.push("item", item=key)
        elif kind == "order" and key:
            state.push("order", order=key)
        elif kind == "order":
            state.show_popup("order")
        elif kind == "help":
            state.show_toast("Nobody is there right now")
        elif screen == "product":
            self._tap_product(state, params, kind, key)
        elif screen == "item":
            self._tap_item(state, params["item"], kind)
        elif kind == "cancel":
            state.show_popup("cancel", order=params["order"])
        elif kind == "received":
            state.set("Shop", "orders", params["order"], "status", value="Received")

    def _tap_product(self, state: PhoneState, params: dict[str, Any], kind: str, option: str) -> None:
        key = params["product"]
        if kind == "reviews":
            state.push("reviews", product=key)
        elif kind == "option":
            state.replace("product", product=key, option=option)
        elif kind == "save":
            toggle(state, "Shop", "saved", key)
        elif state.get("Shop", "products", key)["options"] and not params["option"]:
            state.show_toast("Choose an option first")
        else:
            item = f"{key}:{params['option']}"
            count = (state.get("Shop", "cart", item, "count") or 0) + 1
            value = {"product": key, "option": params["option"], "count": min(count, MAX_COUNT)}
            state.set("Shop", "cart", item, value=value)
            state.show_toast("Added to cart")

    def _tap_item(self, state: PhoneState, key: str, kind: str) -> None:
        count = state.get("Shop", "cart", key, "count") + {"more": 1, "fewer": -1}.get(kind, 0)
        if kind == "remove" or count == 0:
            state.pop()
            state.remove("Shop", "cart", key)
        elif count <= MAX_COUNT:
            state.set("Shop", "cart", key, "count", value=count)

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        if widget == "claim":
            state.set("Shop", "coupon", value="claimed")
        elif widget == "pay":
            for key, item in state.get("Shop", "cart").items():
                product = state.get("Shop", "products", item["product"])
                order = {"name": product["name"], "price": product["price"] * item["count"], "status": "Open"}
                state.set("Shop", "orders", f"new-{key}", value=order)
            state.set("Shop", "cart", value={})
            state.replace("orders")
        elif widget == "cancel":
            state.set("Shop", "orders", params["order"], "status", value="Cancelled")


def _product_row(key: str, product: dict[str, Any]) -> Widget:
    return Widget(f"product:{key}", "row", product["name"], f"{product['price']} USD")
