"""Does the chat template do what multi-turn training needs: keep prefixes, show tools, and give back the calls it is given?"""

from typing import Any

from transformers.utils import get_json_schema

from .chat import Chat, called_tools, tool_name
from .observation import Observation
from .report import Finding


_THOUGHT = "Let me think about it"


def check_prefixes(seen: Observation) -> list[Finding]:
    """
    What is rendered of a conversation stays as it is when the conversation goes on.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "template prefixes"
    chat = seen.chat
    if chat.tokenizer.chat_template is None or seen.rollouts is None or isinstance(seen.rollouts.prompts[0], str):
        return [Finding(name, "skipped", "There is no conversation.")]
    for prompt, completion in zip(seen.rollouts.prompts, seen.rollouts.completions, strict=True):
        broken = _first_broken(chat, list(prompt), list(completion))
        if broken is not None:
            return [
                Finding(
                    name,
                    "error",
                    f"The template renders the beginning of a conversation differently when message {broken + 1} follows: the "
                    "policy is trained in contexts that it will never see, and the other way round.",
                    "Use a template that renders each message by itself (trl.chat_template_utils.get_training_chat_template "
                    "has one for known models), in training and where the model is served.",
                )
            ]
    if not chat.tools:
        return [Finding(name, "ok", "A rollout is one message.")]
    return [_check_thinking(chat)]


def _first_broken(chat: Chat, prompt: list[dict[str, Any]], completion: list[dict[str, Any]]) -> int | None:
    """The message that changes how those before it are rendered, counted from 0; `None` if none does."""
    before = chat.render(prompt, add_generation_prompt=False)
    for i, message in enumerate(completion):
        after = chat.render([*prompt, *completion[: i + 1]])
        joins = message["role"] == "tool" and i > 0 and completion[i - 1]["role"] == "tool"
        if not after.startswith(before) and not joins:  # results of one message may stand in one block
            return len(prompt) + i
        before = after
    return None


def _check_thinking(chat: Chat) -> Finding:
    """Templates for reasoning models drop what was thought before, once the user asks again."""
    name = "template prefixes"
    asked = {"role": "user", "content": "Go on."}
    thought = {"role": "assistant", "content": f"<think>\n{_THOUGHT}\n</think>\n\nDone."}
    one, two = chat.render([asked, thought]), chat.render([asked, thought, asked])
    if _THOUGHT in one and _THOUGHT not in two:
        return Finding(
            name,
            "warning",
            "The template drops what was thought in earlier messages when a user message follows. Tool results keep it, so "
            "training is right; a served model that the user answers sees less than it was trained with.",
            "Serve the model with a template that keeps <think> blocks, or train without thinking: chat_template_kwargs: "
            "{enable_thinking: false}.",
        )
    told = "Earlier messages are rendered the same when others follow"
    if chat.template is not None:
        told += "; TRL renders with a template of its own in place of the model's: serve the model with that one, too"
    return Finding(name, "ok", f"{told}.")


def check_tool_calls(seen: Observation) -> Finding:
    """
    A tool call that the template renders is parsed back to the same call.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "tool call round trip"
    if not seen.chat.tools:
        return Finding(name, "skipped", "There are no tools.")
    for tool in seen.chat.tools:
        for tricky in (False, True):
            call = {"name": tool_name(tool), "arguments": _example_arguments(tool, tricky)}
            text, parsed = _round_trip(seen.chat, call)
            if parsed == [call]:
                continue
            got = f"as {parsed}" if parsed else "as plain text"
            return Finding(
                name,
                "warning" if tricky else "error",
                f"The call {call} is rendered as {text!r}, and that is parsed {got}.",
                _how_to_parse(seen.chat, text),
            )
    return Finding(name, "ok", f"Calls of every tool ({len(seen.chat.tools)}) come back as they were rendered.")


