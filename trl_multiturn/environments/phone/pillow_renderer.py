"""Draws a phone's screen with Pillow alone: the same state gives the same pixels, on any machine with this version of Pillow."""

import zlib
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from .layout import HEIGHT, LINE, WIDTH, Box, Popup, Screen, Widget, body_box, max_scroll, place_parts, popup_box
from .state import PhoneState


Colour = tuple[int, int, int]

# Sizes of letters in pixels: headlines, labels, second lines.
TITLE_SIZE = 22
TEXT_SIZE = 21
DETAIL_SIZE = 16

WHITE = (255, 255, 255)
INK = (17, 20, 28)
GREY = (88, 94, 106)
FAINT = (124, 130, 142)
EDGE = (214, 218, 226)
BACKGROUND = (236, 239, 244)
BAR = (27, 38, 66)
BAR_BUTTON = (62, 80, 128)
BLUE = (20, 98, 214)
PALE_BLUE = (214, 229, 252)
GREEN = (38, 150, 76)
OFF = (164, 170, 182)
TOAST = (45, 48, 56)
TILES = ("#d64045", "#1462d6", "#008378", "#e9780e", "#7c3ac8", "#c42c80", "#387628", "#5c4e42", "#1086ac")

# With it no two of the phone's own apps have the same colour.
TILE_SEED = 19

# Left edge of text on a line, and how much finer shapes with round corners are drawn before they are made smaller.
MARGIN = 18
SUPERSAMPLING = 4

# Drawn widgets that are kept, at up to 66 kB each.
WIDGET_CACHE = 512


def render(state: PhoneState, scale: float = 1.0, font: str | None = None) -> Image.Image:
    """
    Draw what a phone shows.

    Args:
        state ([`PhoneState`]):
            The phone.
        scale (`float`, *optional*, defaults to `1.0`):
            Size of the image relative to the screen of 392 by 784 pixels.
        font (`str`, *optional*):
            Path of a TrueType or OpenType font. Pillow's own, used by default, has Latin letters without accents only:
            others, Chinese ones too, appear as empty boxes.

    Returns:
        `Image.Image`: RGB image.
    """
    return render_screen(state.screen(), state.scroll, state.focus, state.fresh, scale, font)


