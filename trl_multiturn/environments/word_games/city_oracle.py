"""Answers questions about a city from what is known about it and its country."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache

from .cities import CityFacts, country_names, load_cities, state_names
from .text import tokens
from .word_oracle import CANNOT_TELL, NO, YES


# Questions that are answered with yes or no for every city.
CANONICAL_QUESTIONS = (
    "Is it in Europe?", "Is it in Asia?", "Is it in Africa?", "Is it in North America?", "Is it in South America?",
    "Is it in Oceania?", "Is it in Western Europe?", "Is it in Southern Europe?", "Is it in Northern Europe?",
    "Is it in Eastern Europe?", "Is it in Western Asia?", "Is it in Southern Asia?", "Is it in Southeast Asia?",
    "Is it in Eastern Asia?", "Is it the capital of its country?", "Is it the largest city in its country?",
    "Does it have more than 500 thousand people?", "Does it have more than 1 million people?",
    "Does it have more than 2 million people?", "Does it have more than 4 million people?",
    "Does it have more than 8 million people?", "Is it in the northern hemisphere?", "Is it in the western hemisphere?",
    "Is it in the tropics?", "Is it north of 40 degrees north?", "Is it north of 50 degrees north?",
    "Is it east of 10 degrees east?", "Is it east of 100 degrees east?", "Do people speak English there?",
    "Do people speak Spanish there?", "Do people speak French there?", "Do people speak German there?",
    "Do people speak Arabic there?", "Is the currency the euro?", "Is the currency the dollar?",
    "Is the currency the peso?", "Is the currency the pound?", "Is its country landlocked?",
    "Does its country have land borders?", "Does its country have more than 5 neighbours?",
    "Does its country have more than 20 million people?", "Does its country have more than 100 million people?",
    "Does its country border France?", "Does its country border Germany?", "Does its country border China?",
    "Is its time ahead of UTC?", "Is it more than 4 hours ahead of UTC?", "Is it in the United States?",
    "Is it in Italy?", "Is it in Japan?",
)  # fmt: skip

_CONTINENTS = {
    "europe": "Europe", "asia": "Asia", "africa": "Africa", "north america": "North America",
    "south america": "South America", "oceania": "Oceania",
}  # fmt: skip
_REGIONS = {
    "western europe": "Western Europe", "southern europe": "Southern Europe", "northern europe": "Northern Europe",
    "eastern europe": "Eastern Europe", "western asia": "Western Asia", "southern asia": "Southern Asia",
    "south asia": "Southern Asia", "southeast asia": "South-eastern Asia", "south east asia": "South-eastern Asia",
    "southeastern asia": "South-eastern Asia", "eastern asia": "Eastern Asia", "east asia": "Eastern Asia",
    "northern africa": "Northern Africa", "north africa": "Northern Africa", "sub saharan africa": "Sub-Saharan Africa",
    "latin america": "Latin America and the Caribbean", "northern america": "Northern America",
}  # fmt: skip
_CONTINENT_ADJECTIVES = {
    "european": "Europe", "asian": "Asia", "african": "Africa", "north american": "North America",
    "south american": "South America",
}  # fmt: skip
_UNITS = {"": 1, "thousand": 1_000, "k": 1_000, "million": 1_000_000, "m": 1_000_000, "billion": 1_000_000_000}
_NUMBERS = {"half a million": "500 thousand", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
            "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10", "twenty": "20", "fifty": "50",
            "hundred million": "100 million", "a million": "1 million", "hundred": "100"}  # fmt: skip
_MORE = r"(?:more|greater|larger|bigger|higher|over|above|at least|exceed)"
_LESS = r"(?:less|fewer|under|below|smaller|lower|at most)"
# Latitude of the tropics of Cancer and Capricorn, in degrees.
_TROPICS = 23.44

_Handler = Callable[[CityFacts, str], str | None]


class CityOracle:
    """
    Answers questions about the cities of [`load_cities`], always in the same way.

    It knows the continent, region, country and state, capital or not, the number of people, languages and currency,
    position on the globe, time, and the borders of the country. Yes-or-no questions are answered with `"Yes."` or
    `"No."`, questions for a fact with a sentence, all others with `"I cannot tell."` Answers never name the city.
    """

    def answer(self, target: str, question: str) -> str:
        """
        Answers a question.

        Args:
            target (`str`):
                City to guess.
            question (`str`):
                Any text.

        Returns:
            `str`: The answer.

        Raises:
            `KeyError`: If the city is not on the list.
        """
        return _answer(load_cities()[target], _normalise(question))


@lru_cache(maxsize=4096)
def _normalise(question: str) -> str:
    # 1.5 million stays one number, 1,000,000 becomes one, and 10m two words.
    text = re.sub(r"(?<=\d),(?=\d{3})", "", question.lower())
    text = re.sub(r"(?<=\d)\.(?=\d)", "point", text)
    text = re.sub(r"(?<=\d)(?=[mk]\b)", " ", text)
    text = re.sub(r"^(?:are|were) you\b", "is it", " ".join(tokens(text)))
    text = re.sub(r"\b(?:the|this|that|your) (?:city|place|town)\b|\b(?:this|that)\b", "it", text)
    text = re.sub(r"\bthe country\b(?! of)|\bcountry of it\b", "its country", text)
    for words, number in _NUMBERS.items():
        text = re.sub(rf"\b{words}\b", number, text)
    return text


def _answer(facts: CityFacts, text: str) -> str:
    if re.search(r"\b(?:not|isnt|doesnt|dont|never|or|nor|without)\b", text):
        return CANNOT_TELL
    for handler in _HANDLERS:
        answer = handler(facts, text)
        if answer is not None:
            return answer
    return CANNOT_TELL


def _yes(value: bool) -> str:
    return YES if value else NO


def _compare(text: str, value: float, unit: str = "") -> str | None:
    """Whether a value is more or less than the number in a text; `None` if the text compares nothing."""
    match = re.search(
        rf"\b({_MORE}|{_LESS})\b(?: than)? (\d+(?:point\d+)?) ?(thousand|k|million|m|billion)?\b{unit}", text
    )
    if match is None:
        return None
    number = float(match[2].replace("point", ".")) * _UNITS[match[3] or ""]
    return _yes(value > number if re.fullmatch(_MORE, match[1]) else value < number)


def _is_open(text: str) -> bool:
    return re.match(r"(?:in |on |at |to |about )?(?:what|which|how|where|who|tell me|name)\b", text) is not None


def _population(facts: CityFacts, text: str) -> str | None:
    if re.search(r"\bmegacity\b", text):
        return _yes(facts.population > 10_000_000)
    if not re.search(r"\b(?:people|inhabitants|population|residents|citizens|million|thousand|live)\b", text):
        return "About " + _count(facts.population) if re.match(r"how (?:big|large|populous)\b", text) else None
    if re.search(r"\bspeak|\bpay|\buse\b", text):
        return None
    value = facts.country_population if "country" in text else facts.population
    compared = _compare(text, value)
    if compared is None and re.search(r"\bhow (?:many|big|large)\b|\b(?:what|tell me) (?:is )?(?:the|its)\b", text):
        return "About " + _count(value)
    return compared


def _count(people: int) -> str:
    millions = people / 1_000_000
    if millions < 1:
        return f"{round(people, -4 if people > 100_000 else -3):,} people."
    return f"{millions:.1f} million people.".replace(".0", "")


def _capital(facts: CityFacts, text: str) -> str | None:
    if "capital" not in text.split() or _is_open(text):
        return None
    match = re.fullmatch(
        r"is it (?:a|the|its country s|its countrys)? ?(?:national )?capital(?: city)?(?: (?:of|in) (.+))?", text
    )
    if match is None:
        return None
    where = match[1]
    if where is None or where in ("its country", "a country", "it country"):
        return _yes(facts.capital)
    country = country_names().get(_bare(where))
    return None if country is None else _yes(facts.capital and country == facts.country)


def _largest(facts: CityFacts, text: str) -> str | None:
    match = re.fullmatch(
        r"is it (?:the )?(?:largest|biggest|most populous)(?: city)?(?: (?:of|in) (?:its country|(.+)))?", text
    )
    if match is None:
        return None
    country = facts.country if match[1] is None else country_names().get(_bare(match[1]))
    return None if country is None else _yes(facts.largest and country == facts.country)


def _borders(facts: CityFacts, text: str) -> str | None:
    if re.search(r"\blandlocked\b", text):
        return _yes(facts.landlocked)
    if re.search(r"\b(?:island (?:country|nation|state)|country (?:an |on an )?island)\b", text):
        return _yes(not facts.borders)
    if not re.search(r"\b(?:border|borders|bordering|neighbour|neighbours|neighbor|neighbors)\b", text):
        return None
    if "more" in text or "fewer" in text or "less" in text:
        return _compare(text, len(facts.borders))
    if re.search(r"\b(?:have|has|share) (?:any |a )?(?:land )?(?:borders?|neighbou?rs?)$", text):
        return _yes(bool(facts.borders))
    if _is_open(text):
        if re.match(r"how many\b", text):
            return f"Its country has {len(facts.borders)} neighbours."
        return (
            f"Its country borders {', '.join(facts.borders)}." if facts.borders else "Its country has no land borders."
        )
    match = re.search(r"(?:borders?|bordering|neighbou?r)(?: (?:on|with|to|of))? (.+)$", text)
    named = country_names().get(_bare(match[1])) if match else None
    return None if named is None else _yes(named in facts.borders)


@cache
def _all(field: str) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for facts in load_cities().values():
        value = getattr(facts, field)
        for one in (value,) if isinstance(value, str) else value:
            values[" ".join(tokens(one))] = one
    return values


def _language(facts: CityFacts, text: str) -> str | None:
    if not re.search(r"\b(?:speak|spoken|speaking|language|languages|official)\b", text):
        return None
    named = [language for form, language in _all("languages").items() if re.search(rf"\b{form}\b", text)]
    if len(named) == 1:
        return _yes(named[0] in facts.languages)
    return f"People speak {_join(facts.languages)}." if not named and _is_open(text) else None


def _currency(facts: CityFacts, text: str) -> str | None:
    named = [name for form, name in _all("currency").items() if re.search(rf"\b{form}s?\b", text)]
    if not named and not re.search(r"\b(?:currency|money)\b", text):
        return None
    if len(named) == 1 and not _is_open(text):
        return _yes(named[0] == facts.currency)
    return f"The currency is the {facts.currency}." if not named and _is_open(text) else None


def _globe(facts: CityFacts, text: str) -> str | None:
    match = re.search(r"\b(north|south|east|west)(?:ern|ward)?\b.* of (?:the )?equator", text)
    if match and match[1] in ("north", "south"):
        return _yes((facts.latitude > 0) == (match[1] == "north"))
    match = re.search(r"\b(northern|southern|eastern|western) hemisphere\b", text)
    if match:
        value = facts.latitude if match[1] in ("northern", "southern") else facts.longitude
        return _yes((value > 0) == (match[1] in ("northern", "eastern")))
    if "hemisphere" in text.split() and _is_open(text):
        return f"It is in the {'northern' if facts.latitude > 0 else 'southern'} hemisphere."
    if re.search(r"\b(?:tropics|tropical)\b", text):
        return _yes(abs(facts.latitude) < _TROPICS)
    match = re.search(r"\b(north|south|east|west) of (\d+) degrees (north|south|east|west)$", text)
    if match and (match[1] in "north south") == (match[3] in "north south"):
        value = facts.latitude if match[1] in ("north", "south") else facts.longitude
        limit = int(match[2]) * (1 if match[3] in ("north", "east") else -1)
        return _yes(value > limit if match[1] in ("north", "east") else value < limit)
    match = re.search(r"\b(latitude|longitude|how far (?:north|south))\b", text)
    if match and _is_open(text):
        return (
            _degrees(facts.longitude, "east", "west")
            if match[1] == "longitude"
            else _degrees(facts.latitude, "north", "south")
        )
    return None


def _degrees(value: float, positive: str, negative: str) -> str:
    return f"About {abs(round(value))} degrees {positive if value > 0 else negative}."


def _time(facts: CityFacts, text: str) -> str | None:
    if not re.search(r"\b(?:utc|gmt|time zone|timezone|time)\b", text):
        return None
    if _is_open(text):
        return f"Its time is UTC{facts.utc_offset:+g}."
    match = re.search(r"\b(ahead of|behind) (?:utc|gmt)\b", text)
    if match is None:
        return None
    ahead = facts.utc_offset if match[1] == "ahead of" else -facts.utc_offset
    return _compare(text, ahead, " hours?") if re.search(r"\d", text) else _yes(ahead > 0)


def _place(facts: CityFacts, text: str) -> str | None:
    match = re.fullmatch(
        r"(?:is|was|does|would|can|do)(?: it| you| i)?(?: located| situated| found| lie| find it)? "
        r"(?:in|on|inside|within|part of|from)(?: the)?(?: continent of| country of| state of| region of)? (.+)", text
    )  # fmt: skip
    if match:
        return _in(facts, _bare(match[1]))
    match = re.fullmatch(r"is it (?:a |an )?(.+?)(?: city| town| place)?", text)
    if match:
        return _adjective(facts, match[1])
    if _is_open(text):
        return _open_place(facts, text)
    return None


def _in(facts: CityFacts, name: str) -> str | None:
    if name in ("americas", "america continent"):
        return _yes(any("America" in continent for continent in facts.continents))
    if name in _CONTINENTS:
        return _yes(_CONTINENTS[name] in facts.continents)
    if _REGIONS.get(name):
        return _yes(_REGIONS[name] == facts.region)
    # Georgia is a state and a country, New York a state and a city: for other cities the answer is the same.
    if name in state_names() and (facts.state == state_names()[name] or name not in country_names()):
        return _yes(facts.state == state_names()[name])
    country = country_names().get(name)
    return None if country is None else _yes(country == facts.country)


def _adjective(facts: CityFacts, word: str) -> str | None:
    if word in _CONTINENT_ADJECTIVES:
        return _yes(_CONTINENT_ADJECTIVES[word] in facts.continents)
    if word in _all("name") or word in _all("aliases"):
        return _yes(word in {" ".join(tokens(name)) for name in (facts.name, *facts.aliases)})
    adjectives = _all("adjectives")
    return _yes(adjectives[word] in facts.adjectives) if word in adjectives else None


def _open_place(facts: CityFacts, text: str) -> str | None:
    if re.search(r"\bcontinent\b", text):
        return f"It is in {_join(facts.continents)}."
    if re.search(r"\b(?:region|part of it|part of the world|area)\b", text):
        return f"It is in {facts.region}."
    if re.fullmatch(r"where(?: in the world)? is it(?: located| situated)?", text):
        return f"It is in {_join(facts.continents)}."
    if re.search(r"\bstate\b", text) and facts.state not in (None, facts.name):
        return f"It is in {facts.state}."
    if re.search(r"\b(?:what|which|its) country\b|\bcountry is it\b", text) and "capital" not in text:
        return f"It is in {facts.country}."
    return None


def _bare(name: str) -> str:
    return re.sub(r"^(?:the|a|an) ", "", name)


def _join(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


_HANDLERS: tuple[_Handler, ...] = (
    _capital, _largest, _borders, _globe, _time, _population, _language, _currency, _place,
)  # fmt: skip
