"""What answers tool calls, and the error that is no answer."""

from typing import Any, Protocol

from .errors import ToolError


class TransientError(ToolError):
    """
    A failure that says nothing about the world: the same call may succeed later. A cache never stores it.

    Args:
        code (`str`):
            What kind of error it is, in one word, such as `"timeout"`.
        message (`str`):
            What was wrong and what to do instead.
    """


class Backend(Protocol):
    """
    Whatever answers tool calls: a world, somebody's live service, a cache or a wrapper around one.

    A backend whose answers are made up may also have `call_at(name, arguments, epoch)`. `epoch` counts how often the call was
    refreshed (see [`ToolCache.refresh`]), so that such a backend can give other answers after an update as a live service would.
    """

    @property
    def version(self) -> str:
        """Changes whenever an answer could change for another reason than a refresh."""
        ...

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """
        Answers a call.

        Args:
            name (`str`):
                Name of the tool.
            arguments (`dict[str, Any]`):
                Arguments of the tool.

        Returns:
            A JSON value.

        Raises:
            [`ToolError`]: If there is no answer; this is an answer too and may be stored, except a [`TransientError`].
        """
        ...


def ask(backend: Backend, name: str, arguments: dict[str, Any], epoch: int) -> Any:
    """
    Calls a backend at an epoch, which one without `call_at` does not hear of.

    Args:
        backend ([`Backend`]):
            What to ask.
        name (`str`):
            Name of the tool.
        arguments (`dict[str, Any]`):
            Arguments of the tool.
        epoch (`int`):
            How often this call was refreshed.

    Returns:
        What the backend answers.
    """
    call_at = getattr(backend, "call_at", None)
    return backend.call(name, arguments) if call_at is None else call_at(name, arguments, epoch)


def begin(backend: Backend) -> Backend:
    """
    The backend for one rollout. One that remembers what a rollout did has a method `session()` that gives each its own.

    Args:
        backend ([`Backend`]):
            What all rollouts share.

    Returns:
        [`Backend`]: What this rollout asks.
    """
    session = getattr(backend, "session", None)
    return backend if session is None else session()
