import functools
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import get_json_schema

from trl_multiturn import check_environment
from trl_multiturn.environment_rewards import turn_rewards_total
from trl_multiturn.environments.word_games import (
    GuessMyCity,
    TwentyQuestions,
    load_cities,
    load_word_game,
    load_word_subset,
    load_words,
    play,
)
from trl_multiturn.environments.word_games.__main__ import main


GAMES = [
    pytest.param(TwentyQuestions, "violin", "Is it an animal?", "Is it a violin?", id="twenty_questions"),
    pytest.param(GuessMyCity, "Paris", "Is it in Asia?", "Is it Paris?", id="guess_my_city"),
]


def begin(factory, target, **kwargs):
    environment = factory(**kwargs)
    environment.reset(prompt=[], target=target, unrelated=1)
    return environment


def total(environment):
    return sum(environment.turn_rewards) + environment.get_reward()


@pytest.mark.parametrize("factory, target, question, guess", GAMES)
class TestGame:
    def test_the_winning_question_costs_nothing(self, factory, target, question, guess):
        environment = begin(factory, target)
        assert environment.turn_rewards == [] and not environment.terminated and not environment.truncated
        assert environment.ask(question) == "No."
        assert environment.ask(guess) == "Yes. You found it."
        assert environment.turn_rewards == [-1.0, 0.0]
        assert environment.questions == [question, guess]
        assert environment.terminated and not environment.truncated
        assert total(environment) == -1.0

    def test_the_horizon_ends_the_game_and_names_the_target(self, factory, target, question, guess):
        environment = begin(factory, target)
        for _ in range(19):
            assert environment.ask(question) == "No." and not environment.terminated
        assert environment.ask(question) == f"No. Out of questions: it was {target}."
        assert environment.terminated and not environment.truncated
        assert environment.turn_rewards == [-1.0] * 20 and environment.get_reward() == 0.0

    def test_the_last_question_can_win(self, factory, target, question, guess):
        environment = begin(factory, target, max_turns=2)
        environment.ask(question)
        assert environment.ask(guess) == "Yes. You found it."
        assert total(environment) == -1.0

    def test_after_the_end_nothing_counts(self, factory, target, question, guess):
        environment = begin(factory, target, max_turns=1)
        environment.ask(question)
        for _ in range(3):
            with pytest.raises(ValueError, match="over"):
                environment.ask(guess)
        assert environment.turn_rewards == [-1.0] and environment.questions == [question]
        assert total(environment) == -1.0

    def test_to_stop_asking_is_the_worst_return(self, factory, target, question, guess):
        environment = begin(factory, target)
        for asked in range(20):
            assert environment.get_reward() == asked - 20 and total(environment) == -20.0
            environment.ask(question)
        assert environment.get_reward() == 0.0 and total(environment) == -20.0

    @pytest.mark.parametrize("bad", [None, 3, [], {}, b"is it", "", "  ", "?!", "\n\t", "a" * 201, "é" * 500])
    def test_a_refused_question_costs_a_turn(self, factory, target, question, guess, bad):
        environment = begin(factory, target, max_turns=2)
        with pytest.raises(ValueError, match="^question"):
            environment.ask(bad)
        assert environment.turn_rewards == [-1.0] and environment.questions == [""] and not environment.terminated
        with pytest.raises(ValueError, match=f"Out of questions: it was {target}"):
            environment.ask(bad)
        assert environment.terminated and total(environment) == -2.0

    def test_a_question_of_200_characters_is_answered(self, factory, target, question, guess):
        environment = begin(factory, target)
        assert environment.ask(guess.rjust(200, " ")) == "Yes. You found it."

    def test_reset_begins_anew(self, factory, target, question, guess):
        environment = begin(factory, target)
        environment.ask(guess)
        environment.reset(target=target)
        assert environment.turn_rewards == [] and environment.questions == [] and not environment.terminated
        assert environment.ask(question) == "No."

    @pytest.mark.parametrize("row", [{}, {"target": None}, {"target": 3}, {"target": "no such"}, {"target": ""}])
    def test_a_target_that_is_not_on_the_list_is_refused(self, factory, target, question, guess, row):
        with pytest.raises(ValueError, match="target"):
            factory().reset(**row)

    def test_asking_before_the_beginning_is_refused(self, factory, target, question, guess):
        with pytest.raises(ValueError, match="not begun"):
            factory().ask(question)

    @pytest.mark.parametrize("turns", [0, -1, 2.0, True, "20"])
    def test_max_turns_must_be_positive(self, factory, target, question, guess, turns):
        with pytest.raises(ValueError, match="max_turns"):
            factory(max_turns=turns)

    def test_check_environment_finds_nothing(self, factory, target, question, guess):
        calls = [("ask", {"question": question}), ("ask", {"question": guess})]
        assert check_environment(factory, reset_kwargs={"target": target}, example_calls=calls) == []

    def test_the_only_tool_is_ask(self, factory, target, question, guess):
        public = [name for name in vars(factory) | vars(factory.__mro__[1]) if not name.startswith("_")]
        assert sorted(public) == ["ask", "get_reward", "reset"]
        schema = get_json_schema(factory().ask)["function"]
        assert schema["parameters"]["required"] == ["question"]

    def test_trl_reads_the_whole_return(self, factory, target, question, guess):
        environment = begin(factory, target)
        environment.ask(question)
        assert turn_rewards_total(environments=[environment]) == [-1.0]

    @settings(max_examples=60, deadline=None)
    @given(asked=st.lists(st.text(max_size=220), max_size=25))
    def test_any_text_keeps_the_rules(self, factory, target, question, guess, asked):
        environment = begin(factory, target)
        for one in asked:
            over = environment.terminated
            before = list(environment.turn_rewards)
            try:
                answer = environment.ask(one)
            except ValueError:
                assert not over or environment.turn_rewards == before
            else:
                assert not over and isinstance(answer, str) and answer
            assert over or len(environment.turn_rewards) == len(before) + 1
        assert set(environment.turn_rewards) <= {-1.0, 0.0} and -20.0 <= total(environment) <= 0.0

    def test_games_share_nothing_but_the_oracle(self, factory, target, question, guess):
        oracle = factory()._oracle
        barrier = threading.Barrier(4)

        def episode(_):
            environment = begin(functools.partial(factory, oracle), target)
            barrier.wait()
            answers = [environment.ask(question) for _ in range(10)]
            return answers, environment.turn_rewards

        with ThreadPoolExecutor(4) as executor:
            assert list(executor.map(episode, range(4))) == [(["No."] * 10, [-1.0] * 10)] * 4


