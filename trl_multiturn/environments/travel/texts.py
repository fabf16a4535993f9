"""What a traveller writes: a request in words for a structured query, in English or Chinese.

A text is an opening with the route, the dates and the party, one sentence for each constraint in random order, and a
closing. Every fact of the query is in the text, and nothing else is.
"""

import random
from collections.abc import Callable, Sequence
from datetime import date

from .query import TravelQuery


_OPENINGS = {
    "en": (
        "Please plan a trip {party} from {origin}: {stays}, leaving on {date} and returning to {origin} at the end.",
        "I need an itinerary {party}. We start in {origin} on {date}, then {stays}, then back to {origin}.",
        "We leave {origin} on {date} and would like {stays} before going home. The trip is {party}.",
        "Starting from {origin} on {date}: {stays}, and home again. Can you put the trip together {party}?",
        "Could you arrange a round trip from {origin} {party}? Departure is on {date}; the stay is {stays}.",
        "Round trip wanted: {origin} as start and end, {stays}, first day {date}, {party}.",
        "On {date} a journey {party} begins in {origin}. It should include {stays} and end in {origin}.",
        "Help me book {stays}. I travel from {origin} on {date} and go back there afterwards; it is {party}.",
        "Plan this for me: out of {origin} on {date}, {stays}, return to {origin}, {party}.",
        "What would a trip look like {party} that leaves {origin} on {date}, has {stays} and comes back to {origin}?",
        "I am thinking of {stays}, from {origin} and back, from {date} on, {party}. Please make a full plan.",
        "Trip request. From: {origin}. Stay: {stays}. First day: {date}. A round trip {party}.",
        "Make a day-by-day plan {party}: {date} departure from {origin}, {stays}, then the way back to {origin}.",
        "It is time for a break: {stays}. We go from {origin} on {date} and return to it. Please plan it {party}.",
    ),
    "zh": (
        "请帮我安排一次旅行：{date}从{origin}出发，{stays}，最后回到{origin}，{party}。",
        "我打算{date}从{origin}出发，{stays}，然后返回{origin}，{party}，请做一份行程。",
        "{party}，{date}从{origin}启程，{stays}，之后回{origin}，能帮忙规划吗？",
        "想要一份往返行程：出发地和终点都是{origin}，{stays}，{date}出发，{party}。",
        "麻烦规划一下：{party}，{stays}，{date}由{origin}出发，结束后回到{origin}。",
        "{date}我们要从{origin}出去玩，{stays}，再回{origin}，{party}，请给出每天的安排。",
        "出行需求：出发城市{origin}，出发日期{date}，{stays}，{party}，最后返回{origin}。",
        "帮忙订一下{origin}出发的往返行程，{date}走，{stays}，{party}。",
        "计划如下：{date}离开{origin}，{stays}，玩完回{origin}。{party}。请补全交通和住宿。",
        "有个旅行想请你设计：从{origin}到外地，{stays}，{date}当天出发，回程到{origin}，{party}。",
        "{party}想出门走走，{stays}，{date}从{origin}动身，最后一天回到{origin}。请排一下行程。",
        "请制定逐日计划：{date}{origin}出发，{stays}，返程回{origin}，{party}。",
        "我们准备{stays}，{date}从{origin}走，之后返回{origin}，{party}，该怎么安排？",
    ),
}

_CLOSINGS = {
    "en": (
        "",
        "",
        "Thank you.",
        "If this cannot be done, tell me why.",
        "Please check prices and times before you answer.",
        "Say so if it is impossible.",
    ),
    "zh": ("", "", "谢谢！", "如果做不到，请说明原因。", "请先核对价格和时间再回答。", "若无法满足，请直接告诉我。"),
}

# A sentence for each constraint, by the name of its field. {value} is the field's value in words.
_CONSTRAINTS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "transport": (
            "Every leg must be by {value}.",
            "We only travel by {value}.",
            "Between cities, use {value}s only.",
        ),
        "cabin": (
            "Flights must be in {value} class.",
            "On every flight we sit in {value} class.",
            "Book {value} class on planes.",
        ),
        "budget": (
            "The whole trip must not cost more than ${value} in total.",
            "Our budget is {value} US dollars for everything and everyone.",
            "Keep the total for the party within ${value}.",
        ),
        "min_star": (
            "Hotels need at least {value} stars.",
            "Every hotel must have {value} or more stars.",
            "Nothing under {value} stars for the hotels.",
        ),
        "depart_after": (
            "We cannot leave before {value} on the first day.",
            "The first departure must be at {value} or later.",
            "On the day of departure we are free from {value} on.",
        ),
        "return_before": (
            "We must be back by {value} on the last day.",
            "The last leg has to arrive no later than {value} on the day of return.",
            "Home by {value} on the final day, please.",
        ),
        "categories": (
            "We want to visit at least one of each of these: {value}.",
            "Sights to include, one of each kind or more: {value}.",
            "The plan must contain a visit to each of: {value}.",
        ),
        "meals": (
            "Plan lunch and dinner on every day except the first and the last.",
            "Leave time for lunch and dinner on all days between the first and the last.",
            "Apart from the first and the last day, each day needs a lunch and a dinner.",
        ),
        "max_active_hours": (
            "No day may last longer than {value} hours from its first item to the end of its last.",
            "From the first item of a day to the end of its last, at most {value} hours.",
            "We get tired: at most {value} hours a day between the first start and the last end.",
        ),
    },
    "zh": {
        "transport": ("城市之间只坐{value}。", "每一段都要乘{value}。", "全程交通方式限定为{value}。"),
        "cabin": ("飞机要坐{value}。", "所有航班都订{value}。", "航班舱位必须是{value}。"),
        "budget": (
            "全部费用合计不超过{value}美元。",
            "所有人的总预算是{value}美元。",
            "总花费请控制在{value}美元以内。",
        ),
        "min_star": ("酒店至少{value}星。", "住宿要求{value}星及以上。", "每家酒店都不能低于{value}星。"),
        "depart_after": (
            "第一天{value}之前不能出发。",
            "首段行程最早{value}出发。",
            "出发当天{value}以后才有空。",
        ),
        "return_before": (
            "最后一天{value}之前必须到达出发城市。",
            "返程当天最迟{value}到家。",
            "末段行程要在最后一天{value}前抵达。",
        ),
        "categories": (
            "以下每类景点至少去一个：{value}。",
            "行程中要包含这些类型的景点，每类不少于一个：{value}。",
            "想参观的景点类型（每类至少一处）：{value}。",
        ),
        "meals": (
            "除第一天和最后一天外，每天都要安排午餐和晚餐。",
            "首尾两天之外的每一天都请留出午餐和晚餐时间。",
            "中间的每一天都需要午餐和晚餐。",
        ),
        "max_active_hours": (
            "每天从第一项开始到最后一项结束不超过{value}小时。",
            "每日行程首尾间隔最多{value}小时。",
            "不想太累，一天从开始到结束最多{value}小时。",
        ),
    },
}

