"""Public question sets in the form they were published in, each as questions and the corpus of their passages."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .jsonl import check_record, read_jsonl


if TYPE_CHECKING:
    from datasets import Dataset

# A record, and where it stands, for messages about it.
_Located = tuple[dict[str, Any], str]

_HOTPOTQA_FILES = {"train": "hotpot_train_v1.1.json", "validation": "hotpot_dev_distractor_v1.json"}
_2WIKI_FILES = {"train": "train.json", "validation": "dev.json"}
_MUSIQUE_FILES = {"train": "musique_ans_v1.0_train.jsonl", "validation": "musique_ans_v1.0_dev.jsonl"}
_NQ_FILES = {"train": "NQ-open.train.jsonl", "validation": "NQ-open.dev.jsonl"}


class _Corpus:
    """Passages in order of first appearance, each once."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, str]] = {}

    def add(self, title: str, text: str) -> str:
        """Takes a passage in and returns its id, which depends on nothing but the passage."""
        name = hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()[:16]
        self._rows.setdefault(name, (title, text))
        return name

    def to_dataset(self) -> "Dataset":
        from datasets import Dataset, Features, Value

        columns = {
            "id": list(self._rows),
            "title": [title for title, _ in self._rows.values()],
            "text": [text for _, text in self._rows.values()],
        }
        return Dataset.from_dict(columns, features=Features({name: Value("string") for name in columns}))


def load_hotpotqa(path: str | Path | None = None, split: str = "validation") -> tuple["Dataset", "Dataset"]:
    """
    Loads HotpotQA ([paper](https://huggingface.co/papers/1809.09600)) in the distractor setting.

    Args:
        path (`str` or `Path`, *optional*):
            Published file, or the folder that holds `hotpot_train_v1.1.json` and `hotpot_dev_distractor_v1.json`. By
            default the set is loaded from the hub.
        split (`str`, *optional*, defaults to `"validation"`):
            `"train"` or `"validation"`; with a file, only a name.

    Returns:
        `tuple[datasets.Dataset, datasets.Dataset]`: Questions with the columns `id`, `prompt`, `question`, `answers`,
        `hops` (number of supporting passages), `evidence`; and the corpus with `id`, `title`, `text`.

    Raises:
        `ValueError`: If a record is malformed; the message names the file and the record.
    """
    records = _records(path, split, _HOTPOTQA_FILES, ("hotpotqa/hotpot_qa", "distractor"))
    return _build(records, _parse_hotpotqa)


def load_2wikimultihopqa(path: str | Path | None = None, split: str = "validation") -> tuple["Dataset", "Dataset"]:
    """
    Loads 2WikiMultihopQA ([paper](https://huggingface.co/papers/2011.01060)).

    Args:
        path (`str` or `Path`, *optional*):
            Published file, or the folder that holds `train.json` and `dev.json`. If `id_aliases.json` lies beside
            them, its aliases become further answers. By default the set is loaded from the hub, without aliases.
        split (`str`, *optional*, defaults to `"validation"`):
            `"train"` or `"validation"`; with a file, only a name.

    Returns:
        `tuple[datasets.Dataset, datasets.Dataset]`: Questions with the columns `id`, `prompt`, `question`, `answers`,
        `hops` (number of evidence triples), `evidence`; and the corpus with `id`, `title`, `text`.

    Raises:
        `ValueError`: If a record is malformed; the message names the file and the record.
    """
    aliases: dict[str, list[str]] = {}
    if path is not None:
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        if (folder / "id_aliases.json").is_file():
            aliases = _read_aliases(folder / "id_aliases.json")

    def parse(record: dict[str, Any], where: str, corpus: _Corpus) -> dict[str, Any]:
        row = _parse_hotpotqa(record, where, corpus)
        row["hops"] = len(_get(record, "evidences", list, where))
        row["answers"] = _unique(row["answers"] + aliases.get(record.get("answer_id") or "", []))
        return row

    records = _records(path, split, _2WIKI_FILES, ("framolfese/2WikiMultihopQA", None))
    return _build(records, parse)


