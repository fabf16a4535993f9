"""What the doctor finds wrong with chat templates and tool calls."""

from tests.doctor.cases import bad, found_in, only, says, template_like, trainer_with
from tests.tiny import QuietCounter, add_some, build_tokenizer, call, make_trainer
from trl_multiturn import MultiTurnGRPOTrainer, diagnose


def trainer_like(folder, change, script=add_some, environment=QuietCounter, **options):
    return trainer_with(folder, template_like(change), script, MultiTurnGRPOTrainer, environment, **options)


def test_template_shortens_what_is_past(tmp_path):
    def only_the_newest(template):
        return template.replace("{{- message.content }}", "{{- message.content if loop.last else '(omitted)' }}")

    finding = only(trainer_like(tmp_path, only_the_newest), "template prefixes", "error", "get_training_chat_template")
    assert "when message 4 follows" in finding.measured


def test_template_drops_thoughts(tmp_path):
    def drop(template):
        said = '{%- if (message.role == "user")'
        return template.replace(
            said,
            '{%- if message.role == "assistant" and not loop.last and messages[-1].role == "user" %}'
            "{{- '<|im_start|>assistant\\n' + message.content.split('</think>')[-1] + '<|im_end|>\\n' }}"
            '{%- elif (message.role == "user")',
        )

    only(trainer_like(tmp_path, drop), "template prefixes", "warning", "{enable_thinking: false}")


def test_qwen3_in_training_keeps_thoughts(tmp_path):
    """TRL trains with a template of its own, and that one is looked at."""
    tokenizer = build_tokenizer("qwen3.jinja")
    report = diagnose(trainer_with(tmp_path, tokenizer, add_some, MultiTurnGRPOTrainer, QuietCounter))
    assert bad(report) == {}
    (finding,) = [finding for finding in report.findings if finding.check == "template prefixes"]
    assert "serve the model with that one" in finding.measured


def test_calls_have_another_form_than_is_parsed(tmp_path):
    def other_form(template):
        return template.replace('\'\\n<tool_call>\\n{"name": "\'', '\'\\n<call>\\n{"name": "\'')

    finding = only(trainer_like(tmp_path, other_form), "tool call round trip", "error", "response_template")
    assert "parsed as plain text" in finding.measured


def test_marks_of_calls_are_dropped(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool_call>", "</tool_call>"]})
    found = found_in(trainer_with(tmp_path, tokenizer, add_some, MultiTurnGRPOTrainer, QuietCounter))
    assert found == {}  # transformers' parser decodes with special tokens


def test_text_in_arguments_does_not_survive(tmp_path):
    class Notes(QuietCounter):
        def write(self, note: str) -> str:
            """
            Write a note.

            Args:
                note: What to write.
            """
            return "Written"

    def unquoted(template):
        return template.replace("tool_call.arguments | tojson", "tool_call.arguments | string | replace(\"'\", '\"')")

    finding = only(
        trainer_like(tmp_path, unquoted, environment=Notes), "tool call round trip", "warning", "response_template"
    )
    assert "two words" in finding.measured


def hide(template):
    return template.replace("{{- tool | tojson }}", "")


def answers(text, turn, rng):
    return f"<answer>{rng.randint(0, 3)}</answer>"


def test_prompts_do_not_show_the_tools(tmp_path):
    found = found_in(trainer_like(tmp_path, hide, answers))
    assert set(found) == {"tools in context", "tool calls"}
    says(found["tools in context"], "error", "renders `tools`")
    assert "the tools add" in found["tools in context"].measured


def test_policy_knows_the_tools_that_prompts_do_not_show(tmp_path):
    assert found_in(trainer_like(tmp_path, hide)) == {}


def test_results_do_not_reach_the_policy(tmp_path):
    def short_ones(template):
        return template.replace("{{- message.content }}", "{{- message.content if 'tool_' in message.content }}")

    found = found_in(trainer_like(tmp_path, short_ones))
    says(found["tools in context"], "error", "the role `tool`")


# --- calls


def test_no_tool_is_called(tmp_path):
    only(make_trainer(tmp_path, QuietCounter, script=answers), "tool calls", "warning", "cold start")


def malformed(text, turn, rng):
    if turn == 0 and rng.random() < 0.5:
        return f'<tool_call>\n{{"name": "add", "arguments": {rng.randint(0, 9)}\n</tool_call>'
    return add_some(text, turn, rng)


def test_calls_are_malformed(tmp_path):
    trainer = make_trainer(tmp_path, QuietCounter, script=malformed)
    only(trainer, "tool calls", "warning", "answer_malformed_calls: true")


def test_calls_are_malformed_and_answered(tmp_path):
    trainer = make_trainer(tmp_path, QuietCounter, script=malformed, answer_malformed_calls=True)
    finding = only(trainer, "tool calls", "warning", "cold start")
    assert "answer_malformed_calls" not in finding.change


def test_every_call_is_malformed(tmp_path):
    def never_right(text, turn, rng):
        return f'<tool_call>\n{{"name": "add", "arguments": {rng.randint(0, 9)}\n</tool_call>'

    only(
        make_trainer(tmp_path, QuietCounter, script=never_right), "tool calls", "error", "answer_malformed_calls: true"
    )


def test_calls_fail(tmp_path):
    def wrong_tool(text, turn, rng):
        return call("subtract", amount=1) if turn < 2 else f"<answer>{rng.randint(0, 3)}</answer>"

    finding = only(
        make_trainer(tmp_path, QuietCounter, script=wrong_tool), "tool calls", "warning", "check_environment"
    )
    assert finding.measured == "100% of the tool calls fail; some call tools that do not exist: subtract."
