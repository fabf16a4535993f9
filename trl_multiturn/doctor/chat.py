"""[`Chat`]: a tokenizer with its chat template, as the trainer renders with it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trl.chat_template_utils import parse_response
from trl.data_utils import prepare_multimodal_messages


# From TRL 1.16 on, arguments of calls get the types of the tool's schema.
_PARSES_BY_SCHEMA = "tools" in inspect.signature(parse_response).parameters


@dataclass
class Chat:
    """
    How messages become tokens, and tokens messages.

    Args:
        processor ([`~transformers.PreTrainedTokenizerBase`] or [`~transformers.ProcessorMixin`]):
            The trainer's `processing_class`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The tokenizer in it.
        template (`str` or `None`):
            Chat template that the trainer uses in place of the processor's own.
        kwargs (`dict[str, Any]`):
            The configuration's `chat_template_kwargs`.
        tools (`list[Callable | dict]`):
            Tools of all environments.
        end_ids (`set[int]`):
            Tokens that end a message for the generation backend.
        is_vision_language (`bool`):
            Whether the processor takes content blocks.
    """

    processor: Any
    tokenizer: Any
    template: str | None
    kwargs: dict[str, Any]
    tools: list[dict[str, Any] | Callable] = field(default_factory=list)
    end_ids: set[int] = field(default_factory=set)
    is_vision_language: bool = False

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = False) -> str:
        """
        Text of a conversation.

        Args:
            messages (`list[dict]`):
                The conversation.
            add_generation_prompt (`bool`, *optional*, defaults to `False`):
                Whether to open the assistant's next message.

        Returns:
            `str`
        """
        if self.is_vision_language:
            messages = prepare_multimodal_messages(messages)
        return self.processor.apply_chat_template(
            messages,
            tools=self.tools or None,
            chat_template=self.template,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            **self.kwargs,
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of a rendered text."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids: list[int]) -> str:
        """Text of tokens, control tokens included."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def parse(self, ids: list[int], prefix: list[int]) -> dict[str, Any]:
        """
        The assistant message that TRL makes of sampled tokens.

        Args:
            ids (`list[int]`):
                The tokens.
            prefix (`list[int]`):
                Tokens before them.

        Returns:
            `dict`: The message.
        """
        tools = {"tools": self.tools or None} if _PARSES_BY_SCHEMA else {}
        return parse_response(self.tokenizer, ids, prefix=prefix, **tools)

    def written_form(self, message: dict[str, Any]) -> tuple[str, str]:
        """
        What stands before an assistant message when the model writes it, and the message as the template renders it.

        Args:
            message (`dict`):
                The message.

        Returns:
            `tuple[str, str]`: Both texts. The second begins where the model begins to write.
        """
        asked = [{"role": "user", "content": "Go on."}]
        opened = self.render(asked, add_generation_prompt=True)
        whole = self.render([*asked, message])
        shared = next(
            (i for i, (a, b) in enumerate(zip(opened, whole, strict=False)) if a != b), min(len(opened), len(whole))
        )
        return opened, whole[shared:]

    def turn_end(self) -> int | None:
        """
        The token that the template puts after an assistant message.

        Returns:
            `int` or `None`: `None` if it puts none.
        """
        marker = "The end of it"
        _, text = self.written_form({"role": "assistant", "content": marker})
        ids = self.encode(text.rpartition(marker)[2])
        return ids[0] if ids else None


def tool_name(tool: dict[str, Any] | Callable) -> str:
    """Name of a tool, given as a function or as a schema."""
    return tool["function"]["name"] if isinstance(tool, dict) else tool.__name__


def called_tools(messages: Any) -> list[str]:
    """
    Names of the tools that a rollout calls, in order.

    Args:
        messages (`list[dict]` or `str`):
            Completion of a rollout.

    Returns:
        `list[str]`: Empty for a text.
    """
    if isinstance(messages, str):
        return []
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    return [str((call.get("function") or {}).get("name")) for call in calls]
