"""The value of an arithmetic expression, without `eval`: numbers, + - * / %, signs and parentheses.

Numbers are read as people write them: `1,000`, `$29.00`, `50%`, `5 x 3`, `6 ÷ 2`, `3 1/2`, `3½`, `12 (apples)`;
`x = 5` is 5.
"""

import math
import operator
import re
import unicodedata

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|([-+*/()%]))")
_UNIT = re.compile(r"(?<=[\d.)%])\s*\(\s*[^\W\d_][^()\d]*\)\s*$")
_MIXED = re.compile(r"(?<![\d.,/])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.,]|\s*/)")
_UNKNOWN = re.compile(r"\s*[a-zA-Z]\s*=(?!=)")
_SIGNS = str.maketrans("×·⋅∗÷∕⁄−–", "****///--")
_TIMES = re.compile(r"(?<=[\d\s.)%])[xX](?=\s*[-+\d.(])")
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "negate": 3, "(": 0}
_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def _plain(text: str) -> str:
    """The expression without `x =` before it, currency signs, and a unit in parentheses at its end."""
    text = "".join(map(_spelled, text)).translate(_SIGNS)
    text = _MIXED.sub(r"(\1+\2/\3)", _UNKNOWN.sub("", text, count=1) if _UNKNOWN.match(text) else text)
    return _UNIT.sub("", _TIMES.sub("*", text).strip())


def _spelled(char: str) -> str:
    """Nothing of a currency sign, and ` 1⁄2` of `½`."""
    if unicodedata.category(char) == "Sc":
        return " "
    parts = unicodedata.decomposition(char)
    return " " + unicodedata.normalize("NFKC", char) if parts.startswith("<fraction>") else char


def _tokens(text: str) -> list[float | str] | None:
    tokens, position = [], 0
    text = _plain(text)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        number, symbol = match.groups()
        tokens.append(float(number.replace(",", "")) if number else symbol)
        position = match.end()
    return tokens


def _apply(symbol: str, values: list[float]) -> None:
    right = values.pop()
    values.append(-right if symbol == "negate" else _OPERATIONS[symbol](values.pop(), right))


def evaluate_equation(text: str) -> float | None:
    """Value of `text`, such as `( 84.0 / 2.0 )`; None if it is no expression or has no finite value.

    Dijkstra's shunting-yard algorithm: linear in the length, and no recursion to overflow. A percent sign
    divides what stands before it by 100.
    """
    tokens = _tokens(text)
    if not tokens:
        return None
    values: list[float] = []
    operators: list[str] = []
    expect_value = True
    try:
        for token in tokens:
            if isinstance(token, float):
                if not expect_value:
                    return None
                values.append(token)
                expect_value = False
            elif expect_value:
                if token == "(":
                    operators.append("(")
                elif token == "-":
                    operators.append("negate")
                elif token != "+":
                    return None
            elif token == "%":
                values.append(values.pop() / 100.0)
            elif token == ")":
                while operators[-1] != "(":
                    _apply(operators.pop(), values)
                operators.pop()
            elif token == "(":
                return None
            else:
                while operators and _PRECEDENCE[operators[-1]] >= _PRECEDENCE[token]:
                    _apply(operators.pop(), values)
                operators.append(token)
                expect_value = True
        if expect_value or "(" in operators:
            return None
        while operators:
            _apply(operators.pop(), values)
    except (IndexError, ZeroDivisionError):
        return None  # a parenthesis too many, or a division by zero
    value = values[0]
    return value if math.isfinite(value) else None
