"""What a phone's screen holds and where: widgets, and the boxes that every renderer draws them in."""

from dataclasses import dataclass
from typing import NamedTuple


# The screen in pixels, and the height of one line. Everything is laid out in whole lines.
WIDTH = 392
HEIGHT = 784
LINE = 56

ICONS_PER_LINE = 3

# What a widget may be. A label cannot be tapped, a field takes text, a switch shows whether it is on.
KINDS = ("icon", "row", "button", "field", "switch", "label")


class Box(NamedTuple):
    """A rectangle in pixels: left, top, right and bottom edge; the right and bottom ones belong to it no more."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def center(self) -> tuple[int, int]:
        """The pixel in the middle."""
        return (self.left + self.right) // 2, (self.top + self.bottom) // 2

    def contains(self, x: float, y: float) -> bool:
        """Whether a point lies inside."""
        return self.left <= x < self.right and self.top <= y < self.bottom


@dataclass(frozen=True)
class Widget:
    """
    One thing on a screen.

    Args:
        id (`str`):
            Name, unique on its screen and the same whenever the same thing is shown: `"note:3"`, `"save"`.
        kind (`str`):
            One of [`KINDS`].
        text (`str`):
            What it says; for a field, what should be filled in.
        detail (`str`, *optional*, defaults to `""`):
            A second line in small grey letters.
        value (`str`, *optional*, defaults to `""`):
            Text in a field.
        on (`bool`, *optional*):
            Whether a switch is on, or a tab is the one shown.
    """

    id: str
    kind: str
    text: str
    detail: str = ""
    value: str = ""
    on: bool | None = None


@dataclass(frozen=True)
class Popup:
    """
    A box over the screen: nothing below it can be tapped.

    Args:
        title (`str`):
            Its headline.
        text (`str`):
            What it says, in one or two lines.
        buttons (`tuple[Widget, ...]`):
            From one to four buttons, one below the other.
    """

    title: str
    text: str
    buttons: tuple[Widget, ...]


@dataclass(frozen=True)
class Screen:
    """
    Everything that one screen shows.

    Args:
        title (`str`):
            Text of the title bar.
        body (`tuple[Widget, ...]`):
            What scrolls, from top to bottom: icons three to a line of double height, others one to a line.
        actions (`tuple[Widget, ...]`, *optional*):
            At most two buttons at the right end of the title bar.
        tabs (`tuple[Widget, ...]`, *optional*):
            At most four buttons at the bottom.
        popup ([`Popup`], *optional*):
            Box over the screen.
        toast (`str`, *optional*, defaults to `""`):
            A short message over the last line, gone with the next action.
    """

    title: str
    body: tuple[Widget, ...]
    actions: tuple[Widget, ...] = ()
    tabs: tuple[Widget, ...] = ()
    popup: Popup | None = None
    toast: str = ""


def body_box(screen: Screen) -> Box:
    """The part of a screen that scrolls: all but the title bar and the tabs."""
    return Box(0, LINE, WIDTH, HEIGHT - (LINE if screen.tabs else 0))


def popup_box(popup: Popup) -> Box:
    """Where a pop-up is drawn: in the middle, three lines for its title and text and one for each button."""
    height = (3 + len(popup.buttons)) * LINE
    top = (HEIGHT - height) // 2 // LINE * LINE
    return Box(LINE // 2, top, WIDTH - LINE // 2, top + height)


def max_scroll(screen: Screen) -> int:
    """How far a screen's body can be scrolled, in pixels."""
    boxes = body_boxes(screen.body)
    area = body_box(screen)
    return max(0, (boxes[-1].bottom if boxes else 0) - (area.bottom - area.top))


def place(screen: Screen, scroll: int = 0) -> list[tuple[Widget, Box]]:
    """
    Where each widget of a screen is.

    Args:
        screen ([`Screen`]):
            What is shown.
        scroll (`int`, *optional*, defaults to `0`):
            Pixels by which the body is scrolled up.

    Returns:
        `list[tuple[Widget, Box]]`: Widgets in drawing order with their visible parts; those scrolled out of sight are left out.
        Behind a pop-up its buttons come last.
    """
    placed = []
    area = body_box(screen)
    for widget, box in zip(screen.body, body_boxes(screen.body), strict=True):
        top, bottom = box.top + area.top - scroll, box.bottom + area.top - scroll
        if top < area.bottom and bottom > area.top:
            placed.append((widget, Box(box.left, max(top, area.top), box.right, min(bottom, area.bottom))))
    for i, widget in enumerate(screen.actions):
        right = WIDTH - 2 * LINE * (len(screen.actions) - 1 - i)
        placed.append((widget, Box(right - 2 * LINE, 0, right, LINE)))
    for i, widget in enumerate(screen.tabs):
        left, right = WIDTH * i // len(screen.tabs), WIDTH * (i + 1) // len(screen.tabs)
        placed.append((widget, Box(left, HEIGHT - LINE, right, HEIGHT)))
    if screen.popup is not None:
        outer = popup_box(screen.popup)
        for i, widget in enumerate(screen.popup.buttons):
            top = outer.top + (3 + i) * LINE
            placed.append((widget, Box(outer.left, top, outer.right, top + LINE)))
    return placed


def place_parts(screen: Screen, scroll: int = 0) -> tuple[list[tuple[Widget, Box]], ...]:
    """What [`place`] returns, in four lists: widgets of the body, of the title bar, of the tabs and of the pop-up."""
    placed = place(screen, scroll)
    buttons = len(screen.popup.buttons) if screen.popup is not None else 0
    tabs = len(placed) - buttons - len(screen.tabs)
    actions = tabs - len(screen.actions)
    return (
        placed[:actions],
        placed[actions:tabs],
        placed[tabs : len(placed) - buttons],
        placed[len(placed) - buttons :],
    )


def tappable(screen: Screen, scroll: int = 0) -> list[tuple[Widget, Box]]:
    """The widgets in sight that react to a tap: all but labels, or a pop-up's buttons alone."""
    if screen.popup is not None:
        return place(screen, scroll)[-len(screen.popup.buttons) :]
    return [(widget, box) for widget, box in place(screen, scroll) if widget.kind != "label"]


def widget_at(screen: Screen, scroll: int, x: float, y: float) -> Widget | None:
    """What a tap on a pixel hits, or `None`."""
    for widget, box in tappable(screen, scroll):
        if box.contains(x, y):
            return widget
    return None


def body_boxes(body: tuple[Widget, ...]) -> list[Box]:
    """Boxes of a body's widgets, all of them and counted from its top, however far it is scrolled."""
    boxes, top, column = [], 0, 0
    for i, widget in enumerate(body):
        if widget.kind == "icon":
            left, right = WIDTH * column // ICONS_PER_LINE, WIDTH * (column + 1) // ICONS_PER_LINE
            boxes.append(Box(left, top, right, top + 2 * LINE))
            column += 1
            if column == ICONS_PER_LINE or i + 1 == len(body) or body[i + 1].kind != "icon":
                top, column = top + 2 * LINE, 0
        else:
            boxes.append(Box(0, top, WIDTH, top + LINE))
            top += LINE
    return boxes
