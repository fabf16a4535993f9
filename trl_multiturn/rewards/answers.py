"""Is the answer right? Exact match and word F1 against one or several accepted answers."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any


# Longer texts are compared by their beginning: a policy that writes a book into its answer must not stall a step.
MAX_ANSWER_CHARS = 10_000

# How IGPO's data joins the accepted answers of a question into one string.
ANSWER_SEPARATOR = "<|answer_split|>"

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_DELETE_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BLANK_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))


def normalize_squad(text: str) -> str:
    """
    Normalise as the official SQuAD evaluation does: lower case, ASCII punctuation deleted, the words "a", "an" and
    "the" removed, whitespace collapsed.

    Args:
        text (`str`):
            Text to normalise.

    Returns:
        `str`: The normalised text; may be empty.

    Example:

    ```python
    >>> normalize_squad("The  well-known U.S. president")
    'wellknown us president'
    ```
    """
    text = text.lower().translate(_DELETE_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def normalize_igpo(text: str) -> str:
    """
    Normalise as the released code of [IGPO](https://huggingface.co/papers/2510.14967) does: lower case, each ASCII
    punctuation character replaced by a space, whitespace collapsed. Articles stay.

    Args:
        text (`str`):
            Text to normalise.

    Returns:
        `str`: The normalised text; may be empty.

    Example:

    ```python
    >>> normalize_igpo("The  well-known U.S. president")
    'the well known u s president'
    ```
    """
    return " ".join(text.lower().translate(_BLANK_PUNCTUATION).split())


# Per normalisation: what is tried in turn until some words are left, and whether F1 counts a repeated word once.
_NORMALIZATIONS: dict[str, tuple[tuple[Callable[[str], str], ...], bool]] = {
    "squad": ((normalize_squad, lambda text: text.lower().translate(_DELETE_PUNCTUATION), str.lower), False),
    "igpo": ((normalize_igpo, str.lower), True),
}


def exact_match(prediction: str, answers: str | Sequence[str], normalization: str = "squad") -> float:
    """
    Whether the prediction equals one of the answers after normalisation.

    A text of which normalisation leaves nothing ("The", "!!!", the option "A") is compared with its articles, and if
    it has no other characters either, with its punctuation. So "the" does not answer "A", and "." does not answer
    "!!!". An empty prediction equals nothing. Of each text the first 10,000 characters are compared.

    Args:
        prediction (`str`):
            What the model answered.
        answers (`str` or `Sequence[str]`):
            Accepted answers; one string is one answer, or several joined with `"<|answer_split|>"`.
        normalization (`str`, *optional*, defaults to `"squad"`):
            `"squad"` or `"igpo"`: see [`normalize_squad`] and [`normalize_igpo`].

    Returns:
        `float`: 1.0 or 0.0.

    Raises:
        `ValueError`: If no accepted answer is given, or the normalisation is unknown.
        `TypeError`: If the prediction or an accepted answer is not a string.

    Example:

    ```python
    >>> exact_match("the Eiffel Tower.", ["Eiffel Tower", "La tour Eiffel"])
    1.0
    ```
    """
    predicted = _words(prediction, normalization)
    return float(
        any(predicted == _words(answer, normalization) for answer in accepted_answers(answers)) and bool(predicted)
    )


def f1(prediction: str, answers: str | Sequence[str], normalization: str = "squad") -> float:
    """
    Word F1 between the prediction and the answer it is closest to.

    With `"squad"` a word that is repeated counts as often as it is repeated (multisets, as in the SQuAD evaluation);
    with `"igpo"` once (sets, as in IGPO's code). What normalisation leaves nothing of is treated as in
    [`exact_match`]. Of each text the first 10,000 characters are compared.

    Args:
        prediction (`str`):
            What the model answered.
        answers (`str` or `Sequence[str]`):
            Accepted answers; one string is one answer, or several joined with `"<|answer_split|>"`.
        normalization (`str`, *optional*, defaults to `"squad"`):
            `"squad"` or `"igpo"`: see [`normalize_squad`] and [`normalize_igpo`].

    Returns:
        `float`: Between 0 and 1; the best over the accepted answers.

    Raises:
        `ValueError`: If no accepted answer is given, or the normalisation is unknown.
        `TypeError`: If the prediction or an accepted answer is not a string.

    Example:

    ```python
    >>> f1("Barack Obama", ["Barack Hussein Obama", "Obama"])
    0.8
    ```
    """
    predicted = _words(prediction, normalization)
    once = _NORMALIZATIONS[normalization][1]
    return max(_overlap(predicted, _words(answer, normalization), once) for answer in accepted_answers(answers))


def extract_answer(completion: str | list[dict[str, Any]]) -> str | None:
    """
    The answer that a completion ends with: what stands between `<answer>` and `</answer>` in its last assistant
    message. What tools returned and what earlier messages said is not looked at.

    Args:
        completion (`str` or `list[dict]`):
            A completion as TRL passes it to reward functions: text, or messages with text or content blocks.

    Returns:
        `str` or `None`: The answer without surrounding whitespace (possibly empty); `None` if the last assistant
        message holds no such pair of tags, an unfinished one, or more than one. Tags are recognised in lower case only.

    Example:

    ```python
    >>> extract_answer([{"role": "assistant", "content": "<think>Easy.</think><answer> Paris </answer>"}])
    'Paris'
    ```
    """
    text = completion if isinstance(completion, str) else _last_assistant_text(completion)
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    before, _, after = text.partition("<answer>")
    if "</answer>" in before:
        return None
    return after.partition("</answer>")[0].strip()


def f1_reward(completions: list[Any], answers: list[Any], missing_answer_reward: float = 0.0, **kwargs) -> list[float]:
    """
    Reward function: [`f1`] of each completion's answer, with SQuAD's normalisation.

    Args:
        completions (`list`):
            Completions: text or messages.
        answers (`list[list[str]]` or `list[str]`):
            Dataset column with the accepted answers of each row.
        missing_answer_reward (`float`, *optional*, defaults to `0.0`):
            Reward of a completion for which [`extract_answer`] finds nothing. Set it with `functools.partial`.
        **kwargs:
            What else TRL passes to reward functions.

    Returns:
        `list[float]`: One reward for each completion.

    Raises:
        `ValueError`: If a row has no accepted answer. The message names the row.
        `TypeError`: If a row's answers are not strings. The message names the row.

    Example:

    ```python
    >>> trainer = IGPOTrainer(..., reward_funcs=f1_reward)
    ```
    """
    return _rewards(f1, completions, answers, "squad", missing_answer_reward)


def exact_match_reward(
    completions: list[Any], answers: list[Any], missing_answer_reward: float = 0.0, **kwargs
) -> list[float]:
    """
    Reward function: [`exact_match`] of each completion's answer, with SQuAD's normalisation.

    Takes, returns and raises what [`f1_reward`] does.
    """
    return _rewards(exact_match, completions, answers, "squad", missing_answer_reward)


def igpo_f1_reward(
    completions: list[Any], answers: list[Any], missing_answer_reward: float = 0.0, **kwargs
) -> list[float]:
    """
    Reward function: [`f1`] of each completion's answer, with the normalisation of IGPO's code.

    That code gives -2 to a completion without an answer: `functools.partial(igpo_f1_reward, missing_answer_reward=-2.0)`
    does the same. It also looks for the answer in the whole rollout and takes the first; here it must stand in the last
    assistant message, so that a retrieved text with tags in it cannot answer. Takes, returns and raises what
    [`f1_reward`] does.
    """
    return _rewards(f1, completions, answers, "igpo", missing_answer_reward)


def igpo_exact_match_reward(
    completions: list[Any], answers: list[Any], missing_answer_reward: float = 0.0, **kwargs
) -> list[float]:
    """
    Reward function: [`exact_match`] of each completion's answer, with the normalisation of IGPO's code.

    Takes, returns and raises what [`f1_reward`] does.
    """
    return _rewards(exact_match, completions, answers, "igpo", missing_answer_reward)


def message_text(message: dict[str, Any]) -> str:
    """
    The text of a message.

    Args:
        message (`dict`):
            Message whose `content` is text, a list of content blocks, or missing.

    Returns:
        `str`: The text; that of several text blocks joined without anything between them.
    """
    content = message.get("content")
    if isinstance(content, list):
        texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _last_assistant_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "assistant":
            return message_text(message)
    return ""


def _rewards(score: Callable, completions: list, answers: list, normalization: str, missing: float) -> list[float]:
    rewards = []
    for row, (completion, accepted) in enumerate(zip(completions, answers, strict=True)):
        try:
            # Checked even where the completion has no answer: wrong data shows at once.
            aliases = accepted_answers(accepted)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Row {row} of the batch, column `answers`: {error}") from error
        answer = extract_answer(completion)
        rewards.append(missing if answer is None else score(answer, aliases, normalization))
    return rewards


def accepted_answers(answers: str | Sequence[str]) -> list[str]:
    """
    Every accepted answer of a dataset cell.

    Args:
        answers (`str` or `Sequence[str]`):
            One answer, several joined by [`ANSWER_SEPARATOR`], or a list of either; the first is the canonical one.

    Returns:
        `list[str]`: At least one answer; blank ones are left out.

    Raises:
        `TypeError`: If the cell holds anything but text.
        `ValueError`: If it holds no answer.
    """
    listed = [answers] if isinstance(answers, str) else answers
    if not isinstance(listed, (list, tuple)) or not all(isinstance(answer, str) for answer in listed):
        raise TypeError(f"accepted answers must be a string or a list of strings, got {answers!r:.100}")
    aliases = [alias for answer in listed for alias in answer.split(ANSWER_SEPARATOR) if alias.strip()]
    if not aliases:
        raise ValueError(
            f"there is no accepted answer in {answers!r:.100}; drop such rows, nothing can be right there"
        )
    return aliases


def _words(text: str, normalization: str) -> list[str]:
    if normalization not in _NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {sorted(_NORMALIZATIONS)}, got {normalization!r}")
    if not isinstance(text, str):
        raise TypeError(f"the prediction must be a string, got {type(text).__name__}")
    text = text[:MAX_ANSWER_CHARS]
    for normalize in _NORMALIZATIONS[normalization][0]:
        if words := normalize(text).split():
            return words
    return []


def _overlap(predicted: list[str], accepted: list[str], once: bool) -> float:
    if once:
        predicted, accepted = list(set(predicted)), list(set(accepted))
    common = (Counter(predicted) & Counter(accepted)).total()
    return 2 * common / (len(predicted) + len(accepted)) if common else 0.0
