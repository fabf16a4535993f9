"""What an app of the phone is: screens made from its data, and what a tap on each of their widgets does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen


if TYPE_CHECKING:
    from ..state import PhoneState


class App(ABC):
    """
    An app. It holds no state of its own: everything is in the [`PhoneState`] that its methods get.

    Attributes:
        name (`str`):
            What stands under its icon, and the key of its data.
    """

    name: str

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """The data that the app starts with: JSON, lists of things as dictionaries by id."""

    @abstractmethod
    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        """What one of its screens shows; it opens with `"main"`. Pop-up and toast are added by the phone."""

    @abstractmethod
    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        """Do what a tap on a widget does."""

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        """What a box that [`PhoneState.show_popup`] has put over the screen shows."""
        raise KeyError(f"{self.name} has no pop-up {name!r}.")

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        """Do what a pop-up's button does. The pop-up is closed already; without this method that is all."""
        return

    def opened(self, state: PhoneState) -> None:
        """Called when the app was opened: it may put a pop-up over its first screen."""
        return

    def long_press(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> bool:
        """Do what holding a widget does; `False` if that is nothing."""
        return False

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        """Do what the Enter key does in a field; `False` if that is nothing."""
        return False
