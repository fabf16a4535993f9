"""Answers questions about an object from what is known about it."""

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache

from .text import base, singular, tokens
from .words import WordFacts, load_sources, load_words


YES, NO, CANNOT_TELL = "Yes.", "No.", "I cannot tell."

# What may stand in a question without changing it.
_FILLERS = set(
    "a an the some any kind type sort please just really usually normally typically often mostly mainly generally "
    "commonly actually perhaps maybe ever also sometimes so ok okay well then hmm considered called classified known "
    "as".split()
)
# "That" is the subject after an auxiliary, and elsewhere a relative pronoun.
_SUBJECT = re.compile(
    r"\b(is|are|was|does|do|did|can|could|will|would|should|has|have) "
    r"(?:(?:this|that|these|those|they|he|she)(?: object| thing| item| word)?|the (?:object|thing|item|word|answer))\b"
)
_PERSON = r"(?:you|people|person|we|i|one|human|someone|somebody|anyone|man|child|tourist|farmer)"
_CAN = r"(?:can|could|do|does|did|would|will|should|may|might)"
_THING = r"(?:something|thing|object|item|one)"
# From the special to the general; the first that fits decides. `@` stands for the rest of the question.
_FORMS = tuple(
    (kind, re.compile(pattern.replace("@", "(?P<rest>.+)")))
    for kind, pattern in (
        ("made", r"(?:is|was) it (?:made|built|composed|constructed|formed|prepared)(?: out)? (?:of|from|with) @"),
        ("made", r"does it consist of @"),
        ("where", rf"{_CAN} {_PERSON} (?:find|see|keep|meet|buy|use|put|look for)(?: it| one| them)? (?:in|inside|on|at) @"),
        ("where", r"(?:is|are) it (?:found|kept|located|stored|seen|used|living|there) (?:in|inside|on|at) @"),
        ("where", r"does it (?:live|belong|stand|exist) (?:in|inside|on|at) @"),
        ("people", rf"{_CAN} {_PERSON} @"),
        ("people", rf"is it {_THING}(?: that| which)? {_PERSON}(?: can| could| would| might)? @"),
        ("people", r"can it be @"),
        ("used", r"is it used (?:to|for) @"),
        ("has", r"(?:does|do|can|could|will|would) it (?:have|has|contain|include|come with|got)(?: got)? @"),
        ("has", rf"is it {_THING}(?: that| which)? (?:has|have|with|contain|having) @"),
        ("has", r"(?:has|have) it(?: got)? @"),
        ("has", r"is there @ (?:on|in|inside|at) it"),
        ("has", r"are there @ (?:on|in|inside|at) it"),
        ("has", r"(?:is|are) there @"),
        ("has", r"is it with @"),
        ("does", r"is it able to @"),
        ("does", rf"is it {_THING}(?: that| which) (?:can|could) @"),
        ("is", rf"is it {_THING}(?: that| which)? is @"),
        ("does", rf"is it {_THING}(?: that| which) @"),
        ("does", rf"{_CAN} it @"),
        ("where", r"is it (?:in|inside|on|at) @"),
        ("is", r"(?:is|was|are|would) it(?: be)? @"),
        ("is", r"it is @"),
    )
)  # fmt: skip
# Where an attribute of another form answers as well: "is it eaten", "is it used for cutting", "do you wear it".
_ALSO = {
    "is": ("people",), "people": ("is", "where"), "where": ("does",), "does": ("where", "is"),
    "used": ("people", "is"), "made": (), "has": (),
}  # fmt: skip
_PAST = {
    "eaten": "eat", "drunk": "drink", "worn": "wear", "ridden": "ride", "driven": "drive", "sat": "sit", "slept": "sleep",
    "blown": "blow", "made": "make", "built": "build", "seen": "see", "found": "find", "kept": "keep", "grown": "grow",
    "lit": "light", "put": "put", "cut": "cut", "hit": "hit", "read": "read", "written": "write", "swimming": "swim",
    "cutting": "cut", "hitting": "hit", "putting": "put", "sitting": "sit", "lying": "lie",
}  # fmt: skip


