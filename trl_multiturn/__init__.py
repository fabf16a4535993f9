"""Turn-level credit for LLM agents trained with TRL."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any


try:
    __version__ = version("trl-multiturn")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

# Where each public name lives. Imported on first use: `import trl_multiturn` alone loads neither torch nor trl.
_NAMES = {
    "ArCHerConfig": "archer.config",
    "ArCHerTrainer": "archer.trainer",
    "IGPOConfig": "igpo.config",
    "IGPOTrainer": "igpo.trainer",
    "MultiTurnGRPOConfig": "config",
    "MultiTurnGRPOTrainer": "trainer",
    "ReplayArCHerConfig": "replay.config",
    "ReplayArCHerTrainer": "replay.trainer",
    "ReplayArguments": "replay.config",
    "ReplayGRPOConfig": "replay.config",
    "ReplayGRPOTrainer": "replay.trainer",
    "ReplayIGPOConfig": "replay.config",
    "ReplayIGPOTrainer": "replay.trainer",
    "ReplayMixin": "replay.mixin",
    "Rollouts": "rollouts",
    "StopReason": "rollouts",
    "Turn": "rollouts",
    "check_environment": "environments.checker",
    "diagnose": "doctor.diagnosis",
}

__all__ = [
    "ArCHerConfig",
    "ArCHerTrainer",
    "IGPOConfig",
    "IGPOTrainer",
    "MultiTurnGRPOConfig",
    "MultiTurnGRPOTrainer",
    "ReplayArCHerConfig",
    "ReplayArCHerTrainer",
    "ReplayArguments",
    "ReplayGRPOConfig",
    "ReplayGRPOTrainer",
    "ReplayIGPOConfig",
    "ReplayIGPOTrainer",
    "ReplayMixin",
    "Rollouts",
    "StopReason",
    "Turn",
    "check_environment",
    "diagnose",
]

if TYPE_CHECKING:
    from .archer.config import ArCHerConfig
    from .archer.trainer import ArCHerTrainer
    from .config import MultiTurnGRPOConfig
    from .doctor.diagnosis import diagnose
    from .environments.checker import check_environment
    from .igpo.config import IGPOConfig
    from .igpo.trainer import IGPOTrainer
    from .replay.config import ReplayArCHerConfig, ReplayArguments, ReplayGRPOConfig, ReplayIGPOConfig
    from .replay.mixin import ReplayMixin
    from .replay.trainer import ReplayArCHerTrainer, ReplayGRPOTrainer, ReplayIGPOTrainer
    from .rollouts import Rollouts, StopReason, Turn
    from .trainer import MultiTurnGRPOTrainer


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.endswith(("Arguments", "Config", "Mixin", "Trainer")):
        from .compat import check_trl

        check_trl()
    value = getattr(import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