class TestWinning:
    @pytest.mark.parametrize("target", load_words())
    def test_every_object_can_be_guessed(self, target):
        facts = load_words()[target]
        for name in (target, *facts.synonyms):
            for form in (f"Is it a {name}?", f"is it the {name.upper()} ?!", name):
                environment = begin(TwentyQuestions, target)
                assert environment.ask(form) == "Yes. You found it.", form

    @pytest.mark.parametrize(
        "target, plural",
        [("knife", "knives"), ("strawberry", "strawberries"), ("axe", "axes"), ("wine", "wines"), ("bus", "buses"),
         ("sofa", "sofas"), ("potato", "potatoes"), ("scissors", "scissors"), ("trousers", "pants"), ("church", "churches")],
    )  # fmt: skip
    def test_plurals_guess_too(self, target, plural):
        assert begin(TwentyQuestions, target).ask(f"Are they {plural}?") == "Yes. You found it."

    @pytest.mark.parametrize("target", load_cities())
    def test_every_city_can_be_guessed(self, target):
        for name in (target, *load_cities()[target].aliases):
            for form in (
                f"Is it {name}?",
                f"is {name.lower()} the city",
                name,
                f"“{name.upper()}”!",
                f"Is it {name}'s port?",
            ):
                environment = begin(GuessMyCity, target)
                assert environment.ask(form) == "Yes. You found it.", form

    @pytest.mark.parametrize(
        "question", ["Is it a dog, a cat or a horse?", "cat dog", "Dogs? Cats? Horses?", "cat/dog"]
    )
    def test_listing_objects_does_not_win(self, question):
        for target in ("dog", "cat", "horse"):
            environment = begin(TwentyQuestions, target)
            assert environment.ask(question) == "Only one object may be named in a question."
            assert environment.turn_rewards == [-1.0]

    def test_a_list_of_all_cities_does_not_win(self):
        names = list(load_cities())
        for start in range(0, len(names), 7):
            for target in names[start : start + 7]:
                environment = begin(GuessMyCity, target)
                answer = environment.ask(", ".join(names[start : start + 7]))
                assert answer == "Only one city may be named in a question."
                assert environment.turn_rewards == [-1.0]

    @pytest.mark.parametrize(
        "question",
        [
            "Is it bigger than a dog?",
            "Is it not a dog?",
            "Isn't it a dog?",
            "Is a dog an animal?",
            "dogma",
            "hot dogger",
        ],
    )
    def test_only_the_last_word_guesses(self, question):
        environment = begin(TwentyQuestions, "dog")
        environment.ask(question)
        assert environment.turn_rewards == [-1.0]

    @pytest.mark.parametrize("target, question", [("Lima", "Is the climate hot?"), ("Rome", "Is it Romeo's city?")])
    def test_a_part_of_a_word_is_no_city(self, target, question):
        environment = begin(GuessMyCity, target)
        environment.ask(question)
        assert environment.turn_rewards == [-1.0]

    @pytest.mark.parametrize("question", ["Is it Bogotá?", "IS IT BOGOTA", "bogotá or not?", "Ｂｏｇｏｔａ"])
    def test_accents_and_case_do_not_matter(self, question):
        assert begin(GuessMyCity, "Bogota").ask(question) == "Yes. You found it."

    def test_spellings_of_one_city_are_one_guess(self):
        assert begin(GuessMyCity, "Mumbai").ask("Is it Mumbai (Bombay)?") == "Yes. You found it."

    @pytest.mark.parametrize("factory, wrong", [(TwentyQuestions, "Is it a piano?"), (GuessMyCity, "Is it Tokyo?")])
    def test_a_wrong_guess_is_denied(self, factory, wrong):
        environment = begin(factory, "violin" if factory is TwentyQuestions else "Paris")
        assert environment.ask(wrong) == "No."


