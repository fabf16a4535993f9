"""What the tests of the doctor share: findings by name, and tokenizers with something wrong in them."""

from trl.chat_template_utils import add_response_schema

from tests.tiny import Recorded, answer_length, build_model, build_tokenizer, dataset, settings
from trl_multiturn import diagnose


def bad(report) -> dict:
    """Warnings and errors by the name of their check; there must be one of each at most."""
    found = [finding for finding in report.findings if finding.severity in ("warning", "error")]
    assert all(finding.change for finding in found)
    by_name = {finding.check: finding for finding in found}
    assert len(by_name) == len(found), found
    return by_name


def found_in(trainer) -> dict:
    return bad(diagnose(trainer))


def only(trainer, name: str, severity: str, *said: str):
    """The trainer has one thing wrong with it; returns the finding."""
    found = found_in(trainer)
    assert list(found) == [name], found
    return says(found[name], severity, *said)


def says(finding, severity: str, *said: str):
    assert finding.severity == severity, finding
    for text in said:
        assert text in finding.change, finding
    return finding


def template_like(change) -> object:
    """A tokenizer whose template is Qwen2.5's but for a change; its calls are parsed as Qwen2.5's."""
    tokenizer = add_response_schema(build_tokenizer())
    changed = change(tokenizer.chat_template)
    assert changed != tokenizer.chat_template
    tokenizer.chat_template = changed
    return tokenizer


def trainer_with(folder, tokenizer, script, trainer_class, environment=None, model=None, **options):
    """A scripted trainer with a tokenizer of its own."""
    return type(trainer_class.__name__, (Recorded, trainer_class), {"script": staticmethod(script)})(
        model=model or build_model(tokenizer),
        reward_funcs=options.pop("reward_funcs", answer_length),
        args=trainer_class._config_class(**settings(folder, **{"max_steps": 1, **options})),
        train_dataset=dataset(8),
        processing_class=tokenizer,
        environment_factory=environment,
    )
