"""What TRL passes along with a batch whose rollouts hold images: pixels and grids, for some of the rollouts or images.

TRL keeps the patches of all images of a batch in one tensor, so whoever takes some rows of a batch must find theirs in it.
"""

from itertools import accumulate
from typing import Any

import torch


def patch_rows(image_grid_thw: torch.Tensor) -> list[tuple[int, int]]:
    """
    Where each image's patches are in `pixel_values`.

    Args:
        image_grid_thw (`torch.Tensor` of shape `(images, 3)`):
            Patches of each image: frames, height, width.

    Returns:
        `list[tuple[int, int]]`: First row and the row after the last.
    """
    ends = image_grid_thw.prod(dim=-1).cumsum(0).tolist()
    return list(zip([0, *ends][:-1], ends, strict=True))


def select_images(
    pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, chosen: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The pixels of some images, in the order given; an image may be chosen more than once.

    Args:
        pixel_values (`torch.Tensor` of shape `(patches, features)`):
            Patches of all images, one image after the other.
        image_grid_thw (`torch.Tensor` of shape `(images, 3)`):
            Patches of each image: frames, height, width.
        chosen (`list[int]`):
            Numbers of images; at least one.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: `pixel_values` and `image_grid_thw` of those.
    """
    rows = patch_rows(image_grid_thw)
    pixels = torch.cat([pixel_values[slice(*rows[i])] for i in chosen])
    return pixels, image_grid_thw[torch.tensor(chosen, device=image_grid_thw.device)]


def select_rollouts(
    rows: list[int], prompt_ids: list, images: list | None, fields: dict[str, Any]
) -> tuple[list, list | None, dict[str, Any]]:
    """
    What TRL generates a turn from, for some of the rollouts.

    Args:
        rows (`list[int]`):
            Their numbers.
        prompt_ids (`list[list[int]]`):
            Tokens of every rollout.
        images (`list` or `None`):
            Images of every rollout, `None` for one without.
        fields (`dict[str, Any]`):
            What the processor made of the images: `pixel_values` and `image_grid_thw` over all of them, or else one
            entry a rollout.

    Returns:
        `tuple[list, list | None, dict]`: The same three for those rollouts.
    """
    chosen = dict(fields)
    grid = chosen.pop("image_grid_thw", None)
    pixels = chosen.pop("pixel_values", None)
    chosen = {name: [values[row] for row in rows] for name, values in chosen.items()}
    if images is None:
        return [prompt_ids[row] for row in rows], None, chosen
    firsts = [0, *accumulate(len(row or []) for row in images)]
    kept = [i for row in rows for i in range(firsts[row], firsts[row + 1])]
    if kept and pixels is not None and grid is not None:
        chosen["pixel_values"], chosen["image_grid_thw"] = select_images(pixels, grid, kept)
    elif kept and pixels is not None:  # an image a row, as in models that do not cut images into grids
        chosen["pixel_values"] = pixels[torch.tensor(kept, device=pixels.device)]
    return [prompt_ids[row] for row in rows], [images[row] for row in rows], chosen


def part_of_images(part: slice, fields: dict[str, Any]) -> dict[str, Any]:
    """
    What the model is given besides token ids, for some of the sequences of a batch.

    Args:
        part (`slice`):
            Which sequences.
        fields (`dict[str, Any]`):
            `pixel_values`, `image_grid_thw` and `num_images` of all of them, and what else TRL passes on.

    Returns:
        `dict[str, Any]`: The same for those; without the three if no image is among theirs.
    """
    chosen = dict(fields)
    counts, pixels, grid = (chosen.pop(name) for name in ("num_images", "pixel_values", "image_grid_thw"))
    if chosen.get("mm_token_type_ids") is not None:
        chosen["mm_token_type_ids"] = chosen["mm_token_type_ids"][part]
    images = list(range(sum(counts[: part.start]), sum(counts[: part.stop])))
    if images:
        pixels, grid = select_images(pixels, grid, images)
        chosen |= {"pixel_values": pixels, "image_grid_thw": grid, "num_images": counts[part]}
    return chosen


def break_image_tokens(message: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """
    A tool's message with no token in its text that stands for an image: a processor would look for that image.

    Args:
        message (`dict`):
            Message whose content is text or a list of parts. Its name is the tool's, as the policy wrote it.
        names (`list[str]`):
            Such tokens, for example `"<|image_pad|>"`.

    Returns:
        `dict`: The message with a blank after the first character of each.
    """

    def clean(text: str) -> str:
        for name in names:
            text = text.replace(name, f"{name[0]} {name[1:]}")
        return text

    message = {**message, "name": clean(message["name"])}
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": clean(content)}
    parts = [{**part, "text": clean(part["text"])} if part.get("type") == "text" else part for part in content]
    return {**message, "content": parts}
