"""The protocol's table `[access]`: from where needles may come; with the base of all tables of a protocol."""

from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Table(BaseModel):
    """A table of a protocol: frozen, and it refuses fields that it does not have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    LATER: ClassVar[tuple[str, ...]] = ()
    """Fields that protocols of older plans do not have: written only where they were given, so that such a plan.json
    is written again as it was."""

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        for name in self.LATER:
            if name not in self.model_fields_set:
                data.pop(name, None)
        return data


Degrees = Annotated[float, Field(ge=-360, le=720, allow_inf_nan=False)]
AzimuthRange = tuple[Degrees, Degrees]


def _as_ranges(given: Any) -> Any:  # whatever a file has there; pydantic judges what comes back
    """One range of azimuths as a tuple of one."""
    if isinstance(given, (list, tuple)) and given and not isinstance(given[0], (list, tuple)):
        return (tuple(given),)
    return given


class Access(Table):
    """From where needles may come, and what stands in the way outside the patient (docs/howto/access.md)."""

    azimuth_deg: Annotated[tuple[AzimuthRange, ...], BeforeValidator(_as_ranges)] = Field(
        (),
        max_length=8,
        description="sector: one range of azimuths or several, may pass 360, degrees; none: all but what is from below",
    )
    tilt_deg: tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-90, le=90)]] = Field(
        (-90.0, 90.0), description="least and largest tilt, degrees"
    )
    behind_mm: Positive | None = Field(
        None,
        le=600,
        description="a needle's line is clear so far behind its hole, mm; none: `needle.max_needle_mm`",
    )
    bore_mm: Positive = Field(700.0, le=2000, description="diameter of the scanner's bore, mm; reported")
    from_below_deg: NotNegative = Field(
        60.0,
        le=180,
        description="without a sector: needles come from at least so far off straight below, degrees",
    )
    outside_hu: float = Field(
        -300.0, ge=-900, le=1000, description="things outside the patient are above this, HU"
    )
    outside_cc: NotNegative = Field(20.0, description="pieces of such things at or below are left out, cc")
    hub_diameter_mm: Positive = Field(8.0, le=100, description="of what stands behind the hole, mm")

    @model_validator(mode="after")
    def _ordered(self) -> "Access":
        for low, high in self.azimuth_deg:
            if not 0 <= high - low <= 360:
                raise ValueError(
                    f"azimuth_deg {low:g}-{high:g} is no range: give the lower end first, 315-405 for the front"
                )
        if self.tilt_deg[0] > self.tilt_deg[1]:
            raise ValueError(
                f"tilt_deg {self.tilt_deg[0]:g} to {self.tilt_deg[1]:g}: the least is above the largest"
            )
        return self
