import pytest

from distill_jax.decoding.tries import build_tries, text_number

EOS = 1


def walk(tries, row, tokens):
    """The number of the text that these tokens lead to."""
    node = tries.roots[row]
    for token in tokens:
        if node < 0:
            break
        allowed = [tries.ids[place] if place >= 0 else -1 for place in tries.tokens[node]]
        node = tries.children[node][allowed.index(token)]
    return text_number(node)


def test_every_text_is_found_and_nothing_else_allowed():
    texts = [[5, 6, EOS], [5, 7, 8, EOS], [5, EOS], [9, EOS]]
    tries = build_tries([texts])
    for number, text in enumerate(texts):
        assert walk(tries, 0, text) == number
    root = tries.tokens[tries.roots[0]]
    assert sorted(tries.ids[root[root >= 0]]) == [5, 9]


def test_a_text_is_known_once_no_other_is_left():
    tries = build_tries([[[5, 6, 7, EOS], [8, 6, 7, EOS]]])
    assert walk(tries, 0, [5]) == 0 and walk(tries, 0, [8]) == 1


def test_rows_share_tries_and_equal_texts_count_once():
    texts = [[5, 6, EOS], [5, 6, EOS], [7, EOS]]
    tries = build_tries([texts, [[9, EOS]], texts])
    assert tries.roots[0] == tries.roots[2]
    assert text_number(tries.roots[1]) == 0
    assert walk(tries, 0, [5]) == 0 and walk(tries, 0, [7]) == 2


def test_a_row_without_texts():
    with pytest.raises(ValueError, match="row 1"):
        build_tries([[[5, EOS]], []])


def test_texts_may_share_more_tokens_than_pythons_stack_holds():
    texts = [[5] * 2000 + [6, EOS], [5] * 2000 + [7, EOS]]
    tries = build_tries([texts])
    assert walk(tries, 0, texts[0]) == 0 and walk(tries, 0, texts[1]) == 1
