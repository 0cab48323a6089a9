import pytest

from distill_jax.decoding.tries import plant, text_at

EOS = 1


def walk(trees, row, tokens):
    """The number of the text that these tokens lead to."""
    node = trees.roots[row]
    for token in tokens:
        if node < 0:
            break
        allowed = [trees.ids[place] if place >= 0 else -1 for place in trees.tokens[node]]
        node = trees.after[node][allowed.index(token)]
    return text_at(node)


def test_every_text_is_found_and_nothing_else_allowed():
    texts = [[5, 6, EOS], [5, 7, 8, EOS], [5, EOS], [9, EOS]]
    trees = plant([texts])
    for number, text in enumerate(texts):
        assert walk(trees, 0, text) == number
    root = trees.tokens[trees.roots[0]]
    assert sorted(trees.ids[root[root >= 0]]) == [5, 9]


def test_a_text_is_known_once_no_other_is_left():
    trees = plant([[[5, 6, 7, EOS], [8, 6, 7, EOS]]])
    assert walk(trees, 0, [5]) == 0 and walk(trees, 0, [8]) == 1


def test_rows_share_trees_and_equal_texts_count_once():
    texts = [[5, 6, EOS], [5, 6, EOS], [7, EOS]]
    trees = plant([texts, [[9, EOS]], texts])
    assert trees.roots[0] == trees.roots[2]
    assert text_at(trees.roots[1]) == 0
    assert walk(trees, 0, [5]) == 0 and walk(trees, 0, [7]) == 2


def test_a_row_without_texts():
    with pytest.raises(ValueError, match="row 1"):
        plant([[[5, EOS]], []])
