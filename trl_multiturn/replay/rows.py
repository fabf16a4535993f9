"""Dataset rows as text: what a stored task is kept as, in memory and in checkpoints, and what names it."""

import base64
import hashlib
import io
import json
from typing import Any


_IMAGE = "trl_multiturn/png"
_EXACT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def encode_row(row: dict[str, Any]) -> str:
    """
    A dataset row as JSON, images in it as PNG.

    Args:
        row (`dict[str, Any]`):
            The row: JSON values and PIL images, nested as they may be.

    Returns:
        `str`: The same for equal rows, whatever the order of their columns.

    Raises:
        `TypeError`: If a column holds anything else.
    """
    parts = []
    for name in sorted(row):
        try:
            parts.append(f"{json.dumps(name)}: {json.dumps(row[name], default=_encode, sort_keys=True)}")
        except TypeError as error:
            raise TypeError(
                f"The column {name!r} cannot go into a checkpoint, which failure replay needs: {error}. Store it as text, "
                "numbers, lists or images, or remove it from the dataset."
            ) from None
    return "{" + ", ".join(parts) + "}"


def decode_row(text: str) -> dict[str, Any]:
    """
    The row that [`encode_row`] made a text of.

    Args:
        text (`str`):
            The text.

    Returns:
        `dict[str, Any]`: A new row, which shares nothing with any other.
    """
    return json.loads(text, object_hook=_decode)


def content_hash(text: str) -> str:
    """
    Name of a task that has none: the first 16 hexadecimal digits of the SHA-256 of its row.

    Args:
        text (`str`):
            What [`encode_row`] returned.

    Returns:
        `str`: The name.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _encode(value: Any) -> Any:
    from PIL import Image

    if not isinstance(value, Image.Image):
        raise TypeError(f"it holds a {type(value).__module__}.{type(value).__qualname__}")
    if value.mode not in _EXACT_MODES:
        raise TypeError(f"it holds an image of mode {value.mode}, which PNG does not keep exactly")
    file = io.BytesIO()
    value.save(file, format="PNG")
    return {_IMAGE: base64.b64encode(file.getvalue()).decode("ascii")}


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() != {_IMAGE}:
        return value
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(value[_IMAGE])))
    image.load()
    return image
