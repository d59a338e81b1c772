"""Files of an index: what is written is read, by us and by everybody's tools, and damage never passes for data."""

import json
import shutil
import subprocess
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path

import duckdb
import msgspec
import pandas
import polars
import pyarrow.json
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.errors import CorruptFileError, UpgradeRequiredError
from bucketdex.storage import (
    EncodedFile,
    FileEntry,
    RunWriter,
    block_request,
    filter_request,
    footer_request,
    may_contain,
    read_block,
    read_file,
    read_footer,
    split_weights,
)
from bucketdex.storage.file_reader import decompress, skipped
from bucketdex.storage.format import Footer, separator
from bucketdex.storage.zstd import compress, skippable

PATH = "tables/t/views/v-1/000000000001-ab.ndjson.zst"


def line(number: int) -> bytes:
    return b'{"id":%d,"name":"n\xc3\xa9 \\n %d","_key":"orders/%d.json"}' % (number, number % 7, number)


def write(count: int, *, step: int = 50, weighted: bool = False, **options: int) -> list[EncodedFile]:
    writer = RunWriter("v-1", **options)
    files = []
    for start in range(0, count, step):
        numbers = range(start, min(start + step, count))
        keys = [f"=k{n // 3:05d}\x00{n:06d}\x00" for n in numbers]
        weights = [[-1, 1, 2][n % 3] for n in numbers] if weighted else None
        files += writer.add(keys, [line(n) for n in numbers], weights)
    return files + writer.finish()


def part(file: EncodedFile, start: int | None, length: int | None) -> bytes:
    assert start is not None
    assert length is not None
    return file.body[start : start + length]


def blocks_by_range(file: EncodedFile) -> list[bytes]:
    """All blocks by the exact ranges that a client would request."""
    entry = file.placed(PATH)
    request = footer_request(entry)
    footer = read_footer(part(file, request.start, request.length), entry)
    blocks = []
    for index in range(len(footer.offsets)):
        request = block_request(entry, footer, index)
        assert request.key == PATH
        blocks.append(read_block(part(file, request.start, request.length), entry, footer, index))
    return blocks


KEYS = st.lists(st.text(st.sampled_from("ab\x02=é😀"), max_size=4), max_size=60).map(
    lambda texts: sorted("=" + text + "\x00k\x00" for text in texts)
)


@settings(max_examples=150, deadline=None)
@given(KEYS, st.data(), st.sampled_from([1, 100, 400]), st.sampled_from([1, 150, 10**6]), st.booleans())
def test_what_is_written_is_read(keys: list[str], data: st.DataObject, block: int, file: int, weighted: bool) -> None:
    lines = [b'{"n":%d}' % n for n in range(len(keys))]
    weights = [data.draw(st.sampled_from([1, -1, 2, -17])) for _ in keys] if weighted else None
    cuts = sorted(data.draw(st.lists(st.integers(0, len(keys)), max_size=4)))
    writer = RunWriter("v-1", block_bytes=block, file_bytes=file)
    files = []
    for start, stop in zip([0, *cuts], [*cuts, len(keys)], strict=True):
        files += writer.add(keys[start:stop], lines[start:stop], weights[start:stop] if weights else None)
    files += writer.finish()

    found: list[tuple[bytes, int]] = []
    position = 0
    below = ""
    for encoded in files:
        entry = encoded.placed(PATH)
        assert entry.bytes == len(encoded.body)
        blocks = read_file(encoded.body, entry)
        assert blocks == blocks_by_range(encoded)
        footer = read_footer(encoded.body[-entry.footer :], entry)
        assert footer.view == "v-1"
        assert entry.first == footer.separators[0]
        total = 0
        for index, content in enumerate(blocks):
            got, got_weights = split_weights(content)
            here = keys[position : position + len(got)]
            assert below < footer.separators[index] <= here[0], "a separator lies between two blocks"
            assert len(got) == footer.rows[index]
            assert footer.weights[index] == sum(got_weights or [1] * len(got))
            found += zip(got, got_weights or [1] * len(got), strict=True)
            total += footer.weights[index]
            position += len(got)
            below = here[-1]
        assert (entry.last, entry.weight) == (below, total)
        assert all(ask(encoded, key) for key in keys[position - entry.rows : position])
    assert found == list(zip(lines, weights or [1] * len(lines), strict=True))
    assert (files == []) == (keys == [])
    whole = RunWriter("v-1", block_bytes=block, file_bytes=file)
    assert whole.add(keys, lines, weights) + whole.finish() == files, "batches leave no trace in the bytes"