def load_musique(path: str | Path | None = None, split: str = "validation") -> tuple["Dataset", "Dataset"]:
    """
    Loads the answerable part of MuSiQue ([paper](https://huggingface.co/papers/2108.00573)).

    Args:
        path (`str` or `Path`, *optional*):
            Published file, or the folder that holds `musique_ans_v1.0_train.jsonl` and `musique_ans_v1.0_dev.jsonl`.
            By default the set is loaded from the hub.
        split (`str`, *optional*, defaults to `"validation"`):
            `"train"` or `"validation"`; with a file, only a name.

    Returns:
        `tuple[datasets.Dataset, datasets.Dataset]`: Questions with the columns `id`, `prompt`, `question`, `answers`,
        `hops`, `queries` (the question of each hop, with the answers before it filled in), `evidence` and `entities`
        (the answer of each hop); and the corpus with `id`, `title`, `text`.

    Raises:
        `ValueError`: If a record is malformed or unanswerable; the message names the file and the line.
    """
    records = _records(path, split, _MUSIQUE_FILES, ("dgslibisey/MuSiQue", None))
    return _build(records, _parse_musique)


def load_natural_questions(path: str | Path | None = None, split: str = "validation") -> tuple["Dataset", "Dataset"]:
    """
    Loads the open form of Natural Questions ([paper](https://huggingface.co/papers/1906.00300)).

    The set has no passages of its own: search a corpus of yours, for example with [`BM25Index.from_jsonl`].

    Args:
        path (`str` or `Path`, *optional*):
            Published file, or the folder that holds `NQ-open.train.jsonl` and `NQ-open.dev.jsonl`. By default the set
            is loaded from the hub.
        split (`str`, *optional*, defaults to `"validation"`):
            `"train"` or `"validation"`; with a file, only a name.

    Returns:
        `tuple[datasets.Dataset, datasets.Dataset]`: Questions with the columns `id`, `prompt`, `question`, `answers`,
        `hops` (`None`: not known) and `evidence` (empty); and an empty corpus with `id`, `title`, `text`.

    Raises:
        `ValueError`: If a record is malformed; the message names the file and the line.
    """
    records = _records(path, split, _NQ_FILES, ("google-research-datasets/nq_open", None))
    return _build(records, _parse_natural_questions)


def _parse_hotpotqa(record: dict[str, Any], where: str, corpus: _Corpus) -> dict[str, Any]:
    titles: dict[str, str] = {}
    for title, sentences in _pairs(record, "context", "title", "sentences", where):
        if not isinstance(title, str) or not _are_strings(sentences):
            raise ValueError(f"{where}: `context` must hold pairs of a title and a list of sentences.")
        text = " ".join(sentence.strip() for sentence in sentences).strip()
        titles[title] = corpus.add(title, text)
    supporting = _unique(title for title, _ in _pairs(record, "supporting_facts", "title", "sent_id", where))
    missing = [title for title in supporting if title not in titles]
    if missing:
        raise ValueError(f"{where}: `supporting_facts` names {missing[0]!r}, which is not in `context`.")
    return {
        # The hub's copies dropped the underscore.
        "id": _get(record, "_id" if "_id" in record else "id", str, where),
        "question": _get(record, "question", str, where),
        "answers": [_get(record, "answer", str, where)],
        "hops": len(supporting),
        "evidence": [titles[title] for title in supporting],
    }


def _parse_musique(record: dict[str, Any], where: str, corpus: _Corpus) -> dict[str, Any]:
    if not _get(record, "answerable", bool, where):
        raise ValueError(f"{where}: the question is not answerable from its passages; use the `musique_ans` files.")
    passages: dict[int, str] = {}
    for paragraph in _get(record, "paragraphs", list, where):
        title = _get(paragraph, "title", str, f"{where}, paragraphs")
        text = _get(paragraph, "paragraph_text", str, f"{where}, paragraphs")
        passages[_get(paragraph, "idx", int, f"{where}, paragraphs")] = corpus.add(title, text)
    queries: list[str] = []
    evidence: list[str] = []
    entities: list[str] = []
    for step in _get(record, "question_decomposition", list, where):
        support = _get(step, "paragraph_support_idx", int, f"{where}, question_decomposition")
        if support not in passages:
            raise ValueError(f"{where}: `paragraph_support_idx` {support} is not among the paragraphs.")
        queries.append(_fill(_get(step, "question", str, f"{where}, question_decomposition"), entities, where))
        evidence.append(passages[support])
        entities.append(_get(step, "answer", str, f"{where}, question_decomposition"))
    aliases = _get(record, "answer_aliases", list, where)
    if not _are_strings(aliases):
        raise ValueError(f"{where}: `answer_aliases` must hold strings.")
    return {
        "id": _get(record, "id", str, where),
        "question": _get(record, "question", str, where),
        "answers": _unique([_get(record, "answer", str, where), *aliases]),
        "hops": len(queries),
        "queries": queries,
        "evidence": evidence,
        "entities": entities,
    }


