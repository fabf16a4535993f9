"""Say what is wrong with an environment before a training run finds out."""

import inspect
from collections.abc import Callable
from typing import Any

from ._class_checks import check_class
from ._episode_checks import check_values_appear_early, check_values_before_reset, run_episode
from ._findings import EnvironmentCheckError, Finding, Report
from ._shared_state import SharedContainers


__all__ = ["EnvironmentCheckError", "Finding", "check_environment"]


def check_environment(
    factory: Callable[[], Any],
    *,
    reset_kwargs: dict[str, Any] | None = None,
    example_calls: list[tuple[str, dict[str, Any]]] | None = None,
    raise_on_error: bool = True,
) -> list[Finding]:
    """
    Check an environment for `environment_factory`: does TRL see what was meant, and do the parts keep to the contract?

    Two instances are built. One plays two episodes of the example calls, as TRL reuses instances, the other one episode
    without calls in between. `get_reward` is called at the end of each episode.

    Args:
        factory (`Callable`):
            What `environment_factory` would be given: a class, or a function without arguments that returns a new
            environment. Of a `dict` of factories, check one at a time.
        reset_kwargs (`dict[str, Any]`, *optional*):
            A row of the dataset, which `reset` is called with. A `prompt` is added if there is none.
        example_calls (`list[tuple[str, dict]]`, *optional*):
            Tool calls that should work one after the other: name and arguments. Without them no tool is called, and what
            tools return and change is not checked.
        raise_on_error (`bool`, *optional*, defaults to `True`):
            Whether to raise if there are errors, rather than only return them. Warnings never raise.

    Returns:
        `list[Finding]`: What was found, each with a level and a message; empty if all is well.

    Raises:
        [`EnvironmentCheckError`]: (A `ValueError`.) If there are errors and `raise_on_error` is set. The message lists
            all of them.

    Example:

    ```python
    >>> from trl_multiturn import check_environment
    >>> check_environment(MyEnvironment, reset_kwargs=dataset[0], example_calls=[("search", {"query": "Paris"})])
    []
    ```
    """
    report = Report()
    row = {"prompt": [{"role": "user", "content": ""}], **(reset_kwargs or {})}
    instances = _build(factory, report)
    if instances is not None:
        tools = check_class(instances[0], row, report)
        if _can_reset(instances[0], row):
            _play(*instances, row, tools, example_calls or [], report)
    if raise_on_error and report.has_errors:
        raise EnvironmentCheckError(report.findings)
    return report.findings


def _build(factory: Any, report: Report) -> tuple[Any, Any] | None:
    if not callable(factory):
        what = (
            "a dict: check its factories one at a time" if isinstance(factory, dict) else f"{type(factory).__name__}"
        )
        report.error(
            f"The factory is not callable: it is {what}. Pass the class itself, or a function that builds one."
        )
        return None
    try:
        first, second = factory(), factory()
    except Exception as error:  # the environment's own; reported, not hidden
        report.error(
            f"The factory raised {type(error).__name__}: {error}. TRL calls it without arguments; give arguments with "
            "`functools.partial`."
        )
        return None
    if first is None or isinstance(first, type):
        what = "None" if first is None else f"the class {first.__name__}"
        report.error(f"The factory returned {what} instead of an environment. Let it return a new instance.")
        return None
    if first is second:
        report.error(
            "The factory returned the same environment twice. Rollouts run at the same time, each in an environment of its "
            "own: let it build a new instance in each call."
        )
    return first, second


def _can_reset(instance: Any, row: dict[str, Any]) -> bool:
    """Whether there is a `reset` to call; if not, [`check_class`] has said why."""
    reset = getattr(type(instance), "reset", None)
    if not inspect.isfunction(reset):
        return False
    if inspect.iscoroutinefunction(reset) or inspect.isgeneratorfunction(reset) or inspect.isasyncgenfunction(reset):
        return False
    try:
        inspect.signature(instance.reset).bind(**row)
    except TypeError:
        return False
    return True


def _play(first: Any, second: Any, row: dict, tools: dict, calls: list, report: Report) -> None:
    """Two episodes on the first environment: beside one that was just built, and beside one that was reset."""
    early = check_values_before_reset(first, report)
    for reset_second in (False, True):
        if reset_second and not run_episode(second, row, tools, [], report):
            return
        shared = SharedContainers(first, second)
        if not run_episode(first, row, tools, calls, report):
            return
        for name in shared.changed() if first is not second else []:
            report.error(
                f"`{name}` is shared by all environments of this factory, and an episode changed it. Make a new one for each "
                "environment, in `__init__` or `reset`; keep what never changes as it is."
            )
    check_values_appear_early(first, early, report)