def render_screen(
    screen: Screen,
    scroll: int = 0,
    focus: str | None = None,
    selected: bool = False,
    scale: float = 1.0,
    font: str | None = None,
) -> Image.Image:
    """
    Draw a screen.

    Args:
        screen ([`Screen`]):
            What is shown.
        scroll (`int`, *optional*, defaults to `0`):
            Pixels by which the body is scrolled up.
        focus (`str`, *optional*):
            Id of the field that takes text.
        selected (`bool`, *optional*, defaults to `False`):
            Whether the text of that field is selected.
        scale (`float`, *optional*, defaults to `1.0`):
            Size of the image relative to the screen.
        font (`str`, *optional*):
            Path of a font; Pillow's own by default.

    Returns:
        `Image.Image`: RGB image.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    body, actions, tabs, _ = place_parts(screen, scroll)
    for widget, box in body:
        focused = widget.id == focus
        full = _draw_widget(widget, box.right - box.left, focused, focused and selected, font)
        # A widget cut off by the title bar shows its lower part.
        hidden = full.height - (box.bottom - box.top) if box.top == LINE else 0
        image.paste(full.crop((0, hidden, full.width, hidden + box.bottom - box.top)), (box.left, box.top))
    for part, colour in zip(scroll_bar(screen, scroll) or (), (EDGE, GREY), strict=False):
        image.paste(colour, part)
    image.paste(_draw_title(screen.title, actions[0][1].left if actions else WIDTH, font), (0, 0))
    for widget, box in actions:
        image.paste(_draw_action(widget.text, box.right - box.left, font), box[:2])
    for widget, box in tabs:
        image.paste(_draw_tab(widget.text, bool(widget.on), box.right - box.left, font), box[:2])
    if screen.popup is not None:
        image = image.point([value * 2 // 5 for value in range(256)] * 3)
        image.paste(_draw_popup(screen.popup, font), popup_box(screen.popup)[:2])
    if screen.toast:
        _draw_toast(image, screen, font)
    if scale != 1.0:
        size = max(1, round(WIDTH * scale)), max(1, round(HEIGHT * scale))
        image = image.resize(size, Image.Resampling.BOX)
    return image


@lru_cache(maxsize=WIDGET_CACHE)
def _draw_widget(widget: Widget, width: int, focused: bool, selected: bool, font: str | None) -> Image.Image:
    if widget.kind == "icon":
        return _draw_icon(widget.text, width, font)
    if widget.kind == "field":
        return _draw_field(widget, width, focused, selected, font)
    ground, ink, faint, left, right = WHITE, INK, GREY, MARGIN, width - MARGIN
    if widget.kind in ("label", "button"):
        ground = BACKGROUND
    if widget.kind == "label":
        ink = GREY
    image = Image.new("RGB", (width, LINE), ground)
    draw = ImageDraw.Draw(image)
    if widget.kind == "button":
        _fill_rounded(image, Box(8, 4, width - 8, LINE - 4), 12, BLUE)
        ink, faint = WHITE, PALE_BLUE
    elif widget.kind == "switch":
        right = width - 88
        _draw_switch(image, Box(width - 70, 13, width - 14, 43), bool(widget.on))
    elif widget.kind == "row" and widget.on is not None:
        right = width - 56
        _draw_choice(image, (width - 34, LINE // 2), widget.on)
    if widget.kind in ("row", "switch"):
        draw.line((0, LINE - 1, width, LINE - 1), EDGE)
    _draw_label(draw, left, right, widget.text, widget.detail, ink, faint, font)
    return image


def _draw_label(
    draw: ImageDraw.ImageDraw,
    left: int,
    right: int,
    text: str,
    detail: str,
    ink: Colour,
    faint: Colour,
    font: str | None,
) -> None:
    _text(draw, left, 19 if detail else LINE // 2, right - left, text, TEXT_SIZE, ink, font)
    if detail:
        _text(draw, left, 41, right - left, detail, DETAIL_SIZE, faint, font)


def _draw_icon(text: str, width: int, font: str | None) -> Image.Image:
    image = Image.new("RGB", (width, 2 * LINE), BACKGROUND)
    draw = ImageDraw.Draw(image)
    left = (width - 64) // 2
    _fill_rounded(image, Box(left, 10, left + 64, 74), 16, tile_colour(text))
    _text(draw, width // 2, 42, 64, text[:1].upper(), 38, WHITE, font, centred=True)
    _text(draw, width // 2, 92, width - 8, text, TEXT_SIZE, INK, font, centred=True)
    return image


def _draw_field(widget: Widget, width: int, focused: bool, selected: bool, font: str | None) -> Image.Image:
    image = Image.new("RGB", (width, LINE), BACKGROUND)
    _fill_rounded(image, Box(6, 2, width - 6, LINE - 2), 10, BLUE if focused else FAINT)
    border = 3 if focused else 1
    _fill_rounded(image, Box(6 + border, 2 + border, width - 6 - border, LINE - 2 - border), 9, WHITE)
    draw = ImageDraw.Draw(image)
    room = width - 2 * MARGIN - 8
    if widget.value:
        _text(draw, MARGIN, 14, room, widget.text, 14, BLUE if focused else GREY, font)
        # While it is typed the end of a long text is seen, later its beginning.
        shown = _fit(widget.value, TEXT_SIZE, room, font, keep_end=focused)
        end = MARGIN + int(_font(TEXT_SIZE, font).getlength(shown))
        if selected:
            draw.rectangle((MARGIN - 2, 24, end + 2, 49), PALE_BLUE)
        _text(draw, MARGIN, 36, room, shown, TEXT_SIZE, INK, font)
    else:
        _text(draw, MARGIN + (8 if focused else 0), LINE // 2, room, widget.text, TEXT_SIZE, FAINT, font)
        end = MARGIN
    if focused:
        draw.rectangle((end + 1, 25, end + 3, 48) if widget.value else (end, 15, end + 2, 41), BLUE)
    return image


def _draw_switch(image: Image.Image, box: Box, on: bool) -> None:
    _fill_rounded(image, box, 15, GREEN if on else OFF)
    left = box.right - 27 if on else box.left + 3
    _fill_rounded(image, Box(left, box.top + 3, left + 24, box.bottom - 3), 12, WHITE)


def _draw_choice(image: Image.Image, center: tuple[int, int], on: bool) -> None:
    x, y = center
    _fill_rounded(image, Box(x - 13, y - 13, x + 13, y + 13), 13, BLUE if on else FAINT)
    inner = 5 if on else 11
    _fill_rounded(image, Box(x - inner, y - inner, x + inner, y + inner), inner, WHITE)


@lru_cache(maxsize=WIDGET_CACHE)
def _draw_title(title: str, right: int, font: str | None) -> Image.Image:
    image = Image.new("RGB", (WIDTH, LINE), BAR)
    _text(ImageDraw.Draw(image), MARGIN, LINE // 2, right - MARGIN - 6, title, TITLE_SIZE, WHITE, font)
    return image


@lru_cache(maxsize=WIDGET_CACHE)
def _draw_action(text: str, width: int, font: str | None) -> Image.Image:
    image = Image.new("RGB", (width, LINE), BAR)
    _fill_rounded(image, Box(4, 8, width - 4, LINE - 8), 10, BAR_BUTTON)
    _text(ImageDraw.Draw(image), width // 2, LINE // 2, width - 16, text, TEXT_SIZE, WHITE, font, centred=True)
    return image


@lru_cache(maxsize=WIDGET_CACHE)
def _draw_tab(text: str, on: bool, width: int, font: str | None) -> Image.Image:
    image = Image.new("RGB", (width, LINE), PALE_BLUE if on else WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 4 if on else 0), BLUE if on else EDGE)
    _text(draw, width // 2, LINE // 2 + 2, width - 8, text, TEXT_SIZE, BLUE if on else GREY, font, centred=True)
    return image


@lru_cache(maxsize=32)
def _draw_popup(popup: Popup, font: str | None) -> Image.Image:
    outer = popup_box(popup)
    width, height = outer.right - outer.left, outer.bottom - outer.top
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, LINE - 1), PALE_BLUE)
    room = width - 2 * MARGIN
    _text(draw, MARGIN, LINE // 2, room, popup.title, TITLE_SIZE, INK, font)
    lines = _wrap(popup.text, TEXT_SIZE - 1, room, font)
    for i, line in enumerate(lines):
        _text(draw, MARGIN, LINE + LINE // 2 + i * 30, room, line, TEXT_SIZE - 1, GREY, font)
    for i, button in enumerate(popup.buttons):
        top = (3 + i) * LINE
        _fill_rounded(image, Box(8, top + 4, width - 8, top + LINE - 4), 12, BLUE if i == 0 else EDGE)
        ink = WHITE if i == 0 else INK
        _text(draw, MARGIN, top + LINE // 2, room, button.text, TEXT_SIZE, ink, font)
    return image


def toast_box(screen: Screen) -> Box:
    """Where a message is drawn: over the last line above the tabs."""
    bottom = body_box(screen).bottom
    return Box(10, bottom - LINE + 4, WIDTH - 10, bottom - 4)


def _draw_toast(image: Image.Image, screen: Screen, font: str | None) -> None:
    box = toast_box(screen)
    _fill_rounded(image, box, 12, TOAST)
    room = box.right - box.left - 2 * MARGIN
    draw = ImageDraw.Draw(image)
    _text(draw, box.left + MARGIN, box.center[1], room, screen.toast, TEXT_SIZE - 1, WHITE, font)


def scroll_bar(screen: Screen, scroll: int) -> tuple[Box, Box] | None:
    """The bar that shows how far the body is scrolled, and its dark part; nothing if all of the body is in sight."""
    area, furthest = body_box(screen), max_scroll(screen)
    if furthest == 0:
        return None
    seen = area.bottom - area.top
    length = seen * seen // (seen + furthest)
    top = area.top + (seen - length) * scroll // furthest
    return Box(WIDTH - 6, area.top, WIDTH, area.bottom), Box(WIDTH - 6, top, WIDTH, top + length)


def tile_colour(text: str) -> str:
    """Colour of an icon's tile, as CSS and Pillow write it."""
    return TILES[zlib.crc32(text.encode(errors="replace"), TILE_SEED) % len(TILES)]


