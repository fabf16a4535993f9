"""Do the images of a rollout and its image tokens belong together?"""

from typing import Any

from .observation import Observation
from .report import Finding


def check_images(seen: Observation) -> Finding:
    """
    Each rollout has as many image tokens as its images make up, and no image is lost.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "images"
    if not seen.chat.is_vision_language or seen.rollouts is None:
        return Finding(name, "skipped", "The policy reads no images.")
    shown = [
        _count_images([*prompt, *completion])
        for prompt, completion in zip(seen.rollouts.prompts, seen.rollouts.completions, strict=True)
    ]
    if not sum(shown):
        return Finding(name, "warning", "No rollout of the batch has an image.", _where_images_go())
    if seen.image_mismatch:
        return Finding(
            name,
            "error",
            "Image tokens do not match the images of some rollout: TRL drops the images of the whole batch, and none of it is "
            "trained.",
            f"max_completion_length: {2 * seen.args.max_completion_length}, so that no image is cut in two, or smaller images; "
            "with vLLM, keep the policy from writing the image token itself.",
        )
    scored = [(row, s) for row, s in enumerate(seen.scored) if s is not None and s.image_features is not None]
    wrong = [(row, s) for row, s in scored if s.image_tokens != s.image_features]
    if wrong:
        row, s = wrong[0]
        return Finding(
            name,
            "error",
            f"{len(wrong)} of {len(scored)} rollouts have another number of image tokens than their images make up: rollout "
            f"{row} has {s.image_tokens}, its {shown[row]} images make up {s.image_features}.",
            "Let every image go through the trainer's processor once: one image token in the text for each image in the "
            "message, and the same min_pixels and max_pixels everywhere.",
        )
    missing = [row for row, s in scored if shown[row] and not s.image_features]
    if missing or not scored:
        return Finding(
            name,
            "error",
            f"The images of {len(missing) or len(shown)} rollouts do not reach the model.",
            _where_images_go(),
        )
    tokens = sum(s.image_tokens for _, s in scored)
    return Finding(
        name, "ok", f"{sum(shown)} images in {len(shown)} rollouts, {tokens} image tokens, as many as they make up."
    )


def _where_images_go() -> str:
    return (
        'Return images as content blocks ({"type": "image", "image": picture}) from the environment\'s `reset` or tools, or '
        "give the dataset a column `images`."
    )


def _count_images(messages: list[Any]) -> int:
    blocks = [
        block
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
    ]
    return sum(isinstance(block, dict) and block.get("type") == "image" for block in blocks)
