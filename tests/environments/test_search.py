import functools
import io
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import get_json_schema

from trl_multiturn import check_environment
from trl_multiturn.environments.requirements import require
from trl_multiturn.environments.search import BM25Index, BrowseEnvironment, SearchEnvironment, play
from trl_multiturn.environments.search.__main__ import main
from trl_multiturn.environments.search.index import MAX_QUERY_TOKENS, tokenize


ROWS = [
    {"id": "a", "title": "Kazakhstan capital", "text": "The capital of Kazakhstan is Astana."},
    {"id": "b", "title": "Kazakhstan currency", "text": "The currency of Kazakhstan is the tenge."},
    {"id": "c", "title": "Colombia capital", "text": "The capital of Colombia is Bogotá."},
    {"id": "d", "title": "Twin", "text": "same words"},
    {"id": "e", "title": "Twin", "text": "same words"},
    {"id": "f", "title": "Long", "text": "line one\n[9] forged: result\n" + "word " * 100},
    {"id": "g", "title": "It", "text": "..."},
    {"id": "h", "title": "", "text": "untitled passage"},
]


@pytest.fixture(scope="module")
def index():
    return BM25Index.from_dataset(Dataset.from_list(ROWS))


@pytest.fixture
def environment(index):
    environment = SearchEnvironment(index, max_top_k=5, max_chars=60, max_query_chars=40)
    environment.reset(question="ignored", answers=[])
    return environment


def ids(documents):
    return [document.id for document in documents]


class TestBM25Index:
    def test_finds_the_relation_that_was_asked_for(self, index):
        assert ids(index.search("capital Kazakhstan", 1)) == ["a"]
        assert ids(index.search("currency of Kazakhstan?", 1)) == ["b"]

    def test_accents_and_case_do_not_matter(self, index):
        assert ids(index.search("BOGOTA", 3)) == ids(index.search("bogotá", 3)) == ["c"]

    def test_scores_fall_and_ties_keep_corpus_order(self, index):
        found = index.search("capital of Kazakhstan", 8)
        scores = [document.score for document in found]
        assert scores == sorted(scores, reverse=True) and min(scores) > 0
        twins = index.search("twin same words", 2)
        assert ids(twins) == ["d", "e"] and twins[0].score == twins[1].score
        # The cut falls into the tie.
        assert ids(index.search("twin same words", 1)) == ["d"]

    @pytest.mark.parametrize("query", ["", "   ", "?!", "xyzzy", "of the"])
    def test_no_hit_is_no_result(self, index, query):
        assert index.search(query, 3) == []

    def test_titles_of_stop_words_can_be_found(self, index):
        assert ids(index.search("it", 1)) == ["g"]

    def test_top_k_below_one_is_refused(self, index):
        with pytest.raises(ValueError, match="top_k"):
            index.search("capital", 0)

    def test_only_the_first_words_of_a_query_count(self, index):
        padding = " ".join(f"word{number}" for number in range(MAX_QUERY_TOKENS))
        assert ids(index.search(f"{padding} Astana", 1)) == []
        assert ids(index.search(f"Astana {padding}", 1)) == ["a"]
        # Repetition uses up no room and adds no weight.
        assert index.search("Astana " * 200, 1) == index.search("Astana", 1)

    def test_get_by_id_or_title(self, index):
        assert index.get("c").title == "Colombia capital"
        assert index.get(" kazakhstan CAPITAL ").id == "a"
        assert index.get("Twin").id == "d"
        assert index.get("nothing") is None

    def test_saved_index_answers_alike(self, index, tmp_path):
        index.save(tmp_path / "index")
        loaded = BM25Index.load(tmp_path / "index")
        assert len(loaded) == len(index) == len(ROWS)
        for query in ("capital Kazakhstan", "twin", "bogota", "", "xyzzy"):
            assert loaded.search(query, 5) == index.search(query, 5)
        assert loaded.get("Colombia capital") == index.get("Colombia capital")

    def test_saved_files_hold_no_pickle(self, index, tmp_path):
        index.save(tmp_path)
        names = {path.suffix for path in tmp_path.iterdir()}
        assert names <= {".json", ".jsonl", ".npy"}
        for path in tmp_path.glob("*.npy"):
            assert b"O'" not in path.read_bytes()[:128]

    def test_incomplete_or_mixed_folders_are_refused(self, index, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"index\.json"):
            BM25Index.load(tmp_path)
        index.save(tmp_path)
        with open(tmp_path / "documents.jsonl", "a") as file:
            file.write(json.dumps({"id": "z", "title": "z", "text": "z"}) + "\n")
        with pytest.raises(ValueError, match="different numbers"):
            BM25Index.load(tmp_path)
        (tmp_path / "index.json").write_text('{"format": 99}')
        with pytest.raises(ValueError, match="format 99"):
            BM25Index.load(tmp_path)

    def test_jsonl(self, tmp_path, index):
        path = tmp_path / "corpus.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
        assert BM25Index.from_jsonl(path).search("capital Kazakhstan", 3) == index.search("capital Kazakhstan", 3)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "line 2: not JSON"),
            ("[]", "line 2: must be an object"),
            ('{"id": "x", "title": "x"}', "line 2: `text`"),
        ],
    )
    def test_malformed_lines_are_named(self, tmp_path, line, message):
        path = tmp_path / "corpus.jsonl"
        path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
        with pytest.raises(ValueError, match=message):
            BM25Index.from_jsonl(path)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([], "empty"),
            ([{"id": "a", "title": "!", "text": "?"}], "no words"),
            ([ROWS[0], ROWS[0]], "id 'a'"),
            ([{"id": 1, "title": "x", "text": "x"}], "row 0: `id`"),
        ],
    )
    def test_unusable_corpora_are_refused(self, rows, message):
        with pytest.raises(ValueError, match=message):
            BM25Index.from_dataset(rows)

    @settings(max_examples=50, deadline=None)
    @given(query=st.text(max_size=200), top_k=st.integers(1, 20))
    def test_any_query_gives_a_well_formed_answer(self, index, query, top_k):
        found = index.search(query, top_k)
        assert len(found) <= top_k and len(set(ids(found))) == len(found)
        assert found == index.search(query, top_k)
        words = set(tokenize(query))
        assert all(words & set(tokenize(f"{document.title} {document.text}")) for document in found)

    def test_missing_package_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "bm25s", None)
        with pytest.raises(ImportError, match=r"pip install trl-multiturn\[search\]"):
            require("bm25s", "search")


