"""Checks of an environment's class, as TRL reads it: nothing of the environment is run."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ._findings import Report


# Public methods of environments for other libraries. In TRL they would be tools that the model can call.
_SUSPICIOUS_NAMES = {
    "close",
    "compute_reward",
    "done",
    "from_dict",
    "get_info",
    "get_observation",
    "get_state",
    "info",
    "is_done",
    "load",
    "play",
    "render",
    "reward",
    "save",
    "score",
    "seed",
    "set_state",
    "state",
    "step",
    "to_dict",
}

# What the trainers of this package read from an environment: values, so attributes or properties.
VALUE_NAMES = ("turn_rewards", "terminated", "truncated")

_INVISIBLE = {
    classmethod: "is a class method",
    functools.partial: "is a partial function",
    functools._lru_cache_wrapper: "is wrapped in `functools.cache` or `lru_cache`",
}


def functions_of(instance: Any) -> dict[str, Callable]:
    """
    The functions that TRL finds in an environment: those of its class, static methods and inherited ones included.
    Class methods, cached functions, `functools.partial` and what is stored on the instance are not among them.

    Args:
        instance (`Any`):
            Environment.

    Returns:
        `dict[str, Callable]`: Bound methods by name, private ones left out, `reset` and `get_reward` included.
    """
    found = inspect.getmembers(type(instance), predicate=inspect.isfunction)
    return {name: getattr(instance, name) for name, _ in found if not name.startswith("_")}


def check_class(instance: Any, row: dict[str, Any], report: Report) -> dict[str, Callable]:
    """
    Check the methods of an environment.

    Args:
        instance (`Any`):
            Environment.
        row (`dict[str, Any]`):
            What `reset` would be called with.
        report ([`Report`]):
            Takes the findings.

    Returns:
        `dict[str, Callable]`: The environment's tools by name.
    """
    functions = functions_of(instance)
    for name in VALUE_NAMES:
        if callable(getattr(type(instance), name, None)):
            report.error(
                f"`{name}` is a method: TRL makes a tool of every public method, and the trainer reads a value. Make it "
                "an attribute or a property."
            )
    _check_invisible(instance, functions, report)
    _check_reset(type(instance), functions.get("reset"), row, report)
    _check_get_reward(functions.get("get_reward"), report)
    tools = {name: f for name, f in functions.items() if name not in ("reset", "get_reward", *VALUE_NAMES)}
    if not tools:
        report.error(
            "There are no tools: the model could do nothing in this environment. Give its class public methods with type "
            "hints and docstrings. (If tools come from the trainer's `tools` alone, ignore this.)"
        )
    for name, tool in tools.items():
        check_tool(name, tool, report)
    return tools


def check_tool(name: str, tool: Callable, report: Report) -> None:
    """
    Check one tool's signature and documentation.

    Args:
        name (`str`):
            Name of the method.
        tool (`Callable`):
            Bound method.
        report ([`Report`]):
            Takes the findings.
    """
    if not hasattr(tool, "__name__"):  # `functools.partialmethod`: a function on the class, a partial on the instance
        report.error(f"`{name}` has no `__name__`, which TRL looks tools up by. Write it as an ordinary method.")
        return
    if not inspect.getdoc(tool):
        report.error(
            f"`{name}` has no docstring, so no tool description can be made of it. TRL makes a tool of every public "
            f"method: if the model should call it, document it; if not, rename it to `_{name}`."
        )
        return
    _check_schema(name, tool, report)
    _check_call_form(name, tool, report)
    if name in _SUSPICIOUS_NAMES:
        report.warning(
            f"`{name}` will be a tool that the model can call, as every public method. If that is not meant, rename it to "
            f"`_{name}` or make it a function outside the class."
        )
    elif inspect.signature(tool).return_annotation in (None, "None"):
        report.warning(
            f"`{name}` returns nothing, so after calling it the model reads the word None. If it should not be a tool, "
            f"rename it to `_{name}`; if it should, return what happened as text."
        )


def _check_schema(name: str, tool: Callable, report: Report) -> None:
    from transformers.utils import get_json_schema  # takes a second to import; environments should not wait for it

    try:
        get_json_schema(tool)
    except Exception as error:  # whatever it is, TRL will meet it too
        report.error(
            f"`{name}` cannot be described to the model: {error} Give every argument a type hint and a line under "
            "`Args:` in the docstring; if the method should not be a tool, rename it to `_"
            f"{name}`."
        )


def _check_call_form(name: str, tool: Callable, report: Report) -> None:
    # TRL looks tools up by the function's own name, which a decorator without `functools.wraps` has replaced.
    known_as = tool.__name__
    if known_as != name:
        report.error(
            f"`{name}` is known to the model as `{known_as}`, because that is the function's `__name__`. Use "
            "`functools.wraps` in decorators, and write a method of its own instead of an alias."
        )
    for parameter in inspect.signature(tool).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD and parameter.kind is not parameter.KEYWORD_ONLY:
            report.error(
                f"`{name}` takes `{parameter}`, but tools are called with named arguments from the tool description. List "
                "its arguments one by one, none of them positional-only."
            )
    if inspect.isgeneratorfunction(tool) or inspect.isasyncgenfunction(tool):
        report.error(f"`{name}` is a generator: the model would read its Python name. Return the whole text at once.")


def _check_invisible(instance: Any, functions: dict[str, Callable], report: Report) -> None:
    for name in dir(type(instance)):
        if name.startswith("_") or name in functions or name in VALUE_NAMES:
            continue
        attribute = inspect.getattr_static(type(instance), name)
        reason = next((text for kind, text in _INVISIBLE.items() if isinstance(attribute, kind)), None)
        if name in ("reset", "get_reward"):
            reason = reason or "is not a method"
            report.error(f"`{name}` {reason}, so TRL does not see it. Write it as an ordinary method of the class.")
        elif reason is not None:
            report.warning(
                f"`{name}` {reason}, so TRL does not see it. If it should be a tool, write an ordinary method that calls "
                "it; if not, ignore this."
            )
    for name, value in getattr(instance, "__dict__", {}).items():
        if not name.startswith("_") and name not in functions and inspect.isroutine(value):
            report.warning(
                f"`{name}` is a function stored on the instance, and TRL looks for tools in the class only. If it should be "
                f"a tool, write it as a method; if not, rename it to `_{name}`."
            )


def _check_reset(instance_type: type, reset: Callable | None, row: dict[str, Any], report: Report) -> None:
    if reset is None and hasattr(instance_type, "reset"):
        return  # there is one, but not one that TRL sees: already reported
    if reset is None:
        report.error(
            "There is no method `reset`. Add `def reset(self, **kwargs)`, which begins a new episode: TRL reuses instances."
        )
        return
    if inspect.iscoroutinefunction(reset) or inspect.isasyncgenfunction(reset):
        report.error(
            "`reset` is async, and TRL does not await it: the episode would never begin. Make it an ordinary method."
        )
    elif inspect.isgeneratorfunction(reset):
        report.error("`reset` contains `yield`, so calling it does not run it. Make it an ordinary method.")
    parameters = inspect.signature(reset).parameters.values()
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    try:
        inspect.signature(reset).bind(**row)
    except TypeError as error:
        advice = "Pass a row of your dataset as `reset_kwargs`" if open_ended else "Add `**kwargs` to its arguments"
        report.error(
            f"`reset` cannot be called with the columns {', '.join(map(repr, row))}: {error}. TRL passes it every column of "
            f"the dataset row by name. {advice}."
        )
        return
    if not open_ended:
        report.warning(
            "`reset` takes no `**kwargs`. TRL passes it every column of the dataset row by name, so it breaks as soon as the "
            "dataset has a column more. Add `**kwargs`."
        )


def _check_get_reward(get_reward: Callable | None, report: Report) -> None:
    if get_reward is None:
        return
    try:
        inspect.signature(get_reward).bind()
    except TypeError as error:
        report.error(
            f"`get_reward` cannot be called without arguments: {error}. TRL gives it none; keep what it needs on `self` "
            "in `reset` and the tools."
        )