class WordOracle:
    """
    Answers questions about the objects of [`load_words`], always in the same way.

    A question is brought into one of a few forms ("is it ...", "does it have ...", "can you ... it", "is it made of
    ...", "would you find it in ..."), and what it asks for is looked up among the phrases of the attributes. A question
    that none of them covers is answered from WordNet: what a thing is from its hypernyms, what it has or is made of from
    its parts and substances. Those lists are not complete, so a part that is missing is not denied.
    """

    def answer(self, target: str, question: str) -> str:
        """
        Answers a question.

        Args:
            target (`str`):
                Object to guess.
            question (`str`):
                Any text.

        Returns:
            `str`: `"Yes."`, `"No."` or `"I cannot tell."`

        Raises:
            `KeyError`: If the object is not on the list.
        """
        facts = load_words()[target]
        reading = _read(question)
        if reading is None:
            return CANNOT_TELL
        for kind, phrase in reading:
            attribute = _phrases().get((kind, phrase))
            if attribute is not None:
                return YES if facts.attributes[attribute] else NO
        if len(reading) == 1 or re.search(r"\b(?:or|and)\b", reading[0][1]):
            return CANNOT_TELL
        return _from_wordnet(facts, *reading[1])


@lru_cache(maxsize=4096)  # a policy asks the same things again and again
def _read(question: str) -> tuple[tuple[str, str], ...] | None:
    """What a question asks for, as form and phrase: the best reading first; `None` if it is no such question."""
    words = [word for word in map(singular, tokens(_SUBJECT.sub(r"\1 it", question.lower()))) if word not in _FILLERS]
    text = re.sub(r"\b(?:kind|type|sort) of\b|^(?:of )", "", " ".join(words)).replace(" it it ", " it ")
    text = re.sub(r"\bof (?=it\b)|(?<=\bit )of ", "", text).strip()
    if re.search(r"\b(?:not|isnt|doesnt|dont|cant|never|without|no|neither)\b", text):
        return None  # "Yes" to "Is it not ...?" means either
    readings = [("question", _without_fillers(question))]
    for kind, pattern in _FORMS:
        if match := pattern.fullmatch(text):
            if kind == "used":  # for cooking: not what is cooked, but what one cooks with
                readings.append(("people", f"{_present(match['rest'])} with"))
            readings += [(form, phrase) for phrase in _variants(match["rest"]) for form in (kind, *_ALSO[kind])]
    return tuple(dict.fromkeys(readings))


def _without_fillers(phrase: str) -> str:
    return " ".join(word for word in base(phrase).split() if word not in _FILLERS)


def _variants(rest: str) -> Iterator[str]:
    """The rest of a question as it is and without what it may leave out: "it", tenses, "used for"."""
    seen = [rest, re.sub(r"\s*\b(?:it|them|one)\b\s*", " ", rest).strip()]
    seen += [re.sub(r"^(?:used|meant|made|good|designed) (?:for|to) ", "", phrase) for phrase in seen]
    seen += [re.sub(r" (?:by (?:you|people|human|person)|with)$", "", phrase) for phrase in seen]
    seen += [_present(phrase) for phrase in seen]
    seen += [f"{_present(phrase)} {with_what}" for phrase in seen[:2] for with_what in ("with", "in")]
    yield from dict.fromkeys(phrase for phrase in seen if phrase)


def _present(phrase: str) -> str:
    """The phrase with its first word as a verb in the present."""
    first, _, others = phrase.partition(" ")
    verb = _PAST.get(first)
    if verb is None:
        stem = re.sub(r"(?:ing|ed)$", "", first)
        known = _verbs()
        verb = next((form for form in (first, stem, stem + "e") if form in known), first)
    return f"{verb} {others}".strip()


@cache
def _verbs() -> frozenset[str]:
    return frozenset(phrase.split()[0] for kind, phrase in _phrases() if kind in ("people", "does"))


@cache
def _phrases() -> Mapping[tuple[str, str], str]:
    """Attribute by form and phrase."""
    found: dict[tuple[str, str], str] = {}
    for rule in load_sources()["attributes"]:
        found["question", _without_fillers(rule["question"])] = rule["question"]
        for kind, listed in rule["asked"].items():
            for phrase in listed.split("; "):
                found.setdefault((kind, _without_fillers(phrase)), rule["question"])
    return found


@cache
def _vocabulary() -> Mapping[str, frozenset[str]]:
    """Everything that some object is, including the objects."""
    facts = load_words().values()
    names = frozenset(base(name) for one in facts for name in (one.word, *one.synonyms))
    return {"kinds": frozenset().union(*(one.kinds for one in facts)) | names}


def _from_wordnet(facts: WordFacts, kind: str, phrase: str) -> str:
    words = phrase.removesuffix(" it").strip()
    if kind == "is" and words in _vocabulary()["kinds"]:
        own = facts.kinds | {base(name) for name in (facts.word, *facts.synonyms)}
        return YES if words in own else NO
    if kind == "has" and words in facts.parts or kind == "made" and words in facts.substances:
        return YES
    return CANNOT_TELL
