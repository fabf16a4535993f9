"""Tasks with live streams."""

import random
from functools import partial
from typing import Any

from ..apps.live import CATEGORIES, GIFTS
from ..apps.live import SECTIONS as SECTION_TABS
from ..task import Condition, Path, PhoneTask
from .common import app_task


SECTIONS = dict(SECTION_TABS)
FAMILIES = (
    ("Anna Travels", "Anna Travel", "Ana Travels"),
    ("Chef Milo", "Chef Milos", "Chef Mila"),
    ("Trail Tom", "Trail Tim", "Trail Tom 2"),
    ("Luna Deals", "Luna Deal", "Lona Deals"),
    ("Coach Rae", "Coach Ray", "Coach Rae Daily"),
    ("Sunny Stays", "Sunny Stay", "Sonny Stays"),
    ("Pixel Pat", "Pixel Pete", "Pixel Pat Plays"),
    ("Villa Vera", "Villa Viva", "Villa Vera Live"),
)
CATEGORIES_ZH = {
    "Hotel packages": "酒店套餐",
    "Flights": "机票",
    "Cooking": "美食",
    "Fitness": "健身",
    "Games": "游戏",
    "Fashion": "时尚",
}
SECTIONS_ZH = {"hot": "热门", "new": "最新", "replay": "回放"}
GIFTS_ZH = {"Rose": "玫瑰", "Cake": "蛋糕", "Rocket": "火箭"}


class _Hosts:
    """Hosts drawn at random: three names almost alike and two others in one section of a category, others around them."""

    def __init__(self, rng: random.Random, live: bool = True) -> None:
        """
        Args:
            rng (`random.Random`):
                Where the hosts are drawn from.
            live (`bool`, *optional*, defaults to `True`):
                Whether the host that the task is about streams now; else no category shows those with that name.
        """
        self.category, other = rng.sample(CATEGORIES, 2)
        self.section = rng.choice(list(SECTIONS))
        near, far, rest = rng.sample(FAMILIES, 3)
        elsewhere = rng.choice([section for section in SECTIONS if section != self.section])
        here = [*near, *far[:2]]
        levels = ["Super VIP", "VIP", "VIP", "", ""]
        rng.shuffle(levels)
        crowds = rng.sample(range(3, 99), 9)
        rows = [(name, self.category, self.section, level) for name, level in zip(here, levels, strict=True)]
        rows += [(rest[0], self.category, elsewhere, "Super VIP"), (rest[1], other, self.section, "Super VIP")]
        rows += [(rest[2], other, elsewhere, ""), (far[2], other, "hot", "VIP")]
        rng.shuffle(rows)
        self.hosts: dict[str, dict[str, Any]] = {
            f"v{i}": {"name": name, "category": cat, "section": section, "level": level, "viewers": crowd * 100}
            for i, ((name, cat, section, level), crowd) in enumerate(zip(rows, crowds, strict=True))
        }
        self._keys = {host["name"]: key for key, host in self.hosts.items()}
        self._here = [self._keys[name] for name in here]
        self.name = rng.choice(near)
        for name in () if live else near:
            self.hosts[self._keys[name]]["section"] = ""
        self.key = self._keys[self.name]
        self.similar = [self._keys[name] for name in near if name != self.name]
        self.far = [self._keys[name] for name in (*far, *rest)]
        self.setup: tuple[tuple[Path, Any], ...] = ((("Live", "hosts"), self.hosts),)
        if rng.random() < 0.3:
            self.setup += ((("Live", "notice"), True),)

    def top(self) -> str:
        """Key of the super-VIP host in the section."""
        return next(key for key in self._here if self.hosts[key]["level"] == "Super VIP")

    def most_watched(self) -> str:
        """Key of the host in the section with the most viewers."""
        return max(self._here, key=lambda key: self.hosts[key]["viewers"])

    def followed(self, rng: random.Random) -> tuple[tuple[Path, Any], ...]:
        """A start in which the host and some others are followed."""
        keys = [self.key, *self.similar, *rng.sample(self.far, 2)]
        rng.shuffle(keys)
        return (*self.setup, (("Live", "following"), dict.fromkeys(keys, True)))


_task = partial(app_task, "Live")


def follow_vip(rng: random.Random) -> PhoneTask:
    """Follow the super-VIP host of a section."""
    hosts = _Hosts(rng)
    path = ("Live", "following", hosts.top())
    texts = (
        f"In Live, follow the Super VIP host under {hosts.category}, {SECTIONS[hosts.section]}.",
        f"在Live里打开{CATEGORIES_ZH[hosts.category]}的{SECTIONS_ZH[hosts.section]}，关注其中的超级VIP主播。",
    )
    return _task("follow_vip", *texts, hosts.setup, (Condition(path, "exists"),), (path,))


