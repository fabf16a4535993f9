import copy
import json

import pytest
from datasets import Dataset

from trl_multiturn.environments.search import (
    BM25Index,
    load_2wikimultihopqa,
    load_hotpotqa,
    load_musique,
    load_natural_questions,
)


HOTPOTQA = [
    {
        "_id": "5a8b57f25542995d1e6f1371",
        "answer": "yes",
        "question": "Were Scott Derrickson and Ed Wood of the same nationality?",
        "supporting_facts": [["Scott Derrickson", 0], ["Ed Wood", 0], ["Ed Wood", 1]],
        "context": [
            ["Ed Wood (film)", ["Ed Wood is a 1994 American film.", " It was directed by Tim Burton."]],
            ["Scott Derrickson", ["Scott Derrickson is an American director.", " He lives in Los Angeles."]],
            ["Ed Wood", ["Ed Wood was an American filmmaker.", " He was born in 1924."]],
        ],
        "type": "comparison",
        "level": "hard",
    },
    {
        "_id": "5a8c7595554299585d9e36b6",
        "answer": "Tim Burton",
        "question": "Who directed the film about Ed Wood?",
        "supporting_facts": [["Ed Wood (film)", 1]],
        "context": [
            ["Ed Wood (film)", ["Ed Wood is a 1994 American film.", " It was directed by Tim Burton."]],
            ["Ed Wood", ["Another passage with the same title."]],
        ],
        "type": "bridge",
        "level": "easy",
    },
]
WIKI = [
    {
        "_id": "8813f87c0bdd11eba7f7acde48001122",
        "type": "compositional",
        "question": "Who is the mother of the director of film Polish-Russian War (Film)?",
        "context": [
            ["Polish-Russian War (film)", ["The film was directed by Xawery Żuławski.", "It came out in 2009."]],
            ["Xawery Żuławski", ["He is the son of Małgorzata Braunek."]],
        ],
        "supporting_facts": [["Polish-Russian War (film)", 0], ["Xawery Żuławski", 0]],
        "evidences": [
            ["Polish-Russian War", "director", "Xawery Żuławski"],
            ["Xawery Żuławski", "mother", "Małgorzata Braunek"],
        ],
        "answer": "Małgorzata Braunek",
        "evidences_id": [["Q1", "director", "Q2"], ["Q2", "mother", "Q274277"]],
        "answer_id": "Q274277",
    }
]
MUSIQUE = [
    {
        "id": "2hop__482757_12019",
        "paragraphs": [
            {"idx": 0, "title": "Pakistan", "paragraph_text": "A country in Asia.", "is_supporting": False},
            {"idx": 1, "title": "Green", "paragraph_text": "Green is by Steve Hillage.", "is_supporting": True},
            {"idx": 2, "title": "Steve Hillage", "paragraph_text": "He played with Miquette.", "is_supporting": True},
        ],
        "question": "Who played with the performer of Green?",
        "question_decomposition": [
            {"id": 1, "question": "Green >> performer", "answer": "Steve Hillage", "paragraph_support_idx": 1},
            {"id": 2, "question": "Who played with #1?", "answer": "Miquette", "paragraph_support_idx": 2},
        ],
        "answer": "Miquette",
        "answer_aliases": ["Miquette Giraudy", "Miquette"],
        "answerable": True,
    }
]
NQ = [
    {"question": "where did they film hot tub time machine", "answer": ["Fernie Alpine Resort"]},
    {"question": "who has the right of way in international waters", "answer": ["Neither vessel", "neither"]},
]


def write_json(path, records):
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return path


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def texts(row, corpus):
    found = dict(zip(corpus["id"], corpus["text"], strict=True))
    return [found[name] for name in row["evidence"]]


