import random

import pytest
from PIL import ImageChops

from trl_multiturn.environments.phone import pillow_renderer
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.backend import StateBackend
from trl_multiturn.environments.phone.layout import HEIGHT, LINE, WIDTH, Box, Popup, Screen, Widget, place_parts
from trl_multiturn.environments.phone.pillow_renderer import render, render_screen
from trl_multiturn.environments.phone.state import PhoneState

from .phones import outcome, random_action


ROWS = tuple(Widget(f"row:{i}", "row", f"Line {i}", f"More about {i}") for i in range(30))


def changed(first, second):
    """Box of the pixels in which two images differ."""
    found = ImageChops.difference(first, second).getbbox()
    return Box(*found) if found is not None else None


def within(inner, outer):
    return (
        inner.left >= outer.left
        and inner.top >= outer.top
        and inner.right <= outer.right
        and inner.bottom <= outer.bottom
    )


def test_size_and_scale():
    state = PhoneState(APPS)
    assert (render(state).size, render(state).mode) == ((WIDTH, HEIGHT), "RGB")
    assert render(state, scale=0.5).size == (WIDTH // 2, HEIGHT // 2)


def test_same_pixels_with_and_without_what_was_drawn_before():
    backend, rng = StateBackend(), random.Random(1)
    backend.reset(PhoneState(APPS))
    shots, states = [], []
    for _ in range(60):
        outcome(backend, random_action(rng, backend.state))
        shots.append(backend.screenshot().tobytes())
        states.append(backend.state.copy())
    for cached in vars(pillow_renderer).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    assert [render(state).tobytes() for state in states] == shots
    assert len(set(shots)) > 20


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Widget("x", "row", "Meeting"), Widget("x", "row", "Meeting 2")),
        (Widget("x", "row", "Meeting", "at 9"), Widget("x", "row", "Meeting", "at 8")),
        (Widget("x", "switch", "Wi-Fi", on=True), Widget("x", "switch", "Wi-Fi", on=False)),
        (Widget("x", "row", "Bells", on=True), Widget("x", "row", "Bells", on=False)),
        (Widget("x", "field", "Title"), Widget("x", "field", "Title", value="Title")),
        (Widget("x", "icon", "Notes"), Widget("x", "icon", "Motes")),
        (Widget("x", "button", "Save"), Widget("x", "row", "Save")),
        (Widget("x", "label", "Save"), Widget("x", "row", "Save")),
    ],
)
def test_a_widget_is_drawn_in_its_box_and_shows_what_it_is(before, after):
    screens = [Screen("Test", (ROWS[0], widget, ROWS[1])) for widget in (before, after)]
    box = dict(place_parts(screens[0])[0])[before]
    difference = changed(*map(render_screen, screens))
    assert difference is not None
    assert within(difference, box)


def test_focus_and_selection_are_seen():
    screen = Screen("Test", (Widget("a", "field", "Title", value="Tea"), Widget("b", "field", "Text")))
    plain, focused = render_screen(screen), render_screen(screen, focus="a")
    selected, other = render_screen(screen, focus="a", selected=True), render_screen(screen, focus="b")
    assert len({image.tobytes() for image in (plain, focused, selected, other)}) == 4
    assert within(changed(plain, focused), Box(0, LINE, WIDTH, 2 * LINE))


def test_scrolling_moves_the_body_and_nothing_else():
    tabs = (Widget("one", "button", "One", on=True), Widget("two", "button", "Two", on=False))
    screen = Screen("Test", ROWS, (Widget("add", "button", "Add"),), tabs)
    top, moved = render_screen(screen), render_screen(screen, 100)
    assert within(changed(top, moved), Box(0, LINE, WIDTH, HEIGHT - LINE))
    without_bar = WIDTH - 6
    part = top.crop((0, LINE + 100, without_bar, HEIGHT - LINE))
    assert moved.crop((0, LINE, without_bar, HEIGHT - LINE - 100)).tobytes() == part.tobytes()


def test_popup_dims_the_screen_and_toast_leaves_the_tabs():
    tabs = (Widget("one", "button", "One", on=True),)
    plain = render_screen(Screen("Test", ROWS, tabs=tabs))
    toast = render_screen(Screen("Test", ROWS, tabs=tabs, toast="Saved"))
    assert within(changed(plain, toast), Box(0, HEIGHT - 2 * LINE, WIDTH, HEIGHT - LINE))
    popup = Popup(
        "Delete?", "It is lost. " * 30, (Widget("yes", "button", "Delete"), Widget("no", "button", "Cancel"))
    )
    covered = render_screen(Screen("Test", ROWS, tabs=tabs, popup=popup))
    assert covered.getpixel((WIDTH - 40, LINE + 5)) < plain.getpixel((WIDTH - 40, LINE + 5))


@pytest.mark.parametrize("text", ["", " ", "x" * 5000, "北京 😀", "\n\t", "<b>a</b>", "\u202eabc", "\ud800"])
def test_hostile_texts_stay_in_their_boxes(text):
    plain = Screen("Test", (ROWS[0], Widget("x", "row", "a", "b"), ROWS[1]))
    for kind in ("row", "button", "switch", "label", "field"):
        screen = Screen("Test", (ROWS[0], Widget("x", kind, text, text, text), ROWS[1]))
        difference = changed(render_screen(plain), render_screen(screen, focus="x"))
        assert within(difference, Box(0, 2 * LINE, WIDTH, 3 * LINE))
    buttons = (Widget("x", "button", text),)
    everywhere = Screen(text, ROWS, buttons, buttons, Popup(text, text, buttons), text)
    assert render_screen(everywhere).size == (WIDTH, HEIGHT)
    icons = Screen("Test", (Widget("x", "icon", text), Widget("y", "icon", text)))
    difference = changed(render_screen(Screen("Test", ())), render_screen(icons))
    assert within(difference, Box(0, LINE, WIDTH * 2 // 3, 3 * LINE))


def test_own_font_draws_what_the_built_in_one_cannot(tmp_path):
    with pytest.raises(OSError):
        render(PhoneState(APPS), font=str(tmp_path / "missing.ttf"))


def test_the_apps_icons_have_different_colours():
    assert len({pillow_renderer.tile_colour(name) for name in APPS}) == len(APPS)
