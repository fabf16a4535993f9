"""One broken environment for each finding, a sound one without any, and TRL's own verdict where it has one."""

import functools
import inspect
import subprocess
import sys

import pytest

from trl_multiturn import check_environment
from trl_multiturn.environments import EnvironmentCheckError


SHARED_LOG: list = []
CALLS = [("add", {"amount": 2})]


class Sound:
    """Uses everything that is allowed."""

    KNOWN = {"one": 1}  # read only

    def __init__(self, index=None):
        self.index = index
        self.turn_rewards: list[float] = []
        self._total = 0

    def reset(self, prompt=None, level: int = 1, **row) -> str | None:
        self._total = level
        self.turn_rewards = []
        return "Go."

    @property
    def terminated(self) -> bool:
        return self._total > 100

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        self._total += amount
        self.turn_rewards.append(0.5)
        return f"The counter is {self._total}."

    async def look(self) -> list:
        """Look at the counter."""
        return [{"type": "text", "text": str(self._total)}]

    @staticmethod
    def double(number: int) -> str:
        """
        Double a number.

        Args:
            number: What to double.
        """
        return str(2 * number)

    async def get_reward(self) -> float:
        return float(self._total)


def broken(method=None, name=None, base=Sound, **members):
    """A class like `Sound` with some members replaced."""
    if method is not None:
        members[name or method.__name__] = method
    return type("Broken", (base,), members)


def findings(factory, level=None, calls=CALLS, **options):
    found = check_environment(factory, example_calls=calls, raise_on_error=False, **options)
    return [finding.message for finding in found if level in (None, finding.level)]


def only(factory, level, *parts, **options):
    """Exactly one finding, of that level, and it says that."""
    messages = findings(factory, **options)
    assert len(messages) == 1, messages
    assert findings(factory, level, **options) == messages
    for part in parts:
        assert part in messages[0], messages[0]


def test_a_sound_environment_passes():
    calls = [*CALLS, ("look", {}), ("double", {"number": 2})]
    assert check_environment(Sound, reset_kwargs={"level": 3, "answers": ["x"]}, example_calls=calls) == []
    assert check_environment(functools.partial(Sound, index={"a": 1})) == []
    assert check_environment(lambda: Sound(index=Sound.KNOWN)) == []


def test_all_errors_are_raised_together():
    class Bad(Sound):
        def reset(self):
            pass

        def helper(self):
            return ""

    with pytest.raises(ValueError, match=r"(?s)has 2 errors:\n- `reset`.*\n- `helper`") as raised:
        check_environment(Bad)
    assert isinstance(raised.value, EnvironmentCheckError)
    assert [finding.level for finding in raised.value.findings] == ["error", "error"]
    assert str(raised.value.findings[0]).startswith("error: `reset`")


def test_warnings_do_not_raise():
    def render(self) -> str:
        """Draw the counter."""
        return ""

    assert [finding.level for finding in check_environment(broken(render))] == ["warning"]


# --- the factory


def test_factory():
    one = Sound()
    only(one, "error", "not callable", "Sound", "the class itself")
    only({"a": Sound}, "error", "one at a time")
    only(lambda: one, "error", "same environment twice", "new instance")
    only(lambda: Sound, "error", "returned the class Sound")
    only(lambda: None, "error", "returned None")
    only(lambda index: Sound(index), "error", "raised TypeError", "functools.partial")


# --- reset


def test_no_reset():
    class NoReset:
        def look(self) -> str:
            """Look around."""
            return ""

    only(NoReset, "error", "no method `reset`", "def reset(self, **kwargs)", calls=[])


@pytest.mark.parametrize("kind", [classmethod, functools.cache])
def test_reset_that_trl_does_not_see(kind):
    only(broken(kind(lambda self, **row: None), "reset"), "error", "`reset` is", "does not see", "ordinary method")


def test_reset_arguments():
    def reset(self, question):
        self.turn_rewards = []

    only(broken(reset), "error", "'prompt'", "Add `**kwargs`")

    def reset(self, prompt, level):
        self.turn_rewards = []

    only(broken(reset), "error", "missing", "Add `**kwargs`")
    only(broken(reset), "warning", "takes no `**kwargs`", reset_kwargs={"level": 1})

    def reset(self, question, **row):
        self.turn_rewards = []

    only(broken(reset), "error", "missing", "'question'", "`reset_kwargs`")
    assert findings(broken(reset), reset_kwargs={"question": "Who?"}) == []


def test_reset_that_raises():
    def reset(self, **row):
        raise KeyError("level")

    only(broken(reset), "error", "`reset` raised KeyError: 'level'")


