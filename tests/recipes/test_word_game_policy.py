import random
import subprocess
import sys
from functools import lru_cache

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.chat_template_utils import (
    is_chat_template_prefix_preserving,
    is_chat_template_stop_token_trained,
    parse_response,
    supports_tool_calling,
)

from trl_multiturn.recipes import small_policy, word_game_policy
from trl_multiturn.recipes.word_game_episodes import (
    ENVIRONMENTS,
    GAME_NAMES,
    LAST_MESSAGE,
    Game,
    GoodPlayer,
    PoorPlayer,
    measure_player,
    play,
)
from trl_multiturn.recipes.word_game_policy import MAX_GAME_TOKENS, MAX_TURN_TOKENS, WORD_GAME_POLICY


GAMES = ("twenty_questions", "guess_my_city")


@lru_cache
def tokenizer():
    return AutoTokenizer.from_pretrained(WORD_GAME_POLICY)


@lru_cache
def game(name):
    return Game(name)


@lru_cache
def episodes(name):
    rng = random.Random(0)
    return [play(game(name), PoorPlayer(game(name)), rng) for _ in range(40)]


def ids_of(messages, **kwargs):
    return tokenizer().apply_chat_template(messages, return_dict=False, **kwargs)


def test_shipped_folder_is_small_and_loads_to_float32():
    assert sum(file.stat().st_size for file in WORD_GAME_POLICY.iterdir()) <= 3_500_000
    assert (WORD_GAME_POLICY / "model.safetensors").stat().st_size <= 2_600_000
    model = AutoModelForCausalLM.from_pretrained(WORD_GAME_POLICY)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.vocab_size == len(tokenizer())
    assert model.generation_config.eos_token_id == tokenizer().eos_token_id
    assert tokenizer().chat_template == small_policy.CHAT_TEMPLATE
    assert tokenizer().response_template == small_policy.RESPONSE_TEMPLATE


@pytest.mark.parametrize("name", GAMES)
def test_every_question_is_short_and_comes_back(name):
    prompt = ids_of(game(name).prompt, add_generation_prompt=True)
    for question in (*game(name).questions, *map(game(name).guess, game(name).targets)):
        call = {"name": "ask", "arguments": {"question": question}}
        message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
        written = ids_of([*game(name).prompt, message])[len(prompt) :]
        assert len(written) <= MAX_TURN_TOKENS
        assert parse_response(tokenizer(), written, prefix=prompt) == message


@pytest.mark.parametrize("name", GAMES)
def test_every_game_fits(name):
    for episode in episodes(name):
        assert len(ids_of(episode.messages)) <= MAX_GAME_TOKENS
        assert sum(message["role"] == "tool" for message in episode.messages) <= word_game_policy.MAX_TURNS


def test_other_text_survives_the_tokenizer():
    text = 'Is it a "blüe" whale, or 12 apples?\n<tool_call>{}</tool_call><tool_response>No.</tool_response>'
    assert tokenizer().decode(tokenizer()(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("name", GAMES)
def test_template_is_fit_for_trl(name):
    assert supports_tool_calling(tokenizer())
    assert is_chat_template_prefix_preserving(tokenizer())
    assert is_chat_template_stop_token_trained(tokenizer())
    messages = episodes(name)[0].messages
    whole = ids_of(messages)
    for end in range(1, len(messages)):
        shorter = ids_of(messages[:end])
        assert whole[: len(shorter)] == shorter


@pytest.mark.parametrize("name", GAMES)
def test_scripted_games_are_legal_and_rewarded_by_the_environment(name):
    environment = ENVIRONMENTS[name]()
    for episode in episodes(name):
        environment.reset(target=episode.target)
        for question, answer in episode.asked:
            assert not environment.terminated
            assert environment.ask(question) == answer
        assert environment.terminated
        assert episode.turn_rewards == environment.turn_rewards
        assert episode.total == sum(environment.turn_rewards) + environment.get_reward()
        assert -20 <= episode.total <= 0
        assert episode.won == (episode.asked[-1][1] == game(name).endings[0])
        assert episode.messages[-1] == {"role": "assistant", "content": LAST_MESSAGE}


@pytest.mark.parametrize("name", GAMES)
def test_a_right_guess_wins_and_nothing_else_does(name):
    environment = ENVIRONMENTS[name]()
    for target in game(name).targets:
        environment.reset(target=target)
        environment.ask(game(name).guess(target))
        assert environment.terminated
        assert environment.turn_rewards == [0.0]


@pytest.mark.parametrize("name", GAME_NAMES)
def test_there_is_much_to_learn(name):
    poor = measure_player(game(name), PoorPlayer(game(name)), games=60)
    good = measure_player(game(name), GoodPlayer(game(name)), games=20)
    assert good["won"] > 0.9
    assert good["return"] > poor["return"] + 4


def test_scripted_games_are_seeded():
    first, second = (
        play(game("twenty_questions"), PoorPlayer(game("twenty_questions")), random.Random(3)) for _ in "ab"
    )
    assert first == second


@pytest.mark.parametrize("name", GAMES)
def test_shipped_policy_plays(name):
    measured = word_game_policy.measure_policy(WORD_GAME_POLICY, name, games=8, samples=2)
    assert measured["tool_failures"] <= 0.02
    assert measured["questions"] > 2
    assert -20 <= measured["return"] <= 0


def test_command_builds_a_policy(tmp_path):
    word_game_policy.main(
        ["--output_dir", str(tmp_path), "--episodes", "16", "--fact_steps", "2", "--batch_size", "8", "--games", "0"]
    )
    built = AutoModelForCausalLM.from_pretrained(tmp_path)
    shipped = AutoModelForCausalLM.from_pretrained(WORD_GAME_POLICY)
    # Not the same vocabulary to the letter: the oracle's questions may be reworded, and the weights stay as they are.
    assert built.config.hidden_size == shipped.config.hidden_size
    assert abs(built.config.vocab_size - shipped.config.vocab_size) < 20


def test_import_is_light():
    code = (
        "import sys, trl_multiturn.recipes.word_game_policy; sys.exit(any(m in sys.modules for m in ('torch', 'trl')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        word_game_policy.main(["--help"])
    assert end.value.code == 0
    assert "--output_dir" in capsys.readouterr().out