class TestLists:
    def test_synonyms_belong_to_one_object(self):
        names = [name for facts in load_words().values() for name in (facts.word, *facts.synonyms)]
        assert len(names) == len(set(names))

    def test_the_choice_can_be_narrowed(self):
        environment = TwentyQuestions(words=["dog", "cat"])
        environment.reset(target="dog")
        with pytest.raises(ValueError, match="one of the 2 names"):
            environment.reset(target="horse")

    @pytest.mark.parametrize("names", [[], [""], ["dog", " "], ["?"]])
    def test_empty_names_are_refused(self, names):
        with pytest.raises(ValueError, match="words"):
            TwentyQuestions(words=names)
        with pytest.raises(ValueError, match="cities"):
            GuessMyCity(cities=names)

    def test_unknown_names_need_an_oracle(self):
        with pytest.raises(ValueError, match="zebra.*oracle"):
            TwentyQuestions(words=["dog", "zebra"])

        class Parrot:
            def answer(self, target, question):
                return f"{target}: {question}"

        environment = TwentyQuestions(Parrot(), words=["zebra"])
        environment.reset(target="zebra")
        assert environment.ask("Striped?") == "zebra: Striped?"
        assert environment.ask("Is it a zebra?") == "Yes. You found it."


class TestDatasets:
    @pytest.mark.parametrize(
        "name, targets",
        [
            ("twenty_questions", list(load_words())),
            ("twenty_questions_subset", list(load_word_subset())),
            ("guess_my_city", list(load_cities())),
        ],
    )
    def test_rows(self, name, targets):
        dataset = load_word_game(name)
        assert dataset.column_names == ["prompt", "target"]
        assert sorted(dataset["target"]) == sorted(targets)
        for row in dataset:
            (message,) = row["prompt"]
            assert message["role"] == "user" and len(message["content"].split()) <= 30
            assert row["target"].lower() not in message["content"].lower().split()
        environment = GuessMyCity() if name == "guess_my_city" else TwentyQuestions()
        environment.reset(**dataset[0])

    def test_the_seed_decides_the_order(self):
        first, again, other = (load_word_game("guess_my_city", seed=seed)["target"] for seed in (0, 0, 1))
        assert list(first) == list(again) != list(other)
        assert list(load_word_game("guess_my_city", limit=5)["target"]) == list(first)[:5]

    def test_sizes(self):
        assert [len(load_words()), len(load_word_subset()), len(load_cities())] == [157, 10, 91]
        assert len({facts.category for facts in load_words().values()}) == 17
        assert len({load_words()[word].category for word in load_word_subset()}) == 10

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="chess"):
            load_word_game("chess")
        with pytest.raises(ValueError, match="limit"):
            load_word_game("guess_my_city", limit=0)


class TestPlay:
    def script(self, factory, target, lines):
        lines = iter(lines)

        def read(prompt):
            line = next(lines, None)
            if line is None:
                raise EOFError
            return line

        output = io.StringIO()
        row = {"prompt": [{"role": "user", "content": "Rules."}], "target": target}
        return play(factory(), row, read, output), output.getvalue()

    def test_winning(self):
        won, output = self.script(TwentyQuestions, "violin", ["Is it an animal?", "Is it a violin?"])
        assert won and output.splitlines()[-3:] == ["No.", "Yes. You found it.", "Return: -1"]

    @pytest.mark.parametrize("end", [["quit"], []])
    def test_giving_up(self, end):
        won, output = self.script(GuessMyCity, "Paris", ["Is it in Europe?", "", *end])
        assert not won and "Yes.\nquestion must not be empty.\nIt was Paris.\nReturn: -20\n" in output

    def test_losing(self):
        won, output = self.script(GuessMyCity, "Paris", ["Is it Rome?"] * 20)
        assert not won and output.endswith("No. Out of questions: it was Paris.\nReturn: -20\n")

    @pytest.mark.parametrize("game", ["twenty_questions", "twenty_questions_subset", "guess_my_city"])
    def test_command_line(self, game, monkeypatch, capsys):
        target = load_word_game(game, seed=5, limit=1)[0]["target"]
        lines = iter(["Is it alive?", f"Is it {target}?"])
        monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
        main([game, "--seed", "5"])
        assert "Yes. You found it.\nReturn: -1\n" in capsys.readouterr().out

    def test_help_names_the_games(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        text = capsys.readouterr().out
        assert "twenty_questions_subset" in text and "guess_my_city" in text and "--seed" in text
