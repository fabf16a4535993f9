"""The documentation against the code: blocks run, names are explained, links lead somewhere."""

import dataclasses
import inspect
import random
import re
from pathlib import Path

import pytest
from trl import ScriptArguments

import trl_multiturn
from tests.archer.tiny import QUICK, make
from tests.tiny import (
    Counter,
    QuietCounter,
    answer_length,
    build_model,
    build_tokenizer,
    dataset,
    make_trainer,
    settings,
    train,
)
from trl_multiturn import (
    ArCHerConfig,
    IGPOConfig,
    IGPOTrainer,
    MultiTurnGRPOConfig,
    ReplayArguments,
    ReplayGRPOConfig,
    ReplayGRPOTrainer,
)
from trl_multiturn.doctor.diagnosis import CHECKS
from trl_multiturn.environments import phone as phone_package
from trl_multiturn.environments import travel
from trl_multiturn.environments.phone import PhoneEnvironment, generate_phone_tasks
from trl_multiturn.environments.phone import demonstrate as demonstrate_phone
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.mobile_use import ARGUMENTS
from trl_multiturn.environments.phone.tasks import TEMPLATES
from trl_multiturn.environments.travel import TravelEnvironment, TravelQuery, TravelWorld, demonstrate, generate_tasks
from trl_multiturn.environments.travel.world import default_world
from trl_multiturn.evaluation.gui import summarize_episodes, summarize_matches
from trl_multiturn.recipes.deeptravel import DeepTravelScriptArguments
from trl_multiturn.recipes.doctor import make_parser as doctor_parser
from trl_multiturn.recipes.gui_benchmark import make_parser as phone_data_parser
from trl_multiturn.recipes.gui_rows import step_rows
from trl_multiturn.recipes.mobile_r1 import MobileR1Config
from trl_multiturn.recipes.replay import ReplayScriptArguments
from trl_multiturn.rewards.gui import action_reward, make_task_reward, task_reward
from trl_multiturn.rewards.gui_judges import MultimodalJudge, NoisyJudge
from trl_multiturn.rewards.judge import JudgeClient, JudgeTrajectoryVerifier, JudgeTurnVerifier
from trl_multiturn.rewards.verifiers import HierarchicalReward


ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS]
OWN_METRICS = (
    "turns/",
    "stop/",
    "turn_reward/",
    "turn_advantage/",
    "igpo/",
    "archer/",
    "replay/",
    "verifier/",
    "judge/",
    "action/",
    "task/",
    "images/",
    "sampling/lost_tokens",
    "sampling/masked_tokens",
    "sampling/off_policy",
    "tools/timeouts",
    "rewards/missing",
    "hub/",
)


PAGES_THAT_RUN = [
    "README.md",
    "docs/quickstart.md",
    "docs/igpo.md",
    "docs/archer.md",
    "docs/replay.md",
    "docs/travel.md",
    "docs/doctor.md",
]
# These have no trainer: a vision-language model is trained by examples/mobile_r1.py.
GUI_PAGES = ["docs/mobile_r1.md", "docs/phone.md"]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def text_of(pages) -> str:
    return "\n".join(page.read_text() for page in pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page):
    for code in blocks(page):
        if not code.lstrip().startswith(">>>"):
            compile(code, str(page), "exec")


