"""A beam search that is slow and plain, by transformers' rule or T5X's; see `decoding.search.beam_decode`."""

import itertools
import math
from typing import NamedTuple

EOS = 1


class Found(NamedTuple):
    """What a search found of one row.

    Attributes:
      hypotheses: (tokens up to the end token, score), in order.
      margin: the least difference that it decided by.
      alike: whether it saw nothing that the two rules treat differently, but for the penalty.
    """

    hypotheses: list[tuple[tuple[int, ...], float]]
    margin: float
    alike: bool


def ranked(hypotheses, count):
    """The best `count` of (score, tokens), and the least difference between any two of these or the next."""
    best = sorted(hypotheses, key=lambda hypothesis: -hypothesis[0])[: count + 1]
    gaps = [a[0] - b[0] for a, b in itertools.pairwise(best)]
    return best[:count], min(gaps, default=math.inf)


def plain_search(beams, length, penalty, rule):
    """Beam search of one row, a generator that returns `Found`.

    It yields the live hypotheses, tuples of tokens, and is sent log-probabilities [live, vocab] of the next.
    """
    as_t5x = rule == "t5x"

    def divisor(size):
        return ((5 + size) / 6 if as_t5x else size) ** penalty

    live, finished, margins, alike = [(0.0, ())], [], [], True
    for size in range(1, length + 1):
        log_probs = yield [tokens for _, tokens in live]
        continuations = [
            (score + log_prob, (*tokens, token))
            for (score, tokens), of_live in zip(live, log_probs, strict=True)
            for token, log_prob in enumerate(of_live)
        ]
        best, margin = ranked(continuations, 2 * beams)
        if as_t5x:
            ended = [hypothesis for hypothesis in best if hypothesis[1][-1] == EOS]
        else:
            ended = [hypothesis for hypothesis in best[:beams] if hypothesis[1][-1] == EOS or size == length]
        alike &= all(tokens[-1] != EOS for _, tokens in best[beams:])
        finished, gap = ranked(finished + [(score / divisor(size), tokens) for score, tokens in ended], beams)
        live = [hypothesis for hypothesis in best if hypothesis[1][-1] != EOS][:beams]
        bound = live[0][0] / divisor(length if as_t5x else size)
        margins += [margin, gap]
        if len(finished) == beams and size < length:
            margins.append(abs(bound - finished[-1][0]))
            if bound <= finished[-1][0]:
                break
    else:
        alike = False
    if as_t5x:
        finished += [(score / divisor(length), tokens) for score, tokens in live[: beams - len(finished)]]
    return Found([(tokens, score) for score, tokens in finished], min(margins), alike)
