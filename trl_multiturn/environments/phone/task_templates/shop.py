"""Tasks in the shop."""

import random
from functools import partial
from typing import Any

from ..task import Condition, Path, PhoneTask
from .common import app_task


SIZES = ("38", "40", "42", "44")
COLOURS = ("Black", "White", "Red", "Blue", "Green")
# Names that are easily mixed up, and what there is to choose from.
FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("Running Shoes", "Running Shoes 2", "Running Shoes Pro", "Runner Shoes"), SIZES),
    (("Rain Boots", "Rain Boots Light", "Rainy Boots", "Rain Boots 2"), SIZES),
    (("Hiking Shoes", "Hiking Shoes Mid", "Hiking Shoes 2", "Hike Shoes"), SIZES),
    (("Kettle", "Kettle Pro", "Kettle Pro 2", "Mini Kettle"), COLOURS),
    (("Travel Mug", "Travel Mug XL", "Travel Cup", "Travel Mug Lite"), COLOURS),
    (("City Backpack", "City Backpack 2", "City Bag", "City Backpack Mini"), COLOURS),
    (("Wool Hat", "Wool Hat Kids", "Wool Cap", "Wool Hat Soft"), COLOURS),
    (("Desk Lamp", "Desk Lamp Mini", "Desk Light", "Desk Lamp Duo"), ()),
    (("Yoga Mat", "Yoga Mat Thick", "Yoga Mat Pro", "Yogi Mat"), ()),
    (("Phone Holder", "Phone Holder Car", "Phone Case", "Phone Holder 2"), ()),
    (("Sun Cream 30", "Sun Cream 50", "Sun Cream Kids", "Suncare Cream"), ()),
)


class _Shelf:
    """A shop's products, drawn at random: three of each of four families."""

    def __init__(self, rng: random.Random, options: bool | None = None) -> None:
        """
        Args:
            rng (`random.Random`):
                Where the products are drawn from.
            options (`bool`, *optional*):
                Whether the product that the task is about has options; either if `None`.
        """
        fitting = [family for family in FAMILIES if options is None or bool(family[1]) == options]
        family = rng.choice(fitting)
        families = [family, *rng.sample([other for other in FAMILIES if other is not family], 3)]
        chosen = [(name, values) for names, values in families for name in rng.sample(names, 3)]
        target, similar = chosen[0], chosen[1:3]
        rng.shuffle(chosen)
        deals = set(rng.sample(range(len(chosen)), 4))
        self.products: dict[str, dict[str, Any]] = {
            f"p{i}": {"name": name, "price": rng.randrange(9, 120), "options": list(values), "deal": i in deals}
            for i, (name, values) in enumerate(chosen)
        }
        keys = {product["name"]: key for key, product in self.products.items()}
        self.key = keys[target[0]]
        self.similar = [keys[name] for name, _ in similar]
        self.name = target[0]
        self.option = rng.choice(target[1]) if target[1] else ""
        self.setup: tuple[tuple[Path, Any], ...] = ((("Shop", "products"), self.products),)
        if rng.random() < 0.3:
            self.setup += ((("Shop", "coupon"), "offered"),)

    def some(self, rng: random.Random, others: int = 2) -> list[str]:
        """Keys of the product that the task is about, one that is similar, and others, in any order."""
        rest = [key for key in self.products if key not in (self.key, self.similar[0])]
        keys = [self.key, self.similar[0], *rng.sample(rest, others)]
        rng.shuffle(keys)
        return keys

    def cart(self, rng: random.Random) -> dict[str, dict[str, Any]]:
        """A cart with some products, each once or more often; the one that the task is about is no deal, lest it be added from there."""
        self.products[self.key]["deal"] = False
        cart = {}
        for key in self.some(rng):
            options = self.products[key]["options"]
            option = self.option if key == self.key else (rng.choice(options) if options else "")
            cart[f"{key}:{option}"] = {"product": key, "option": option, "count": rng.randint(1, 3)}
        return cart

    def ordered(self, rng: random.Random, status: str) -> tuple[tuple[tuple[Path, Any], ...], Path]:
        """A start with orders, the product's with this status and others with any, and the path of that status."""
        orders = {
            f"o{i}": {
                "name": self.products[key]["name"],
                "price": self.products[key]["price"],
                "status": status if key == self.key else rng.choice(("Open", "Shipped", "Received")),
            }
            for i, key in enumerate(self.some(rng))
        }
        number = next(number for number, order in orders.items() if order["name"] == self.name)
        return (*self.setup, (("Shop", "orders"), orders)), ("Shop", "orders", number, "status")


_task = partial(app_task, "Shop")


def add(rng: random.Random) -> PhoneTask:
    """Put a product with an option into the cart."""
    shelf = _Shelf(rng, options=True)
    path = ("Shop", "cart", f"{shelf.key}:{shelf.option}")
    texts = (
        f"Put one {shelf.name} ({shelf.option}) into the cart in Shop.",
        f"在Shop里把一件{shelf.name}({shelf.option})放进购物车。",
    )
    return _task("add", *texts, shelf.setup, (Condition((*path, "count"), "equals", 1),), (path,), (shelf.name,))


def add_two(rng: random.Random) -> PhoneTask:
    """Put a product without options into the cart several times."""
    shelf = _Shelf(rng, options=False)
    path, count = ("Shop", "cart", f"{shelf.key}:"), rng.choice((2, 3))
    texts = (
        f"Add {shelf.name} to the cart in Shop, {count} of them.",
        f"在Shop里把{count}件{shelf.name}加入购物车。",
    )
    return _task(
        "add_two", *texts, shelf.setup, (Condition((*path, "count"), "equals", count),), (path,), (shelf.name,)
    )


