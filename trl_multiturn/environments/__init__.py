"""Environments to train on, and a checker for your own."""

from .checker import EnvironmentCheckError, Finding, check_environment


__all__ = ["EnvironmentCheckError", "Finding", "check_environment"]
