"""Environments of others as TRL environments: parser games through Jericho, a running WebShop, and tau2's airline."""

from .airline import AirlineDatabase, AirlineEnvironment, airline_tasks
from .jericho import JerichoEnvironment
from .play import play
from .webshop import WebShopEnvironment


__all__ = [
    "AirlineDatabase",
    "AirlineEnvironment",
    "JerichoEnvironment",
    "WebShopEnvironment",
    "airline_tasks",
    "play",
]
