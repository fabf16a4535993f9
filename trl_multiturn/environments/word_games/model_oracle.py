"""Answers by a language model."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from .cities import load_cities
from .text import fold, tokens
from .word_oracle import CANNOT_TELL, NO, YES


_PROMPTS = {
    "twenty_questions": "The object is: {target}. Answer with yes or no.\nQuestion: {question}\nAnswer:",
    "guess_my_city": (
        "The city is: {target}. Answer in one short sentence that does not name the city.\nQuestion: {question}\nAnswer:"
    ),
}
_REFUSAL = "I cannot say that."
_YES_WORDS = {"yes", "yeah", "yep", "true", "correct"}
_NO_WORDS = {"no", "nope", "false", "incorrect"}
_MAX_ANSWER_CHARS = 200
# Of a shorter name, letters alone are no leak: "Lima" is in "climate".
_MIN_LETTERS_OF_LEAK = 5


class ModelOracle:
    """
    Answers questions with a language model, as the paper does ([paper](https://huggingface.co/papers/2402.19446)).

    The model reads, for Twenty Questions,

        The object is: {target}. Answer with yes or no.
        Question: {question}
        Answer:

    and for Guess My City the same with "The city is: {target}. Answer in one short sentence that does not name the city."
    A causal model with a chat template gets this as the user's message. The answer is generated greedily, one question at
    a time.

    In Twenty Questions, the answer's first word decides between `"Yes."`, `"No."` and, if it is neither, `"I cannot
    tell."` In Guess My City the first line of the answer is passed on, up to 200 characters; if the city's name is in it,
    a refusal stands in its place.

    Args:
        model (`str`, `Path` or `Callable[[str], str]`):
            Id on the Hub, or folder, of an encoder-decoder or causal model and its tokenizer; or a function that takes the
            prompt and returns the answer.
        game (`str`, *optional*, defaults to `"twenty_questions"`):
            `"twenty_questions"` or `"guess_my_city"`.
        device (`str`, *optional*, defaults to `"cpu"`):
            Device of the model, such as `"cuda"`; of no account for a function.
        max_new_tokens (`int`, *optional*, defaults to `32`):
            Longest answer in tokens; of no account for a function.

    Raises:
        `ValueError`: If there is no game of this name, or `max_new_tokens` is below 1.

    Example:

    ```python
    oracle = ModelOracle("google/flan-t5-small", "twenty_questions")
    environment_factory = functools.partial(TwentyQuestions, oracle)
    ```
    """

    def __init__(
        self,
        model: str | Path | Callable[[str], str],
        game: Literal["twenty_questions", "guess_my_city"] = "twenty_questions",
        device: str = "cpu",
        max_new_tokens: int = 32,
    ) -> None:
        if game not in _PROMPTS:
            raise ValueError(f"There is no game {game!r}. The games are {' and '.join(_PROMPTS)}.")
        if max_new_tokens < 1:
            raise ValueError(f"`max_new_tokens` must be at least 1, got {max_new_tokens}.")
        self._game = game
        self._generate = model if callable(model) else _load(str(model), device, max_new_tokens)
        # Environments of many rollouts may ask at once, and a tokenizer serves one thread at a time.
        self._lock = threading.Lock()

    def answer(self, target: str, question: str) -> str:
        """
        Answers a question.

        Args:
            target (`str`):
                Object or city to guess.
            question (`str`):
                Any text.

        Returns:
            `str`: The answer.

        Raises:
            `TypeError`: If the model is a function and returns no text.
        """
        # A question of several lines could pass for the rest of the prompt.
        prompt = _PROMPTS[self._game].format(target=target, question=" ".join(question.split()))
        with self._lock:
            answer = self._generate(prompt)
        if not isinstance(answer, str):
            raise TypeError(f"The model must answer with text, got {type(answer).__name__}.")
        return _yes_or_no(answer) if self._game == "twenty_questions" else _without_name(answer, target)


def _yes_or_no(answer: str) -> str:
    first = (tokens(answer) or [""])[0]
    return YES if first in _YES_WORDS else NO if first in _NO_WORDS else CANNOT_TELL


def _without_name(answer: str, target: str) -> str:
    line = " ".join((answer.strip().splitlines() or [""])[0].split())[:_MAX_ANSWER_CHARS].rstrip()
    if not any(sign.isalnum() for sign in line):
        return CANNOT_TELL
    facts = load_cities().get(target)
    names = (target, *facts.aliases) if facts is not None else (target,)
    return _REFUSAL if any(_leaks(line, name) for name in names) else line


def _leaks(text: str, name: str) -> bool:
    words, parts = tokens(text), tokens(name)
    letters = "".join(parts)
    if len(letters) >= _MIN_LETTERS_OF_LEAK and letters in "".join(words):
        return True  # "Parisian", "New-York"
    return f" {' '.join(parts)} " in f" {' '.join(words)} " or fold(name).strip() in words


def _load(model: str, device: str, max_new_tokens: int) -> Callable[[str], str]:
    # Seconds to import, and only this oracle needs them.
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    is_seq2seq = AutoConfig.from_pretrained(model).is_encoder_decoder
    network: Any = (AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM).from_pretrained(model)
    network = network.to(device).eval().requires_grad_(False)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    @torch.inference_mode()
    def generate(prompt: str) -> str:
        if not is_seq2seq and tokenizer.chat_template is not None:
            messages = [{"role": "user", "content": prompt}]
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)  # the template has them
        else:
            inputs = tokenizer(prompt, return_tensors="pt")
        # Some tokenizers return types that the model does not take.
        inputs = {name: inputs[name].to(device) for name in ("input_ids", "attention_mask")}
        output = network.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, pad_token_id=pad
        )[0]
        start = 0 if is_seq2seq else inputs["input_ids"].shape[1]
        return str(tokenizer.decode(output[start:], skip_special_tokens=True))

    return generate