def save(rng: random.Random) -> PhoneTask:
    """Save a product."""
    shelf = _Shelf(rng)
    path = ("Shop", "saved", shelf.key)
    texts = (f"Save the product {shelf.name} in Shop.", f"在Shop里收藏商品{shelf.name}。")
    return _task("save", *texts, shelf.setup, (Condition(path, "exists"),), (path,), (shelf.name,))


def unsave(rng: random.Random) -> PhoneTask:
    """Take a product off the saved ones."""
    shelf = _Shelf(rng)
    path = ("Shop", "saved", shelf.key)
    setup = (*shelf.setup, (("Shop", "saved"), dict.fromkeys(shelf.some(rng, 3), True)))
    texts = (f"{shelf.name} should no longer be saved in Shop.", f"在Shop里取消收藏{shelf.name}。")
    return _task("unsave", *texts, setup, (Condition(path, "absent"),), (path,))


def look(rng: random.Random) -> PhoneTask:
    """Open a product's page."""
    shelf = _Shelf(rng)
    goal = (
        Condition(("ui", "screen"), "equals", "product"),
        Condition(("ui", "params", "product"), "equals", shelf.key),
    )
    texts = (f"Show me the page of {shelf.name} in Shop.", f"在Shop里打开{shelf.name}的商品页。")
    return _task("look", *texts, shelf.setup, goal, texts=(shelf.name,))


def reviews(rng: random.Random) -> PhoneTask:
    """Open a saved product's reviews by way of its page."""
    shelf = _Shelf(rng)
    path = ("Shop", "saved")
    setup = (*shelf.setup, (path, dict.fromkeys(shelf.some(rng, 3), True)))
    goal = (
        Condition(("ui", "screen"), "equals", "reviews"),
        Condition(("ui", "params", "product"), "equals", shelf.key),
    )
    texts = (f"Open the reviews of my saved {shelf.name} in Shop.", f"在Shop里查看我收藏的{shelf.name}的评价。")
    return _task("reviews", *texts, setup, goal)


def count(rng: random.Random) -> PhoneTask:
    """Change how many of a product are in the cart."""
    shelf = _Shelf(rng)
    cart = shelf.cart(rng)
    key = f"{shelf.key}:{shelf.option}"
    path = ("Shop", "cart", key)
    wanted = rng.choice([n for n in range(1, 5) if n != cart[key]["count"]])
    texts = (
        f"Set the number of {shelf.name} in the Shop cart to {wanted}.",
        f"把Shop购物车里{shelf.name}的数量改成{wanted}。",
    )
    setup = (*shelf.setup, (("Shop", "cart"), cart))
    return _task("count", *texts, setup, (Condition((*path, "count"), "equals", wanted),), (path,))


def uncart(rng: random.Random) -> PhoneTask:
    """Take a product out of the cart."""
    shelf = _Shelf(rng)
    path = ("Shop", "cart", f"{shelf.key}:{shelf.option}")
    setup = (*shelf.setup, (("Shop", "cart"), shelf.cart(rng)))
    texts = (f"Take {shelf.name} out of the cart in Shop.", f"把{shelf.name}从Shop的购物车里移除。")
    return _task("uncart", *texts, setup, (Condition(path, "absent"),), (path,))


def order(rng: random.Random) -> PhoneTask:
    """Order what is in the cart."""
    shelf = _Shelf(rng)
    key = f"{shelf.key}:{shelf.option}"
    number = rng.randint(1, 4)
    item = {"product": shelf.key, "option": shelf.option, "count": number}
    goal = (Condition(("Shop", "orders", f"new-{key}"), "exists"), Condition(("Shop", "cart"), "count", 0))
    texts = (
        f"Order the {number} {shelf.name} that are in my Shop cart.",
        f"下单购买Shop购物车里的{number}件{shelf.name}。",
    )
    allowed = (("Shop", "orders", f"new-{key}"), ("Shop", "cart", key))
    return _task("order", *texts, (*shelf.setup, (("Shop", "cart"), {key: item})), goal, allowed)


def cancel(rng: random.Random) -> PhoneTask:
    """Cancel an open order."""
    shelf = _Shelf(rng)
    setup, path = shelf.ordered(rng, "Open")
    texts = (f"Cancel my order of {shelf.name} in Shop.", f"在Shop里取消{shelf.name}的订单。")
    return _task("cancel", *texts, setup, (Condition(path, "equals", "Cancelled"),), (path,))


def received(rng: random.Random) -> PhoneTask:
    """Confirm that an order has come."""
    shelf = _Shelf(rng)
    setup, path = shelf.ordered(rng, "Shipped")
    texts = (
        f"{shelf.name} has arrived: confirm the receipt in Shop.",
        f"{shelf.name}已经到货，请在Shop里确认收货。",
    )
    return _task("received", *texts, setup, (Condition(path, "equals", "Received"),), (path,))


def coupon(rng: random.Random) -> PhoneTask:
    """Claim the coupon and save a product."""
    shelf = _Shelf(rng)
    path = ("Shop", "saved", shelf.key)
    setup = (shelf.setup[0], (("Shop", "coupon"), "offered"))
    goal = (Condition(path, "exists"), Condition(("Shop", "coupon"), "equals", "claimed"))
    texts = (
        f"Claim the coupon in Shop, then save {shelf.name} there.",
        f"在Shop里领取优惠券，然后收藏{shelf.name}。",
    )
    return _task("coupon", *texts, setup, goal, (path, ("Shop", "coupon")), (shelf.name,))


TEMPLATES = {
    f"shop.{template.__name__}": template
    for template in (add, add_two, save, unsave, look, reviews, count, uncart, order, cancel, received, coupon)
}
