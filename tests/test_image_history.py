"""Rollouts cut into segments: every token once, and each in the context in which it was written."""

from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.image_fields import (
    break_image_tokens,
    part_of_images,
    patch_rows,
    select_images,
    select_rollouts,
)
from trl_multiturn.image_history import ImageTokens, SegmentBatch, newest_images, split_segments


PADDING, IMAGE, BEGIN, END = range(4)
TOKENS = ImageTokens(pad=IMAGE, brackets=frozenset({BEGIN, END}), omitted=(90, 91))

# A text of so many tokens, or an image of so many tokens.
pieces = st.tuples(st.sampled_from(["text", "image"]), st.integers(1, 3))
texts = st.tuples(st.just("text"), st.integers(1, 3))


class Rollout:
    """Tokens of a prompt and a completion, with images in either. A masked one is left out of attention, as TRL does."""

    def __init__(self, prompt, completion, masked=False):
        self.sizes: list[int] = []
        self._next = 10
        self.prompt, self.completion = self._tokens(prompt), self._tokens(completion)
        self.masked = masked
        self.ids = self.prompt if masked else self.prompt + self.completion

    def _tokens(self, parts):
        ids = []
        for kind, size in parts:
            if kind == "image":
                self.sizes.append(size)
                ids += [BEGIN, *[IMAGE] * size, END]
            else:
                ids += range(self._next, self._next + size)
                self._next += size
        return ids


rollouts = st.builds(
    lambda first, prompt, completion, masked: Rollout([first, *prompt], completion, masked),
    texts,
    st.lists(pieces, max_size=3),
    st.lists(pieces, min_size=1, max_size=8),
    st.booleans(),
)


def batch_of(rows, keep, padding=0):
    prompt_length = max(len(row.prompt) for row in rows) + padding
    length = max(len(row.completion) for row in rows) + padding
    ids = torch.full((len(rows), prompt_length + length), PADDING)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, prompt_length - len(row.prompt) : prompt_length] = torch.tensor(row.prompt)
        ids[i, prompt_length : prompt_length + len(row.completion)] = torch.tensor(row.completion)
        mask[i, prompt_length - len(row.prompt) : prompt_length + len(row.completion) * (not row.masked)] = 1
    counts = [len(row.sizes) for row in rows]
    return SegmentBatch(ids, mask, length, counts, keep, TOKENS), ids[:, prompt_length:], mask[:, prompt_length:]


def pictures(rows):
    """Pixels and grids of all images: four patches for a token, each with a number of its own."""
    sizes = [size for row in rows for size in row.sizes]
    grid = torch.tensor([[1, 2, 2 * size] for size in sizes]).reshape(-1, 3)
    return torch.arange(4 * sum(sizes)).float().unsqueeze(1), grid


