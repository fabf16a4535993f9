"""Tasks with music."""

import random
from functools import partial
from typing import Any

from ..apps.music import MODES, TIMES
from ..task import Condition, Path, PhoneTask
from .common import app_task


FAMILIES = (
    ("Blue River", "Blue River Live", "Blue Rivers"),
    ("Night Train", "Night Train 2", "Night Trains"),
    ("Golden Hour", "Golden Hours", "Golden Hour Remix"),
    ("Paper Boat", "Paper Boats", "Paper Boat Piano"),
    ("Cold Morning", "Cold Mornings", "Cold Morning Rain"),
    ("Sea of Stars", "Sea of Stars Live", "See the Stars"),
    ("Long Way Home", "Long Way", "Long Road Home"),
    ("Silver Moon", "Silver Moon Dance", "Silver Moons"),
    ("Open Window", "Open Windows", "Window Open"),
    ("Slow Dance", "Slow Dancer", "Slow Dance Piano"),
    ("Winter Light", "Winter Lights", "Winter Night"),
)
ARTISTS = ("Nora Lane", "The Tides", "Miro Vale", "Ida & Ben", "Old Harbor", "Lena Fox")
LISTS = (
    ("Morning", "Morning Run"),
    ("Study", "Study Piano"),
    ("Road Trip", "Road Trip 2"),
    ("Party", "Party Mix"),
    ("Sleep", "Sleepy Sunday"),
    ("Dinner", "Dinner Jazz"),
)
NEW_NAMES = (
    "Winter",
    "Focus",
    "Beach Days",
    "Old Songs",
    "Workout",
    "For Grandma",
    "Rainy Day",
    "Garden",
    "Train Ride",
)
TIMES_ZH = ("关闭", "10分钟", "15分钟", "30分钟", "45分钟", "60分钟")
MODES_ZH = {"repeat": "循环播放", "shuffle": "随机播放"}


class _Library:
    """Songs and playlists drawn at random: seven times three songs and two times two playlists with names almost alike."""

    def __init__(self, rng: random.Random) -> None:
        families = rng.sample(FAMILIES, 7)
        titles = [title for family in families for title in family]
        rng.shuffle(titles)
        self.songs = {f"s{i}": {"title": title, "artist": rng.choice(ARTISTS)} for i, title in enumerate(titles)}
        self.key = rng.choice(list(self.songs))
        self.title = self.songs[self.key]["title"]
        family = next(family for family in families if self.title in family)
        self.similar = [key for key, song in self.songs.items() if song["title"] in family and key != self.key]
        names = [name for pair in rng.sample(LISTS, 2) for name in pair]
        rng.shuffle(names)
        self.lists: dict[str, dict[str, Any]] = {
            f"l{i}": {"name": name, "songs": dict.fromkeys(self._others(rng), True)} for i, name in enumerate(names)
        }
        self.list = rng.choice(list(self.lists))
        self.list_name = self.lists[self.list]["name"]

    def _others(self, rng: random.Random) -> list[str]:
        others = [key for key in self.songs if key != self.key]
        return rng.sample(others, 3)

    def some(self, rng: random.Random) -> dict[str, bool]:
        """A set of songs: the one that the task is about, those with almost the same title, and others."""
        keys = list({*self.similar, self.key, *self._others(rng)})
        keys.sort()
        rng.shuffle(keys)
        return dict.fromkeys(keys, True)

    @property
    def setup(self) -> tuple[tuple[Path, Any], ...]:
        """The start state's songs and playlists."""
        return (("Music", "songs"), self.songs), (("Music", "lists"), self.lists)


_task = partial(app_task, "Music")


_PLAYING: Path = ("Music", "playing")


def play(rng: random.Random) -> PhoneTask:
    """Play a song."""
    library = _Library(rng)
    texts = (f"Play {library.title} in Music.", f"在Music里播放{library.title}。")
    return _task("play", *texts, library.setup, (Condition(_PLAYING, "equals", library.key),), (_PLAYING,))


def stop(rng: random.Random) -> PhoneTask:
    """Stop the song that plays."""
    library = _Library(rng)
    texts = (f"Stop {library.title}, which is playing in Music.", f"停止Music里正在播放的{library.title}。")
    setup = (*library.setup, (_PLAYING, library.key))
    return _task("stop", *texts, setup, (Condition(_PLAYING, "equals", ""),), (_PLAYING,))