_WORDS_ZH = {
    "flight": "飞机",
    "train": "火车",
    "economy": "经济舱",
    "business": "商务舱",
    "museum": "博物馆",
    "park": "公园",
    "temple": "寺庙",
    "gallery": "美术馆",
    "market": "市场",
    "zoo": "动物园",
    "tower": "塔楼",
    "palace": "宫殿",
}
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DEFAULT_ACTIVE_HOURS = TravelQuery.model_fields["max_active_hours"].default


def write_request(query: TravelQuery, rng: random.Random, city_name: Callable[[str], str] = str) -> str:
    """
    Put a query into words.

    Args:
        query ([`TravelQuery`]):
            What is asked for. Its `language` decides the language.
        rng (`random.Random`):
            Chooses among the templates.
        city_name (`Callable[[str], str]`, *optional*):
            Name of a city in the query's language, from its English name. By default the English name.

    Returns:
        `str`: The user's message.
    """
    language = query.language
    opening = rng.choice(_OPENINGS[language]).format(
        origin=city_name(query.origin),
        stays=_stays(query, rng, city_name),
        date=_date(query.start_date, language, rng),
        party=_party(query.adults, language, rng),
    )
    sentences = [
        rng.choice(_CONSTRAINTS[language][field]).format(value=value) for field, value in _constraints(query, language)
    ]
    rng.shuffle(sentences)
    if len(sentences) > 1 and rng.random() < 0.25:
        opening = "\n".join([opening, *(f"- {sentence}" for sentence in sentences)])
        sentences, space = [], "\n"
    else:
        space = " " if language == "en" else ""
    return space.join(part for part in (opening, *sentences, rng.choice(_CLOSINGS[language])) if part)


def constraint_names(query: TravelQuery) -> list[str]:
    """
    Fields of a query that ask for something.

    Args:
        query ([`TravelQuery`]):
            What is asked for.

    Returns:
        `list[str]`: Names of fields, in a fixed order.
    """
    return [field for field, _ in _constraints(query, "en")]


def _constraints(query: TravelQuery, language: str) -> list[tuple[str, str]]:
    """Fields that ask for something, with their values in words."""
    found = []
    for field in _CONSTRAINTS[language]:
        value = getattr(query, field)
        if not value or (field == "max_active_hours" and value == _DEFAULT_ACTIVE_HOURS):
            continue
        found.append((field, _in_words(value, language)))
    return found


def _in_words(value: bool | int | float | str | Sequence[str], language: str) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return _WORDS_ZH.get(value, value) if language == "zh" else value
    if isinstance(value, Sequence):
        return ("、" if language == "zh" else ", ").join(_in_words(part, language) for part in value)
    return str(value)


def _stays(query: TravelQuery, rng: random.Random, city_name: Callable[[str], str]) -> str:
    if query.language == "zh":
        form, joint = rng.choice(
            (("在{city}住{n}晚", "，然后"), ("去{city}待{n}晚", "，再"), ("到{city}停留{n}晚", "，接着"))
        )
        return joint.join(form.format(city=city_name(stay.city), n=stay.nights) for stay in query.stays)
    form = rng.choice(("{n} {nights} in {city}", "{city} for {n} {nights}"))
    parts = [
        form.format(city=city_name(stay.city), n=stay.nights, nights="night" if stay.nights == 1 else "nights")
        for stay in query.stays
    ]
    return rng.choice((", then ", " and then ")).join(parts)


def _date(day: date, language: str, rng: random.Random) -> str:
    if language == "zh":
        return rng.choice((f"{day.year}年{day.month}月{day.day}日", day.isoformat()))
    month = _MONTHS[day.month - 1]
    return rng.choice((f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}", day.isoformat()))


def _party(adults: int, language: str, rng: random.Random) -> str:
    if language == "zh":
        return f"{adults}位成人" if adults > 1 else rng.choice(("1位成人", "1个人"))
    if adults == 1:
        return rng.choice(("for one adult", "for 1 adult", "for one person"))
    return rng.choice((f"for {adults} adults", f"for a party of {adults} adults", f"for {adults} people"))