@lru_cache(maxsize=64)
def _font(size: int, path: str | None) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(path, size) if path is not None else ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ImportError("This build of Pillow lacks FreeType, which the letters of the phone's screen need.")
    # The other layout engine is not there on every machine, and places letters elsewhere.
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def _fit(text: str, size: int, width: int, font: str | None, keep_end: bool = False) -> str:
    """The text, with its end (or its beginning) left out if it is too long."""
    letters = _font(size, font)
    if letters.getlength(text) <= width:
        return text
    # The longest part that fits, by bisection.
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        part = "..." + text[-middle:] if keep_end else text[:middle] + "..."
        low, high = (middle, high) if letters.getlength(part) <= width else (low, middle - 1)
    if low == 0:
        return "..."
    return "..." + text[-low:] if keep_end else text[:low] + "..."


def _wrap(text: str, size: int, width: int, font: str | None) -> list[str]:
    """At most three lines of text, broken between words."""
    lines, letters = [""], _font(size, font)
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and letters.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [*lines[:2], " ".join(lines[2:])] if len(lines) > 2 else lines


def _text(
    draw: ImageDraw.ImageDraw,
    x: int,
    y: int,
    width: int,
    text: str,
    size: int,
    colour: Colour,
    font: str | None,
    centred: bool = False,
) -> None:
    """One line of text: x is its left end or, if centred, its middle; y the middle of a capital letter."""
    shown = _fit(" ".join(text.split()), size, width, font)
    letters = _font(size, font)
    left = x - round(letters.getlength(shown) / 2) if centred else x
    draw.text((left, y + round(0.36 * size)), shown, colour, letters, anchor="ls")


@lru_cache(maxsize=64)
def _rounded_mask(width: int, height: int, radius: int) -> Image.Image:
    factor = SUPERSAMPLING
    mask = Image.new("L", (width * factor, height * factor), 0)
    edges = (0, 0, width * factor - 1, height * factor - 1)
    ImageDraw.Draw(mask).rounded_rectangle(edges, radius * factor, 255)
    return mask.resize((width, height), Image.Resampling.BOX)


def _fill_rounded(image: Image.Image, box: Box, radius: int, colour: Colour | str) -> None:
    image.paste(colour, box, _rounded_mask(box.right - box.left, box.bottom - box.top, radius))
