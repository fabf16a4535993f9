"""Finds the names that a question gives as guesses."""

from collections.abc import Mapping, Sequence

from .text import base, tokens


# With one of these, a name at the end compares or denies instead of guessing.
_NO_GUESS = {"than", "not", "isnt"}


class Names:
    """
    Names that can be guessed, with their other spellings.

    Args:
        spellings (`Mapping[str, Sequence[str]]`):
            Other spellings of each name.
        only_last (`bool`):
            Whether only the last words of a question can be a guess, in the singular or the plural. Otherwise a name
            anywhere in the question is one, exactly as it is spelled.
    """

    def __init__(self, spellings: Mapping[str, Sequence[str]], only_last: bool) -> None:
        self._form = base if only_last else _plain
        self._only_last = only_last
        self._owner = {self._form(name): name for name in spellings}
        for name, others in spellings.items():
            for other in others:
                self._owner.setdefault(self._form(other), name)
        self._count = len(spellings)
        self._longest = max(len(spelling.split()) for spelling in self._owner)

    def __contains__(self, name: str) -> bool:
        return self._owner.get(self._form(name)) == name

    def __len__(self) -> int:
        return self._count

    def guessed(self, question: str) -> list[str]:
        """
        Finds the names in a question.

        Args:
            question (`str`):
                Any text.

        Returns:
            `list[str]`: Names in it, each once. If only the last words count and they name nothing: none.
        """
        words = self._form(question).split()
        if self._only_last and (not words or _NO_GUESS & set(words)):
            return []
        found: dict[str, None] = {}
        last = False
        start = 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                name = self._owner.get(" ".join(words[start : start + length]))
                if name is not None:
                    found[name] = None
                    start += length - 1
                    last = start == len(words) - 1
                    break
            start += 1
        # Names before the last word are listed ones only if the last word is a name too.
        return list(found) if last or not self._only_last else []


def _plain(text: str) -> str:
    return " ".join(tokens(text))
