"""ABX of frozen frames: is X nearer to another token of its letter, A, than to a token of a different one, B?

As in the ZeroSpeech challenges (Schatz 2016; "any context", Hallap et al. 2023, arXiv 2210.15775), on letters of the forced
alignment. Within speakers all three tokens are of one speaker; across, X is of a different one than A and B. Error rates
are averaged over speakers, then over ordered pairs of letters. Frames are compared by their angle, tokens by dynamic time
warping in Sakoe and Chiba's symmetric form, whose cost per frame is exact: (n + m) D(n, m).
"""

from collections import defaultdict

import numpy as np

SHORTEST, LONGEST = 2, 10  # frames of a token; longer ones are mostly alignment errors
FEWEST = 5  # tokens of a letter that a speaker must have


def find_tokens(letters, speakers, silence):
    """{(letter, speaker): [(utterance, first frame, end)]} of all runs of equal letters of usable length.

    letters: [(frames,) int64 per utterance]; speakers: [str per utterance]
    """
    found = defaultdict(list)
    for utterance, (row, speaker) in enumerate(zip(letters, speakers)):
        edges = np.flatnonzero(np.r_[True, row[1:] != row[:-1], True]) if len(row) else [0]
        for first, end in zip(edges[:-1], edges[1:]):
            if row[first] != silence and SHORTEST <= end - first <= LONGEST:
                found[int(row[first]), speaker].append((utterance, int(first), int(end)))
    return {key: tokens for key, tokens in found.items() if len(tokens) >= FEWEST}


def draw_triples(tokens, across, each=10, seed=0):
    """[(pair of letters, speakers, A, B, X)]: `each` of every pair and speaker, the same for every encoder."""
    generator, triples = np.random.default_rng([seed, across]), []
    letters, speakers = (sorted({key[place] for key in tokens}) for place in (0, 1))
    for first in letters:
        for second in letters:
            for speaker in speakers:
                for other in speakers:
                    cell = tokens.get((first, speaker)), tokens.get((second, speaker)), tokens.get((first, other))
                    if first != second and all(cell) and (speaker != other) == across:
                        triples += _draw((first, second), (speaker, other), cell, each, generator)
    return triples


def _draw(pair, speakers, cell, each, generator):
    drawn = []
    for _ in range(each):
        a, b, x = (int(generator.integers(len(part))) for part in cell)
        if speakers[0] == speakers[1] and a == x:
            x = (x + 1) % len(cell[2])
        drawn.append((pair, speakers, cell[0][a], cell[1][b], cell[2][x]))
    return drawn


def error_rate(frames, triples, block=2000):
    """Per cent of triples in which X is nearer to B; a tie is half an error. frames: [(T, d) float per utterance]"""
    frames = [row / np.linalg.norm(row, axis=1, keepdims=True).clip(1e-8) for row in frames]
    cells = defaultdict(list)
    for start in range(0, len(triples), block):
        part = triples[start : start + block]
        a, b, x = (padded([frames[u][first:end] for u, first, end in column]) for column in list(zip(*part))[2:])
        to_a, to_b = token_distances(a, x), token_distances(b, x)
        for (pair, speakers, *_), error in zip(part, (to_a > to_b) + 0.5 * (to_a == to_b)):
            cells[pair, speakers].append(float(error))
    pairs = defaultdict(list)
    for (pair, _), errors in cells.items():
        pairs[pair].append(np.mean(errors))
    return 100 * float(np.mean([np.mean(errors) for errors in pairs.values()]))


def padded(tokens):
    """[(n, d)] -> (B, longest, d) with zeros behind, and (B,) lengths."""
    lengths = np.array([len(token) for token in tokens])
    batch = np.zeros((len(tokens), lengths.max(), tokens[0].shape[1]), dtype=np.float32)
    for place, token in enumerate(tokens):
        batch[place, : len(token)] = token
    return batch, lengths


def token_distances(first, second):
    """(B,) float: time-warped mean angle between pairs of tokens, as a share of pi. first, second: of `padded`"""
    (x, n), (y, m) = first, second
    angles = np.arccos(np.clip(np.matmul(x, y.transpose(0, 2, 1)), -1, 1)) / np.pi
    cost = np.full((len(x), x.shape[1] + 1, y.shape[1] + 1), np.inf)
    cost[:, 0, 0] = 0
    for i in range(x.shape[1]):
        for j in range(y.shape[1]):
            here = angles[:, i, j]
            steps = cost[:, i, j + 1] + here, cost[:, i + 1, j] + here, cost[:, i, j] + 2 * here
            cost[:, i + 1, j + 1] = np.minimum(np.minimum(*steps[:2]), steps[2])
    return cost[np.arange(len(x)), n, m] / (n + m)
