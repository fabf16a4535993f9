"""What a policy is told before an episode: how to reply, and how large the screen is."""

from .mobile_use import CoordinateSpace


def system_prompt(size: tuple[int, int], coordinate_space: CoordinateSpace = "pixel") -> str:
    """
    System prompt of a GUI agent in the reply format of Mobile-R1 (section 3.2 of https://huggingface.co/papers/2506.20332).

    Args:
        size (`tuple[int, int]`):
            Width and height of the screenshots in pixels.
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            `"pixel"`, or `"norm1000"` for points from 0 to 1000 along either edge.

    Returns:
        `str`: The prompt. The tool itself is described by the chat template.
    """
    grid = f"{size[0]}x{size[1]} pixels" if coordinate_space == "pixel" else "a grid from 0 to 1000 along either edge"
    return (
        f"You operate a phone. Points are given as [x, y] on {grid}. Reply with <think>what the screen shows, what you do "
        "next and what for</think><action>the action in one sentence</action> and one call of mobile_use."
    )
