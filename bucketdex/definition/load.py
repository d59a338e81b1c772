"""All tables of a deployment, checked against each other. Changes with what two tables may not share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bucketdex.definition.table import TableDefinition
from bucketdex.definition.template import KeyTemplate, common_key, minimal_prefixes
from bucketdex.errors import DefinitionError


def load_tables(where: str | Path | Iterable[str | Path]) -> tuple[TableDefinition, ...]:
    """The tables of all `*.toml` files in a directory, or of the given files, ordered by name.

    DefinitionError when there is none, when one is wrong, when two have the same name, or when some key would belong to
    two.
    """
    if isinstance(where, (str, Path)):
        folder = Path(where)
        paths = sorted(folder.glob("*.toml")) if folder.is_dir() else [folder]
        if not paths:
            raise DefinitionError(f"{folder}: holds no *.toml; write one per table")
    else:
        paths = [Path(path) for path in where]
    tables: dict[str, tuple[Path, TableDefinition]] = {}
    for path in paths:
        table = TableDefinition.load(path)
        if table.name in tables:
            raise DefinitionError(
                f"{path}: the table {table.name} is also defined in {tables[table.name][0]}; rename one of the files"
            )
        tables[table.name] = (path, table)
    loaded = [tables[name] for name in sorted(tables)]
    check_disjoint([table for _, table in loaded], [str(path) for path, _ in loaded])
    return tuple(table for _, table in loaded)


def check_disjoint(tables: Iterable[TableDefinition], origins: Iterable[str] | None = None) -> None:
    """DefinitionError, naming both and a key, when a key could belong to two tables: each object is indexed by one."""
    listed = list(tables)
    names = [table.name for table in listed] if origins is None else list(origins)
    for i, one in enumerate(listed):
        for j in range(i):
            key = common_key(one.source.pattern(), listed[j].source.pattern())
            if key is not None:
                raise DefinitionError(
                    f'{names[i]}: source: a key such as "{key or "x"}" would also belong to {names[j]}; '
                    "make the prefixes or key templates differ"
                )


def literal_prefixes(definitions: Iterable[TableDefinition]) -> tuple[str, ...]:
    """The fewest literal prefixes that cover all keys of these tables.

    None overlaps another: S3 refuses notifications that do.
    """
    patterns = [definition.source.pattern() for definition in definitions]
    return minimal_prefixes(p.literal_prefix if isinstance(p, KeyTemplate) else p for p in patterns)
