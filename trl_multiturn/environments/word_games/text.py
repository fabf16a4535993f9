"""Words of a question in a form in which they can be compared: lower case, no accents, singular."""

import re
import unicodedata
from functools import lru_cache


# Plurals, and forms of verbs, that no rule below gets right.
_IRREGULAR = {
    "does": "does", "has": "has", "his": "his", "this": "this",
    "blown": "blow", "children": "child", "cities": "city", "couches": "couch", "countries": "country",
    "currencies": "currency", "dice": "die", "dying": "die", "feet": "foot", "fuses": "fuse", "geese": "goose",
    "halves": "half", "hooves": "hoof", "humans": "human", "knives": "knife", "leaves": "leaf", "lives": "live",
    "men": "man", "mice": "mouse", "oxen": "ox", "people": "people", "shelves": "shelf", "teeth": "tooth",
    "thieves": "thief", "wives": "wife", "wolves": "wolf", "women": "woman", "gas": "gas", "axes": "axe",
    "shoes": "shoe", "canoes": "canoe", "toes": "toe", "heroes": "hero", "potatoes": "potato", "tomatoes": "tomato",
    "volcanoes": "volcano", "buses": "bus", "gases": "gas", "movies": "movie", "pies": "pie", "ties": "tie",
    "cookies": "cookie", "veggies": "veggie", "matches": "match", "headaches": "headache", "pinacoteche": "pinacoteca",
}  # fmt: skip
# "Bus" and "grass" are no plurals.
_SINGULAR_ENDINGS = ("ss", "us", "is")


def fold(text: str) -> str:
    """
    Brings a text into a form without case and accents.

    Args:
        text (`str`):
            Any text.

    Returns:
        `str`: "sao paulo" for "São Paulo".
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign))


def tokens(text: str) -> list[str]:
    """
    Cuts a text into words.

    Args:
        text (`str`):
            Any text.

    Returns:
        `list[str]`: Words and numbers without punctuation, in the form of [`fold`]. "Isn't" is one word, "man-made" two.
    """
    return re.findall(r"[^\W_]+", re.sub(r"['’`]s?\b", "", fold(text)))


@lru_cache(maxsize=16384)
def singular(word: str) -> str:
    """
    Reduces the plural of a noun, or the third person of a verb, to its base.

    Args:
        word (`str`):
            One word in lower case.

    Returns:
        `str`: "knife" for "knives"; a word without such an ending as it is.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(_SINGULAR_ENDINGS):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return word[:-2]
    return word[:-1]


def base(phrase: str) -> str:
    """
    Brings a phrase into the form in which phrases are compared.

    Args:
        phrase (`str`):
            Any text.

    Returns:
        `str`: Its words in the singular, with single spaces.
    """
    return " ".join(singular(word) for word in tokens(phrase))