def test_reset_that_is_not_run():
    async def reset(self, **row):
        pass

    only(broken(reset), "error", "async", "does not await", "ordinary method")

    def reset(self, **row):
        return self.look()

    only(broken(reset), "error", "returned something to await")

    def reset(self, **row):
        yield "Go."

    only(broken(reset), "error", "`yield`")


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        (("Go.", {}), "tuple of 2, as Gymnasium"),
        ({"text": "Go."}, "`dict`"),
        (b"Go.", "`bytes`"),
        (3, "`int`"),
        (["Go."], "holds `str`"),
        ([{"text": "Go."}], "holds `dict`"),
        ([{"type": "text"}], "without the key `text`"),
        ([{"type": "image"}], "without the key `image`"),
        ([{"type": "text", "text": 3}], "text block that holds `int`"),
        ([{"type": "image", "image": None}], "image block that holds `NoneType`"),
        ([{"type": "text", "text": ""}, {"type": "image", "image": b"PNG"}], "image block that holds `bytes`"),
        (
            [{"type": "image_url", "image_url": {"url": "x.png"}}],
            "type image_url with an image, which TRL does not find",
        ),
    ],
)
def test_reset_returns_no_content(observation, says):
    def reset(self, **row):
        self.turn_rewards = []
        return observation

    only(broken(reset), "error", "`reset` returned", says, "Return `None`, text")


@pytest.mark.parametrize("observation", [None, "", "Go.", [], [{"type": "image", "image": object()}]])
def test_reset_returns_content(observation):
    def reset(self, **row):
        self.turn_rewards = []
        return observation

    assert findings(broken(reset)) == []


# --- tools


def test_no_tools():
    class NoTools:
        def reset(self, **row):
            pass

        def _look(self) -> str:
            """Look around."""
            return ""

    only(NoTools, "error", "no tools", calls=[])


def test_tool_without_docstring():
    def helper(self, amount: int) -> str:
        return ""

    only(broken(helper), "error", "`helper` has no docstring", "`_helper`")


def test_tool_without_type_hint():
    def helper(self, amount) -> str:
        """
        Help.

        Args:
            amount: How much.
        """
        return ""

    only(broken(helper), "error", "Argument amount is missing a type hint", "type hint")


def test_tool_with_undocumented_argument():
    def helper(self, amount: int) -> str:
        """Help."""
        return ""

    only(broken(helper), "error", "no description for the argument 'amount'", "`Args:`")


def test_tool_with_a_type_that_no_schema_has():
    def helper(self, amount: Sound) -> str:
        """
        Help.

        Args:
            amount: How much.
        """
        return ""

    only(broken(helper), "error", "Couldn't convert the type hint")


def test_tool_called_by_other_than_names():
    def helper(self, amount: int, /, *more: int, **rest: int) -> str:
        """
        Help.

        Args:
            amount: How much.
            more: More.
            rest: The rest.
        """
        return ""

    messages = findings(broken(helper), "error")
    assert len(messages) == 3
    assert all("named arguments" in message for message in messages)


def test_tool_under_another_name():
    def decorate(function):
        def wrapper(self, amount: int) -> str:
            return function(self, amount)

        wrapper.__doc__ = function.__doc__
        return wrapper

    only(broken(decorate(Sound.add), "add"), "error", "`add` is known to the model as `wrapper`", "functools.wraps")
    only(broken(Sound.add, "plus"), "error", "`plus` is known to the model as `add`", "alias")


def test_tool_that_is_a_generator():
    def helper(self):
        """Help."""
        yield ""

    only(broken(helper), "error", "`helper` is a generator")


@pytest.mark.parametrize("name", ["close", "render", "step", "seed", "play"])
def test_tool_by_accident(name):
    def method(self) -> str:
        """Documented, but hardly for the model."""
        return ""

    method.__name__ = name
    only(broken(method), "warning", f"`{name}` will be a tool", f"`_{name}`")


def test_tool_that_returns_nothing():
    def clear(self) -> None:
        """Clear everything."""

    only(broken(clear), "warning", "`clear` returns nothing", "`_clear`")


def test_tools_that_trl_does_not_see():
    def find(self) -> str:
        """Find it."""
        return ""

    only(broken(classmethod(find), "find"), "warning", "`find` is a class method", "ordinary method")
    only(broken(functools.cache(find), "find"), "warning", "`functools.cache`")
    only(broken(functools.partial(find), "find"), "warning", "partial function")

    def __init__(self):
        Sound.__init__(self)
        self.find = lambda: ""

    only(broken(__init__), "warning", "`find` is a function stored on the instance", "`_find`")


def test_partial_method():
    only(broken(functools.partialmethod(Sound.add, 1), "plus"), "error", "`plus` has no `__name__`", "ordinary method")


# --- results of tools


