"""What the simulation says of the code's text is still true of it: the edits that take rules out, and the lines that no
world runs.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from branches import FILES, UNREACHED, Unreached, functions, is_at
from rules import RULES, Rule

ROOT = Path(__file__).parents[2]


@cache
def text_of(file: str) -> str:
    """A file as `mutations.py` names it, which has the simulation beside the package."""
    return (ROOT / ("tests" if file.startswith("simulation/") else "") / file).read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_edit_of_a_rule_fits_exactly_one_place(rule: Rule) -> None:
    texts: dict[str, str] = {}
    for edit in rule.edits:
        text = texts.get(edit.file, text_of(edit.file))
        assert text.count(edit.old) == 1, f"{edit.file}: {edit.old}"
        texts[edit.file] = text.replace(edit.old, edit.new)
    for file, text in texts.items():
        assert text != text_of(file)
        compile(text, file, "exec")


def test_rules_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(rule.name for rule in RULES).items() if count > 1] == []


@pytest.mark.parametrize("each", UNREACHED, ids=lambda each: f"{each.file} {each.function}: {each.line}")
def test_each_line_that_no_world_runs_is_one_line_of_its_function(each: Unreached) -> None:
    assert each.file in FILES
    source = text_of(each.file)
    lines = source.splitlines()
    places = [line for line, name in functions(source).items() if name == each.function and is_at(each, lines, line)]
    assert len(places) == 1


def test_each_measured_file_exists() -> None:
    assert [file for file in FILES if not (ROOT / file).is_file()] == []
