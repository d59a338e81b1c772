"""docs/format.md says enough: what it names is what is stored, and a reader written from it alone finds everything."""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path

import msgspec

from bucketdex.definition.kinds import FieldType
from bucketdex.definition.ordering import component
from bucketdex.storage import FileEntry, Manifest, RunWriter
from bucketdex.storage.paths import delta_path, descriptor_path, manifest_path, view_path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def members(after: str) -> set[str]:
    """The names in the first column of the table that follows a text."""
    table = PAGE.partition(after)[2].partition("|---|---|\n")[2].partition("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_member_is_named() -> None:
    assert members("## The manifest") == {field.encode_name for field in msgspec.structs.fields(Manifest)}
    body, entry = written(["a"])
    assert members("- **Footer**") == set(footer(body, entry))


def test_every_path_has_the_shape_that_is_shown() -> None:
    shown = [line.strip() for line in PAGE.partition("## Paths")[2].splitlines() if line.startswith("    tables/")]
    token = "0123456789abcdef"
    made = [
        manifest_path("t"),
        delta_path("t", 7, token),
        view_path("t", "v-ff", 7, token),
        descriptor_path("t", 7, token),
    ]
    values = {
        "table": "t",
        "base generation": "000000000007",
        "random": token,
        "view": "v",
        "hash": "ff",
        "content hash": token,
    }
    assert [re.sub(r"<([\w ]+)>", lambda name: values[name[1]], line) for line in shown] == made


def test_filters_and_sort_keys_can_be_read_from_the_page() -> None:
    values = [-(10**30), -20, -3, -2.5, -0.01, 0, 0.01, 1, 2.5, 10, 99, 10**20]
    texts = [f"{value:f}" if isinstance(value, float) else str(value) for value in values]
    texts = [text.rstrip("0").rstrip(".") if "." in text else text for text in texts]
    assert [decimal_component(text) for text in texts] == [component(FieldType.DECIMAL, text) for text in texts]
    assert component(FieldType.STRING, "a\x00\x01") == "=a\x01\x01\x01\x02"
    assert component(FieldType.INT, -1) == f"{2**63 - 1:016x}"
    assert component(FieldType.FLOAT, -1.0) == f"{0xBFF0000000000000 ^ (2**64 - 1):016x}"
    assert component(FieldType.FLOAT, 1.0) == f"{0x3FF0000000000000 | 2**63:016x}"

    words = [f"word {number:06d}" for number in range(8000)]
    body, entry = written(words)
    count, size = entry.filter
    assert count > 1
    start = len(body) - entry.footer - count * (size + 12)

    def bits(word: str) -> list[bool]:
        h = zlib.crc32(f"={word}".encode())
        frame = body[start + h % count * (size + 12) :][: size + 12]
        magic, length, checksum = (int.from_bytes(frame[at : at + 4], "little") for at in (0, 4, 8))
        assert (magic, length, checksum) == (0x184D2A50, size + 4, zlib.crc32(frame[12:]))
        places = [(h * 0x9E3779B97F4A7C15 >> shift) % (size * 8) for shift in (49, 34, 19, 4)]
        return [bool(frame[12 + place // 8] >> place % 8 & 1) for place in places]

    assert all(all(bits(word)) for word in words)
    assert sum(all(bits(f"other {number}")) for number in range(1000)) < 40


def decimal_component(text: str) -> str:
    """As the page has it."""
    digits = text.lstrip("-").replace(".", "").strip("0")
    if not digits:
        return "1"
    whole, _, fraction = text.lstrip("-").partition(".")
    exponent = len(whole) - 1 if whole != "0" else -1 - (len(fraction) - len(fraction.lstrip("0")))
    number = f"{exponent + 100:03d}{digits}"
    return f"2{number}" if text[0] != "-" else "0" + "".join(str(9 - int(digit)) for digit in number) + "~"


def written(words: list[str]) -> tuple[bytes, FileEntry]:
    writer = RunWriter("v-ff")
    writer.add([f"={word}\x00k\x00\x00" for word in words], [b'{"s":%b}' % json.dumps(word).encode() for word in words])
    [file] = writer.finish()
    return file.body, file.entry


def footer(body: bytes, entry: FileEntry) -> dict[str, object]:
    found: dict[str, object] = json.loads(zstd.decompress(body[len(body) - entry.footer + 8 :]))
    return found
