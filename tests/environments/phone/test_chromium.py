import gc
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from trl_multiturn.environments.lost import EnvironmentLostError
from trl_multiturn.environments.phone.actions import Action, ActionError
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.backend import NOTHING, StateBackend
from trl_multiturn.environments.phone.browser import Browser, find_chromium
from trl_multiturn.environments.phone.chromium import ChromiumBackend
from trl_multiturn.environments.phone.demonstrations import demonstrate
from trl_multiturn.environments.phone.environment import PhoneEnvironment
from trl_multiturn.environments.phone.layout import HEIGHT, LINE, WIDTH, Screen, Widget, tappable
from trl_multiturn.environments.phone.state import PhoneState
from trl_multiturn.environments.phone.tasks import TEMPLATES, generate_phone_tasks

from .phones import outcome, random_action, require_browser
from .test_backend import Plain, log, swipe


@pytest.fixture
def browser():
    require_browser()


@pytest.fixture
def phone(browser):
    backend = ChromiumBackend()
    yield backend
    backend.close()


def kill(kind):
    """Kill the browser's processes (`"browser"`, `"renderer"`) or playwright's own (`"driver"`)."""
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        chosen = {
            "browser": "chrom" in process.name(),
            "renderer": "--type=renderer" in command,
            "driver": "node" in process.name(),
        }
        if chosen[kind]:
            process.kill()


@pytest.mark.needs_browser
@pytest.mark.parametrize("seed", range(6))
def test_same_actions_end_in_the_same_state_as_without_a_browser(phone, seed):
    plain, rng = StateBackend(), random.Random(seed)
    for backend in (plain, phone):
        backend.reset(PhoneState(APPS))
    for _ in range(40):
        action = random_action(rng, plain.state)
        assert outcome(phone, action) == outcome(plain, action), action
        assert phone.state.to_dict() == plain.state.to_dict(), action


@pytest.mark.needs_browser
@pytest.mark.slow
def test_every_kind_of_task_is_solved_as_without_a_browser(phone):
    plain = StateBackend()
    for task in generate_phone_tasks(len(TEMPLATES), seed=5):
        for backend in (plain, phone):
            backend.reset(task.initial_state())
        for step in demonstrate(task, random.Random(0), mistakes=0.2, render=None).trajectory:
            for backend in (plain, phone):
                backend.perform(step.call)
        assert phone.state.to_dict() == plain.state.to_dict(), task.instruction
        assert task.is_done(phone.state), task.instruction
        assert task.side_effects(phone.state) == []


@pytest.mark.needs_browser
def test_every_pixel_at_the_edges_of_widgets_is_hit_as_in_the_layout(phone):
    buttons = (Widget("a", "button", "One"), Widget("b", "button", "Two"))
    body = (Widget("f", "field", "Text"), Widget("s", "switch", "On", on=True), Widget("r", "row", "Row"))

    class Hit(Plain):
        def screen(self, state, name, params):
            tabs = (Widget("t", "button", "Tab"), Widget("u", "button", "Tab"), Widget("v", "button", "Tab"))
            return Screen("Hit", (*body, *(Widget(f"i{i}", "icon", "App") for i in range(4))), buttons, tabs)

    plain = StateBackend()
    for backend in (plain, phone):
        backend.reset(PhoneState({"Plain": Hit()}))
        backend.perform(Action("open", text="Plain"))
    for _, box in tappable(plain.state.screen()):
        for point in {(box.left, box.top), (box.right - 1, box.bottom - 1), (box.left, box.bottom - 1)}:
            for backend in (plain, phone):
                backend.perform(Action("click", coordinate=point))
            assert log(phone) == log(plain), point
            assert phone.state.focus == plain.state.focus, point


@pytest.mark.needs_browser
def test_it_looks_alike_in_both(phone):
    plain = StateBackend()
    for app in (None, "Notes", "Settings"):
        state = PhoneState(APPS)
        if app is not None:
            state.open_app(app)
        for backend in (plain, phone):
            backend.reset(state)
        shots = [backend.screenshot() for backend in (phone, plain)]
        assert shots[0].size == (WIDTH, HEIGHT) and shots[0].mode == "RGB"
        first, second = (np.asarray(shot.convert("L").reduce(14), dtype=float) for shot in shots)
        # Letters differ, surfaces do not.
        assert np.abs(first - second).mean() < 8
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


@pytest.mark.needs_browser
def test_two_pages_show_the_same_pixels(phone):
    other = ChromiumBackend()
    shots = []
    for backend in (phone, other):
        backend.reset(PhoneState(APPS))
        backend.perform(Action("open", text="Notes"))
        shots.append(np.asarray(backend.screenshot(), dtype=int))
    assert np.abs(shots[0] - shots[1]).mean() < 0.01


