"""How good is a policy, and how sure is that? Answer metrics as `evaluate` modules, and statistics for results."""

from pathlib import Path

from .gui import GuiEpisode, GuiMatch, find_errors, summarize_episodes, summarize_matches
from .statistics import avg_at_k, bootstrap_interval, pass_at_k, wilson_interval


__all__ = [
    "GuiEpisode",
    "GuiMatch",
    "avg_at_k",
    "bootstrap_interval",
    "find_errors",
    "metric_path",
    "pass_at_k",
    "summarize_episodes",
    "summarize_matches",
    "wilson_interval",
]

_METRICS = Path(__file__).parent / "metrics"


def metric_path(name: str) -> str:
    """
    Where one of this package's metrics lies, for `evaluate.load`. Nothing is downloaded.

    Args:
        name (`str`):
            `"answer_f1"` or `"answer_exact_match"`.

    Returns:
        `str`: Folder of the metric.

    Raises:
        `ValueError`: If there is no such metric. The message lists those there are.

    Example:

    ```python
    >>> import evaluate
    >>> metric = evaluate.load(metric_path("answer_f1"))
    >>> metric.compute(predictions=["Barack Obama"], references=[["Barack Hussein Obama"]])
    {'answer_f1': 0.8}
    ```
    """
    names = sorted(folder.name for folder in _METRICS.iterdir() if (folder / f"{folder.name}.py").is_file())
    if name not in names:
        raise ValueError(f"There is no metric {name!r}. Choose one of: {', '.join(names)}.")
    return str(_METRICS / name)
