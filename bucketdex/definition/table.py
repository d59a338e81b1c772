"""A table's definition: its source, fields, indexes and summaries. Changes when a definition may say more."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from bucketdex.definition.entries import suggestion
from bucketdex.definition.fields import Field
from bucketdex.definition.groups import GroupTerm, parse_group, resolve
from bucketdex.definition.kinds import ValueTypeError
from bucketdex.definition.measures import Measure, check_measure, parse_measure
from bucketdex.definition.template import KeyTemplate
from bucketdex.errors import DefinitionError, QueryError

OBJECT_BYTES_MAX = 2 * 2**30  # what one function invocation indexes within its 15 minutes, with room to spare
UNPACKED_BYTES_MAX = 4 * 2**30
DEPTH_MAX = 64  # of nesting within a record
RETIRED = "@"  # in the name of a retiring view, before its hash; no name in a file has it
HASH_DIGITS = 12


class CsvOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a CSV is written.

    `header`: True, the first line names the columns; names, there is no such line and these are they; False, there is
    none and the columns are the content fields in declared order. A column that reads as one of `null_values` is null.
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: bool | tuple[str, ...] = True
    null_values: tuple[str, ...] = ("",)


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which objects are a table's and how their records are read.

    Either `prefix` or `key` (a template) is set; bounds are in bytes and levels.
    """

    format: str
    prefix: str | None = None
    key: str | None = None
    on_error: Literal["skip_record", "reject_object"] = "skip_record"
    records: str | None = None
    extractor: str | None = None
    csv: CsvOptions = CsvOptions()
    max_object_bytes: int = OBJECT_BYTES_MAX
    max_unpacked_bytes: int = UNPACKED_BYTES_MAX
    max_depth: int = DEPTH_MAX

    @property
    def record_steps(self) -> tuple[str, ...] | None:
        """The steps to the list of records: () for a top-level array, None when the document itself is the record."""
        if self.records is None:
            return None
        return tuple(step for step in self.records.removesuffix("[]").split(".") if step)

    def pattern(self) -> KeyTemplate | str:
        """The template, or the prefix as plain text."""
        return key_template(self.key) if self.key is not None else self.prefix or ""


class Index(msgspec.Struct, frozen=True):
    """A secondary index: all rows, ordered by these fields."""

    name: str
    fields: tuple[str, ...]


class Summary(msgspec.Struct, frozen=True):
    """Measures of the rows of each group."""

    name: str
    group_by: tuple[GroupTerm, ...]
    measures: tuple[Measure, ...]


class Retiring(msgspec.Struct, frozen=True):
    """Indexes and summaries as they were, named `<name>@<hash>`: they answer until what replaced them is built."""

    indexes: tuple[Index, ...] = ()
    summaries: tuple[Summary, ...] = ()


class TableDefinition(msgspec.Struct, frozen=True):
    """What a table is. `retiring` is said by the index itself, never by a file.

    Valid by construction through `load` and `from_dict`, which raise a DefinitionError naming file, entry and remedy.
    """

    name: str
    source: Source
    fields: tuple[Field, ...]
    indexes: tuple[Index, ...] = ()
    summaries: tuple[Summary, ...] = ()
    retiring: Retiring = Retiring()

    @classmethod
    def load(cls, path: str | Path) -> TableDefinition:
        """The definition in a TOML file; the table is named as the file."""
        import tomllib  # late: readers of an index load no files

        path = Path(path)
        try:
            plain = tomllib.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise DefinitionError(f"{path}: can't be read ({error.strerror}); check the path") from error
        except UnicodeDecodeError as error:
            raise DefinitionError(f"{path}: isn't UTF-8 at byte {error.start}; save it as UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise DefinitionError(f"{path}: isn't valid TOML: {error}; a name may be given only once") from error
        if "retiring" in plain:
            raise DefinitionError(f"{path}: retiring: only the index itself says what retires; remove it")
        return cls.from_dict(path.stem, plain, origin=str(path))

    @classmethod
    def from_dict(cls, name: str, mapping: Mapping[str, Any], *, origin: str = "definition") -> TableDefinition:
        """The definition in plain data of the TOML's shape; `origin` is what errors call it."""
        from bucketdex.definition.parse import parse_table

        return parse_table(name, mapping, origin)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able data that `from_dict` reads as an equal definition; equal definitions give equal data."""
        from bucketdex.definition.parse import plain_table

        return plain_table(self)

    def settled(self, name: str | None = None) -> TableDefinition:
        """The definition without what retires, or without what retires in favour of the view of that name."""

        def stays(view: Index | Summary) -> bool:
            return name is not None and retires_for(view.name) != name

        old = self.retiring
        indexes, summaries = tuple(filter(stays, old.indexes)), tuple(filter(stays, old.summaries))
        return msgspec.structs.replace(self, retiring=Retiring(indexes, summaries))

    def match(self, key: str) -> dict[str, str] | None:
        """The placeholders' texts of one of this table's keys ({} under a prefix).

        None when the key isn't this table's.
        """
        if self.source.key is not None:
            return key_template(self.source.key).match(key)
        return {} if key.startswith(self.source.prefix or "") else None

    def field(self, name: str) -> Field:
        """The field of that name; QueryError, with a suggestion, when there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        names = [field.name for field in self.fields]
        hint = suggestion(name, names) or f"declared: {', '.join(names)}"
        raise QueryError(f'table {self.name} has no field "{name}"; {hint}')

    @property
    def sensitive(self) -> frozenset[str]:
        """The names of the fields whose values appear in no reject, log, error or explanation."""
        return frozenset(field.name for field in self.fields if field.sensitive)

    def group(self, text: str) -> GroupTerm:
        """The term of a grouping expression, with its field's type; QueryError when it doesn't fit."""
        try:
            declared = any(field.name == text for field in self.fields)
            term = GroupTerm(text, text) if declared else parse_group(text)
            field = self.field(term.field)
            if field.multi:
                raise ValueTypeError(f"{field.name} holds many values, which can't be grouped by")
            return resolve(term, field.type)
        except ValueTypeError as error:
            raise QueryError(f"group {text!r}: {error.reason}") from error

    def measure(self, text: str, name: str = "") -> Measure:
        """The measure of an expression, checked against the fields; QueryError when it doesn't fit."""
        try:
            measure = parse_measure(text, name)
            if measure.field is not None:
                field = self.field(measure.field)
                if field.multi:
                    raise ValueTypeError(f"{field.name} holds many values, which can't be measured")
                check_measure(measure, field.type)
            return measure
        except ValueTypeError as error:
            raise QueryError(f"measure {text!r}: {error.reason}") from error


def retires_for(name: str) -> str:
    """The name of the view that a retiring one, or a hidden view of it, was; any other view's own."""
    before, _, after = name.partition(RETIRED)
    return before + after[HASH_DIGITS:]


@lru_cache(maxsize=1024)
def key_template(text: str) -> KeyTemplate:
    """The compiled template of a text."""
    return KeyTemplate(text)
