"""Definitions: what is read, what is refused and how the refusal reads."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.definition import (
    CsvOptions,
    Field,
    FieldType,
    TableDefinition,
    literal_prefixes,
    load_tables,
)
from bucketdex.errors import DefinitionError, QueryError

ORDERS = """
[source]
prefix = "orders/"
format = "ndjson"

[fields]
id         = "string"
customer   = { type = "string", path = "customer.id" }
amount     = "decimal"
tags       = { type = "string", path = "tags[]" }
skus       = { type = "string", path = ["lines[]", "item.sku"] }
created_at = { type = "timestamp", required = true }
day        = { type = "date", format = "%d/%m/%Y" }
email      = { type = "string", sensitive = true }
owner      = { type = "string", from = "metadata", path = "Owner-Name" }
team       = { type = "string", from = "tag" }
bytes      = { type = "int", from = "system", path = "size" }

[indexes]
by_customer = ["customer", "created_at"]
by_tag      = ["tags", "created_at"]

[summaries.revenue]
group_by = ["customer", "day(created_at)", 'month(created_at, "Europe/Berlin")']
measures = { orders = "count()", revenue = "sum(amount)" }
"""

PLAIN: dict[str, Any] = {
    "source": {"key": "orders/{region}/{id}.csv", "format": "csv", "csv": {"header": ["a", "b.c", "at"]}},
    "fields": {
        "a": "int",
        "b": {"type": "string", "path": "b.c"},
        "at": {"type": "timestamp", "timezone": "UTC"},
        "region": {"type": "string", "from": "key"},
    },
    "indexes": {"by_a": ["a", "at"]},
    "summaries": {"per_day": {"group_by": ["day(at)"], "measures": {"n": "count()"}}},
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def changed(*steps: str, to: Any) -> dict[str, Any]:
    """PLAIN with one entry set, or with it removed when `to` is None."""
    plain = copy.deepcopy(PLAIN)
    place = plain
    for step in steps[:-1]:
        place = place.setdefault(step, {})
    if to is None:
        del place[steps[-1]]
    else:
        place[steps[-1]] = to
    return plain


def test_a_file_becomes_a_definition(tmp_path: Path) -> None:
    table = TableDefinition.load(write(tmp_path, "orders.toml", "\ufeff" + ORDERS))
    assert table.name == "orders"
    assert [field.name for field in table.fields][:3] == ["id", "customer", "amount"]
    assert table.field("customer") == Field("customer", FieldType.STRING, path=("customer", "id"))
    assert table.field("tags") == Field("tags", FieldType.STRING, multi=True, arrays=(0,))
    skus = table.field("skus")
    assert (skus.path, skus.arrays, skus.multi) == (("lines", "item.sku"), (0,), True)
    assert table.field("created_at").required
    assert table.field("owner").path == ("owner-name",)
    assert (table.field("bytes").source, table.field("bytes").path) == ("system", ("size",))
    assert table.sensitive == {"email"}
    assert [index.name for index in table.indexes] == ["by_customer", "by_tag"]
    revenue = table.summaries[0]
    assert [term.name for term in revenue.group_by] == ["customer", "created_at_day", "created_at_month"]
    assert [term.type for term in revenue.group_by] == [FieldType.STRING] * 3
    assert [(m.name, m.function, m.field) for m in revenue.measures] == [
        ("orders", "count", None),
        ("revenue", "sum", "amount"),
    ]
    assert table.match("orders/a") == {}
    assert table.match("order") is None


def test_plain_data_round_trips(tmp_path: Path) -> None:
    tables = [
        TableDefinition.load(write(tmp_path, "orders.toml", ORDERS)),
        TableDefinition.from_dict("plain", PLAIN),
        TableDefinition.from_dict(
            "odd",
            {
                "source": {
                    "format": "json",
                    "prefix": "",
                    "records": "a.b[]",
                    "on_error": "reject_object",
                    "max_object_bytes": 5,
                    "max_unpacked_bytes": 6,
                    "max_depth": 7,
                },
                "fields": {
                    " size (kg), gross ": "float",
                    "a.b": {"type": "string", "path": ["a.b[]", "c"]},
                    "t": {"type": "timestamp", "format": "epoch_ms"},
                },
                "summaries": {
                    "s": {
                        "group_by": ['" size (kg), gross "', 'week("t", "Asia/Tokyo")'],
                        "measures": {"x (y)": 'max(" size (kg), gross ")'},
                    }
                },
            },
        ),
        TableDefinition.from_dict(
            "extracted",
            {"source": {"prefix": "x", "extractor": "my.module:read"}, "fields": {"a": {"type": "int", "path": "b.a"}}},
        ),
    ]
    for table in tables:
        plain = json.loads(json.dumps(table.to_dict()))
        again = TableDefinition.from_dict(table.name, plain)
        assert again == table
        assert hash(again) == hash(table)
        assert again.to_dict() == plain


def test_csv_columns_are_not_paths() -> None:
    table = TableDefinition.from_dict("plain", PLAIN)
    assert table.field("b").path == ("b.c",)
    assert table.source.csv == CsvOptions(header=("a", "b.c", "at"))
    assert table.match("orders/eu/1.csv") == {"region": "eu", "id": "1"}


def test_record_steps() -> None:
    for records, steps in (("Records[]", ("Records",)), ("a.b[]", ("a", "b")), ("[]", ()), (None, None)):
        source = {"format": "json", "prefix": "x/"} | ({} if records is None else {"records": records})
        table = TableDefinition.from_dict("t", {"source": source, "fields": {"a": "int"}})
        assert table.source.record_steps == steps


WRONG: list[tuple[dict[str, Any], str, str]] = [
    (changed("sauce", to={}), "sauce", 'did you mean "source"'),
    (changed("source", to=None), "source", "add it"),
    (changed("fields", to=None), "fields", "add it"),
    (changed("source", to="x"), "source", "table"),
    (changed("source", "format", to="cvs"), "source.format", 'did you mean "csv"'),
    (changed("source", "format", to=None), "source", '"format" is missing'),
    (changed("source", "format", to="json"), "source.csv", "remove it"),
    (changed("source", "key", to=None), "source", "neither prefix nor key"),
    (changed("source", "prefix", to="x/"), "source", "both"),
    (changed("source", "prefix", to=5), "source.prefix", "text"),
    (changed("source", "key", to="a/{b"), "source.key", "brace"),
    (changed("source", "on_error", to="skip"), "source.on_error", "skip_record"),
    (changed("source", "on_eror", to="skip"), "source.on_eror", 'did you mean "on_error"'),
    (changed("source", "records", to="a[]"), "source.records", "json"),
    (changed("source", "extractor", to="no function"), "source.extractor", "module:function"),
    (changed("source", "max_depth", to=0), "source.max_depth", "whole number"),
    (changed("source", "max_object_bytes", to=True), "source.max_object_bytes", "whole number"),
    (changed("source", "csv", "delimiter", to=";;"), "source.csv.delimiter", "one ASCII character"),
    (changed("source", "csv", "quote", to=","), "source.csv.quote", "delimiter too"),
    (changed("source", "csv", "encoding", to="utf-9"), "source.csv.encoding", "utf-8"),
    (changed("source", "csv", "encoding", to="base64"), "source.csv.encoding", "utf-8"),
    (changed("source", "csv", "header", to=["a", "a"]), "source.csv.header", "twice"),
    (changed("source", "csv", "header", to=["a", "at"]), "fields.b", "unknown column"),
    (changed("source", "csv", "null_values", to="NA"), "source.csv.null_values", "list"),
    (changed("fields", to={}), "fields", "0 fields"),
    (changed("fields", "a", to="itn"), "fields.a.type", 'did you mean "int"'),
    (changed("fields", "a", to="INT"), "fields.a.type", 'did you mean "int"'),
    (changed("fields", "a", to=5), "fields.a", "expected"),
    (changed("fields", "a", to={"path": "x"}), "fields.a", '"type" is missing'),
    (changed("fields", "a", to={"type": "int", "requierd": True}), "fields.a.requierd", 'did you mean "required"'),
    (changed("fields", "a", to={"type": "int", "required": "yes"}), "fields.a.required", "true or false"),
    (changed("fields", "a", to={"type": "int", "from": "keys"}), "fields.a.from", 'did you mean "key"'),
    (changed("fields", "a", to={"type": "int", "format": "%d"}), "fields.a.format", "remove it"),
    (changed("fields", "a", to={"type": "date", "timezone": "UTC"}), "fields.a.timezone", "remove it"),
    (changed("fields", "at", "timezone", to="Europe/Berlim"), "fields.at.timezone", 'did you mean "Europe/Berlin"'),
    (changed("fields", "at", "timezone", to="../../etc/passwd"), "fields.at.timezone", "unknown time zone"),
    (changed("fields", "at", "format", to="epoch_s"), "fields.at.timezone", "remove it"),
    (changed("fields", "at", "format", to="%d/%m"), "fields.at.format", "no year"),
    (changed("fields", "at", "format", to="%d/%m/%Y %Q"), "fields.at.format", "%Q"),
    (changed("fields", "at", "format", to="%Y %d %d"), "fields.at.format", "each directive once"),
    (changed("fields", "at", "format", to="%G"), "fields.at.format", "%V"),
    (changed("fields", "at", "format", to="%Y %Z"), "fields.at.format", "%Z"),
    (changed("fields", "at", "format", to="%Y %"), "fields.at.format", "%"),
    (changed("fields", "at", to={"type": "timestamp", "format": "%Y-%m-%d"}), "fields.at.format", "timezone"),
    (changed("fields", "d", to={"type": "date", "format": "%Y %H", "path": "a"}), "fields.d.format", "%H"),
    (changed("fields", "d", to={"type": "date", "format": "epoch_s", "path": "a"}), "fields.d.format", "year"),
    (changed("fields", "_x", to="int"), "fields._x", 'name it "x"'),
    (changed("fields", "", to="int"), "fields.", "1 to"),
    (changed("fields", 'a"b', to="int"), 'fields.a"b', "quotes"),
    (changed("fields", "x" * 201, to="int"), "fields.xxx", "shorter"),
    (changed("fields", "region", "path", to="regoin"), "fields.region", 'did you mean "region"'),
    (changed("source", to={"prefix": "x", "format": "csv"}), "fields.region", "no placeholders"),
    (changed("fields", "s", to={"type": "string", "from": "system"}), "fields.s.path", "unknown system property"),
    (changed("fields", "size", to={"type": "string", "from": "system"}), "fields.size.type", '"int"'),
    (changed("fields", "m", to={"type": "string", "from": "tag", "path": ["a", "b"]}), "fields.m.path", "one name"),
    (
        {"source": {"format": "blob", "prefix": "x"}, "fields": {"a": "int"}},
        "fields.a",
        "never read",
    ),
    (
        {"source": {"format": "json", "prefix": "x"}, "fields": {"a": {"type": "int", "path": "a..b"}}},
        "fields.a.path",
        "empty",
    ),
    (
        {"source": {"format": "json", "prefix": "x", "records": "a"}, "fields": {"a": "int"}},
        "source.records",
        "Records[]",
    ),
    (changed("indexes", "by_a", to=["aa"]), "indexes.by_a", 'unknown field "aa"'),
    (changed("indexes", "by_a", to=[]), "indexes.by_a", "0 fields"),
    (changed("indexes", "by_a", to=["a", "a"]), "indexes.by_a", "twice"),
    (changed("indexes", "by_a", to="a"), "indexes.by_a", "list"),
    (changed("indexes", "By", to=["a"]), "indexes.By", "lower-case"),
    (changed("indexes", "records", to=["a"]), "indexes.records", "built-in"),
    (changed("indexes", "per_day", to=["a"]), "summaries.per_day", "rename"),
    (changed("summaries", "rejects", to={}), "summaries.rejects", "built-in"),
    (changed("summaries", "per_day", "group_by", to=None), "summaries.per_day", "missing"),
    (changed("summaries", "per_day", "group_by", to=[]), "summaries.per_day.group_by", "0 terms"),
    (changed("summaries", "per_day", "group_by", to=["dya(at)"]), "summaries.per_day.group_by", 'did you mean "day"'),
    (changed("summaries", "per_day", "group_by", to=["day(att)"]), "summaries.per_day.group_by", 'did you mean "at"'),
    (changed("summaries", "per_day", "group_by", to=["day(a)"]), "summaries.per_day.group_by", "timestamp or date"),
    (changed("summaries", "per_day", "group_by", to=['day(at, "Mars")']), "summaries.per_day.group_by", "Mars"),
    (changed("summaries", "per_day", "group_by", to=["a", "a"]), "summaries.per_day", '"a"'),
    (changed("summaries", "per_day", "measures", to={"at_day": "count()"}), "summaries.per_day", '"at_day"'),
    (changed("summaries", "per_day", "measures", to={}), "summaries.per_day.measures", "0 measures"),
    (changed("summaries", "per_day", "measures", to={"n": "cuont()"}), "summaries.per_day.measures.n", '"count"'),
    (changed("summaries", "per_day", "measures", to={"n": "sum()"}), "summaries.per_day.measures.n", "needs a field"),
    (changed("summaries", "per_day", "measures", to={"n": "sum(b)"}), "summaries.per_day.measures.n", "a string"),
    (changed("summaries", "per_day", "measures", to={"n": "sum a"}), "summaries.per_day.measures.n", "count()"),
    (changed("summaries", "per_day", "measures", to={"_n": "count()"}), "summaries.per_day.measures._n", "reserved"),
    (changed("summaries", "per_day", "measure", to={}), "summaries.per_day.measure", 'did you mean "measures"'),
]


@pytest.mark.parametrize(("plain", "entry", "hint"), WRONG, ids=[f"{e[:30]}-{i}" for i, (_, e, _) in enumerate(WRONG)])
def test_an_error_names_file_entry_and_remedy(plain: dict[str, Any], entry: str, hint: str) -> None:
    TableDefinition.from_dict("plain", PLAIN)
    with pytest.raises(DefinitionError) as caught:
        TableDefinition.from_dict("plain", plain, origin="tables/plain.toml")
    message = str(caught.value)
    assert message.startswith("tables/plain.toml: ")
    assert entry in message
    assert hint in message
    assert "; " in message


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(plain: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = (
        [place for key, value in plain.items() for place in places(value, (*path, key))]
        if isinstance(plain, dict)
        else []
    )
    return [path, *inner]


@given(st.sampled_from(places(PLAIN)[1:]), JUNK)
def test_whatever_stands_in_an_entry_gives_a_definition_or_a_definition_error(
    place: tuple[str, ...], junk: Any
) -> None:
    plain = copy.deepcopy(PLAIN)
    inner = plain
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = junk
    try:
        table = TableDefinition.from_dict("t", plain)
    except DefinitionError:
        return
    assert TableDefinition.from_dict("t", table.to_dict()) == table


def test_multi_valued_fields_have_their_limits() -> None:
    plain: dict[str, Any] = {
        "source": {"format": "json", "prefix": "x/"},
        "fields": {"a": {"type": "int", "path": "a[]"}, "b": {"type": "int", "path": "b[]"}, "c": "int"},
    }
    TableDefinition.from_dict("t", plain | {"indexes": {"i": ["a", "c"], "j": ["c", "b"]}})
    with pytest.raises(DefinitionError, match="a and b hold many values"):
        TableDefinition.from_dict("t", plain | {"indexes": {"i": ["a", "c", "b"]}})
    for group_by, measures in ((["a"], {"n": "count()"}), (["c"], {"n": "sum(a)"})):
        with pytest.raises(DefinitionError, match="many values"):
            TableDefinition.from_dict("t", plain | {"summaries": {"s": {"group_by": group_by, "measures": measures}}})


@pytest.mark.parametrize("name", ["", "Orders", "1a", "a.b", "a/b", "a" * 64, "a b"])
def test_table_names(name: str) -> None:
    with pytest.raises(DefinitionError, match="lower-case"):
        TableDefinition.from_dict(name, PLAIN)


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("a.toml", "[source\n", "line 1"),
        ("a.toml", ORDERS + "\n[fields]\n", "only once"),
        ("a.toml", ORDERS.replace("email ", "id "), "only once"),
        ("Bad.toml", ORDERS, "lower-case"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, text: str, hint: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(DefinitionError) as caught:
        TableDefinition.load(path)
    assert str(path) in str(caught.value)
    assert hint in str(caught.value)


def test_a_file_in_another_encoding_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(DefinitionError, match="UTF-8"):
        TableDefinition.load(path)
    with pytest.raises(DefinitionError, match="check the path"):
        TableDefinition.load(tmp_path / "none.toml")


def source_only(source: str) -> str:
    return f'[source]\nformat = "json"\n{source}\n[fields]\na = "int"\n'


def test_tables_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "b.toml", source_only('prefix = "b/"'))
    write(tmp_path, "a.toml", source_only('key = "a/{x}.json"'))
    write(tmp_path, "notes.txt", "no table")
    tables = load_tables(tmp_path)
    assert [table.name for table in tables] == ["a", "b"]
    assert load_tables([tmp_path / "b.toml", tmp_path / "a.toml"]) == tables
    assert load_tables(tmp_path / "a.toml") == tables[:1]
    assert literal_prefixes(tables) == ("a/", "b/")
    write(tmp_path, "c.toml", source_only('key = "a/sub/{x}.json"'))
    assert literal_prefixes(load_tables(tmp_path)) == ("a/", "b/")


def test_a_folder_without_tables(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="write one"):
        load_tables(tmp_path)


def test_two_tables_that_claim_a_key_name_both_files(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", source_only('key = "in/{x}/data.json"'))
    write(tmp_path, "b.toml", source_only('key = "in/eu/{y}.json"'))
    with pytest.raises(DefinitionError) as caught:
        load_tables(tmp_path)
    message = str(caught.value)
    assert "a.toml" in message
    assert "b.toml" in message
    assert '"in/eu/data.json"' in message


def test_two_files_of_one_name(tmp_path: Path) -> None:
    paths = []
    for i in (1, 2):
        folder = tmp_path / str(i)
        folder.mkdir()
        paths.append(write(folder, "a.toml", source_only(f'prefix = "{i}/"')))
    with pytest.raises(DefinitionError) as caught:
        load_tables(paths)
    assert all(str(path) in str(caught.value) for path in paths)


def test_an_unknown_field_is_a_query_error_with_a_suggestion() -> None:
    table = TableDefinition.from_dict("plain", PLAIN)
    with pytest.raises(QueryError, match='did you mean "region"'):
        table.field("regoin")
    with pytest.raises(QueryError, match='did you mean "month"'):
        table.group("mnth(at)")
    with pytest.raises(QueryError, match="a string"):
        table.measure("avg(b)")
    assert table.group("day(at)").name == "at_day"
    assert table.measure("avg(a)").name == "avg_a"