@pytest.fixture
def tiny_runs(monkeypatch, tmp_path):
    """Runs a page's blocks with a tiny model in the Hub model's place, for one step of a few tokens."""
    tokenizer = build_tokenizer()
    build_model(tokenizer, max_position_embeddings=16384).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)

    def quick(**options):
        options["output_dir"] = str(tmp_path / options["output_dir"])
        quick = settings(tmp_path, max_steps=1, per_device_train_batch_size=4, max_completion_length=16)
        return IGPOConfig(**{**quick, "output_dir": options["output_dir"]})

    def quick_archer(**options):
        kept = {name: options[name] for name in ("algorithm", "push_critic") if name in options}
        tiny = settings(tmp_path, max_steps=1, per_device_train_batch_size=4, max_completion_length=16)
        return ArCHerConfig(**{**tiny, **QUICK, **kept, "output_dir": str(tmp_path / options["output_dir"])})

    def quick_replay(**options):
        tiny = settings(tmp_path, max_steps=1, per_device_train_batch_size=4, max_completion_length=16)
        kept = {name: options[name] for name in ("task_id_column", "replay_every", "replay_ratio") if name in options}
        return ReplayGRPOConfig(**{**tiny, **kept, "output_dir": str(tmp_path / options["output_dir"])})

    def run(page):
        monkeypatch.setattr(trl_multiturn, "IGPOConfig", quick)
        monkeypatch.setattr(trl_multiturn, "ReplayGRPOConfig", quick_replay)
        monkeypatch.setattr(trl_multiturn, "ArCHerConfig", quick_archer)
        namespace = {}
        for code in blocks(page):
            exec(re.sub(r"Qwen/[\w.-]+", str(tmp_path / "model"), code), namespace)
        return namespace

    return run


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_blocks_run(tiny_runs, page):
    namespace = tiny_runs(page)
    assert namespace["trainer"].state.global_step == 1


@pytest.mark.parametrize("page", GUI_PAGES)
def test_blocks_of_the_gui_pages_run(monkeypatch, tmp_path, page):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for code in blocks(page):
        exec(code, namespace)
    if page == "docs/mobile_r1.md":
        assert set(namespace["rows"]["app"]) == {"Shop"} and (tmp_path / "phone-data" / "data.jsonl").is_file()
    else:
        assert namespace["home"].data["Lamps"]["lamps"]["2"]["on"]


def test_trainer_of_the_hooks_section(tmp_path):
    namespace = {}
    for code in blocks("docs/multi_turn_grpo.md"):
        exec(code, namespace)
    trainer_class = namespace["CostlyTurnsTrainer"]
    trainer = train(
        tmp_path, environment=Counter, trainer_class=trainer_class, max_steps=2, save_strategy="steps", save_steps=1
    )
    assert trainer.success != 0
    rewards = trainer.batches[1][1]
    plain = super(trainer_class, trainer).compute_turn_rewards(trainer.rollouts)
    assert not rewards.equal(plain)  # the second batch's turns have a cost
    resumed = train(
        tmp_path,
        environment=Counter,
        trainer_class=trainer_class,
        max_steps=2,
        resume=str(tmp_path / "checkpoint-1"),
    )
    after_first_step = next(entry["costly_turns/success"] for entry in trainer.state.log_history)
    outcome = resumed.rollouts.outcomes.mean().item()
    assert resumed.success == pytest.approx(after_first_step + 0.05 * (outcome - after_first_step), abs=1e-6)


def test_every_metric_is_explained(tmp_path):
    trainer = train(
        tmp_path,
        environment=Counter,
        trainer_class=IGPOTrainer,
        reward_funcs=answer_length,
        data=dataset(8, answers=["Paris"] * 8),
    )
    logged = own_metrics(trainer)
    assert {name.split("/")[0] for name in logged} >= {"turns", "stop", "turn_reward", "turn_advantage", "igpo"}
    assert unexplained(logged) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"token_baseline": True, "critic_warmup_iterations": 1}, "archer/baseline_loss"),
        ({"critic_head": "hl_gauss", "value_min": -1.0, "value_max": 30.0}, "archer/outside_support"),
        ({"algorithm": "filtered_bc"}, "archer/kept"),
    ],
    ids=["token_baseline", "hl_gauss", "filtered_bc"],
)
def test_every_metric_of_archer_is_explained(tmp_path, overrides, expected):
    trainer = make(tmp_path, max_steps=1, **overrides)
    trainer.train()
    logged = own_metrics(trainer)
    assert expected in logged
    assert unexplained(logged) == []


