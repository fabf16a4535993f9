"""Whether two environments of one factory get into each other's way."""

from typing import Any


_MUTABLE = (list, dict, set)


class SharedContainers:
    """
    The lists, dicts and sets that two environments have in common, and what was in them.

    Args:
        first (`Any`):
            Environment.
        second (`Any`):
            Another environment of the same factory.
    """

    def __init__(self, first: Any, second: Any):
        found: dict[str, Any] = {}
        for cls in reversed(type(first).__mro__[:-1]):
            names = {name: value for name, value in vars(cls).items() if isinstance(value, _MUTABLE)}
            found.update({f"{cls.__name__}.{name}": v for name, v in names.items() if not name.startswith("__")})
        others = _attributes(second)
        for name, value in _attributes(first).items():
            if isinstance(value, _MUTABLE) and others.get(name) is value:
                found[f"self.{name}"] = value
        self._found = found
        self._contents = {name: _freeze(value) for name, value in found.items()}

    def changed(self) -> list[str]:
        """
        What has changed since.

        Returns:
            `list[str]`: Names of the attributes, `Class.name` or `self.name`.
        """
        return [name for name, value in self._found.items() if _freeze(value) != self._contents[name]]


def _attributes(instance: Any) -> dict[str, Any]:
    slots = [name for cls in type(instance).__mro__ for name in _slots(cls) if hasattr(instance, name)]
    return {**{name: getattr(instance, name) for name in slots}, **getattr(instance, "__dict__", {})}


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _freeze(value: Any, inside: frozenset[int] = frozenset()) -> Any:
    """
    The contents of nested lists, dicts, sets and tuples as a comparable value. Other objects stand for themselves: what
    changes inside them is not seen.
    """
    if id(value) in inside:
        return "..."
    inside = inside | {id(value)}
    if isinstance(value, dict):
        return (dict, *((_freeze(key, inside), _freeze(item, inside)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value), *(_freeze(item, inside) for item in value))
    if isinstance(value, (set, frozenset)):
        return (set, frozenset(value))  # its members are hashable, so they do not change
    return value if isinstance(value, (str, int, float, bool, bytes, type(None))) else (type(value), id(value))
