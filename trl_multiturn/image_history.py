"""Which images of a rollout are in context when a turn is written: the newest few, older ones replaced by a line of text.

Leaving an image out changes the context of every later turn, so a rollout is no longer one sequence. It is cut into
*segments*, each with the context that the policy saw when it wrote the segment's turns, and scored segment by segment.
Everything here works on token ids: nothing is tokenized again, so masks stay exact.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from .image_fields import select_images


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


def find_image_tokens(processor: Any, tokenizer: Any, pad_token_id: int | None) -> ImageTokens:
    """
    How images stand in a policy's tokens.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of the policy.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        pad_token_id (`int` or `None`):
            Token that is repeated for each feature of an image.

    Returns:
        [`ImageTokens`]

    Raises:
        `ValueError`: If images are not grids of patches, as in the Qwen-VL family.
    """
    if pad_token_id is None or not hasattr(getattr(processor, "image_processor", None), "merge_size"):
        raise ValueError(
            "history_images needs a vision-language model whose images are grids of patches, as in the Qwen-VL family. "
            "Leave it unset for this model."
        )
    vocabulary = tokenizer.get_vocab()
    brackets = {vocabulary[name] for name in ("<|vision_start|>", "<|vision_end|>") if name in vocabulary}
    omitted = tokenizer(OMITTED_IMAGE, add_special_tokens=False)["input_ids"]
    return ImageTokens(pad_token_id, frozenset(brackets), tuple(omitted))


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


def leave_images_out(
    keep: int, tokens: ImageTokens, prompt_ids: list, images: list, fields: dict[str, Any]
) -> tuple[list, list, dict[str, Any]]:
    """
    What TRL generates a turn from, with the newest images of each rollout only.

    Args:
        keep (`int`):
            Number of newest images in context.
        tokens ([`ImageTokens`]):
            How images stand in a sequence.
        prompt_ids (`list[list[int]]`):
            Tokens of every rollout.
        images (`list`):
            Images of every rollout, `None` for one without.
        fields (`dict[str, Any]`):
            What the processor made of the images.

    Returns:
        `tuple[list, list, dict]`: The last three without the older images.
    """
    shortened, visible = [], []
    kept: list[int] = []
    first = 0
    for ids, row in zip(prompt_ids, images, strict=True):
        ids, left_out = newest_images(ids, keep, tokens)
        count = len(row or [])
        shortened.append(ids)
        visible.append((row or [])[left_out:] or None)
        kept += range(first + left_out, first + count)
        first += count
    fields = dict(fields)
    if kept and fields.get("image_grid_thw") is not None:
        fields["pixel_values"], fields["image_grid_thw"] = select_images(
            fields["pixel_values"], fields["image_grid_thw"], kept
        )
    if "mm_token_type_ids" in fields:
        fields["mm_token_type_ids"] = [[int(i == tokens.pad) for i in ids] for ids in shortened]
    return shortened, visible, fields


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