@pytest.mark.needs_browser
def test_typing_goes_through_the_focused_field(phone):
    phone.reset(PhoneState({"Plain": Plain()}))
    phone.perform(Action("open", text="Plain"))
    with pytest.raises(ActionError, match="tap a field first"):
        phone.perform(Action("type", text="abc"))
    phone.perform(Action("click", coordinate=(100, 60)))
    phone.perform(Action("type", text="北京 <i>"))
    # Typed into while it is out of sight.
    phone.perform(swipe((100, 600), (100, 200)))
    phone.perform(Action("type", text=" 2"))
    assert (phone.state.field("text"), phone.state.scroll) == ("北京 <i> 2", 400)
    phone.perform(Action("key", text="Enter"))
    assert log(phone) == "submit 北京 <i> 2; "


@pytest.mark.needs_browser
@pytest.mark.parametrize("text", ["</script><img src=x onerror=alert(1)>", "&lt;", "\u202eabc", "x" * 3000, "\n"])
def test_texts_are_shown_not_run(phone, text):
    class Hostile(Plain):
        def screen(self, state, name, params):
            row = Widget(text, "row", text, text)
            return Screen(text, (row, Widget("f", "field", text, value=text)), (Widget("g", "button", text),))

    phone.reset(PhoneState({"Plain": Hostile()}))
    phone.perform(Action("open", text="Plain"))
    phone.perform(Action("click", coordinate=(100, LINE + 5)))
    assert log(phone) == f"tap {text}; "
    assert phone.screenshot().size == (WIDTH, HEIGHT)


@pytest.mark.needs_browser
def test_pages_see_no_network(phone):
    phone.reset(PhoneState(APPS))
    question = "() => fetch('http://127.0.0.1:9/').then(() => 'answered', () => navigator.onLine)"
    assert phone._page.run(lambda page, _: page.evaluate(question)) is False


@pytest.mark.needs_browser
@pytest.mark.parametrize("kind", ["browser", "renderer", "driver"])
def test_killed_browser(phone, kind):
    phone.reset(PhoneState(APPS))
    phone.screenshot()
    kill(kind)
    with pytest.raises(EnvironmentLostError, match="lost"):
        phone.perform(Action("click", coordinate=(65, 112)))
    with pytest.raises(EnvironmentLostError, match="lost"):
        phone.screenshot()
    phone.reset(PhoneState(APPS))
    assert phone.restarts == 1
    assert phone.perform(Action("click", coordinate=(65, 112))) == ""
    assert phone.state.app is not None


@pytest.mark.needs_browser
def test_browser_killed_while_environments_run_in_threads(browser):
    task = generate_phone_tasks(1)[0].to_json()
    environments = [PhoneEnvironment(ChromiumBackend, max_steps=1000) for _ in range(3)]
    for environment in environments:
        environment.reset(task=task)
    running = threading.Barrier(len(environments) + 1)

    def act(environment):
        running.wait()
        for _ in range(500):
            environment.mobile_use("swipe", coordinate=[100, 600], coordinate2=[100, 300])

    with ThreadPoolExecutor(len(environments)) as pool:
        episodes = [pool.submit(act, environment) for environment in environments]
        running.wait()
        kill("browser")
        for episode in episodes:
            with pytest.raises(EnvironmentLostError):
                episode.result(timeout=60)
    for environment in environments:
        assert environment.reset(task=task)[0]["image"].size == (WIDTH, HEIGHT)


@pytest.mark.needs_browser
def test_pages_of_forgotten_phones_are_closed(phone):
    phone.reset(PhoneState(APPS))
    browser = phone._page._browser._browser
    forgotten = ChromiumBackend()
    forgotten.reset(PhoneState(APPS))
    assert len(browser.contexts) >= 2
    del forgotten
    gc.collect()
    # Those of earlier tests go too.
    deadline = time.monotonic() + 60
    while len(browser.contexts) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(browser.contexts) == 1


@pytest.mark.needs_browser
def test_back_and_nothing(phone):
    phone.reset(PhoneState(APPS))
    assert phone.perform(Action("system_button", button="Back")) == NOTHING
    assert phone.perform(Action("click", coordinate=(300, 700))) == NOTHING
    assert phone.perform(swipe((100, 600), (100, 200))) == NOTHING
    with pytest.raises(ValueError, match="state"):
        phone.reset(None)


def test_phone_must_be_reset():
    with pytest.raises(RuntimeError, match="reset"):
        ChromiumBackend().screenshot()


def test_executable_that_is_not_there(monkeypatch, tmp_path):
    pytest.importorskip("playwright")
    with pytest.raises(FileNotFoundError, match="no program"):
        Browser(str(tmp_path / "chromium"))
    monkeypatch.setenv("TRL_MULTITURN_CHROMIUM", str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match="other"):
        ChromiumBackend().reset(PhoneState(APPS))
    monkeypatch.delenv("TRL_MULTITURN_CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() is None


def test_program_that_is_no_browser(tmp_path):
    pytest.importorskip("playwright")
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(EnvironmentLostError, match="lost"):
        Browser(str(program))