class TestSegments:
    @given(rollouts, st.integers(1, 4))
    def test_each_token_is_in_one_segment_with_what_the_policy_saw(self, rollout, keep):
        start = len(rollout.prompt)
        segments = split_segments(0, rollout.ids, start, keep, TOKENS)
        assert [i for s in segments for i in range(s.start, s.end)] == list(range(start, len(rollout.ids)))
        for segment in segments:
            assert (
                segment.ids[len(segment.ids) - (segment.end - segment.start) :]
                == (rollout.ids[segment.start : segment.end])
            )
            for i in range(segment.start, segment.end):
                if rollout.ids[i] not in (IMAGE, BEGIN, END):  # written by the policy, perhaps
                    seen, left_out = newest_images(rollout.ids[:i], keep, TOKENS)
                    assert segment.ids[: len(segment.ids) - (segment.end - i)] == seen
                    assert segment.images.start == left_out

    @given(rollouts, st.integers(1, 4))
    def test_as_many_images_as_are_in_its_tokens(self, rollout, keep):
        for segment in split_segments(0, rollout.ids, len(rollout.prompt), keep, TOKENS):
            sizes = [end - start - 2 for start, end in TOKENS.find(segment.ids)]
            assert sizes == [rollout.sizes[i] for i in segment.images]
            assert len(sizes) <= keep

    @given(rollouts)
    def test_one_segment_if_no_image_is_left_out(self, rollout):
        keep = max(1, len(rollout.sizes))
        (segment,) = split_segments(3, rollout.ids, len(rollout.prompt), keep, TOKENS)
        assert (segment.row, segment.ids) == (3, rollout.ids)

    def test_by_hand(self):
        """A screen, a turn, a screen, a turn: the second turn sees the second screen only."""
        rollout = Rollout([("text", 1), ("image", 2)], [("text", 2), ("image", 1), ("text", 1)])
        first, second = split_segments(0, rollout.ids, len(rollout.prompt), 1, TOKENS)
        assert (first.start, first.end, first.images) == (5, 7, range(0, 1))
        assert first.ids == [10, BEGIN, IMAGE, IMAGE, END, 11, 12]
        assert (second.start, second.end, second.images) == (7, 11, range(1, 2))
        assert second.ids == [10, 90, 91, 11, 12, BEGIN, IMAGE, END, 13]

    def test_a_run_without_brackets(self):
        assert TOKENS.find([IMAGE, 5, BEGIN, 6, IMAGE, IMAGE, END, END]) == [(0, 1), (4, 7)]


