"""Rows as text: exact, the same for the same row, and clear about what cannot be kept."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trl_multiturn.replay.rows import content_hash, decode_row, encode_row


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_round_trip(row):
    text = encode_row(row)
    assert decode_row(text) == row
    assert encode_row(dict(reversed(row.items()))) == text
    assert encode_row(decode_row(text)) == text
    assert len(content_hash(text)) == 16


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P"])
def test_images_come_back_exactly_wherever_they_are(mode):
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)).convert(mode)
    row = {"image": pixels, "prompt": [{"role": "user", "content": [{"type": "image", "image": pixels}]}]}
    found = decode_row(encode_row(row))
    for image in (found["image"], found["prompt"][0]["content"][0]["image"]):
        assert image.mode == mode and image.convert("RGBA").tobytes() == pixels.convert("RGBA").tobytes()
    assert content_hash(encode_row(row)) == content_hash(encode_row(found))


def test_another_row_has_another_name():
    assert content_hash(encode_row({"a": 1})) != content_hash(encode_row({"a": 2}))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (datetime.date(2026, 1, 1), "datetime.date"),
        (np.zeros(2), "numpy.ndarray"),
        (b"bytes", "bytes"),
        (Image.new("CMYK", (2, 2)), "mode CMYK"),
    ],
)
def test_what_cannot_be_kept_is_named(value, told):
    with pytest.raises(TypeError, match=f"'when'.*{told}"):
        encode_row({"prompt": "p", "when": [value]})
