"""Commands that a parser game understands in its present state, found without a language model."""

import re
from typing import Any


# A game can have hundreds of verbs and a room twenty things: a list that is read every turn must not take seconds to make.
MAX_NAMES = 8
MAX_CANDIDATES = 2000

# By their first six letters, since that is all that the oldest games tell words apart by.
_REFUSED = {
    # These end or replace the episode,
    *("die", "lose", "q", "quit", "restar", "restor", "win"),
    # write files,
    *("noscri", "record", "replay", "save", "script", "transc", "unscri"),
    # or are debugging verbs that some games were published with.
    *(
        "abstra",
        "gonear",
        "goto",
        "purloi",
        "random",
        "scope",
        "showhe",
        "showme",
        "showob",
        "showve",
        "tree",
        "tw-pri",
    ),
}
_NOT_THINGS = {
    "all",
    "down",
    "east",
    "her",
    "him",
    "it",
    "north",
    "northeast",
    "northwest",
    "out",
    "south",
    "southeast",
}
_NOT_THINGS |= {"southwest", "them", "up", "west"}


def find_valid_actions(game: Any) -> list[str]:
    """
    Commands that would change the world of a game, one for each change.

    As `jericho.FrotzEnv.get_valid_actions`, but the words that may name a thing are taken from the game's own dictionary
    and object tree, not from a tagger whose weights are downloaded at first use. Each candidate is tried and undone.

    Args:
        game (`jericho.FrotzEnv`):
            Game; its state is afterwards what it was before.

    Returns:
        `list[str]`: Commands in alphabetical order. Of those with the same effect, the one whose verb players use most.
    """
    from jericho.util import verb_usage_count

    dictionary = game.get_dictionary()
    candidates = _candidates(game, dictionary, _names_here(game, dictionary))
    # Not the version in C, which is no faster and cuts its list with `strtok`: games in other threads would cut it too.
    by_effect = game._filter_candidate_actions(candidates[:MAX_CANDIDATES], use_ctypes=False)
    return sorted(
        max(sorted(commands), key=lambda command: (verb_usage_count(command), -len(command)))
        for commands in by_effect.values()
    )


def is_refused(command: str) -> bool:
    """
    Whether a command is for the program that runs a game, or for its author, and not for a player.

    `save` and `script` write files, `quit` and `restart` leave the episode, and debugging verbs move things at will.

    Args:
        command (`str`):
            Command, or several in one line.

    Returns:
        `bool`: Whether one of them is such a command.
    """
    first_words = (part.split()[0] for part in re.split(r"[.,;]|\bthen\b", command.lower()) if part.split())
    return any(word[:6] in _REFUSED or not word[0].isalnum() for word in first_words)


def _names_here(game: Any, dictionary: list[Any]) -> list[str]:
    """One word for each thing in reach: two words that are examined with the same result name the same thing."""
    from jericho.util import recognized

    known = {word.word for word in dictionary}
    nouns = {word.word for word in dictionary if word.is_noun}
    length = max(map(len, known))
    words = [word for name in _object_names(game) for word in reversed(name.lower().split()) if word[:length] in known]
    state = game.get_state()
    for command in ("look", "inventory"):
        text = game.step(command)[0]
        game.set_state(state)
        words += [word for word in re.findall(r"[a-z]+", text.lower()) if word[:length] in nouns]
    words = [word for word in words if len(word) > 1 and word not in _NOT_THINGS]
    names: dict[str, str] = {}
    for word in dict.fromkeys(words):
        answer = game.step(f"examine {word}")[0]
        game.set_state(state)
        if recognized(" ".join(answer.split())):
            names.setdefault(answer, word)
    return list(names.values())[:MAX_NAMES]


def _object_names(game: Any) -> list[str]:
    """Names in the object tree of what is where the player is, and of what the player has."""
    from jericho.util import get_subtree

    place, player = game.get_player_location(), game.get_player_object()
    if place is None or player is None:
        return []
    objects = game.get_world_objects()
    return [thing.name for thing in get_subtree(place.child, objects) if thing.num != player.num and thing.name]


def _candidates(game: Any, dictionary: list[Any], names: list[str]) -> list[str]:
    """Commands to try, those about the fewest things first."""
    from jericho.defines import BASIC_ACTIONS, NO_EFFECT_ACTIONS

    if game.act_gen is not None:
        templates = list(game.act_gen.templates)
    else:
        verbs = sorted({word.word for word in dictionary if word.is_verb} - set(NO_EFFECT_ACTIONS))
        templates = [*BASIC_ACTIONS, *verbs, *(f"{verb} OBJ" for verb in verbs)]
    found: list[str] = []
    for holes in (0, 1, 2):
        for template in templates:
            if template.count("OBJ") == holes:
                found += _filled(template, [*names, "all"] if holes == 1 else names)
    return [command for command in dict.fromkeys(found) if not is_refused(command)]


def _filled(template: str, names: list[str]) -> list[str]:
    before, *rest = template.split("OBJ")
    if not rest:
        return [template]
    if len(rest) == 1:
        return [before + name + rest[0] for name in names]
    return [before + one + rest[0] + two + rest[1] for one in names for two in names if one != two]
