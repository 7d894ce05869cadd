"""The protocol's tables on template, needles and their directions."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from brachy.patient.protocol_access import NotNegative, Positive, Table

Count = Annotated[int, Field(ge=1, le=10_000)]
Tilt = Annotated[float, Field(ge=-60, le=60)]


def check_range(name: str, count: int | tuple[int, int] | None) -> None:
    """Refuse a range of counts whose least is above its most."""
    if isinstance(count, tuple) and count[0] > count[1]:
        raise ValueError(f"{name} {count[0]}-{count[1]}: the least is above the most")


class TemplateChoice(Table):
    """Template with its holes."""

    LATER: ClassVar = ("arrangement", "cone_deg", "sleeve_spacing_mm")

    pitch_mm: Positive = Field(10.0, ge=2, le=50, description="distance of neighbouring holes, mm")
    lateral_overshoot_mm: NotNegative = Field(
        0.0, le=20, description="a hole is offered if its axis passes within this distance of the target, mm"
    )
    lateral_margin_mm: Positive = Field(
        10.0,
        description="every edge point of the target's section in a layer lies this near a used needle, mm",
    )
    layer_offset: Literal["in-layer", "free"] = Field(
        "in-layer", description="search the offset of the holes within their layers, or along both axes"
    )
    standoff_mm: NotNegative = Field(20.0, le=100, description="template plane outside the skin by this, mm")
    arrangement: Literal["parallel", "individual", "choose"] = Field(
        "parallel",
        description="all needles along the template's axis, each at an angle of its own, or what is better",
    )
    cone_deg: NotNegative = Field(
        30.0, le=60, description="largest angle between an individual needle and the template's axis, degrees"
    )
    sleeve_spacing_mm: NotNegative = Field(
        7.0, le=50, description="between the axes of two individual needles on both faces of the plate, mm"
    )


class NeedleChoice(Table):
    """Needles: size, spacing and number."""

    radius_mm: Positive = Field(0.65, le=3, description="outer radius, mm")
    max_needle_mm: Positive = Field(150.0, le=400, description="longest path from hole to tip, mm")
    tip_to_seed_mm: NotNegative = Field(0.0, le=30, description="tip to the near end of the first seed, mm")
    min_needle_spacing_mm: Positive = Field(2.0, description="between the surfaces of two needles, mm")
    count: Count | tuple[Count, Count] | None = Field(
        None, description="most needles, or least and most; none: as many as pay"
    )

    @property
    def axes_apart_mm(self) -> float:
        """Least distance of two needles' axes: that of their surfaces and a diameter."""
        return self.min_needle_spacing_mm + 2 * self.radius_mm

    @model_validator(mode="after")
    def _ordered(self) -> "NeedleChoice":
        check_range("needle count", self.count)
        return self


class DirectionChoice(Table):
    """Needle directions that are searched."""

    LATER: ClassVar = ("tilt_limits_deg",)

    azimuth_step_deg: Positive = Field(10.0, ge=1, le=180, description="step of the azimuths tried, degrees")
    azimuth_deg: float | None = Field(None, ge=-360, le=360, description="a fixed azimuth, degrees")
    tilt_deg: float = Field(0.0, ge=-60, le=60, description="tilt toward the head, degrees")
    tilts_deg: tuple[Tilt, ...] = Field(
        (), max_length=25, description="tilts that are searched, degrees; empty: `tilt_deg` alone"
    )
    tilt_limits_deg: tuple[Tilt, Tilt] | None = Field(
        None,
        description="least and largest tilt; azimuth and tilt are then searched from coarse to fine, degrees; "
        "none: only the azimuths of `azimuth_step_deg` at `tilts_deg` or `tilt_deg`",
    )

    @model_validator(mode="after")
    def _tilts_ordered(self) -> "DirectionChoice":
        if self.tilt_limits_deg is not None and self.tilt_limits_deg[0] > self.tilt_limits_deg[1]:
            low, high = self.tilt_limits_deg
            raise ValueError(f"tilt_limits_deg {low:g} to {high:g}: the least is above the largest")
        return self
