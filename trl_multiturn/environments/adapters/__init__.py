"""Environments of others as TRL environments: parser games through Jericho, and a running WebShop."""

from .jericho import JerichoEnvironment
from .play import play
from .webshop import WebShopEnvironment


__all__ = ["JerichoEnvironment", "WebShopEnvironment", "play"]