def test_every_metric_of_replay_is_explained(tmp_path):
    trainer = train(
        tmp_path,
        environment=QuietCounter,
        trainer_class=ReplayGRPOTrainer,
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        rows=24,
        max_steps=3,
        replay_every=1,
    )
    logged = own_metrics(trainer)
    assert {"replay/success", "replay/evicted"} <= logged
    assert unexplained(logged) == []


class Judge(JudgeClient):
    """A judge that nobody is asked for."""

    def _ask(self, body, counts):
        return '{"verdict": 1, "reason": "it is so"}'


def test_every_metric_of_the_verifiers_is_explained():
    world, logged = default_world(), set()
    rows = generate_tasks(4, seed=1)
    queries = [TravelQuery.model_validate_json(row["query"]) for row in rows]
    completions = [demonstrate(query, world, random.Random(0)) for query in queries]
    client = Judge("http://localhost:1/v1", "judge")
    judged = HierarchicalReward(trajectory=JudgeTrajectoryVerifier(client), turn=JudgeTurnVerifier(client))
    for reward in (HierarchicalReward(), judged):
        given = reward(
            completions, rows["query"], level=rows["level"], log_metric=lambda name, value: logged.add(name)
        )
        assert given == [1.0] * 4
    assert {"verifier/fail/T10", "verifier/fail/judge", "verifier/pass/infeasible", "judge/calls"} <= logged
    assert logged == {name for name in logged if name.startswith(OWN_METRICS)}
    assert unexplained(logged) == []


def test_every_metric_of_gui_agents_is_explained():
    logged = set()
    task = generate_phone_tasks(1)[0]
    shown = demonstrate_phone(task, random.Random(0), scale=0.25)
    phone = PhoneEnvironment(scale=0.25)
    phone.reset(task=task.to_json())
    for step in shown.trajectory:
        phone.mobile_use(**step.call.arguments())
    client = Judge("http://localhost:1/v1", "judge")
    client._ask = lambda body, counts: '{"completed": 1, "consistency": 1, "reason": "it is so"}'

    def log_metric(name, value):
        logged.add(name)

    judged = make_task_reward(NoisyJudge(MultimodalJudge(client), p_fp=0.0, p_fn=0.0))
    for reward in (task_reward, judged):
        assert reward(["", ""], [phone, phone], log_metric=log_metric) == [1.0, 1.0]
    row = next(step_rows([shown]))
    columns = {"ground_truth": [row["ground_truth"]], "image_size": [row["image_size"]]}
    assert action_reward([row["completion"]], **columns, log_metric=log_metric) == [1.0]
    assert {"action/type", "task/false_completion", "judge/calls", "judge/flipped"} <= logged
    assert logged == {name for name in logged if name.startswith(OWN_METRICS)}
    assert unexplained(logged | {"images/mismatched"}) == []


@pytest.mark.parametrize("summarize", [summarize_matches, summarize_episodes])
def test_every_measure_of_gui_agents_is_explained(summarize):
    measures = set(re.findall(r'"([\w/<>]+)"', inspect.getdoc(summarize).split("Returns:")[1]))
    page = (ROOT / "docs" / "mobile_r1.md").read_text()
    assert len(measures) >= 3
    assert [name for name in sorted(measures) if f"`{name}`" not in page] == []


def own_metrics(trainer) -> set[str]:
    return {name for entry in trainer.state.log_history for name in entry if name.startswith(OWN_METRICS)}


def unexplained(logged: set[str]) -> list[str]:
    text = text_of(DOCS)

    def is_explained(name: str) -> bool:
        if name.startswith("archer/warmup/") and f"`{name}`" in text:
            return True
        name = name.replace("archer/warmup/", "archer/")  # the names are repeated
        return f"| `{name}`" in text or f", `{name}`" in text

    return [name for name in sorted(logged) if not is_explained(name)]


