"""Packages that only one environment needs, imported when it is used."""

from importlib import import_module
from types import ModuleType


def require(name: str, extra: str) -> ModuleType:
    """
    Imports a package of an optional extra.

    Args:
        name (`str`):
            Import name of the package.
        extra (`str`):
            Extra of this package that installs it.

    Returns:
        The module.

    Raises:
        `ImportError`: If the package is not installed; the message says how to install it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(
            f"This environment needs `{name}`. Install it with `pip install trl-multiturn[{extra}]`."
        ) from error
