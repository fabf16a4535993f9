"""The answer's place in the text it is scored in."""

from transformers import PreTrainedTokenizerBase, ProcessorMixin


def encode_answer(
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin, answer: str, prefix: str = "", suffix: str = ""
) -> tuple[list[int], list[int]]:
    """
    Tokenize `prefix + answer + suffix` and find the answer's tokens in it, as the authors of
    https://huggingface.co/papers/2510.14967 do for the belief of its section 3.

    The text is tokenized alone, without special tokens: it is put after a context as token ids, whatever text that
    context ends with. A token that merges the answer's edge with its surroundings (a quote and a line break, say) is
    the answer's. A tokenizer without character offsets (a slow one) gets prefix and answer tokenized apart, so nothing
    merges across the edge.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`] or [`~transformers.ProcessorMixin`]):
            Tokenizer, or processor that holds one.
        answer (`str`):
            Gold answer.
        prefix (`str`, *optional*, defaults to `""`):
            Text before the answer.
        suffix (`str`, *optional*, defaults to `""`):
            Text after the answer. It matters only where it merges with the answer's last token.

    Returns:
        `tuple[list[int], list[int]]`: Token ids before the answer's first token, and the answer's token ids.

    Raises:
        `ValueError`: If the answer is empty or blank, or the tokenizer makes no token of it.

    Example:

    ```python
    >>> from transformers import AutoTokenizer
    >>> from trl_multiturn.igpo.templates import encode_answer

    >>> tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct")
    >>> before, scored = encode_answer(tokenizer, "Paris", prefix="<answer>\\n", suffix="\\n</answer>")
    >>> tokenizer.decode(scored)
    'Paris'
    ```
    """
    if not answer.strip():
        raise ValueError(f"The answer {answer!r} is blank: there is nothing whose probability could be scored.")
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor holds one
    if not getattr(tokenizer, "is_fast", False):
        before = tokenizer(prefix, add_special_tokens=False)["input_ids"]
        scored = tokenizer(answer, add_special_tokens=False)["input_ids"]
    else:
        encoding = tokenizer(prefix + answer + suffix, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        answer_start, answer_end = len(prefix), len(prefix) + len(answer)
        first = sum(1 for _, end in offsets if end <= answer_start)
        last = sum(1 for start, _ in offsets if start < answer_end)
        before, scored = ids[:first], ids[first:last]
    if not scored:
        raise ValueError(f"The tokenizer makes no token of the answer {answer!r}.")
    return list(before), list(scored)