def follow_most(rng: random.Random) -> PhoneTask:
    """Follow the host of a section whom most people watch."""
    hosts = _Hosts(rng)
    path = ("Live", "following", hosts.most_watched())
    texts = (
        f"Follow the most watched host under {hosts.category}, {SECTIONS[hosts.section]} in Live.",
        f"在Live里关注{CATEGORIES_ZH[hosts.category]}{SECTIONS_ZH[hosts.section]}中观看人数最多的主播。",
    )
    return _task("follow_most", *texts, hosts.setup, (Condition(path, "exists"),), (path,))


def follow(rng: random.Random) -> PhoneTask:
    """Follow a host by name."""
    hosts = _Hosts(rng, live=False)
    path = ("Live", "following", hosts.key)
    texts = (f"Follow the host {hosts.name} in Live.", f"在Live里关注主播{hosts.name}。")
    return _task("follow", *texts, hosts.setup, (Condition(path, "exists"),), (path,), (hosts.name,))


def unfollow(rng: random.Random) -> PhoneTask:
    """Stop following a host."""
    hosts = _Hosts(rng, live=False)
    path = ("Live", "following", hosts.key)
    texts = (f"Stop following {hosts.name} in Live.", f"在Live里取消关注{hosts.name}。")
    return _task("unfollow", *texts, hosts.followed(rng), (Condition(path, "absent"),), (path,))


def remind(rng: random.Random) -> PhoneTask:
    """Ask to be reminded of a followed host's streams."""
    hosts = _Hosts(rng, live=False)
    path = ("Live", "reminders", hosts.key)
    texts = (
        f"Turn on reminders for streams of {hosts.name}, whom I follow in Live.",
        f"在Live里为我关注的{hosts.name}打开开播提醒。",
    )
    return _task("remind", *texts, hosts.followed(rng), (Condition(path, "exists"),), (path,))


def block(rng: random.Random) -> PhoneTask:
    """Block a host."""
    hosts = _Hosts(rng, live=False)
    path = ("Live", "blocked", hosts.key)
    texts = (f"Block the host {hosts.name} in Live.", f"在Live里拉黑主播{hosts.name}。")
    return _task("block", *texts, hosts.setup, (Condition(path, "exists"),), (path,), (hosts.name,))


def mute(rng: random.Random) -> PhoneTask:
    """Mute the chat of a stream."""
    hosts = _Hosts(rng)
    path = ("Live", "muted", hosts.key)
    texts = (
        f"Mute the chat in the stream of {hosts.name} ({hosts.category}, {SECTIONS[hosts.section]}) in Live.",
        f"在Live里把{hosts.name}直播间的聊天静音({CATEGORIES_ZH[hosts.category]}，{SECTIONS_ZH[hosts.section]})。",
    )
    return _task("mute", *texts, hosts.setup, (Condition(path, "exists"),), (path,))


def gift(rng: random.Random) -> PhoneTask:
    """Send a host a gift."""
    hosts = _Hosts(rng)
    name = rng.choice(list(GIFTS))
    path = ("Live", "gifts", f"{hosts.key}:{name}")
    texts = (
        f"Send {hosts.name} one {name} in Live. The stream is under {hosts.category}, {SECTIONS[hosts.section]}.",
        f"在Live里送给{hosts.name}一个{GIFTS_ZH[name]}，直播间在{CATEGORIES_ZH[hosts.category]}的{SECTIONS_ZH[hosts.section]}里。",
    )
    allowed = (path, ("Live", "coins"))
    return _task("gift", *texts, hosts.setup, (Condition(path, "equals", 1),), allowed)


def watch(rng: random.Random) -> PhoneTask:
    """Open the stream of a section that most people watch."""
    hosts = _Hosts(rng)
    goal = (
        Condition(("ui", "screen"), "equals", "stream"),
        Condition(("ui", "params", "host"), "equals", hosts.most_watched()),
    )
    texts = (
        f"Open the stream with the most viewers under {hosts.category}, {SECTIONS[hosts.section]} in Live.",
        f"在Live里打开{CATEGORIES_ZH[hosts.category]}{SECTIONS_ZH[hosts.section]}中观看人数最多的直播间。",
    )
    return _task("watch", *texts, hosts.setup, goal)


def saver(rng: random.Random) -> PhoneTask:
    """Turn data saver on or off: a switch three screens down."""
    hosts = _Hosts(rng)
    on = rng.random() < 0.5
    path = ("Live", "saver")
    texts = (
        f"Turn data saver {'on' if on else 'off'} for streams in Live.",
        f"在Live里{'打开' if on else '关闭'}省流量模式。",
    )
    setup = (*hosts.setup, (path, not on))
    return _task("saver", *texts, setup, (Condition(path, "equals", on),), (path,))


TEMPLATES = {
    f"live.{template.__name__}": template
    for template in (follow_vip, follow_most, follow, unfollow, remind, block, mute, gift, watch, saver)
}
