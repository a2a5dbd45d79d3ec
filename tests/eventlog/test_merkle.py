from __future__ import annotations

from base64 import b64decode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import merkle
from eventlog.merkle import Tree

from .support import naive_consistency, naive_inclusion, naive_root


def leaves_of(size: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(size)]


def subtree_of(leaves: list[bytes]) -> merkle.Subtree:
    return lambda start, end: naive_root(leaves[start:end])


sizes = st.integers(1, 70) | st.sampled_from([127, 128, 129, 255, 256, 257, 300])


def test_published_roots():
    """The eight leaves of Certificate Transparency's own reference tests."""
    inputs = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
    tree = Tree()
    for item in inputs:
        tree.add(merkle.leaf_hash(item))
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert Tree().root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert b64decode("bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=") == merkle.leaf_hash(b"")


@given(st.integers(0, 600))
def test_the_incremental_root_is_the_definitions(size: int):
    leaves, tree = leaves_of(size), Tree()
    for leaf in leaves:
        tree.add(leaf)
    assert tree.root() == naive_root(leaves)
    assert Tree.from_bytes(size, tree.to_bytes()).root() == tree.root()


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_stored_tree_grows_on(first: int, more: int):
    leaves, tree = leaves_of(first + more), Tree()
    for leaf in leaves[:first]:
        tree.add(leaf)
    again = Tree.from_bytes(tree.size, tree.to_bytes())
    for leaf in leaves[first:]:
        again.add(leaf)
    assert again.root() == naive_root(leaves)


def test_complete_tile_hashes():
    leaves, tree = leaves_of(256 * 3 + 5), Tree()
    for leaf in leaves:
        tree.add(leaf)
    assert tree.complete == [(1, index, naive_root(leaves[256 * index : 256 * index + 256])) for index in range(3)]


def test_complete_tile_hashes_of_the_second_level():
    tree = Tree()
    for number in range(65_536):
        tree.add(number.to_bytes(32, "big"))
    assert [entry for entry in tree.complete if entry[0] == 2] == [(2, 0, tree.root())]
    assert len(tree.complete) == 257


@pytest.mark.parametrize(("size", "nodes"), [(1, b""), (0, bytes(32)), (3, bytes(32)), (2, bytes(31))])
def test_a_damaged_head_is_not_a_tree(size: int, nodes: bytes):
    with pytest.raises(ValueError, match=r"perfect subtrees|32 bytes"):
        Tree.from_bytes(size, nodes)


@given(sizes, st.data())
def test_inclusion(size: int, data: st.DataObject):
    index, leaves = data.draw(st.integers(0, size - 1)), leaves_of(size)
    path, root = merkle.inclusion_path(index, size, subtree_of(leaves)), naive_root(leaves)
    assert path == naive_inclusion(index, leaves)
    assert merkle.verify_inclusion(leaves[index], index, size, path, root)


@given(sizes, st.data())
def test_a_wrong_inclusion_proof_proves_nothing(size: int, data: st.DataObject):
    index, leaves = data.draw(st.integers(0, size - 1)), leaves_of(size)
    path, root = naive_inclusion(index, leaves), naive_root(leaves)
    other = sha256(b"other").digest()
    assert not merkle.verify_inclusion(other, index, size, path, root)
    assert not merkle.verify_inclusion(leaves[index], index, size, path, other)
    assert not merkle.verify_inclusion(leaves[index], index, size, [*path, other], root)
    for place in range(len(path)):
        assert not merkle.verify_inclusion(leaves[index], index, size, [*path[:place], other, *path[place + 1 :]], root)
        assert not merkle.verify_inclusion(leaves[index], index, size, path[:place] + path[place + 1 :], root)
    for wrong in {index - 1, index + 1, size, -1} - {index}:
        assert not merkle.verify_inclusion(leaves[index], wrong, size, path, root)


@given(sizes, st.data())
def test_consistency(size: int, data: st.DataObject):
    old, leaves = data.draw(st.integers(1, size)), leaves_of(size)
    path = merkle.consistency_path(old, size, subtree_of(leaves))
    assert path == naive_consistency(old, leaves)
    assert merkle.verify_consistency(old, size, path, naive_root(leaves[:old]), naive_root(leaves))


@given(sizes, st.data())
def test_a_wrong_consistency_proof_proves_nothing(size: int, data: st.DataObject):
    old, leaves = data.draw(st.integers(1, size)), leaves_of(size)
    path, old_root, root = naive_consistency(old, leaves), naive_root(leaves[:old]), naive_root(leaves)
    other = sha256(b"other").digest()
    assert not merkle.verify_consistency(old, size, path, other, root)
    assert not merkle.verify_consistency(old, size, path, old_root, other)
    assert not merkle.verify_consistency(old, size, [*path, other], old_root, root)
    for wrong in {old, 2 * size, 2 * size + 1} - {size}:
        assert not merkle.verify_consistency(old, wrong, path, old_root, root)
    for place in range(len(path)):
        assert not merkle.verify_consistency(old, size, [*path[:place], other, *path[place + 1 :]], old_root, root)
        assert not merkle.verify_consistency(old, size, path[:place] + path[place + 1 :], old_root, root)


@pytest.mark.parametrize(("old", "size"), [(0, 3), (4, 3), (-1, 3)])
def test_what_is_no_prefix_has_no_proof(old: int, size: int):
    with pytest.raises(ValueError, match="prefix"):
        merkle.consistency_path(old, size, subtree_of(leaves_of(size)))
    assert not merkle.verify_consistency(old, size, [], b"", b"")


@pytest.mark.parametrize("index", [-1, 3])
def test_a_leaf_outside_has_no_proof(index: int):
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion_path(index, 3, subtree_of(leaves_of(3)))
