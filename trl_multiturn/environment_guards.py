"""What an environment may do to a training run: one whose reset hangs ends it, one that has died costs its rollout only."""

import contextvars
import inspect
import queue
import threading
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

from transformers.utils import logging

from .environment_texts import make_valid
from .environments.lost import LOST


logger = logging.get_logger(__name__)


def guard_factories(factory: Any, timeout: float | None, lost: list[Any]) -> Any:
    """
    Guard every environment that is built.

    Args:
        factory (`Callable` or `dict[str, Callable]`):
            `environment_factory` as TRL takes it.
        timeout (`float` or `None`):
            Seconds that a reset may take. It is called on a thread then, unless the environment says `thread_safe = False`.
        lost (`list`):
            Environments that are given up. Those whose `get_reward` says that they have died are added.

    Returns:
        `Callable` or `dict[str, Callable]`: What builds the same environments.
    """
    if isinstance(factory, dict):
        return {name: guard_factories(one, timeout, lost) for name, one in factory.items()}

    def build() -> Any:
        environment = factory()
        try:  # bound methods, as TRL 1.14 looks for them on the object
            environment.reset = MethodType(partial(_reset, timeout), environment)
            if inspect.iscoroutinefunction(getattr(type(environment), "get_reward", None)):
                environment.get_reward = MethodType(partial(_reward_later, lost), environment)
            elif hasattr(type(environment), "get_reward"):
                environment.get_reward = MethodType(partial(_reward, lost), environment)
        except AttributeError:
            logger.warning_once(
                f"{type(environment).__name__} takes no attributes (`__slots__`): a reset that hangs is waited for."
            )
        return environment

    return build


def _reset(timeout: float | None, environment: Any, /, **row: Any) -> Any:
    observation = _reset_in_time(environment, timeout, row)
    if observation is not None and not isinstance(observation, (str, list)):
        raise TypeError(
            f"{type(environment).__name__}.reset returned {type(observation).__name__}: it must be text, a list of content "
            "blocks or None."
        )
    return observation if observation is None else make_valid(observation)


def _reset_in_time(environment: Any, timeout: float | None, row: dict[str, Any]) -> Any:
    reset = partial(type(environment).reset, environment, **row)
    if timeout is None or not getattr(environment, "thread_safe", True):
        return reset()
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    context = contextvars.copy_context()
    # A daemon thread: one that hangs for ever must not keep the process from ending.
    threading.Thread(target=context.run, args=(_put_result, reset, done), name="reset", daemon=True).start()
    try:
        result, error = done.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(
            f"{type(environment).__name__}.reset did not return within {timeout:g} seconds. If it needs longer, raise "
            "tool_timeout."
        ) from None
    if error is not None:
        raise error
    return result


def _put_result(function: Callable, done: queue.SimpleQueue) -> None:
    try:
        done.put((function(), None))
    except BaseException as error:  # raised again where it is waited for
        done.put((None, error))


def _reward(lost: list[Any], environment: Any, /) -> float | None:
    try:
        reward = type(environment).get_reward(environment)
    except Exception as error:
        _give_up(environment, lost, error)
        return None
    return _checked(environment, reward)


async def _reward_later(lost: list[Any], environment: Any, /) -> float | None:
    try:
        reward = await type(environment).get_reward(environment)
    except Exception as error:
        _give_up(environment, lost, error)
        return None
    return _checked(environment, reward)


def _give_up(environment: Any, lost: list[Any], error: Exception) -> None:
    """An environment that has died leaves its rollout without reward. Any other error is the caller's."""
    known = any(environment is one for one in lost)
    if not known and not isinstance(error, LOST):
        raise error
    logger.warning(f"{type(environment).__name__} was lost and gives its rollout no reward: {error!r}")
    if not known:
        lost.append(environment)


def _checked(environment: Any, reward: Any) -> Any:
    try:
        if isinstance(reward, (str, bytes)):
            raise TypeError
        return reward if reward is None else float(reward)
    except (TypeError, ValueError):
        raise TypeError(
            f"{type(environment).__name__}.get_reward returned {type(reward).__name__}: it must be a number or None."
        ) from None