@pytest.mark.parametrize(
    ("result", "level", "says"),
    [
        (None, "warning", "returned `None`"),
        (b"x", "error", "returned `bytes`"),
        ({"hits": 1}, "warning", "returned `dict`"),
        (3, "warning", "returned `int`"),
        (["hit"], "error", "every list for content blocks"),
        ([{"title": "hit"}], "error", "every list for content blocks"),
        (("x", 1.0, True, False, {}), "warning", "as Gymnasium"),
    ],
)
def test_results_that_are_not_text(result, level, says):
    def find(self) -> str:
        """Find it."""
        return result

    async def find_slowly(self) -> str:
        """Find it."""
        return result

    only(broken(find), level, "`find`", says, calls=[*CALLS, ("find", {})])
    only(broken(find_slowly), level, "`find_slowly`", says, calls=[*CALLS, ("find_slowly", {})])
    # nothing is called that the caller did not ask for
    assert findings(broken(find)) == []


@pytest.mark.parametrize(
    "result", ["", "x", [], [{"type": "text", "text": "x"}, {"type": "image", "image": object()}]]
)
def test_results_that_are_content(result):
    def find(self) -> str:
        """Find it."""
        return result

    assert findings(broken(find), calls=[*CALLS, ("find", {})]) == []


def test_example_calls_that_fail():
    only(Sound, "error", "`subtract`, which is no tool", "add", calls=[*CALLS, ("subtract", {})])
    only(Sound, "error", "`add` raised TypeError", calls=[*CALLS, ("add", {"much": 2})])
    only(Sound, "error", "`_total`, which is no tool", calls=[*CALLS, ("_total", {})])


def test_async_tools_inside_a_running_loop():
    import asyncio

    async def notebook():
        return check_environment(Sound, example_calls=[*CALLS, ("look", {})])

    assert asyncio.run(notebook()) == []


# --- values


@pytest.mark.parametrize("name", ["turn_rewards", "terminated", "truncated"])
def test_values_as_methods(name):
    def method(self) -> list:
        """Documented well enough to be a tool."""
        return []

    class Base:
        reset = broken(lambda self, **row: None, "reset").reset

        def look(self) -> str:
            """Look around."""
            return ""

    method.__name__ = name
    only(broken(method, base=Base), "error", f"`{name}` is a method", "attribute or a property", calls=[])


def _resetting(values):
    def reset(self, **row):
        self.turn_rewards = values

    return broken(reset)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (None, "is `NoneType`"),
        (1.0, "is `float`"),
        ({0: 1.0}, "is `dict`"),
        ([float("nan")], "finite number"),
        (["1"], "finite number"),
        ([1.0], "1 value(s) right after `reset`"),
    ],
)
def test_turn_rewards_after_reset(values, says):
    messages = findings(_resetting(values), "error", calls=[])
    assert len(messages) == 1
    assert "`turn_rewards`" in messages[0] and says in messages[0]


def test_turn_rewards_that_survive_reset():
    def reset(self, **row):
        pass

    only(broken(reset), "error", "right after `reset`", "TRL reuses instances")


def test_turn_rewards_that_do_not_grow():
    def add(self, amount: int) -> str:
        """
        Add.

        Args:
            amount: How much.
        """
        return ""

    only(broken(add), "warning", "did not grow", "Append one number")


def test_turn_rewards_that_change():
    def add(self, amount: int) -> str:
        """
        Add.

        Args:
            amount: How much.
        """
        self.turn_rewards = [float(amount)]
        return ""

    only(
        broken(add), "error", "changed what it had said", "Only append", calls=[("add", {"amount": i}) for i in (1, 2)]
    )


def test_turn_rewards_that_the_trainer_would_not_find():
    class Late:
        def reset(self, **row):
            self.turn_rewards = []

        def look(self) -> str:
            """Look around."""
            self.turn_rewards.append(1.0)
            return ""

    only(Late, "error", "only after `reset`", "`__init__`", calls=[("look", {})])


def test_values_that_cannot_be_read():
    def truncated(self):
        raise KeyError("limit")

    message = "`truncated` {} raised KeyError: 'limit'"
    messages = findings(broken(property(truncated), "truncated"), "error")
    assert [m for m in messages if message.format("before `reset`") in m]
    assert [m for m in messages if message.format("after `reset`") in m]


def test_end_of_the_episode():
    only(broken(terminated=True), "error", "`terminated` is true right after `reset`")
    only(broken(truncated=0), "error", "`truncated` is `int`", "`True` or `False`")


# --- get_reward


