"""Plain data to a valid table definition and back. Changes with what the TOML may say and what is refused."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from typing import Any

from bucketdex.definition.entries import Entry
from bucketdex.definition.fields import Field, check_name, field_entry, parse_field
from bucketdex.definition.kinds import ValueTypeError
from bucketdex.definition.table import (
    DEPTH_MAX,
    HASH_DIGITS,
    OBJECT_BYTES_MAX,
    RETIRED,
    UNPACKED_BYTES_MAX,
    CsvOptions,
    Index,
    Retiring,
    Source,
    Summary,
    TableDefinition,
    key_template,
)
from bucketdex.errors import QueryError

FORMATS = ("json", "ndjson", "csv", "blob")
FIELDS_MAX, INDEXES_MAX, INDEX_FIELDS_MAX = 400, 40, 16
SUMMARIES_MAX, GROUPS_MAX, MEASURES_MAX = 40, 16, 100
BYTES_MAX, NESTING_MAX = 5 * 2**40, 512
RESERVED_VIEWS = ("objects", "records", "rejects")

NameCheck = Callable[[str], object]

_TABLE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}").fullmatch
_VIEW_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}").fullmatch
_RETIRING_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,62}}{RETIRED}[0-9a-f]{{{HASH_DIGITS}}}").fullmatch
_EXTRACTOR = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII).fullmatch
_FORMAT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}").fullmatch


def parse_table(name: str, mapping: Mapping[str, Any], origin: str) -> TableDefinition:
    """The definition of plain data; DefinitionError names `origin`, the entry and the remedy."""
    if not _TABLE_NAME(name):
        raise Entry(origin, f'table name "{name}"', name).error(
            "isn't usable in paths", "use up to 63 lower-case letters, digits, _ and -, a letter first"
        )
    retiring = Entry(origin, "retiring", mapping.get("retiring", {}))
    top = Entry(origin, "", {part: value for part, value in mapping.items() if part != "retiring"})
    top.known_keys(("source", "fields", "indexes", "summaries"))
    for part in ("source", "fields"):
        if part not in mapping:
            raise Entry(origin, f"[{part}]", None).error("is missing", "add it")
    source = parse_source(top.child("source"))
    fields = _parse_fields(top.child("fields"), source)
    table = TableDefinition(name, source, fields)
    indexes = _parse_indexes(top.child("indexes", {}), table)
    summaries = _parse_summaries(top.child("summaries", {}), table, {index.name for index in indexes})
    retiring.known_keys(("indexes", "summaries"))
    retired = Retiring(
        _parse_indexes(retiring.child("indexes", {}), table, _RETIRING_NAME),
        _parse_summaries(retiring.child("summaries", {}), table, set(), _RETIRING_NAME),
    )
    return TableDefinition(name, source, fields, indexes, summaries, retired)


def plain_table(table: TableDefinition) -> dict[str, Any]:
    """What `parse_table` reads as this table."""
    plain: dict[str, Any] = {
        "source": _plain_source(table.source),
        "fields": {field.name: field_entry(field, table.source.format) for field in table.fields},
    }
    plain |= _plain_views(table.indexes, table.summaries)
    retiring = _plain_views(table.retiring.indexes, table.retiring.summaries)
    return plain | ({"retiring": retiring} if retiring else {})


def _plain_views(indexes: tuple[Index, ...], summaries: tuple[Summary, ...]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if indexes:
        plain["indexes"] = {index.name: list(index.fields) for index in indexes}
    if summaries:
        plain["summaries"] = {
            summary.name: {
                "group_by": [term.text() for term in summary.group_by],
                "measures": {measure.name: measure.text() for measure in summary.measures},
            }
            for summary in summaries
        }
    return plain


def parse_source(entry: Entry) -> Source:
    """The [source] part."""
    entry.known_keys(Source.__struct_fields__)
    extractor = entry.child("extractor").text_or_none()
    if extractor is None:
        source_format = entry.child("format", required=True).one_of(FORMATS, "format")
    else:
        source_format = entry.child("format", "extractor").text()
        if not _EXTRACTOR(extractor):
            raise entry.child("extractor").error("isn't a function", 'write it as "module:function"')
        if not _FORMAT_NAME(source_format):
            raise entry.child("format").error("isn't a format's name", "leave it out, the extractor decides")
    prefix, key = entry.child("prefix").text_or_none(), entry.child("key").text_or_none()
    if (prefix is None) == (key is None):
        problem = "neither prefix nor key is given" if prefix is None else "prefix and key are both given"
        raise entry.error(problem, 'state one: prefix = "orders/" or key = "orders/{region}/{id}.json"')
    if key is not None:
        try:
            key_template(key)
        except ValueTypeError as error:
            raise entry.child("key").error(
                f"the template {error.reason}", 'write it like "orders/{region}/{id}.json"'
            ) from None
    if "csv" in entry.mapping() and source_format != "csv":
        raise entry.child("csv").error(f"the format is {source_format}", 'remove it, or set format = "csv"')
    return Source(
        format=source_format,
        prefix=prefix,
        key=key,
        on_error="reject_object"
        if entry.child("on_error", "skip_record").one_of(("skip_record", "reject_object"), "choice") == "reject_object"
        else "skip_record",
        records=_parse_records(entry.child("records"), source_format),
        extractor=extractor,
        csv=_parse_csv(entry.child("csv", {})),
        max_object_bytes=entry.child("max_object_bytes", OBJECT_BYTES_MAX).bound(BYTES_MAX),
        max_unpacked_bytes=entry.child("max_unpacked_bytes", UNPACKED_BYTES_MAX).bound(BYTES_MAX),
        max_depth=entry.child("max_depth", DEPTH_MAX).bound(NESTING_MAX),
    )


def _plain_source(source: Source) -> dict[str, Any]:
    default = Source(format="")
    plain: dict[str, Any] = {}
    for name in Source.__struct_fields__:
        value = getattr(source, name)
        if name != "csv" and value != getattr(default, name):
            plain[name] = value
    csv = {
        name: list(value) if isinstance(value, tuple) else value
        for name in CsvOptions.__struct_fields__
        if (value := getattr(source.csv, name)) != getattr(default.csv, name)
    }
    return plain | ({"csv": csv} if csv else {})


def _parse_records(entry: Entry, source_format: str) -> str | None:
    if entry.value is None:
        return None
    text = entry.text()
    if source_format != "json":
        raise entry.error(f"the format is {source_format}", 'remove it, or set format = "json"')
    steps = text.removesuffix("[]").split(".") if text != "[]" else []
    if not text.endswith("[]") or any(not step or "[]" in step for step in steps):
        raise entry.error("isn't the path of one list", 'write it like "Records[]", or "[]" for a top-level array')
    return text


def _parse_csv(entry: Entry) -> CsvOptions:
    entry.known_keys(CsvOptions.__struct_fields__)
    default = CsvOptions()
    delimiter, quote = (entry.child(name, getattr(default, name)).text() for name in ("delimiter", "quote"))
    for name, value in (("delimiter", delimiter), ("quote", quote)):
        if len(value) != 1 or value in "\r\n" or not value.isascii():
            raise entry.child(name).error("isn't one ASCII character", 'write it like ";" or "\\t"')
    if delimiter == quote:
        raise entry.child("quote").error("is the delimiter too", "change one of them")
    encoding = entry.child("encoding", default.encoding)
    try:
        "a".encode(encoding.text())
    except (LookupError, ValueError):
        raise encoding.error(f"unknown encoding {encoding.value!r}", 'use a name such as "utf-8" or "cp1252"') from None
    header = entry.child("header", default.header)
    columns: bool | tuple[str, ...] = header.value if isinstance(header.value, bool) else header.texts()
    if not isinstance(columns, bool) and (not columns or len(set(columns)) != len(columns)):
        raise header.error("names no column, or one twice", "name every column once, or state true or false")
    nulls = entry.child("null_values", default.null_values).texts()
    return CsvOptions(delimiter, quote, codecs.lookup(encoding.text()).name, columns, nulls)


def _parse_fields(entry: Entry, source: Source) -> tuple[Field, ...]:
    plain = entry.mapping()
    if not 1 <= len(plain) <= FIELDS_MAX:
        raise entry.error(f"{len(plain)} fields are declared", f"declare 1 to {FIELDS_MAX}")
    fields = tuple(parse_field(entry.child(name), name, source.format) for name in plain)
    placeholders = key_template(source.key).names if source.key is not None else ()
    columns = source.csv.header
    for field in fields:
        where = entry.child(field.name)
        if field.source == "key":
            if source.key is None:
                raise where.error(
                    "a prefix has no placeholders", 'state the source as key = "…/{' + field.path[0] + '}…"'
                )
            Entry(where.origin, where.name, field.path[0]).one_of(placeholders, "placeholder of the key template")
        if field.source == "content" and source.format == "csv" and not isinstance(columns, bool):
            Entry(where.origin, where.name, field.path[0]).one_of(columns, "column")
    return fields


def _parse_indexes(entry: Entry, table: TableDefinition, named: NameCheck = _VIEW_NAME) -> tuple[Index, ...]:
    plain = entry.mapping()
    if len(plain) > INDEXES_MAX:
        raise entry.error(f"{len(plain)} indexes are declared", f"declare at most {INDEXES_MAX}")
    indexes = []
    for name in plain:
        where = entry.child(name)
        _check_view_name(where, name, named)
        names = where.texts()
        if not 1 <= len(names) <= INDEX_FIELDS_MAX:
            raise where.error(f"{len(names)} fields are listed", f"list 1 to {INDEX_FIELDS_MAX}")
        if len(set(names)) != len(names):
            raise where.error("a field is listed twice", "list it once")
        declared = [field.name for field in table.fields]
        for field_name in names:
            where.replace(field_name).one_of(declared, "field")
        multi = [n for n in names if table.field(n).multi]
        if len(multi) > 1:
            raise where.error(f"{' and '.join(multi)} hold many values each", "index them apart, one to an index")
        indexes.append(Index(name, names))
    return tuple(indexes)


def _parse_summaries(
    entry: Entry, table: TableDefinition, taken: set[str], named: NameCheck = _VIEW_NAME
) -> tuple[Summary, ...]:
    plain = entry.mapping()
    if len(plain) > SUMMARIES_MAX:
        raise entry.error(f"{len(plain)} summaries are declared", f"declare at most {SUMMARIES_MAX}")
    return tuple(_parse_summary(entry.child(name), name, table, taken, named) for name in plain)


def _parse_summary(entry: Entry, name: str, table: TableDefinition, taken: set[str], named: NameCheck) -> Summary:
    _check_view_name(entry, name, named)
    if name in taken:
        raise entry.error("an index has this name too", "rename one of them")
    entry.known_keys(("group_by", "measures"))
    group_by = entry.child("group_by", required=True)
    texts = group_by.texts()
    if not 1 <= len(texts) <= GROUPS_MAX:
        raise group_by.error(f"{len(texts)} terms are listed", f"list 1 to {GROUPS_MAX}, such as day(created_at)")
    terms = []
    for text in texts:
        try:
            terms.append(table.group(text))
        except QueryError as error:
            raise group_by.error(str(error), "correct the term") from error
    measures_entry = entry.child("measures", required=True)
    plain = measures_entry.mapping()
    if not 1 <= len(plain) <= MEASURES_MAX:
        raise measures_entry.error(f"{len(plain)} measures are named", f"name 1 to {MEASURES_MAX}")
    measures = []
    for measure_name in plain:
        where = measures_entry.child(measure_name)
        check_name(where, measure_name)
        try:
            measures.append(table.measure(where.text(), measure_name))
        except QueryError as error:
            raise where.error(str(error), "correct the measure") from error
    names = [term.name for term in terms] + [measure.name for measure in measures]
    for repeated in {n for n in names if names.count(n) > 1}:
        raise entry.error(f'two columns would be named "{repeated}"', "rename the measure, or leave out one term")
    return Summary(name, tuple(terms), tuple(measures))


def _check_view_name(entry: Entry, name: str, named: NameCheck) -> None:
    if not named(name):
        raise entry.error("isn't usable in paths", "use up to 63 lower-case letters, digits and _, a letter first")
    if name in RESERVED_VIEWS:
        raise entry.error("the name is that of a built-in view", "choose another")
