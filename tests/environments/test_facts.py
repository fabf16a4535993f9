import re
import sys
from collections import Counter

import pytest

from trl_multiturn.environments.search import BM25Index, load_fact_corpus, load_fact_questions
from trl_multiturn.environments.search.countries import capital_airports, key, load_airports, load_countries


SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def corpus():
    return load_fact_corpus()


@pytest.fixture(scope="module")
def index(corpus):
    return BM25Index.from_dataset(corpus)


@pytest.fixture(scope="module")
def questions():
    return {split: load_fact_questions(split).to_list() for split in SPLITS}


@pytest.fixture(scope="module")
def everything(questions):
    return [row for rows in questions.values() for row in rows]


def normalize(text):
    """The usual normalisation of answer matching, written out here so that it shares nothing with the package."""
    text = re.sub(r"\b(a|an|the)\b", " ", text.lower())
    return " ".join("".join(c for c in text if c.isalnum() or c.isspace()).split())


class TestCorpus:
    def test_one_short_fact_a_passage(self, corpus):
        assert corpus.column_names == ["id", "title", "text"]
        assert len(corpus) > 3000
        for row in corpus:
            assert row["text"].endswith(".") and len(row["text"].split()) <= 16, row
            assert not re.search(r"None|\bnan\b|[\[\]{}/\ufffd]|  ", row["text"]), row

    def test_ids_and_titles_are_unique(self, corpus):
        assert len(set(corpus["id"])) == len(corpus)
        assert len(set(corpus["title"])) == len(corpus)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("KZ/capital", "The capital of Kazakhstan is Astana."),
            ("KZ/currency", "The currency of Kazakhstan is the Kazakhstani tenge."),
            ("HR/currency", "The currency of Croatia is the Euro."),
            ("FR/domain", "The internet domain of France is .fr."),
            ("JP/iso", "The ISO code of Japan is JPN."),
            ("PT/only_neighbour", "The only neighbour of Portugal is Spain."),
            ("BE/largest_neighbour", "The largest neighbour of Belgium is France."),
            ("BE/smallest_neighbour", "The smallest neighbour of Belgium is Luxembourg."),
            ("VIE/country", "VIE is in Austria."),
            ("VIE/city", "VIE is in the city Vienna."),
            ("AT/airport", "The airport code of Vienna is VIE."),
        ],
    )
    def test_facts_that_anyone_can_check(self, corpus, name, text):
        assert dict(zip(corpus["id"], corpus["text"], strict=True)).get(name) == text

    def test_always_the_same(self, corpus):
        assert load_fact_corpus().to_list() == corpus.to_list()