@pytest.mark.parametrize("config", [MultiTurnGRPOConfig, IGPOConfig, ArCHerConfig, ReplayArguments])
def test_every_field_is_mentioned(config):
    inherited = {
        field.name
        for parent in config.__mro__[1:]
        if dataclasses.is_dataclass(parent)
        for field in dataclasses.fields(parent)
    }
    text = text_of(DOCS)
    own = [field.name for field in dataclasses.fields(config) if field.name not in inherited]
    assert own
    assert [name for name in own if f"`{name}`" not in text and f"`{name}=" not in text] == []


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_files_that_the_pages_name_exist():
    for name in set(re.findall(r"\b(?:examples|benchmarks|tests|docs)/[\w/.-]+\.\w+", text_of(PAGES))):
        assert (ROOT / name).exists(), name
    for name in set(re.findall(r"`(\w+\.(?:py|yaml))`", (ROOT / "README.md").read_text())):
        assert (ROOT / "examples" / name).exists(), name


def test_every_public_name_is_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in trl_multiturn.__all__ if f"::: trl_multiturn.{name}\n" not in reference] == []


def test_every_name_of_the_travel_package_is_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text()
    section = reference.split("::: trl_multiturn.environments.travel\n")[1].split(":::")[0]
    assert [name for name in travel.__all__ if f"- {name}\n" not in section] == []


def test_every_check_and_argument_of_the_doctor_is_told(tmp_path):
    page = (ROOT / "docs" / "doctor.md").read_text()
    trainer = make_trainer(tmp_path, Counter)
    checks = {finding.check for finding in trl_multiturn.diagnose(trainer).findings}
    assert len(checks) == len(CHECKS)
    assert [name for name in sorted(checks) if f"| `{name}` |" not in page] == []
    options = [flag for action in doctor_parser()._actions for flag in action.option_strings if len(flag) > 2]
    assert [flag for flag in options if flag != "--help" and f"| `{flag}` |" not in page] == []


def test_every_name_of_the_phone_is_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text()
    section = reference.split("::: trl_multiturn.environments.phone\n")[1].split(":::")[0]
    assert [name for name in phone_package.__all__ if f"- {name}\n" not in section] == []


def test_every_action_app_and_argument_of_the_phone_is_told():
    page = (ROOT / "docs" / "phone.md").read_text()
    for action, arguments in ARGUMENTS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{action}` |"))
        assert [argument for argument in arguments if f"`{argument}`" not in row] == []
    assert [name for name in APPS if f"| {name} |" not in page] == []
    assert f"{len(TEMPLATES)} templates" in page


def test_every_field_of_the_mobile_r1_recipe_is_told():
    page = (ROOT / "docs" / "mobile_r1.md").read_text()
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [field.name for field in dataclasses.fields(MobileR1Config) if f"`{field.name}`" not in rows] == []


def test_every_argument_of_the_phone_data_command_is_told():
    page = (ROOT / "docs" / "mobile_r1.md").read_text()
    options = [flag for action in phone_data_parser()._actions for flag in action.option_strings if len(flag) > 2]
    assert [flag for flag in options if flag != "--help" and f"| `{flag}` |" not in page] == []


def test_every_tool_of_the_travel_sandbox_and_its_arguments_are_told():
    page = (ROOT / "docs" / "travel.md").read_text()
    for name in TravelWorld.tool_names:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        arguments = list(inspect.signature(getattr(TravelEnvironment, name)).parameters)[1:]
        assert [argument for argument in arguments if f"`{argument}`" not in row] == []


@pytest.mark.parametrize("arguments", [ReplayScriptArguments, DeepTravelScriptArguments])
def test_every_argument_of_the_travel_commands_is_told(arguments):
    page = (ROOT / "docs" / "travel.md").read_text()
    of_trl = {field.name for field in dataclasses.fields(ScriptArguments)}
    own = {field.name for field in dataclasses.fields(arguments)} - of_trl
    assert [name for name in sorted(own) if f"`{name}`" not in page] == []
