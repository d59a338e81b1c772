"""Timestamps: one grammar on every Python, one canonical form."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.definition import Field, FieldType, ValueTypeError, canonicalizer, from_json, from_text

PLAIN = Field("at", FieldType.TIMESTAMP)
CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def local(zone: str, layout: str | None = None) -> Field:
    return Field("at", FieldType.TIMESTAMP, timezone=zone, format=layout)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02t03:04:05z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02 03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04Z", "2026-01-02T03:04:00.000000Z"),
        ("2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100000Z"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T03:04:05.9999999+00:00", "2026-01-02T03:04:05.999999Z"),
        ("2026-01-02T03:04:05.123456+00:00", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04:05-00:00", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04:05+05:30", "2026-01-01T21:34:05.000000Z"),
        ("2026-01-02T03:04:05+0530", "2026-01-01T21:34:05.000000Z"),
        ("2026-01-02T03:04:05.5-08", "2026-01-02T11:04:05.500000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"),
    ],
)
def test_accepted(text: str, canonical: str) -> None:
    for _ in range(2):  # a day not seen before, and one that has been
        assert from_json(PLAIN, text) == canonical
        assert from_text(PLAIN, text) == canonical


REFUSED = {
    "no time zone": ["2026-01-02T03:04:05", "2026-01-02 03:04", "2026-01-02T03:04:05.5"],
    "leap second": ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5+00:00"],
    "time of day": ["2026-01-02T24:00:00Z", "2026-01-02T24:00Z", "2026-01-02T03:60:00Z", "2026-01-02T03:04:61Z"],
    "calendar": [
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
    "offset": ["2026-01-02T03:04:05+24:00", "2026-01-02T03:04:05+01:60"],
    "not a timestamp": [
        "",
        "2026",
        "2026-01-02",
        "2026-01-02T",
        "2026-01-02T03Z",
        "20260102T030405Z",
        "2026-W01-5T03:04:05Z",
        "2026-002T03:04:05Z",
        "2026-01-02T030405Z",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05. 5Z",
        "2026-01-02T03:04:05 Z",
        "2026-01-02T03:04:05Z ",
        " 2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z\n",
        "2026-01-02T03:04:05+01:00:30",
        "2026-01-02T03:04:05+1",
        "2026-01-02T03:04:05ZZ",
        "2026-01-02T03:04:05UTC",
        "2026-01-02_03:04:05Z",
        "+2026-01-02T03:04:05Z",
        "12026-01-02T03:04:05Z",
        "٢026-01-02T03:04:05Z",
        "2026-01-02T03:04:0٥Z",
        "2026-01-02T03:04:05.٥Z",
        "2026-01-02T03:04:05.½Z",
        "2026-1-2T3:4:5Z",
        "now",
    ],
}


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in REFUSED.items() for text in texts])
def test_refused(reason: str, text: str) -> None:
    from_json(PLAIN, "2026-01-02T00:00:00Z")  # so that the quick way is open to all of that day
    with pytest.raises(ValueTypeError, match=reason):
        from_json(PLAIN, text)


@given(st.datetimes(), st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)))
def test_every_instant_has_one_form_that_orders_as_it_does(naive: datetime, offset: timedelta) -> None:
    offset = timedelta(minutes=offset // timedelta(minutes=1))
    moment = naive.replace(tzinfo=timezone(offset))
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        with pytest.raises(ValueTypeError):
            from_json(PLAIN, moment.isoformat())
        return
    canonical = from_json(PLAIN, moment.isoformat())
    assert isinstance(canonical, str)
    assert CANONICAL.fullmatch(canonical)
    assert datetime.fromisoformat(canonical) == utc
    assert from_json(PLAIN, canonical) == canonical
    later = from_json(PLAIN, "2026-01-02T03:04:05.000006Z")
    assert isinstance(later, str)
    assert (canonical < later) == (utc < datetime(2026, 1, 2, 3, 4, 5, 6, UTC))


@given(st.text(alphabet="0123456789-:.,TtZz+ W", max_size=30))
def test_whatever_is_accepted_is_canonical(text: str) -> None:
    try:
        canonical = from_json(PLAIN, text)
    except ValueTypeError:
        return
    assert isinstance(canonical, str)
    assert CANONICAL.fullmatch(canonical)


@given(
    st.from_regex(
        r"(2026-01-02|2024-02-29|0001-01-01)[T ](0[0-9]|1[0-9]|2[0-5]):[0-6][0-9](:[0-6][0-9](\.[0-9]{0,9})?)?(Z|\+00:00|-01:30|)",
        fullmatch=True,
    )
)
def test_the_quick_way_agrees_with_the_grammar(text: str) -> None:
    from bucketdex.definition import timestamps

    outcomes = []
    for day_is_known in (False, True):
        if day_is_known:
            timestamps.date_text(text[:10])
        else:
            timestamps._known_days.clear()
        try:
            outcomes.append(from_json(PLAIN, text))
        except ValueTypeError as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1]


def test_the_days_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketdex.definition import timestamps

    monkeypatch.setattr(timestamps, "KNOWN_DAYS_MAX", 10)
    timestamps._known_days.clear()
    for day in range(1, 29):
        from_json(PLAIN, f"2026-02-{day:02d}T00:00:00Z")
        assert len(timestamps._known_days) <= 10


class TestLocalTime:
    def test_summer_and_winter(self) -> None:
        berlin = canonicalizer(local("Europe/Berlin"))
        assert berlin("2026-01-15 12:00:00") == "2026-01-15T11:00:00.000000Z"
        assert berlin("2026-07-15T12:00:00.5") == "2026-07-15T10:00:00.500000Z"

    def test_a_stated_zone_wins(self) -> None:
        assert from_json(local("Europe/Berlin"), "2026-07-15T12:00:00Z") == "2026-07-15T12:00:00.000000Z"

    def test_a_time_that_occurs_twice_is_the_first(self) -> None:
        assert from_json(local("Europe/Berlin"), "2026-10-25T02:30:00") == "2026-10-25T00:30:00.000000Z"

    def test_a_time_that_is_skipped_counts_as_before_the_change(self) -> None:
        assert from_json(local("Europe/Berlin"), "2026-03-29T02:30:00") == "2026-03-29T01:30:00.000000Z"

    def test_outside_the_calendar(self) -> None:
        with pytest.raises(ValueTypeError, match="calendar"):
            from_json(local("Asia/Tokyo"), "0001-01-01T00:00:00")
        with pytest.raises(ValueTypeError, match="calendar"):
            from_json(local("America/New_York"), "9999-12-31T23:00:00")

    def test_zone_data_comes_from_the_package(self) -> None:
        from bucketdex.definition.zones import zone, zone_names

        assert all(str(zone(name)) == name for name in zone_names())
        with pytest.raises(KeyError):
            zone("../zones")
        assert zone("Europe/Berlin") is not ZoneInfo("Europe/Berlin")


class TestEpochs:
    SECONDS = Field("at", FieldType.TIMESTAMP, format="epoch_s")
    MILLISECONDS = Field("at", FieldType.TIMESTAMP, format="epoch_ms")

    @pytest.mark.parametrize(
        ("value", "canonical"),
        [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.000000Z"),
            (1767323045, "2026-01-02T03:04:05.000000Z"),
            (1767323045.25, "2026-01-02T03:04:05.250000Z"),
            (Decimal("1767323045.123456789"), "2026-01-02T03:04:05.123456Z"),
            (Decimal("-0.0000001"), "1969-12-31T23:59:59.999999Z"),
            ("1767323045.5", "2026-01-02T03:04:05.500000Z"),
            (-62135596800, "0001-01-01T00:00:00.000000Z"),
            (253402300799, "9999-12-31T23:59:59.000000Z"),
            (Decimal("253402300799.999999999"), "9999-12-31T23:59:59.999999Z"),
        ],
    )
    def test_seconds(self, value: Any, canonical: str) -> None:
        assert from_json(self.SECONDS, value) == canonical

    def test_milliseconds(self) -> None:
        assert from_json(self.MILLISECONDS, 1767323045123) == "2026-01-02T03:04:05.123000Z"
        assert from_json(self.MILLISECONDS, Decimal("1767323045123.4567")) == "2026-01-02T03:04:05.123456Z"
        assert from_text(self.MILLISECONDS, "-1") == "1969-12-31T23:59:59.999000Z"

    @pytest.mark.parametrize(
        "value",
        [
            True,
            [],
            "now",
            "2026-01-02T03:04:05Z",
            -62135596801,
            253402300800,
            10**400,
            1e300,
            float("nan"),
            float("inf"),
        ],
    )
    def test_refused(self, value: Any) -> None:
        with pytest.raises(ValueTypeError):
            from_json(self.SECONDS, value)

    @given(st.datetimes(timezones=st.just(UTC)))
    def test_an_exact_number_gives_the_instant(self, moment: datetime) -> None:
        microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        expected = moment.isoformat(timespec="microseconds")[:26] + "Z"
        assert from_json(self.SECONDS, Decimal(microseconds).scaleb(-6)) == expected
        assert from_json(self.MILLISECONDS, Decimal(microseconds).scaleb(-3)) == expected


class TestLayouts:
    def test_with_the_fields_zone(self) -> None:
        read = canonicalizer(local("Europe/Berlin", "%d/%m/%Y %H:%M"))
        assert read("02/07/2026 12:30") == "2026-07-02T10:30:00.000000Z"

    def test_with_a_zone_of_its_own(self) -> None:
        read = canonicalizer(Field("at", FieldType.TIMESTAMP, format="%Y-%m-%dT%H:%M:%S%z"))
        assert read("2026-07-02T12:30:00+0200") == "2026-07-02T10:30:00.000000Z"

    def test_nanoseconds_are_cut(self) -> None:
        read = canonicalizer(local("UTC", "%Y%m%d %H:%M:%S.%f"))
        assert read("20260702 12:30:00.123456789") == "2026-07-02T12:30:00.123456Z"
        assert read("20260702 12:30:00.5") == "2026-07-02T12:30:00.500000Z"

    @pytest.mark.parametrize(
        "value",
        ["", "2026-07-02", "31/02/2026 00:00", "02/07/2026 24:00", "02/07/2026 12:30 ", "٠2/07/2026 12:30", 5, True],
    )
    def test_refused(self, value: Any) -> None:
        with pytest.raises(ValueTypeError):
            from_json(local("UTC", "%d/%m/%Y %H:%M"), value)

    def test_dates(self) -> None:
        day = Field("day", FieldType.DATE, format="%d.%m.%Y")
        assert from_text(day, "02.07.2026") == "2026-07-02"
        assert from_json(day, "02.07.0026") == "0026-07-02"
        with pytest.raises(ValueTypeError, match="form"):
            from_json(day, "2026-07-02")
        with pytest.raises(ValueTypeError):
            from_json(day, 5)