def ask(file: EncodedFile, component: str) -> bool:
    entry = file.placed(PATH)
    request = filter_request(entry, component)
    return may_contain(part(file, request.start, request.length), entry, component)


def test_blocks_and_files_have_the_sizes_that_were_asked_for() -> None:
    files = write(5000, block_bytes=4096, file_bytes=5_000)
    assert len(files) > 3
    for file in files:
        assert file.entry.filter[0]
        sizes = [len(block) for block in read_file(file.body, file.entry)]
        assert all(4096 <= size < 4096 * 1.2 for size in sizes[:-1])
        footer = read_footer(file.body[-file.entry.footer :], file.entry)
        assert sum(footer.lengths[:-1]) <= 5_000, "a file ends with the block that exceeds the bound"
        assert file is files[-1] or sum(footer.lengths) > 5_000
    assert all(low.entry.last < high.entry.first for low, high in pairwise(files))
    [plain] = write(100, with_filter=False)
    assert plain.entry.filter == (0, 0)


def test_lines_of_one_key_are_never_divided() -> None:
    writer = RunWriter("v-1", block_bytes=50, file_bytes=50)
    files = writer.add(["=a\x00"] * 3, [line(n) for n in range(3)])
    files += writer.add(["=a\x00"] * 5 + ["=b\x00"], [line(n) for n in range(6)], [1, -1, 1, -1, 1, 1])
    files += writer.finish()
    assert [file.entry.rows for file in files] == [8, 1]
    assert files[1].entry.first == "=b"


def test_a_big_line_is_a_block_of_its_own() -> None:
    big = b'{"x":"' + b"y" * 300_000 + b'"}'
    writer = RunWriter("v-1")
    writer.add(["a\x00", "b\x00", "c\x00"], [line(1), big, line(2)])
    [file] = writer.finish()
    assert [len(block.splitlines()) for block in read_file(file.body, file.entry)] == [2, 1]


@pytest.mark.parametrize(
    ("keys", "lines", "weights"),
    [(["b", "a"], [b"{}"] * 2, None), (["a"], [b"{}"] * 2, None), (["a"], [b"{}"], [1, 1]), (["a"], [b'{"n":1}'], [0])],
)
def test_wrong_batches_are_refused(keys: list[str], lines: list[bytes], weights: list[int] | None) -> None:
    writer = RunWriter("v-1")
    with pytest.raises((AssertionError, ValueError)):
        writer.add(keys, lines, weights)
        writer.finish()


def test_batches_out_of_order_are_refused() -> None:
    writer = RunWriter("v-1", block_bytes=1)
    writer.add(["a", "b"], [b'{"n":1}'] * 2)
    with pytest.raises(AssertionError, match="batches out of order"):
        writer.add(["a"], [b'{"n":1}'])


@given(st.text(max_size=5), st.text(max_size=5))
def test_separators_are_short_and_between(a: str, b: str) -> None:
    low, high = sorted([a, b])
    if low == high:
        return
    between = separator(low, high)
    assert low < between <= high
    assert high.startswith(between)
    assert not between[:-1] > low


