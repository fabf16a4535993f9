"""Which images of a rollout are in context when a turn is written: the newest few, older ones replaced by a line of text.

Leaving an image out changes the context of every later turn, so a rollout is no longer one sequence. It is cut into
*segments*, each with the context that the policy saw when it wrote the segment's turns, and scored segment by segment.
Everything here works on token ids: nothing is tokenized again, so masks stay exact.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch


# What stands in place of an image that is no longer in context.
OMITTED_IMAGE = "[earlier screenshot]"


@dataclass(frozen=True)
class ImageTokens:
    """
    How images stand in a sequence of tokens.

    Args:
        pad (`int`):
            Token that is repeated once for each feature of an image.
        brackets (`frozenset[int]`):
            Tokens that may stand right before and right after an image's run of `pad`, and go with it.
        omitted (`tuple[int, ...]`):
            Tokens that take the place of an image left out.
    """

    pad: int
    brackets: frozenset[int]
    omitted: tuple[int, ...]

    def find(self, ids: list[int]) -> list[tuple[int, int]]:
        """`(start, end)` of each image in a sequence, brackets included."""
        spans, i = [], 0
        while i < len(ids):
            if ids[i] != self.pad:
                i += 1
                continue
            start = i
            while i < len(ids) and ids[i] == self.pad:
                i += 1
            before = start > 0 and ids[start - 1] in self.brackets
            after = i < len(ids) and ids[i] in self.brackets
            spans.append((start - before, i + after))
        return spans

    def omit(self, ids: list[int], spans: list[tuple[int, int]]) -> list[int]:
        """A sequence with some of its images replaced by [`omitted`]."""
        shortened, taken = [], 0
        for start, end in spans:
            shortened += [*ids[taken:start], *self.omitted]
            taken = end
        return shortened + ids[taken:]


@dataclass(frozen=True)
class Segment:
    """
    A part of a rollout whose tokens were all written with the same images in context.

    Args:
        row (`int`):
            Rollout it belongs to.
        start (`int`):
            Its first token, counted in the rollout's full sequence.
        end (`int`):
            Token after its last one.
        ids (`list[int]`):
            Its context and its own tokens, which are the last `end - start`; images no longer in context left out.
        images (`range`):
            Which of the rollout's images are in context.
    """

    row: int
    start: int
    end: int
    ids: list[int]
    images: range


def split_segments(row: int, ids: list[int], start: int, keep: int, tokens: ImageTokens) -> list[Segment]:
    """
    Cut a rollout where an image leaves the context.

    Args:
        row (`int`):
            Number of the rollout.
        ids (`list[int]`):
            All its tokens, without padding.
        start (`int`):
            First token of the completion: what comes before is context only.
        keep (`int`):
            Number of newest images in context.
        tokens ([`ImageTokens`]):
            How images stand in it.

    Returns:
        `list[Segment]`: In order; together they hold every token from `start` on once.
    """
    spans = tokens.find(ids)
    # An image leaves when the one `keep` places after it begins.
    borders = [span[0] for span in spans[keep:]] + [len(ids)]
    segments: list[Segment] = []
    begin = start
    for left_out, border in enumerate(borders):
        if border > begin or (border == len(ids) and not segments):
            context = tokens.omit(ids[:border], spans[:left_out])
            visible = range(left_out, min(left_out + keep, len(spans)))
            segments.append(Segment(row, begin, border, context, visible))
            begin = border
    return segments


def newest_images(ids: list[int], keep: int, tokens: ImageTokens) -> tuple[list[int], int]:
    """
    What the policy sees before it writes its next turn.

    Args:
        ids (`list[int]`):
            All tokens so far.
        keep (`int`):
            Number of newest images in context.
        tokens ([`ImageTokens`]):
            How images stand in it.

    Returns:
        `tuple[list[int], int]`: The tokens with older images left out, and how many images that are.
    """
    spans = tokens.find(ids)
    left_out = max(0, len(spans) - keep)
    return tokens.omit(ids, spans[:left_out]), left_out


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


def without_tokens(message: dict[str, Any], names: list[str]) -> dict[str, Any]:
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


class SegmentBatch:
    """
    A padded batch of rollouts, cut into segments that are scored one by one and put together again. B rollouts, S
    segments.

    Args:
        input_ids (`torch.Tensor` of shape `(B, P + T)`):
            Prompts padded on the left, completions padded on the right.
        attention_mask (`torch.Tensor` of shape `(B, P + T)`):
            0 at padding.
        num_tokens (`int`):
            T, the padded completion length.
        num_images (`list[int]` or `None`):
            Images of each rollout.
        keep (`int`):
            Number of newest images in context.
        tokens ([`ImageTokens`]):
            How images stand in a sequence.

    Raises:
        `ValueError`: If a rollout holds more or fewer runs of image tokens than images.
    """

    def __init__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        num_tokens: int,
        num_images: list[int] | None,
        keep: int,
        tokens: ImageTokens,
    ) -> None:
        self._shape = (input_ids.size(0), num_tokens)
        self._device = input_ids.device
        self._tokens = tokens
        self._num_images = num_images or [0] * input_ids.size(0)
        prompt_columns = input_ids.size(1) - num_tokens
        self._prompt_lengths = attention_mask[:, :prompt_columns].sum(dim=1).tolist()
        self.segments: list[Segment] = []
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask.bool(), strict=True)):
            sequence = ids[mask].tolist()
            found = len(tokens.find(sequence))
            if num_images is not None and found != num_images[row] and len(sequence) > self._prompt_lengths[row]:
                raise ValueError(f"Rollout {row} has {num_images[row]} images, but image tokens of {found}.")
            self.segments += split_segments(row, sequence, self._prompt_lengths[row], keep, tokens)

    def pad_to(self, count: int) -> None:
        """Repeat the first segment until there are `count`, so that every process scores as many."""
        first = self.segments[0]
        idle = Segment(first.row, first.start, first.start, first.ids, first.images)
        self.segments += [idle] * (count - len(self.segments))

    def inputs(self, pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """
        The segments as a batch.

        Args:
            pad_token_id (`int`):
                Token to pad with.

        Returns:
            `tuple[torch.Tensor, torch.Tensor, int]`: Token ids and attention mask, each of shape `(S, L)` and padded on the
            left, and how many of the last columns the longest segment fills.
        """
        length = max(len(segment.ids) for segment in self.segments)
        ids = torch.full((len(self.segments), length), pad_token_id, device=self._device)
        mask = torch.zeros_like(ids)
        for i, segment in enumerate(self.segments):
            ids[i, length - len(segment.ids) :] = torch.tensor(segment.ids, device=self._device)
            mask[i, length - len(segment.ids) :] = 1
        return ids, mask, max(1, *(segment.end - segment.start for segment in self.segments))

    def images(self, pixel_values: torch.Tensor | None, image_grid_thw: torch.Tensor | None) -> dict[str, Any]:
        """
        What the model must be given besides token ids.

        Args:
            pixel_values (`torch.Tensor` of shape `(patches, features)` or `None`):
                Patches of all images of the batch.
            image_grid_thw (`torch.Tensor` of shape `(images, 3)` or `None`):
                Patches of each image: frames, height, width.

        Returns:
            `dict`: `pixel_values`, `image_grid_thw` and `num_images` of the segments; empty if no segment has an image.
        """
        if pixel_values is None or image_grid_thw is None:
            return {}
        firsts = [0, *accumulate(self._num_images)]
        chosen = [firsts[segment.row] + i for segment in self.segments for i in segment.images]
        if not chosen:
            return {}
        pixels, grid = select_images(pixel_values, image_grid_thw, chosen)
        counts = [len(segment.images) for segment in self.segments]
        return {"pixel_values": pixels, "image_grid_thw": grid, "num_images": counts}

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """
        Put what was measured at each segment's tokens where they are in the rollouts.

        Args:
            values (`torch.Tensor` of shape `(S, C)`):
                Values at the last C tokens of each segment.

        Returns:
            `torch.Tensor` of shape `(B, T)`: 0 at padding.
        """
        rows: list[int] = []
        columns: list[int] = []
        picked: list[torch.Tensor] = []
        for i, segment in enumerate(self.segments):
            size = segment.end - segment.start
            if size:
                rows += [segment.row] * size
                begin = segment.start - self._prompt_lengths[segment.row]
                columns += range(begin, begin + size)
                picked.append(values[i, values.size(1) - size :])
        whole = values.new_zeros(self._shape)
        if not picked:
            return whole
        index = (torch.tensor(rows, device=values.device), torch.tensor(columns, device=values.device))
        return whole.index_put(index, torch.cat(picked))
