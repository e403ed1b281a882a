from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import yamltree
from config.yamltree import MOST_LEVELS, NotReadable, changed, find, mark_of, plain, read


def tree(text: str) -> tuple[yamltree.Node, list[str]]:
    said: list[str] = []
    root = read(text, lambda mark, message: said.append(f"{mark[0]}:{mark[1]}: {message}"))
    assert root is not None
    return root, said


VALUES = [
    pytest.param("52:54:00:12:34:56", "52:54:00:12:34:56", id="mac-of-decimal-digits"),
    pytest.param("no", "no", id="no-is-not-false"),
    pytest.param("on", "on", id="on-is-not-true"),
    pytest.param("1:30", "1:30", id="not-sexagesimal"),
    pytest.param("0644", "0644", id="not-octal"),
    pytest.param("1.10", "1.10", id="not-a-float"),
    pytest.param("2026-11-21", "2026-11-21", id="not-a-date"),
    pytest.param("~", None, id="null"),
    pytest.param("null", None, id="null-in-words"),
    pytest.param("", None, id="nothing"),
    pytest.param("'null'", "null", id="quoted-null"),
    pytest.param("''", "", id="quoted-nothing"),
    pytest.param("|-\n  ~", "~", id="block-null"),
    pytest.param("!!str null", "null", id="a-text-by-its-tag"),
    pytest.param("[a, {b: c}, []]", ["a", {"b": "c"}, []], id="lists"),
    pytest.param("&x [1]\nl: *x", ["1"], id="anchor"),
    pytest.param(">\n  a\n  b", "a b\n", id="folded"),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_plain_word_is_its_text(text: str, value: object) -> None:
    root, said = tree(f"k: {text}\n")
    assert plain(root)["k"] == value
    assert said == []


MERGES = [
    pytest.param("a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}", {"x": "1", "y": "2"}, id="own-keys-win"),
    pytest.param("a: &a {x: 1}\nc: &c {x: 2, z: 3}\nb: {<<: [*a, *c]}", {"x": "1", "z": "3"}, id="the-first-wins"),
]


@pytest.mark.parametrize(("text", "value"), MERGES)
def test_mappings_are_merged(text: str, value: object) -> None:
    root, said = tree(text)
    assert plain(root)["b"] == value
    assert said == []


MISTAKES = [
    pytest.param("a: 1\nb: {c: 1,\n c: 2}", ["3:2: the key 'c' is already there, in line 2"], id="duplicate"),
    pytest.param("a: 1\na: {x: 1}\nb: 2", ["2:1: the key 'a' is already there, in line 1"], id="duplicate-mapping"),
    pytest.param("? [a]\n: 1\nb: 2", ["1:3: a key is a single word, not a list or a mapping"], id="list-as-key"),
    pytest.param("a: *x", ["1:4: *x is not defined above"], id="unknown-alias"),
    pytest.param("a: &x [*x]", ["1:8: *x is not defined above"], id="alias-of-itself"),
    pytest.param("a: !env X", ["1:4: the tag '!env' has no meaning here"], id="tag"),
    pytest.param("a: !!python/name:os.system ''", ["1:4: the tag 'tag:yaml.org,2002:python/name:os.system' has no"
                                                   " meaning here"], id="python-tag"),
    pytest.param("b: {<<: x}", ["1:5: << takes a mapping, such as *name of one that is marked &name above"],
                 id="merge-of-a-word"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_does_not_stop_the_reading(text: str, expected: list[str]) -> None:
    root, said = tree(text)
    assert said == expected
    assert isinstance(plain(root), dict)


def test_the_first_of_two_equal_keys_counts() -> None:
    assert plain(tree("a: 1\na: 2\n~: 3")[0]) == {"a": "1", "null": "3"}


ENDS = [
    pytest.param("a: " + "[" * 20000, (1, 3 + MOST_LEVELS), "nested deeper", id="20000-brackets"),
    pytest.param("a: " + "{a: " * 20000, (1, 4 * MOST_LEVELS), "nested deeper", id="20000-braces"),
    pytest.param("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 99)),
                 (49, 6), "nested deeper", id="nested-by-aliases"),
    pytest.param("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)),
                 (7, 5), "more than 1000000 values", id="a-billion-laughs"),
    pytest.param("a: b: c", (1, 5), "not YAML: a second key in one line", id="syntax"),
    pytest.param("a:\n\tb: 1\n", (2, 1), "not YAML: a tab stands before the first word; indent with spaces", id="tab"),
    pytest.param("a:\n  - b: 1\n\t  c: 1\n", (3, 1), "a tab stands before the first word", id="tab in a list"),
    pytest.param("a: [1\n", (2, 1), "not YAML", id="end"),
    pytest.param("a: 1\n---\nb: 2", (2, 1), "second document", id="two-documents"),
    pytest.param("a: 1\nbc: \x00", (2, 5), "not allowed", id="nul"),
    pytest.param("a: \ud800", (1, 4), "not allowed", id="surrogate"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "mark", "message"), ENDS)
def test_reading_ends_where_it_cannot_go_on(text: str, mark: tuple[int, int], message: str) -> None:
    with pytest.raises(NotReadable, match=message) as caught:
        tree(text)
    assert caught.value.mark == mark


def test_nothing_is_no_tree() -> None:
    assert read("# only a comment\n", lambda *_: None) is None


def test_every_key_and_value_has_its_place() -> None:
    root, _ = tree("pools:\n  - name: a\n    nodes: [x,\n      y]\n    tags:\n")
    assert mark_of(root, ("pools", 0, "name")) == (2, 11)
    assert mark_of(root, ("pools", 0, "name"), key=True) == (2, 5)
    assert mark_of(root, ("pools", 0, "nodes", 1)) == (4, 7)
    assert mark_of(root, ("pools", 0, "tags")) == (5, 5), "an empty value is where its key is"
    assert mark_of(root, ("pools", 0, "image")) == (2, 5), "what is not there is where it should be"
    assert mark_of(root, ("pools", 7, "image"), key=True) == (2, 3)
    assert mark_of(root, ("pools", "x", 1)) == (2, 3)
    assert mark_of(root, ()) == (1, 1)


def test_a_tree_is_changed_and_the_rest_keeps_its_marks() -> None:
    root, _ = tree("a: [x, y, z]\nb: {c: 1, d: [2]}\n")
    new = yamltree.Scalar((0, 0), "new")
    after = changed(root, {("a", 0): None, ("b", "d"): None, ("b", "e"): new, ("b", "f"): None, ("x", "y"): None})
    assert plain(after) == {"a": ["y", "z"], "b": {"c": "1", "e": "new"}}
    assert mark_of(after, ("a", 0)) == (1, 8)
    assert find(after, ("b", "e")) is new
    assert plain(changed(root, {("a",): None, ("a", 1): new})) == {"b": {"c": "1", "d": ["2"]}}
    assert plain(changed(new, {("a",): None})) == "new"
    assert plain(root) == {"a": ["x", "y", "z"], "b": {"c": "1", "d": ["2"]}}


words = st.text("abcXYZ019:-.#'\" \\é{}[],&*!|>%@`~?", max_size=8)
values = st.recursive(words, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4))


@given(value=values, flow=st.booleans())
def test_what_another_program_writes_is_read_back(value: Any, flow: bool) -> None:
    quoted = yaml.safe_dump(value, default_flow_style=flow, default_style='"', allow_unicode=True)
    root, said = tree(quoted)
    assert said == []
    assert plain(root) == value


@given(text=st.text("ab:{}[],&*!|>-? \n'\"<#%", max_size=40) | st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    marks = []
    try:
        root = read(text, lambda mark, _: marks.append(mark))
    except NotReadable as error:
        marks.append(error.mark)
    else:
        if root is not None:
            plain(root)
    assert all(line >= 1 and column >= 1 for line, column in marks)