def test_a_key_is_found_by_the_block_index() -> None:
    [file] = write(3000, block_bytes=2000)
    footer = read_footer(file.body[-file.entry.footer :], file.entry)
    blocks = read_file(file.body, file.entry)
    for number in range(0, 3000, 17):
        key = f"=k{number // 3:05d}\x00{number:06d}\x00"
        assert line(number) in blocks[bisect_right(footer.separators, key) - 1]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b'{"a":1}', b'{"_x":"{\\"_w\\":3,"}', b'{"_w_":2}']), st.integers(-3, 3).filter(bool)
        )
    )
)
def test_weights_are_split_from_lines(pairs: list[tuple[bytes, int]]) -> None:
    block = b"".join((b'{"_w":%d,' % weight + body[1:] if weight != 1 else body) + b"\n" for body, weight in pairs)
    for text in (block, block.removesuffix(b"\n")):
        lines, weights = split_weights(text)
        assert lines == [body for body, _ in pairs]
        assert (weights or [1] * len(pairs)) == [weight for _, weight in pairs]
    assert json.loads(b"[" + b",".join(block.split()) + b"]") is not None


# Damage ------------------------------------------------------------------------------------------------------------


def small() -> tuple[EncodedFile, FileEntry, list[bytes]]:
    [file] = write(12, block_bytes=200, weighted=True)
    entry = file.placed(PATH)
    return file, entry, read_file(file.body, entry)


def test_a_cut_file_is_never_read() -> None:
    file, entry, _ = small()
    for length in range(len(file.body)):
        with pytest.raises(CorruptFileError, match=f"{PATH}: {length} bytes instead of {entry.bytes}"):
            read_file(file.body[:length], entry)
    with pytest.raises(CorruptFileError, match=PATH):
        read_file(file.body + b"\0", entry)


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
def test_a_flipped_byte_is_never_wrong_data(mask: int) -> None:
    file, entry, blocks = small()
    refused = 0
    for position in range(len(file.body)):
        body = bytearray(file.body)
        body[position] ^= mask
        damaged = EncodedFile(bytes(body), file.entry)
        for read in (
            lambda damaged=damaged: read_file(damaged.body, entry),
            lambda damaged=damaged: blocks_by_range(damaged),
        ):
            try:
                assert read() == blocks
            except CorruptFileError as error:
                refused += 1
                assert PATH in str(error)
        try:
            assert ask(damaged, "=k00001")
        except CorruptFileError as error:
            refused += 1
            assert PATH in str(error)
    # All but the filter's bytes matter to the two readers, all of those to the filter, and each frame has few idle bits.
    assert refused > 1.9 * len(file.body)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 20])
def test_parts_that_are_cut_short_are_refused(size: int) -> None:
    file, entry, _ = small()
    request = footer_request(entry)
    footer_body = part(file, request.start, request.length)
    footer = read_footer(footer_body, entry)
    with pytest.raises(CorruptFileError, match=f"{size} bytes instead of {footer.lengths[1]}"):
        read_block(part(file, footer.offsets[1], size), entry, footer, 1)
    for attempt in (
        lambda: read_footer(footer_body[:size], entry),
        lambda: read_footer(footer_body + b"\0" * size, entry) if size else read_footer(b"", entry),
        lambda: read_block(part(file, footer.offsets[0], footer.lengths[0]), entry, footer, 1),
        lambda: may_contain(b"x" * size, entry, "=a"),
    ):
        with pytest.raises(CorruptFileError, match=PATH):
            attempt()


def test_a_footer_of_another_file_is_refused() -> None:
    file, entry, _ = small()
    for wrong in ({"rows": 11}, {"weight": entry.weight + 1}, {"bytes": entry.bytes + 1}, {"filter": (0, 0)}):
        with pytest.raises(CorruptFileError, match="entry"):
            read_footer(file.body[-entry.footer :], msgspec.structs.replace(entry, **wrong))


def footer_with(file: EncodedFile, **changes: object) -> bytes:
    footer = json.loads(decompress(skipped(file.body[-file.entry.footer :])))
    return skippable(compress(json.dumps(footer | changes).encode()))


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": [12]},
        {"offsets": [0, 1, 2, 3, 4, 5]},
        {"separators": []},
        {"lengths": "x"},
        {"weights": [1.5]},
        {"format": None},
    ],
)
def test_a_footer_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    file, entry, _ = small()
    assert isinstance(read_footer(footer_with(file), entry), Footer)
    with pytest.raises(CorruptFileError, match=PATH):
        read_footer(footer_with(file, **changes), entry)