class TestHotpotQA:
    def test_published_file(self, tmp_path):
        questions, corpus = load_hotpotqa(write_json(tmp_path / "hotpot_dev_distractor_v1.json", HOTPOTQA))
        row = questions[0]
        assert row["id"] == HOTPOTQA[0]["_id"] and row["answers"] == ["yes"] and row["hops"] == 2
        assert row["prompt"] == [{"role": "user", "content": row["question"]}]
        assert texts(row, corpus) == [
            "Scott Derrickson is an American director. He lives in Los Angeles.",
            "Ed Wood was an American filmmaker. He was born in 1924.",
        ]
        assert questions["hops"] == [2, 1]

    def test_passages_are_kept_once(self, tmp_path):
        questions, corpus = load_hotpotqa(write_json(tmp_path / "x.json", HOTPOTQA))
        # The film is in both records; the two of the title "Ed Wood" differ in text.
        assert corpus["title"] == ["Ed Wood (film)", "Scott Derrickson", "Ed Wood", "Ed Wood"]
        assert len(set(corpus["id"])) == 4
        # A reference goes to the record's own passage.
        assert texts(questions[0], corpus)[1].startswith("Ed Wood was")

    def test_ids_do_not_depend_on_the_file(self, tmp_path):
        _, corpus = load_hotpotqa(write_json(tmp_path / "x.json", HOTPOTQA))
        _, reverse = load_hotpotqa(write_json(tmp_path / "y.json", HOTPOTQA[::-1]))
        assert set(corpus["id"]) == set(reverse["id"]) and corpus["id"] != reverse["id"]

    def test_folder_and_split(self, tmp_path):
        write_json(tmp_path / "hotpot_train_v1.1.json", HOTPOTQA)
        write_json(tmp_path / "hotpot_dev_distractor_v1.json", HOTPOTQA[:1])
        assert len(load_hotpotqa(tmp_path, "train")[0]) == 2
        assert len(load_hotpotqa(tmp_path)[0]) == 1
        with pytest.raises(ValueError, match="`split`"):
            load_hotpotqa(tmp_path, "test")
        with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
            load_hotpotqa(tmp_path / "nothing.json")

    def test_corpus_can_be_searched(self, tmp_path):
        _, corpus = load_hotpotqa(write_json(tmp_path / "x.json", HOTPOTQA))
        assert BM25Index.from_dataset(corpus).search("director Derrickson", 1)[0].title == "Scott Derrickson"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: r.pop("_id"), "record 1: `id` must be of type str"),
            (lambda r: r.pop("question"), "record 1: `question` must be of type str"),
            (lambda r: r.update(question=" "), "record 1: question and answer must not be empty"),
            (lambda r: r.update(answer=None), "record 1: `answer` must be of type str"),
            (lambda r: r.pop("context"), "record 1: `context` must be a list of pairs"),
            (lambda r: r.update(context=[["title"]]), "record 1: `context` must be a list of pairs"),
            (lambda r: r.update(context=[["title", "text"]]), "record 1: `context` must hold pairs"),
            (lambda r: r.update(supporting_facts=[["Nobody", 0]]), "record 1: `supporting_facts` names 'Nobody'"),
        ],
    )
    def test_malformed_records_are_named(self, tmp_path, change, message):
        records = copy.deepcopy(HOTPOTQA)
        change(records[1])
        with pytest.raises(ValueError, match=rf"bad\.json, {message}"):
            load_hotpotqa(write_json(tmp_path / "bad.json", records))

    @pytest.mark.parametrize(("text", "message"), [("[", "not JSON"), ("{}", "list of records"), ("[1]", "record 0")])
    def test_malformed_files_are_named(self, tmp_path, text, message):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=rf"bad\.json.*{message}"):
            load_hotpotqa(tmp_path / "bad.json")


class TestHub:
    """The hub's copies hold columns; what is asked of it is checked against a stand-in for `load_dataset`."""

    @pytest.fixture
    def hub(self, monkeypatch):
        calls, records = [], []

        def load_dataset(name, config=None, split=None):
            calls.append((name, config, split))
            return Dataset.from_list(records)

        monkeypatch.setattr("datasets.load_dataset", load_dataset)
        return calls, records

    @staticmethod
    def in_columns(record):
        record = {**record, "id": record["_id"]}
        del record["_id"]
        titles, sentences = zip(*record["context"], strict=True)
        record["context"] = {"title": list(titles), "sentences": list(sentences)}
        titles, numbers = zip(*record["supporting_facts"], strict=True)
        record["supporting_facts"] = {"title": list(titles), "sent_id": list(numbers)}
        return record

    def test_hotpotqa(self, hub, tmp_path):
        calls, records = hub
        records += [self.in_columns(record) for record in HOTPOTQA]
        from_hub = load_hotpotqa(split="train")
        assert calls == [("hotpotqa/hotpot_qa", "distractor", "train")]
        from_file = load_hotpotqa(write_json(tmp_path / "x.json", HOTPOTQA))
        assert [part.to_list() for part in from_hub] == [part.to_list() for part in from_file]

    def test_2wikimultihopqa(self, hub, tmp_path):
        calls, records = hub
        records += [self.in_columns(record) for record in WIKI]
        from_hub = load_2wikimultihopqa()
        assert calls == [("framolfese/2WikiMultihopQA", None, "validation")]
        from_file = load_2wikimultihopqa(write_json(tmp_path / "x.json", WIKI))
        assert [part.to_list() for part in from_hub] == [part.to_list() for part in from_file]

    @pytest.mark.parametrize(
        ("load", "name", "rows"),
        [
            (load_musique, "dgslibisey/MuSiQue", MUSIQUE),
            (load_natural_questions, "google-research-datasets/nq_open", NQ),
        ],
    )
    def test_sets_in_the_published_form(self, hub, tmp_path, load, name, rows):
        calls, records = hub
        records += rows
        from_hub = load()
        assert calls == [(name, None, "validation")]
        from_file = load(write_jsonl(tmp_path / "x.jsonl", rows))
        assert [part.to_list() for part in from_hub] == [part.to_list() for part in from_file]

    def test_malformed_records_are_named(self, hub):
        hub[1].append({"question": "who", "answer": []})
        with pytest.raises(ValueError, match=r"google-research-datasets/nq_open \(validation\), record 0"):
            load_natural_questions()