def _fill(question: str, answers: list[str], where: str) -> str:
    """Writes the answers of the hops before in place of `#1`, `#2`, ..., and a space for ` >> `."""

    def answer(match: re.Match[str]) -> str:
        number = int(match.group(1))
        if not 1 <= number <= len(answers):
            raise ValueError(f"{where}: {question!r} refers to the answer of a hop that does not come before it.")
        return answers[number - 1]

    return re.sub(r"#(\d+)", answer, question.replace(" >> ", " "))


def _parse_natural_questions(record: dict[str, Any], where: str, corpus: _Corpus) -> dict[str, Any]:
    question, answers = _get(record, "question", str, where), _get(record, "answer", list, where)
    if not answers or not _are_strings(answers):
        raise ValueError(f"{where}: `answer` must hold at least one string.")
    # The files have no ids.
    name = hashlib.sha256(question.encode()).hexdigest()[:16]
    return {"id": name, "question": question, "answers": _unique(answers), "hops": None, "evidence": []}


def _build(
    records: Iterator[_Located], parse: Callable[[dict[str, Any], str, _Corpus], dict[str, Any]]
) -> tuple["Dataset", "Dataset"]:
    from datasets import Dataset, Features, Value

    text, texts = Value("string"), [Value("string")]
    features = {
        "id": text,
        "prompt": [{"role": text, "content": text}],
        "question": text,
        "answers": texts,
        "hops": Value("int64"),
        "evidence": texts,
    }
    corpus = _Corpus()
    rows = []
    for record, where in records:
        row = parse(record, where, corpus)
        if not row["question"].strip() or not row["answers"][0].strip():
            raise ValueError(f"{where}: question and answer must not be empty.")
        rows.append({**row, "prompt": [{"role": "user", "content": row["question"]}]})
    if rows and "queries" in rows[0]:
        features |= {"queries": texts, "entities": texts}
    return Dataset.from_list(rows, features=Features(features)), corpus.to_dataset()


def _records(
    path: str | Path | None, split: str, files: Mapping[str, str], hub: tuple[str, str | None]
) -> Iterator[_Located]:
    if split not in files:
        raise ValueError(f"`split` must be one of {', '.join(files)}, got {split!r}.")
    if path is None:
        return _read_hub(*hub, split)
    path = Path(path)
    if path.is_dir():
        path = path / files[split]
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    return read_jsonl(path) if files[split].endswith(".jsonl") else _read_json(path)


def _read_hub(name: str, config: str | None, split: str) -> Iterator[_Located]:
    from datasets import load_dataset

    for number, record in enumerate(load_dataset(name, config, split=split)):
        yield dict(record), f"{name} ({split}), record {number}"


def _read_json(path: Path) -> Iterator[_Located]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(records, list):
        raise ValueError(f"{path}: must hold a list of records.")
    for number, record in enumerate(records):
        yield check_record(record, f"{path}, record {number}")


def _read_aliases(path: Path) -> dict[str, list[str]]:
    aliases = {}
    for record, where in read_jsonl(path):
        names = _get(record, "aliases", list, where) + list(record.get("demonyms") or [])
        if not _are_strings(names):
            raise ValueError(f"{where}: `aliases` and `demonyms` must hold strings.")
        aliases[_get(record, "Q_id", str, where)] = names
    return aliases


def _pairs(record: dict[str, Any], name: str, first: str, second: str, where: str) -> list[tuple[Any, Any]]:
    value = record.get(name)
    # The hub's copies hold one list per column in place of a list of pairs.
    if isinstance(value, dict) and isinstance(value.get(first), list) and isinstance(value.get(second), list):
        if len(value[first]) == len(value[second]):
            return list(zip(value[first], value[second], strict=True))
    elif isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        return [(pair[0], pair[1]) for pair in value]
    raise ValueError(f"{where}: `{name}` must be a list of pairs.")


def _get(record: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: must be an object, got {type(record).__name__}.")
    value = record.get(name)
    # True is an int in Python, and none in JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: `{name}` must be of type {kind.__name__}, got {value!r:.80}.")
    return value


def _are_strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _unique(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
