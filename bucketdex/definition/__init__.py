"""What a table is: its source, typed fields, indexes and summaries."""

from bucketdex.definition.fields import Field
from bucketdex.definition.groups import GroupTerm, parse_group
from bucketdex.definition.kinds import Canonical, FieldType, ValueTypeError
from bucketdex.definition.load import check_disjoint, literal_prefixes, load_tables
from bucketdex.definition.measures import Measure, parse_measure
from bucketdex.definition.rows import RowCodec, row_codec
from bucketdex.definition.table import CsvOptions, Index, Source, Summary, TableDefinition
from bucketdex.definition.template import KeyTemplate
from bucketdex.definition.types import (
    canonicalizer,
    from_json,
    from_literal,
    from_text,
    python_converter,
    text_canonicalizer,
    to_python,
)

__all__ = [
    "Canonical",
    "CsvOptions",
    "Field",
    "FieldType",
    "GroupTerm",
    "Index",
    "KeyTemplate",
    "Measure",
    "RowCodec",
    "Source",
    "Summary",
    "TableDefinition",
    "ValueTypeError",
    "canonicalizer",
    "check_disjoint",
    "from_json",
    "from_literal",
    "from_text",
    "literal_prefixes",
    "load_tables",
    "parse_group",
    "parse_measure",
    "python_converter",
    "row_codec",
    "text_canonicalizer",
    "to_python",
]