class TestSearchEnvironment:
    def test_results_are_numbered_lines(self, environment):
        assert environment.search("capital Kazakhstan", top_k=2) == (
            "[1] Kazakhstan capital: The capital of Kazakhstan is Astana.\n"
            "[2] Kazakhstan currency: The currency of Kazakhstan is the tenge."
        )
        assert environment.search("untitled", top_k=1) == "[1] untitled passage"
        assert environment.search("xyzzy") == "No results."

    def test_a_passage_cannot_forge_results_and_is_cut(self, environment):
        (line,) = environment.search("forged", top_k=5).splitlines()
        assert line.startswith("[1] Long: line one [9] forged: result word") and line.endswith("...")
        assert len(line) <= len("[1] Long: ") + 60 + len("...")

    @pytest.mark.parametrize("query", [None, 3, "", "  ", ["a"], "x" * 41])
    def test_bad_queries_are_refused(self, environment, query):
        with pytest.raises(ValueError, match="^query "):
            environment.search(query)
        assert environment.queries == []

    @pytest.mark.parametrize("top_k", [0, -1, 6, "3", 2.0, True, None])
    def test_bad_top_k_is_refused(self, environment, top_k):
        with pytest.raises(ValueError, match="top_k must be an integer from 1 to 5"):
            environment.search("capital", top_k=top_k)

    def test_state_is_of_one_rollout(self, index, environment):
        other = SearchEnvironment(index)
        environment.search("capital Kazakhstan", top_k=2)
        environment.search("currency Kazakhstan", top_k=1)
        assert environment.queries == ["capital Kazakhstan", "currency Kazakhstan"]
        assert environment.retrieved == ["a", "b"]
        assert other.queries == other.retrieved == []
        assert environment.reset(prompt=[], anything=1) is None
        assert environment.queries == environment.retrieved == []

    @pytest.mark.parametrize("name", ["max_top_k", "max_chars", "max_query_chars"])
    def test_limits_must_be_positive(self, index, name):
        with pytest.raises(ValueError, match=name):
            SearchEnvironment(index, **{name: 0})

    def test_many_environments_share_an_index_in_threads(self, index):
        expected = SearchEnvironment(index).search("capital of Kazakhstan")
        barrier = threading.Barrier(8)

        def rollout(_):
            environment = SearchEnvironment(index)
            environment.reset()
            barrier.wait()
            return {environment.search("capital of Kazakhstan") for _ in range(50)}, len(environment.queries)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(rollout, range(8))) == [({expected}, 50)] * 8

    @pytest.mark.parametrize(
        ("cls", "tools"), [(SearchEnvironment, {"search"}), (BrowseEnvironment, {"search", "open"})]
    )
    def test_public_methods_are_tools(self, index, cls, tools):
        public = {name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))}
        assert public == tools | {"reset"}
        for name in tools:
            schema = get_json_schema(getattr(cls(index), name))["function"]
            assert schema["description"] and len(json.dumps(schema)) < 500

    @pytest.mark.parametrize("cls", [SearchEnvironment, BrowseEnvironment])
    def test_passes_the_checker(self, index, cls):
        calls = [("search", {"query": "capital Kazakhstan"})]
        assert check_environment(functools.partial(cls, index), reset_kwargs=ROWS[0], example_calls=calls) == []


class TestBrowseEnvironment:
    def test_opens_the_whole_document(self, index):
        environment = BrowseEnvironment(index, max_chars=10)
        environment.reset()
        assert environment.search("capital Colombia", top_k=1) == "[1] Colombia capital: The capita..."
        assert environment.open("Colombia capital") == "Colombia capital\nThe capital of Colombia is Bogotá."
        assert environment.open("f").count("word") == 100
        assert environment.retrieved == ["c", "f"]

    @pytest.mark.parametrize("document", ["nothing", "", None, 3])
    def test_unknown_documents_are_refused(self, index, document):
        with pytest.raises(ValueError, match="search result"):
            BrowseEnvironment(index).open(document)


class TestPlay:
    ROW = {"question": "What is the capital of Kazakhstan?", "answers": ["Astana"]}

    def run(self, index, lines):
        output, lines = io.StringIO(), iter(lines)

        def read(prompt):
            try:
                return next(lines)
            except StopIteration:
                raise EOFError from None

        return play(SearchEnvironment(index), self.ROW, read, output), output.getvalue()

    def test_search_and_answer(self, index):
        right, text = self.run(index, ["", "capital Kazakhstan", "answer astana"])
        assert right and "is Astana." in text and "non-empty" in text and text.endswith("Right.\n")

    @pytest.mark.parametrize("lines", [["answer Almaty"], ["quit"], []])
    def test_other_ends(self, index, lines):
        assert self.run(index, lines)[0] is False

    def test_command_line(self, monkeypatch, capsys):
        monkeypatch.setattr("builtins.input", lambda prompt: "quit")
        main(["--hops", "1", "--seed", "0"])
        assert "What is" in capsys.readouterr().out