def test_blocks_that_do_not_follow_each_other_are_refused() -> None:
    file, entry, _ = small()
    footer = read_footer(footer_with(file), entry)
    assert len(footer.offsets) > 2
    for offsets in (footer.offsets[::-1], [offset + 1 for offset in footer.offsets], [0] * len(footer.offsets)):
        with pytest.raises(CorruptFileError, match="one after another"):
            read_footer(footer_with(file, offsets=offsets), entry)


def test_lines_are_counted() -> None:
    file, entry, _ = small()
    rows = read_footer(footer_with(file), entry).rows
    footer = read_footer(footer_with(file, rows=[rows[0] - 1, *rows[1:-1], rows[-1] + 1]), entry)
    request = block_request(entry, footer, 0)
    with pytest.raises(CorruptFileError, match=f"{PATH}: block 0 is damaged: not {rows[0] - 1} lines"):
        read_block(part(file, request.start, request.length), entry, footer, 0)


def test_a_component_of_many_blocks_is_in_the_filter_once() -> None:
    writer = RunWriter("v-1", block_bytes=100)
    writer.add([f"=same\x00{n:05d}\x00" for n in range(500)], [line(n) for n in range(500)])
    [file] = writer.finish()
    assert len(read_file(file.body, file.entry)) > 100
    assert file.entry.filter == (1, 16)
    assert ask(file, "=same")


def test_a_file_for_newer_readers_is_refused() -> None:
    file, entry, _ = small()
    assert read_footer(footer_with(file, format=9, news=1), entry).format == 9
    with pytest.raises(UpgradeRequiredError, match=PATH):
        read_footer(footer_with(file, reader=2, offsets="something new"), entry)


def test_a_frame_that_claims_too_much_takes_no_memory() -> None:
    bomb = compress(bytes(50_000_000))
    with pytest.raises(ValueError, match="50000000 bytes instead of 10"):
        decompress(bomb, 10)
    with pytest.raises(ValueError, match="50000000 bytes"):
        decompress(bomb, size_max=10**6)


# Other people's tools ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A file of many blocks on disk, and the lines that it holds."""
    [file] = write(4000, block_bytes=5000, weighted=True)
    assert file.entry.filter[0] > 1 or file.entry.filter[1] > 1024
    path = tmp_path_factory.mktemp("run") / "run.ndjson.zst"
    path.write_bytes(file.body)
    return path, b"".join(read_file(file.body, file.entry))


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the zstd command is not installed")
def test_the_zstd_command_reads_a_file(published: tuple[Path, bytes]) -> None:
    path, text = published
    assert subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout == text
    subprocess.run(["zstd", "-t", path], capture_output=True, check=True)


def test_a_streaming_decoder_reads_a_file(published: tuple[Path, bytes]) -> None:
    path, text = published
    with zstd.open(path) as stream:
        assert stream.read() == text


def test_duckdb_reads_a_file(published: tuple[Path, bytes]) -> None:
    path, text = published
    rows = [json.loads(row) for row in text.splitlines()]
    found = duckdb.sql(f"select id, name, _key, coalesce(_w, 1) from read_json('{path}') order by id").fetchall()
    assert found == [(row["id"], row["name"], row["_key"], row.get("_w", 1)) for row in rows]


def test_dataframes_read_a_file(published: tuple[Path, bytes]) -> None:
    path, text = published
    rows = [json.loads(row) for row in text.splitlines()]
    names = [row["name"] for row in rows]
    with zstd.open(path) as stream:  # pandas itself asks for one more package
        assert pandas.read_json(stream, lines=True)["name"].tolist() == names
    assert polars.read_ndjson(path, infer_schema_length=None)["name"].to_list() == names
    with pyarrow.input_stream(path, compression="zstd") as stream:
        assert pyarrow.json.read_json(stream)["name"].to_pylist() == names