def test_get_reward():
    only(broken(lambda self, answer: 1.0, "get_reward"), "error", "without arguments", "on `self`")
    only(broken(lambda self: "1", "get_reward"), "error", "returned `str`", "one number")
    only(broken(lambda self: [1.0], "get_reward"), "error", "returned `list`")
    only(broken(lambda self: float("inf"), "get_reward"), "error", "returned inf", "finite")
    only(broken(lambda self: 1 / 0, "get_reward"), "error", "raised ZeroDivisionError")
    only(broken(property(lambda self: 1 / 0), "get_reward"), "error", "`get_reward` is not a method", "does not see")
    for reward in (None, 1, 0.5, True):
        assert findings(broken(lambda self, reward=reward: reward, "get_reward")) == []


# --- shared state


def _logging(self, amount: int) -> str:
    """
    Add.

    Args:
        amount: How much.
    """
    self.turn_rewards.append(0.0)
    self.log.append(amount)
    return "ok"


_logging.__name__ = "add"


def test_state_on_the_class():
    only(broken(_logging, log=[]), "error", "`Broken.log` is shared", "`__init__` or `reset`")


def test_state_passed_by_the_factory():
    def __init__(self, log):
        Sound.__init__(self)
        self.log = log

    log: list = []
    only(lambda: broken(_logging, __init__=__init__)(log), "error", "`self.log` is shared")
    assert findings(lambda: broken(_logging, __init__=__init__)([])) == []
    # without example calls nothing has changed, and a shared index is no fault
    assert findings(lambda: broken(_logging, __init__=__init__)(log), calls=[]) == []


def test_state_shared_in_reset():
    def reset(self, **row):
        self.turn_rewards = []
        self.log = SHARED_LOG

    only(broken(_logging, reset=reset), "error", "`self.log` is shared")


def test_nested_state_and_slots():
    def add(self, amount: int) -> str:
        """
        Add.

        Args:
            amount: How much.
        """
        self.world["log"].append(amount)
        return "ok"

    world: dict = {"log": []}
    world["itself"] = world

    def build():
        instance = cls()
        instance.world = world
        return instance

    class Slotted:
        __slots__ = ("world",)

        def reset(self, **row):
            pass

    cls = broken(add, base=Slotted, __slots__=())
    only(build, "error", "`self.world` is shared")


# --- TRL's verdict


def _trainer(factory, tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    from ..tiny import build_model, build_tokenizer, dataset

    tokenizer = build_tokenizer()
    args = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=1,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=8,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=build_model(tokenizer),
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        args=args,
        train_dataset=dataset(2),
        processing_class=tokenizer,
        environment_factory=factory,
    )


class Undocumented(Sound):
    def helper(self, amount: int) -> str:
        return ""


class Untyped(Sound):
    def helper(self, amount):
        """
        Help.

        Args:
            amount: How much.
        """


class ClosedReset(Sound):
    def reset(self):
        self.turn_rewards = []


class AsyncReset(Sound):
    async def reset(self, **row):
        self.turn_rewards = []


class GymReset(Sound):
    def reset(self, **row):
        return "Go.", {}


class PartialMethod(Sound):
    plus = functools.partialmethod(Sound.add, 1)


class ClassReset(Sound):
    @classmethod
    def reset(cls, **row):
        pass


def test_trl_trains_on_what_passes(tmp_path):
    assert check_environment(Sound, reset_kwargs={"number": 0}) == []
    _trainer(Sound, tmp_path).train()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    "factory", [Undocumented, Untyped, ClosedReset, AsyncReset, GymReset, ClassReset, PartialMethod]
)
def test_trl_breaks_on_what_does_not(factory, tmp_path):
    with pytest.raises(EnvironmentCheckError):
        check_environment(factory, reset_kwargs={"number": 0})
    with pytest.raises(Exception):  # noqa: B017 - TRL's errors have no common type
        _trainer(factory, tmp_path).train()


def test_the_tools_are_those_that_trl_finds(tmp_path):
    class Mixed(Sound):
        partial = functools.partial(Sound.add, 1)
        cached = functools.cache(Sound.add)

        @classmethod
        def build(cls):
            """Build one."""

        def turn_rewards(self) -> list:
            """A tool by mistake."""
            return []

        def __init__(self):
            pass

    found = {tool.__name__ for tool in _trainer(Mixed, tmp_path).tools}
    assert found == {"add", "look", "double", "turn_rewards"}
    messages = findings(Mixed, calls=[("none", {})])
    assert any("The tools are: add, double, look." in message for message in messages)
    assert any("`turn_rewards` is a method" in message for message in messages)
    for name in ("partial", "cached", "build"):
        assert any(f"`{name}`" in message and "does not see" in message for message in messages)


def test_checker_loads_no_heavy_module():
    code = "import sys, trl_multiturn.environments; assert not {'torch', 'trl', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_documented_signature():
    assert list(inspect.signature(check_environment).parameters) == [
        "factory",
        "reset_kwargs",
        "example_calls",
        "raise_on_error",
    ]
