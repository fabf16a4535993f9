"""What a traveller asks for, as structure: the ground truth of a task."""

from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


Level = Literal["easy", "medium", "hard", "infeasible"]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Stay(BaseModel):
    """
    A stay in one city.

    Args:
        city (`str`):
            English name of the city.
        nights (`int`):
            Number of nights, at least 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    city: str
    nights: int = Field(ge=1, le=30)


class TravelQuery(BaseModel):
    """
    A round trip and what it must satisfy. Prices are whole US dollars, times are local to the place they are at.

    Args:
        id (`str`):
            Stable name of the task.
        level (`str`):
            `"easy"`, `"medium"`, `"hard"` or `"infeasible"`.
        origin (`str`):
            English name of the city where the trip starts and ends.
        stays (`list[Stay]`):
            Cities in the order of the visit.
        start_date (`date`):
            Day of departure. The trip ends on [`end_date`].
        adults (`int`, *optional*, defaults to `1`):
            Travellers. Two share a room.
        transport (`str`, *optional*):
            `"flight"` or `"train"` for every leg; either if `None`.
        cabin (`str`, *optional*):
            `"economy"` or `"business"` on every flight; either if `None`.
        budget (`int`, *optional*):
            Most that the whole party may spend on everything.
        min_star (`int`, *optional*):
            Fewest stars of every hotel, 1 to 5.
        depart_after (`str`, *optional*):
            `HH:MM` before which the first leg must not leave.
        return_before (`str`, *optional*):
            `HH:MM` on the last day by which the last leg must have arrived.
        categories (`list[str]`, *optional*):
            Kinds of points of interest, each of which must be visited at least once in a city of the stays.
        meals (`bool`, *optional*, defaults to `False`):
            Whether every day that is neither the first nor the last needs lunch and dinner, of 45 minutes or more.
        max_active_hours (`float`, *optional*, defaults to `14`):
            Longest time from the start of a day's first item to the end of its last.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the user's text, `"en"` or `"zh"`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    level: Level
    origin: str
    stays: list[Stay] = Field(min_length=1, max_length=5)
    start_date: date
    adults: int = Field(default=1, ge=1, le=8)
    transport: Literal["flight", "train"] | None = None
    cabin: Literal["economy", "business"] | None = None
    budget: int | None = Field(default=None, ge=1)
    min_star: int | None = Field(default=None, ge=1, le=5)
    depart_after: Clock | None = None
    return_before: Clock | None = None
    categories: list[str] = Field(default_factory=list)
    meals: bool = False
    max_active_hours: float = Field(default=14.0, gt=0, le=24)
    language: Literal["en", "zh"] = "en"

    @model_validator(mode="after")
    def _check(self) -> "TravelQuery":
        route = [self.origin, *(stay.city for stay in self.stays), self.origin]
        if any(here == there for here, there in zip(route, route[1:], strict=False)):
            raise ValueError(f"two neighbouring cities of the route are the same: {route}.")
        if self.cabin is not None and self.transport == "train":
            raise ValueError("a cabin is for flights, but transport is 'train'.")
        return self

    @property
    def end_date(self) -> date:
        """Day of the return: the start and all nights."""
        return self.start_date + timedelta(days=sum(stay.nights for stay in self.stays))

    @property
    def dates(self) -> list[date]:
        """Every day of the trip, the first and the last included."""
        return [self.start_date + timedelta(days=i) for i in range((self.end_date - self.start_date).days + 1)]

    @property
    def rooms(self) -> int:
        """Rooms the party needs: two to a room."""
        return (self.adults + 1) // 2
