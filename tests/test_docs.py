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
from tests.tiny import Counter, QuietCounter, answer_length, build_model, build_tokenizer, dataset, settings, train
from trl_multiturn import (
    ArCHerConfig,
    IGPOConfig,
    IGPOTrainer,
    MultiTurnGRPOConfig,
    ReplayArguments,
    ReplayGRPOConfig,
    ReplayGRPOTrainer,
)
from trl_multiturn.environments import travel
from trl_multiturn.environments.travel import TravelEnvironment, TravelQuery, TravelWorld, demonstrate, generate_tasks
from trl_multiturn.environments.travel.world import default_world
from trl_multiturn.recipes.deeptravel import DeepTravelScriptArguments
from trl_multiturn.recipes.replay import ReplayScriptArguments
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
    "tools/timeouts",
    "rewards/missing",
)


PAGES_THAT_RUN = [
    "README.md",
    "docs/quickstart.md",
    "docs/igpo.md",
    "docs/archer.md",
    "docs/replay.md",
    "docs/travel.md",
]


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
    build_model(tokenizer).save_pretrained(tmp_path / "model")
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
