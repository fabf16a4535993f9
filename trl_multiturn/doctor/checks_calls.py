"""Does the policy call its tools, and can its calls be carried out?"""

from ..malformed_calls import MALFORMED_CALL
from ..stopping import tool_call_opening
from .chat import called_tools, tool_name
from .observation import Observation
from .report import Finding


def check_calls(seen: Observation) -> list[Finding]:
    """
    Tools are called, by calls that can be parsed, and do not mostly fail.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "tool calls"
    if not seen.chat.tools or seen.rollouts is None:
        return [Finding(name, "skipped", "There are no tools.")]
    calls = [call for messages in seen.rollouts.completions for call in called_tools(messages)]
    malformed = count_malformed(seen)
    made = [call for call in calls if call != MALFORMED_CALL]
    if not made:
        return [_no_call(seen, malformed)]
    found = [
        finding for finding in (_malformed(seen, malformed, len(made)), _failing(seen, made)) if finding is not None
    ]
    return found or [
        Finding(name, "ok", f"{len(made) / len(seen.rollouts):.1f} calls a rollout, {malformed} malformed.")
    ]


def count_malformed(seen: Observation) -> int:
    """
    Messages that open a tool call which cannot be carried out.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `int`
    """
    rollouts, opening = seen.rollouts, tool_call_opening(seen.chat.tokenizer)
    assert rollouts is not None
    count = sum(call == MALFORMED_CALL for messages in rollouts.completions for call in called_tools(messages))
    if opening is None:
        return count
    for ids, turns, messages in zip(rollouts.completion_ids, rollouts.turns, rollouts.completions, strict=True):
        if not isinstance(messages, list) or messages[-1]["role"] != "assistant" or messages[-1].get("tool_calls"):
            continue
        written = [turn for turn in turns if turn.end > turn.start]
        last = ids[written[-1].start : written[-1].end] if written else []
        count += bool(last and last[-1] in seen.chat.end_ids and opening.search(seen.chat.decode(last)))
    return count


def _no_call(seen: Observation, malformed: int) -> Finding:
    name = "tool calls"
    if malformed:
        return Finding(
            name,
            "error",
            f"No call could be parsed; {malformed} messages open one.",
            "Look at the finding about the round trip of calls; a cold start (SFT) on rollouts teaches the form. "
            "answer_malformed_calls: true lets the policy try again.",
        )
    return Finding(
        name,
        "warning",
        "No tool was called in the batch: every rollout is one message.",
        "Say in the prompt that the tools are to be used, and how; or begin with a cold start (SFT) on rollouts that do.",
    )


def _malformed(seen: Observation, malformed: int, made: int) -> Finding | None:
    share = malformed / (malformed + made)
    if share <= 0.1:
        return None
    change = "A cold start (SFT) on well-formed calls teaches the form"
    if not seen.args.answer_malformed_calls:
        change += "; answer_malformed_calls: true answers them with an error, and the rollout goes on"
    return Finding("tool calls", "warning", f"{share:.0%} of the calls cannot be parsed ({malformed}).", f"{change}.")


def _failing(seen: Observation, made: list[str]) -> Finding | None:
    names = {tool_name(tool) for tool in seen.chat.tools}
    unknown = sorted(set(made) - names)
    share = seen.metrics.get("tools/failure_frequency", 0.0)
    if share <= 0.5:
        return None
    told = f"{share:.0%} of the tool calls fail"
    if unknown:
        told += f"; some call tools that do not exist: {', '.join(unknown[:5])}"
    return Finding(
        "tool calls",
        "warning",
        f"{told}.",
        "Read the errors in the rollout below: an argument that is described better, or a default, may do. `check_environment` "
        "tries the tools by themselves.",
    )
