"""Times of day, durations written with a colon, and dates, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLOCK = re.compile(
    r"(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?\s*(?:h|o'clock|hrs|hours|uhr)?\s*(?:([ap])\.?\s?m\.?)?"
    r"\s*(noon|midnight|in the morning|in the afternoon|in the evening|at night)?\Z",
    re.IGNORECASE,
)
_HALVES = {
    "noon": "p", "midnight": "a", "in the morning": "a", "in the afternoon": "p",
    "in the evening": "p", "at night": "p",
}  # fmt: skip
_MONTH_NAMES = (
    "january february march april may june july august september october november december"
)
_DAY_NAMES = "monday tuesday wednesday thursday friday saturday sunday"
_MONTHS = {
    name[:length]: number
    for number, name in enumerate(_MONTH_NAMES.split(), start=1)
    for length in {3, len(name)}
} | {"sept": 9}
_DAYS = {name[:length]: name for name in _DAY_NAMES.split() for length in {3, len(name)}} | {
    "tues": "tuesday",
    "thur": "thursday",
    "thurs": "thursday",
    "weds": "wednesday",
}
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})\Z")
_SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})\Z")
_ORDINAL = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?\Z")
_YEAR = re.compile(r"\d{4}\Z")
_MAX_CHARS = 60


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day.

    Attributes:
        hour: as written.
        minute: 0 to 59.
        second: 0 to 59.
        half: `a`, `p`, or empty where it is not said.
    """

    hour: int
    minute: int
    second: int
    half: str

    def seconds(self) -> frozenset[int]:
        """The seconds since midnight that it can mean."""
        rest = 60 * self.minute + self.second
        if self.half:
            return frozenset((3600 * (self.hour % 12 + (12 if self.half == "p" else 0)) + rest,))
        hours = {self.hour % 24}
        if 1 <= self.hour <= 12:
            hours = {self.hour % 12, self.hour % 12 + 12}
        return frozenset(3600 * hour + rest for hour in hours)


@dataclass(frozen=True, slots=True)
class Date:
    """A date; what is not said is None.

    Attributes:
        year: with four digits.
        month: 1 to 12.
        day: 1 to 31.
        weekday: in full, small letters.
    """

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: str | None = None


def parse_clock(text: str) -> Clock | None:
    """A time of day with a colon or with a.m./p.m., or None.

    >>> parse_clock("4:30 p.m.")
    Clock(hour=4, minute=30, second=0, half='p')
    """
    if len(text) > _MAX_CHARS:
        return None
    text = text.strip()
    lower = text.lower().removeprefix("at ").strip()
    if lower in ("noon", "midnight"):
        return Clock(12, 0, 0, _HALVES[lower])
    match = _CLOCK.match(lower)
    if match is None or not (match[2] or match[4] or match[5] or "o'clock" in lower):
        return None
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    half = (match[4] or "").lower() or _HALVES.get(match[5] or "", "")
    if half and hour > 12:  # `16:30 p.m.`
        half = "" if half == "p" else "x"
    if half == "x" or hour > 24 or minute > 59 or second > 59 or (half and hour == 0):
        return None
    return Clock(hour, minute, second, half)


def same_clock(gold: Clock, answer: Clock, bare: bool) -> bool:
    """Whether two times agree; `bare` accepts 24 hours for a.m./p.m., and neither for one."""
    if (gold.half == "") == (answer.half == ""):
        if gold.half:
            return gold.seconds() == answer.seconds()
        return (gold.hour % 24, gold.minute, gold.second) == (
            answer.hour % 24,
            answer.minute,
            answer.second,
        )
    return bare and bool(gold.seconds() & answer.seconds())


def parse_date(text: str) -> frozenset[Date]:
    """The dates that a text can mean: `3/5/2021` is two; empty where it is none.

    >>> parse_date("5th of March, 2021")
    frozenset({Date(year=2021, month=3, day=5, weekday=None)})
    """
    if len(text) > _MAX_CHARS:
        return frozenset()
    text = text.strip().rstrip(".")
    iso = _ISO.match(text)
    if iso:
        return _valid(Date(int(iso[1]), int(iso[2]), int(iso[3])))
    slashed = _SLASHED.match(text)
    if slashed:
        first, second, year = int(slashed[1]), int(slashed[3]), int(slashed[4])
        year += 2000 if len(slashed[4]) == 2 else 0
        return _valid(Date(year, first, second)) | _valid(Date(year, second, first))
    return _in_words(re.sub(r"[\s,]+", " ", text.lower()).split(" "))


def _in_words(words: list[str]) -> frozenset[Date]:
    year = month = day = weekday = None
    for word in words:
        bare = word.rstrip(".")
        ordinal = _ORDINAL.match(bare)
        if bare in ("of", "the", "on"):
            continue
        if bare in _MONTHS and month is None:
            month = _MONTHS[bare]
        elif bare in _DAYS and weekday is None:
            weekday = _DAYS[bare]
        elif _YEAR.match(bare) and year is None:
            year = int(bare)
        elif ordinal and day is None:
            day = int(ordinal[1])
        else:
            return frozenset()
    if month is None and weekday is None:
        return frozenset()
    return _valid(Date(year, month, day, weekday))


def _valid(date: Date) -> frozenset[Date]:
    month = date.month is None or 1 <= date.month <= 12
    day = date.day is None or 1 <= date.day <= 31
    return frozenset((date,)) if month and day else frozenset()


def same_date(gold: Date, answer: Date) -> bool:
    """Whether two dates agree: day and month always, a weekday or a year where both say one."""
    if (gold.month, gold.day) != (answer.month, answer.day):
        return False
    pairs = ((gold.year, answer.year), (gold.weekday, answer.weekday))
    if gold.month is None:
        return pairs[0][0] == pairs[0][1] and gold.weekday == answer.weekday
    if gold.day is None and gold.year != answer.year:
        return False
    return all(a is None or b is None or a == b for a, b in pairs)