def _round_trip(chat: Chat, call: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    opened, text = chat.written_form(message)
    ids = chat.encode(text)
    end = next((i for i, token in enumerate(ids) if token in chat.end_ids), len(ids) - 1)
    parsed = chat.parse(ids[: end + 1], chat.encode(opened))
    calls = [entry.get("function", {}) for entry in parsed.get("tool_calls") or []]
    return text, [{"name": c.get("name"), "arguments": c.get("arguments")} for c in calls]


def _how_to_parse(chat: Chat, text: str) -> str:
    ids = chat.encode(text)
    if chat.tokenizer.decode(ids, skip_special_tokens=True) != chat.decode(ids).replace(chat.tokenizer.eos_token, ""):
        dropped = [
            t
            for t in dict.fromkeys(chat.tokenizer.convert_ids_to_tokens(ids))
            if t in chat.tokenizer.all_special_tokens
        ]
        dropped = [t for t in dropped if t != chat.tokenizer.eos_token]
        if dropped:
            return f"Add {', '.join(dropped)} as tokens that are not special (special=False): special ones are dropped before parsing."
    return (
        "Set processing_class.response_template to one that reads this form (trl.chat_template_utils.add_response_schema has "
        "them for known templates), or take the chat template that belongs to it."
    )


def _example_arguments(tool: Any, tricky: bool) -> dict[str, Any]:
    """An argument of the right type for each parameter."""
    schema = tool if isinstance(tool, dict) else get_json_schema(tool)
    properties = schema["function"].get("parameters", {}).get("properties", {})
    return {name: _example_value(of_name, tricky) for name, of_name in properties.items()}


def _example_value(schema: dict[str, Any], tricky: bool) -> Any:
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if schema.get("enum"):
        return schema["enum"][0]
    if kind == "array":
        return [_example_value(schema.get("items", {"type": "string"}), tricky)]
    examples: dict[str, Any] = {"integer": 7, "number": 0.5, "boolean": True, "object": {"key": "value"}}
    return examples.get(str(kind), 'two words, "quoted" é' if tricky else "word")


def check_tools_in_context(seen: Observation) -> list[Finding]:
    """
    The prompt tells the policy of its tools, and what they answer reaches it.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "tools in context"
    if not seen.chat.tools or seen.rollouts is None:
        return [Finding(name, "skipped", "There are no tools.")]
    prompts = [seen.chat.decode(ids) for ids in seen.rollouts.prompt_ids]
    names = [tool_name(tool) for tool in seen.chat.tools]
    hidden = [tool for tool in names if not any(tool in prompt for prompt in prompts)]
    called = {call for messages in seen.rollouts.completions for call in called_tools(messages)}
    if hidden and not called.intersection(hidden):
        return [
            Finding(
                name,
                "error",
                f"No prompt names the tools {', '.join(hidden)}: the chat template does not show them.",
                "Take a chat template that renders `tools`.",
            )
        ]
    lost = _lost_results(seen)
    if lost:
        return [
            Finding(
                name,
                "error",
                f"What {lost[0]} answered does not reach the policy ({len(lost)} results).",
                "Take a chat template that renders messages with the role `tool`.",
            )
        ]
    told = (
        f"Prompts do not show {', '.join(hidden)}, but the policy calls them" if hidden else "Prompts show the tools"
    )
    return [Finding(name, "ok", f"{told}; what they answer reaches it.")]


def _lost_results(seen: Observation) -> list[str]:
    """Tools whose result has not one of its longest words in what the policy did not write itself."""
    rollouts = seen.rollouts
    assert rollouts is not None
    own: Any = seen.sampled or rollouts.model_masks
    lost = []
    for ids, sampled, messages in zip(rollouts.completion_ids, own, rollouts.completions, strict=True):
        context = seen.chat.decode([token for token, is_own in zip(ids, sampled, strict=True) if not is_own])
        for message in messages if isinstance(messages, list) else []:
            content = message.get("content")
            if message["role"] != "tool" or not isinstance(content, str):
                continue
            words = sorted((w for w in content.split() if w.isascii() and w.isalnum() and len(w) > 3), key=len)[-5:]
            if words and not any(word in context for word in words):
                lost.append(str(message.get("name", "a tool")))
    return lost