class Test2WikiMultihopQA:
    def test_published_file(self, tmp_path):
        write_json(tmp_path / "dev.json", WIKI)
        questions, corpus = load_2wikimultihopqa(tmp_path)
        assert questions[0]["hops"] == 2 and questions[0]["answers"] == ["Małgorzata Braunek"]
        assert texts(questions[0], corpus)[0] == "The film was directed by Xawery Żuławski. It came out in 2009."

    @pytest.mark.parametrize("as_folder", [True, False])
    def test_aliases(self, tmp_path, as_folder):
        path = write_json(tmp_path / "dev.json", WIKI)
        write_jsonl(
            tmp_path / "id_aliases.json",
            [
                {"Q_id": "Q1", "aliases": ["other"], "demonyms": []},
                {"Q_id": "Q274277", "aliases": ["Malgorzata Braunek", "Małgorzata Braunek"], "demonyms": ["x"]},
            ],
        )
        questions, _ = load_2wikimultihopqa(tmp_path if as_folder else path)
        assert questions[0]["answers"] == ["Małgorzata Braunek", "Malgorzata Braunek", "x"]

    def test_malformed_records_are_named(self, tmp_path):
        path = write_json(tmp_path / "dev.json", [{**WIKI[0], "evidences": None}])
        with pytest.raises(ValueError, match=r"dev\.json, record 0: `evidences`"):
            load_2wikimultihopqa(path)
        write_json(tmp_path / "dev.json", WIKI)
        write_jsonl(tmp_path / "id_aliases.json", [{"Q_id": "Q1", "aliases": [1]}])
        with pytest.raises(ValueError, match=r"id_aliases\.json, line 1: `aliases`"):
            load_2wikimultihopqa(path)


class TestMuSiQue:
    def test_published_file(self, tmp_path):
        write_jsonl(tmp_path / "musique_ans_v1.0_dev.jsonl", MUSIQUE)
        questions, corpus = load_musique(tmp_path)
        row = questions[0]
        assert row["answers"] == ["Miquette", "Miquette Giraudy"] and row["hops"] == 2
        assert row["queries"] == ["Green performer", "Who played with Steve Hillage?"]
        assert row["entities"] == ["Steve Hillage", "Miquette"]
        assert texts(row, corpus) == ["Green is by Steve Hillage.", "He played with Miquette."]
        assert len(corpus) == 3

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: r.update(answerable=False), "not answerable"),
            (lambda r: r.pop("answerable"), "`answerable`"),
            (lambda r: r.update(answer_aliases=[1]), "`answer_aliases`"),
            (lambda r: r["paragraphs"][0].update(idx=True), "paragraphs: `idx` must be of type int"),
            (lambda r: r["paragraphs"].append("x"), "paragraphs: must be an object"),
            (lambda r: r["question_decomposition"][0].update(paragraph_support_idx=7), "`paragraph_support_idx` 7"),
            (lambda r: r["question_decomposition"][0].update(question="#1?"), "does not come before"),
        ],
    )
    def test_malformed_records_are_named(self, tmp_path, change, message):
        record = copy.deepcopy(MUSIQUE[0])
        change(record)
        path = write_jsonl(tmp_path / "bad.jsonl", [MUSIQUE[0], record])
        with pytest.raises(ValueError, match=rf"bad\.jsonl, line 2.*{message}"):
            load_musique(path)


class TestNaturalQuestions:
    def test_published_file(self, tmp_path):
        write_jsonl(tmp_path / "NQ-open.dev.jsonl", NQ)
        questions, corpus = load_natural_questions(tmp_path)
        assert questions["answers"] == [["Fernie Alpine Resort"], ["Neither vessel", "neither"]]
        assert questions["hops"] == [None, None] and questions["evidence"] == [[], []]
        assert len(set(questions["id"])) == 2
        assert len(corpus) == 0 and corpus.column_names == ["id", "title", "text"]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"question": "who"', "not JSON"),
            ('["who"]', "must be an object, got list"),
            ('{"question": "who", "answer": "x"}', "`answer` must be of type list"),
            ('{"question": "who", "answer": []}', "`answer` must hold at least one string"),
            ('{"question": "who", "answer": [1]}', "`answer` must hold at least one string"),
        ],
    )
    def test_malformed_lines_are_named(self, tmp_path, line, message):
        path = tmp_path / "bad.jsonl"
        path.write_text(json.dumps(NQ[0]) + "\n\n" + line + "\n")
        with pytest.raises(ValueError, match=rf"bad\.jsonl, line 3: {message}"):
            load_natural_questions(path)
