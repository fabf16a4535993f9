"""Pushes to the Hub that fail in the background, of which the Trainer says nothing."""

from typing import Any

from transformers.utils import logging


logger = logging.get_logger(__name__)


def report_failed_pushes(push: Any) -> int:
    """
    Log an error for each upload that has failed, once.

    Args:
        push ([`~transformers.utils.PushInProgress`] or `None`):
            Uploads of a checkpoint. Those that have failed are taken out.

    Returns:
        `int`: How many have failed.
    """
    jobs = push.jobs if push is not None else []
    failed = [job for job in jobs if job.done() and not job.cancelled() and job.exception() is not None]
    for job in failed:
        jobs.remove(job)
        reason = " ".join(str(job.exception()).split())
        logger.error(
            f"A push to the Hub failed, and training goes on ({reason}). What should have been pushed is in the output "
            "folder; `push_to_hub()` pushes it again."
        )
    return len(failed)