def mode(rng: random.Random) -> PhoneTask:
    """Play a song with a mode on."""
    library, name = _Library(rng), rng.choice(list(MODES))
    path = ("Music", "modes", name)
    goal = (Condition(_PLAYING, "equals", library.key), Condition(path, "exists"))
    texts = (
        f"Play {library.title} in Music with {MODES[name]} on.",
        f"在Music里播放{library.title}，并打开{MODES_ZH[name]}。",
    )
    return _task("mode", *texts, library.setup, goal, (_PLAYING, path))


def like(rng: random.Random) -> PhoneTask:
    """Like a song without playing another one."""
    library = _Library(rng)
    path = ("Music", "liked", library.key)
    texts = (f"Like the song {library.title} in Music.", f"在Music里喜欢歌曲{library.title}。")
    allowed = (path, _PLAYING)
    return _task("like", *texts, library.setup, (Condition(path, "exists"),), allowed)


def unlike(rng: random.Random) -> PhoneTask:
    """Take a song off the liked ones, without playing it."""
    library = _Library(rng)
    path = ("Music", "liked", library.key)
    setup = (*library.setup, (("Music", "liked"), library.some(rng)))
    texts = (
        f"Take {library.title} off my liked songs in Music without playing it.",
        f"在Music里把{library.title}从喜欢的歌曲中移除，不要播放它。",
    )
    return _task("unlike", *texts, setup, (Condition(path, "absent"),), (path,))


def add(rng: random.Random) -> PhoneTask:
    """Add a song to a playlist."""
    library = _Library(rng)
    path = ("Music", "lists", library.list, "songs", library.key)
    texts = (
        f"Add the song {library.title} to the playlist {library.list_name} in Music.",
        f"在Music里把歌曲{library.title}加入歌单{library.list_name}。",
    )
    return _task("add", *texts, library.setup, (Condition(path, "exists"),), (path,))


def take(rng: random.Random) -> PhoneTask:
    """Take a song out of a playlist."""
    library = _Library(rng)
    library.lists[library.list]["songs"] = library.some(rng)
    path = ("Music", "lists", library.list, "songs", library.key)
    texts = (
        f"Remove {library.title} from the playlist {library.list_name} in Music.",
        f"在Music里把{library.title}从歌单{library.list_name}中移除。",
    )
    return _task("take", *texts, library.setup, (Condition(path, "absent"),), (path,))


def new(rng: random.Random) -> PhoneTask:
    """Make a playlist."""
    library, name = _Library(rng), rng.choice(NEW_NAMES)
    path = ("Music", "lists", f"new-{name}")
    texts = (f"Make a new playlist called {name} in Music.", f"在Music里新建歌单{name}。")
    return _task("new", *texts, library.setup, (Condition(path, "exists"),), (path,), (name,))


def rename(rng: random.Random) -> PhoneTask:
    """Give a playlist another name."""
    library, name = _Library(rng), rng.choice(NEW_NAMES)
    path = ("Music", "lists", library.list, "name")
    texts = (
        f"Rename the playlist {library.list_name} in Music to {name}.",
        f"把Music里的歌单{library.list_name}改名为{name}。",
    )
    return _task("rename", *texts, library.setup, (Condition(path, "equals", name),), (path,), (name,))


def delete(rng: random.Random) -> PhoneTask:
    """Delete a playlist."""
    library = _Library(rng)
    path = ("Music", "lists", library.list)
    texts = (f"Delete the playlist {library.list_name} in Music.", f"删除Music里的歌单{library.list_name}。")
    return _task("delete", *texts, library.setup, (Condition(path, "absent"),), (path,))


def timer(rng: random.Random) -> PhoneTask:
    """Set the sleep timer."""
    library = _Library(rng)
    before, after = rng.sample(range(len(TIMES)), 2)
    path = ("Music", "timer")
    texts = (
        f"Set the sleep timer in Music to: {TIMES[after]} (it is {TIMES[before]} now).",
        f"把Music的睡眠定时从{TIMES_ZH[before]}改为{TIMES_ZH[after]}。",
    )
    setup = (*library.setup, (path, TIMES[before]))
    return _task("timer", *texts, setup, (Condition(path, "equals", TIMES[after]),), (path,))


TEMPLATES = {
    f"music.{template.__name__}": template
    for template in (play, stop, mode, like, unlike, add, take, new, rename, delete, timer)
}