class TestBatch:
    @settings(deadline=None)
    @given(st.lists(rollouts, min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 3))
    def test_values_come_back_to_their_places(self, rows, keep, padding, idle):
        batch, completions, mask = batch_of(rows, keep, padding)
        batch.pad_to(len(batch.segments) + idle)
        ids, attention, num_last = batch.inputs(PADDING)
        assert torch.equal(batch.gather(ids[:, -num_last:]), completions * mask)
        assert attention.sum(dim=1).tolist() == [len(segment.ids) for segment in batch.segments]
        for row, segment in zip(ids, batch.segments, strict=True):
            assert row[len(row) - len(segment.ids) :].tolist() == segment.ids

    @settings(deadline=None)
    @given(st.lists(rollouts, min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 2))
    def test_pixels_of_the_images_in_context(self, rows, keep, idle):
        batch, _, _ = batch_of(rows, keep)
        batch.pad_to(len(batch.segments) + idle)
        pixels, grid = pictures(rows)
        fields = batch.images(pixels, grid)
        ids, _, _ = batch.inputs(PADDING)
        if not (ids == IMAGE).any():
            assert fields == {}
            return
        assert fields["num_images"] == [len(segment.images) for segment in batch.segments]
        sizes = (fields["image_grid_thw"].prod(dim=-1) // 4).tolist()
        assert sizes == [end - start - 2 for row in ids.tolist() for start, end in TOKENS.find(row)]
        firsts = [0, *accumulate(len(row.sizes) for row in rows)]
        spans = patch_rows(grid)
        chosen = [firsts[segment.row] + i for segment in batch.segments for i in segment.images]
        assert fields["pixel_values"].flatten().tolist() == [p for i in chosen for p in range(*spans[i])]

    def test_gradients_reach_what_was_gathered(self):
        batch, _, mask = batch_of([Rollout([("text", 1)], [("image", 1), ("text", 2), ("image", 1), ("text", 1)])], 1)
        values = torch.randn(len(batch.segments), batch.inputs(PADDING)[2], requires_grad=True)
        batch.gather(values).sum().backward()
        assert values.grad.sum() == mask.sum()

    def test_without_images(self):
        batch, completions, mask = batch_of([Rollout([("text", 2)], [("text", n)]) for n in (1, 3)], 1)
        assert batch.images(None, None) == {}
        ids, _, num_last = batch.inputs(PADDING)
        assert torch.equal(batch.gather(ids[:, -num_last:]), completions * mask)

    def test_images_that_do_not_match_are_refused(self):
        rollout = Rollout([("text", 1), ("image", 1)], [("text", 1)])
        rollout.sizes.append(1)
        with pytest.raises(ValueError, match="Rollout 0 has 2 images, but image tokens of 1"):
            batch_of([rollout], 1)


class TestSelection:
    @given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.data())
    def test_rollouts_keep_their_own_images(self, counts, data):
        rows = [Rollout([("text", 1)], [("image", 1 + i % 3) for i in range(n)] or [("text", 1)]) for n in counts]
        chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True).map(sorted))
        pixels, grid = pictures(rows)
        names = [[f"{row}.{i}" for i in range(n)] or None for row, n in enumerate(counts)]
        fields = {"pixel_values": pixels, "image_grid_thw": grid, "mm_token_type_ids": [[n] for n in counts]}
        ids, images, kept = select_rollouts(chosen, [row.ids for row in rows], names, fields)
        assert (ids, images) == ([rows[i].ids for i in chosen], [names[i] for i in chosen])
        assert kept["mm_token_type_ids"] == [[counts[i]] for i in chosen]
        spans, firsts = patch_rows(grid), [0, *accumulate(counts)]
        wanted = [p for row in chosen for i in range(firsts[row], firsts[row + 1]) for p in range(*spans[i])]
        assert ("pixel_values" in kept) == bool(wanted)
        if wanted:
            assert kept["pixel_values"].flatten().tolist() == wanted

    def test_rollouts_of_models_without_grids(self):
        images = [["a"], None, ["b", "c"]]
        pixels = torch.arange(3.0)
        _, kept, fields = select_rollouts([2], [[1], [2], [3]], images, {"pixel_values": pixels})
        assert kept == [["b", "c"]]
        assert fields["pixel_values"].tolist() == [1, 2]
        assert select_rollouts([0], [[1], [2]], None, {"kinds": [[0], [1]]}) == ([[1]], None, {"kinds": [[0]]})

    def test_an_image_may_be_chosen_twice(self):
        pixels, grid = pictures([Rollout([], [("image", 2), ("image", 1)])])
        chosen, grids = select_images(pixels, grid, [1, 0, 1])
        assert chosen.flatten().tolist() == [*range(8, 12), *range(8), *range(8, 12)]
        assert grids.tolist() == [[1, 2, 2], [1, 2, 4], [1, 2, 2]]

    def test_a_part_of_a_batch(self):
        pixels, grid = pictures([Rollout([], [("image", 1)] * 3)])
        fields = {
            "pixel_values": pixels,
            "image_grid_thw": grid,
            "num_images": [2, 0, 1],
            "mm_token_type_ids": torch.eye(3),
            "compute_entropy": True,
        }
        part = part_of_images(slice(1, 3), fields)
        assert part["pixel_values"].flatten().tolist() == [8, 9, 10, 11]
        assert (part["num_images"], part["compute_entropy"]) == ([0, 1], True)
        assert torch.equal(part["mm_token_type_ids"], torch.eye(3)[1:3])
        assert part_of_images(slice(1, 2), fields).keys() == {"mm_token_type_ids", "compute_entropy"}


def test_image_tokens_in_text_are_broken_up():
    names = ["<|image_pad|>", "<|video_pad|>"]
    message = {"role": "tool", "name": "<|image_pad|>", "content": "a <|image_pad|><|video_pad|> b"}
    clean = {"role": "tool", "name": "< |image_pad|>", "content": "a < |image_pad|>< |video_pad|> b"}
    assert break_image_tokens(message, names) == clean
    image = {"type": "image", "image": object()}
    parts = [image, {"type": "text", "text": "<|image_pad|>"}]
    content = break_image_tokens({"name": "look", "content": parts}, names)["content"]
    assert content == [image, {"type": "text", "text": "< |image_pad|>"}]
    assert parts[1]["text"] == "<|image_pad|>"