class TestCleaning:
    def test_one_sided_borders_make_no_fact(self):
        countries = load_countries()
        # The package lets India border Sri Lanka, forgets that Nepal borders China and Kuwait borders Iraq.
        for code in ("LK", "NP", "KW"):
            country = countries[code]
            assert country.only_neighbour is country.largest_neighbour is country.smallest_neighbour is None, code

    def test_several_or_moved_capitals(self):
        countries = load_countries()
        assert countries["ZA"].capital is countries["BO"].capital is countries["SG"].capital is None
        assert countries["BI"].capital == "Gitega"

    def test_dissolved_and_disputed_entries_are_gone(self):
        assert not {"AN", "CS", "EH", "PS", "AQ"} & set(load_countries())

    def test_names_and_codes_are_unique(self):
        countries = load_countries().values()
        for values in ([key(country.name) for country in countries], [country.iso for country in countries]):
            assert max(Counter(values).values()) == 1

    def test_aliases_of_currencies_name_one_currency(self):
        meaning = {}
        for country in load_countries().values():
            for alias in country.aliases.get(country.currency, []):
                assert meaning.setdefault(alias, country.currency) == country.currency

    def test_airports(self):
        airports = load_airports()
        assert 800 < len(airports) < 2000
        assert all(re.fullmatch("[A-Z]{3}", airport.code) for airport in airports)
        # Paris and London have several, Berlin's listed one is closed.
        assert not {"FR", "GB", "DE"} & set(capital_airports())

    @pytest.mark.parametrize("package", ["countryinfo", "airportsdata"])
    def test_missing_package_says_what_to_install(self, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        for function in (load_countries, load_airports):
            function.cache_clear()
        with pytest.raises(ImportError, match=rf"`{package}`.*pip install trl-multiturn\[search\]"):
            load_airports()
        for function in (load_countries, load_airports):
            function.cache_clear()


class TestQuestions:
    def test_counts(self, questions):
        counts = {split: Counter(row["hops"] for row in rows) for split, rows in questions.items()}
        assert all(counts["train"][hops] >= 1000 for hops in (1, 2, 3, 4))
        assert all(counts["validation"][hops] >= 100 and counts["test"][hops] >= 300 for hops in (1, 2, 3, 4))

    def test_columns(self, everything):
        for row in everything:
            assert row["prompt"] == [{"role": "user", "content": row["question"]}]
            assert len(row["queries"]) == len(row["evidence"]) == row["hops"] == len(row["entities"]) - 1
            assert row["answers"][0] == row["entities"][-1]
            assert len(set(row["answers"])) == len(row["answers"]) and all(row["answers"])

    def test_questions_and_ids_are_unique_over_all_splits(self, everything):
        assert len({row["id"] for row in everything}) == len(everything)
        assert len({row["question"] for row in everything}) == len(everything)

    def test_every_query_finds_its_passage_first(self, everything, index):
        wanted = {
            (query, name) for row in everything for query, name in zip(row["queries"], row["evidence"], strict=True)
        }
        assert len(wanted) > 3000
        for query, name in wanted:
            assert index.search(query, 1)[0].id == name, query

    def test_queries_follow_from_the_question_and_the_passages_before(self, everything, corpus):
        texts = dict(zip(corpus["id"], corpus["text"], strict=True))
        # Words that name a relation in a query; the question says them in its own way ("where airport ALA is").
        relations = {"country"}
        for row in everything:
            known = set(key(row["question"]).split()) | relations
            for query, name in zip(row["queries"], row["evidence"], strict=True):
                assert set(key(query).split()) <= known, (row["question"], query)
                known |= set(key(texts[name]).split())

    def test_each_passage_holds_the_next_entity(self, everything, corpus):
        texts = dict(zip(corpus["id"], corpus["text"], strict=True))
        for row in everything:
            assert row["entities"][0] in row["question"]
            for before, name, after in zip(row["entities"], row["evidence"], row["entities"][1:], strict=False):
                assert before in texts[name] and after in texts[name], row

    def test_questions_do_not_hold_their_answer(self, everything):
        for row in everything:
            assert not any(f" {key(answer)} " in f" {key(row['question'])} " for answer in row["answers"]), row

    @pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
    @pytest.mark.parametrize("column", ["answers", "entities"])
    def test_splits_share_no_entity(self, questions, column, one, other):
        def names(split):
            return {normalize(name) for row in questions[split] for name in row[column]}

        assert names(one) and not names(one) & names(other)

    def test_splits_share_no_evidence(self, questions):
        seen = [{name for row in questions[split] for name in row["evidence"]} for split in SPLITS]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])

    def test_calling_codes_that_begin_others_name_no_country(self, everything):
        questions = {row["question"] for row in everything}
        assert "What is the country with the calling code +7?" not in questions
        assert "What is the country with the calling code +33?" in questions

    def test_aliases(self, everything):
        answers = {row["question"]: row["answers"] for row in everything}
        assert answers["What is the currency of Kazakhstan?"] == ["Kazakhstani tenge", "KZT", "tenge"]
        assert answers["What is the capital of Colombia?"] == ["Bogotá", "Bogota"]
        assert answers["What is the internet domain of France?"] == [".fr", "fr"]

    def test_order_and_limit(self):
        some = load_fact_questions("test", 2, seed=1, limit=20)
        assert len(some) == 20 and set(some["hops"]) == {2}
        assert some.to_list() == load_fact_questions("test", 2, seed=1).to_list()[:20]
        assert some["id"] != load_fact_questions("test", 2, seed=2, limit=20)["id"]
        assert set(load_fact_questions("test", [1, 3], limit=200)["hops"]) == {1, 3}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("dev",), "`split`"),
            (("train", 5), "`hops`"),
            (("train", []), "`hops`"),
            (("train", [0, 1]), "`hops`"),
            (("train", None, 0, 0), "`limit`"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            load_fact_questions(*arguments)
