"""The generator against the official process: golden rows, a second implementation, exact statistics."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from references import listops_evaluator, listops_process
from scipy import stats

from lra_bench.tasks.listops_kernel import NUM_CLASSES, draw_expression, expression_class, generate
from lra_bench.tasks.listops_lengths import acceptance, length_probabilities
from lra_bench.tasks.listops_tokens import decode, encode
from lra_bench.tasks.random_stream import stream_state

FIXTURES = Path(__file__).parents[1] / "fixtures"
OFFICIAL = {"lengths": (500, 2_000), "shape": (10, 10)}
ALL = (0, NUM_CLASSES)

# 20,000 examples of the official functions: how many have the labels 0..9, rounded to 20.
OFFICIAL_LABELS = [3_360, 1_780, 1_580, 1_640, 1_820, 1_760, 1_560, 1_400, 1_780, 3_320]
# And quantiles of the tokens of 2,000 of its examples.
OFFICIAL_QUANTILES = {0.05: 547, 0.25: 719, 0.50: 970, 0.75: 1_327, 0.95: 1_801}


def draw(state, max_length=2_000, shape=(10, 10)):
    tokens = np.empty(max_length, np.uint8)
    stream = np.array([state], dtype=np.uint64)
    length, value = draw_expression(stream, max_length, shape, tokens, np.empty(max_length, np.int64))
    return tokens[:length], value


def replay_mismatches(path):
    with gzip.open(path, "rt") as stream:
        header, *rows = stream.read().splitlines()
    assert header.split("\t") == ["stream_state", "tokens", "target"]
    wrong = 0
    for row in rows:
        state, expected, target = row.split("\t")
        tokens, value = draw(int(state))
        wrong += decode(tokens) != expected or value != int(target)
    return wrong, len(rows)


def test_replay_of_golden_rows():
    assert replay_mismatches(FIXTURES / "listops_replay.tsv.gz") == (0, 12)


def test_replay_of_all_golden_rows(reference_data):
    assert replay_mismatches(reference_data / "listops_reference" / "replay.tsv.gz") == (0, 100)


@pytest.mark.parametrize("shape", [(10, 10), (1, 10), (2, 5), (4, 3), (6, 2), (3, 16)])
def test_the_kernel_draws_what_the_recursive_process_draws(shape):
    kept = 0
    for state in range(400):
        tree = listops_process.draw(listops_process.Stream(state), *shape)
        expected = listops_process.tokens(tree)
        tokens, value = draw(state, 600, shape)
        if len(expected) >= 600:
            assert (len(tokens), value) == (0, -1)
            continue
        kept += 1
        assert decode(tokens).split() == expected
        assert value == listops_evaluator.value(tree)
    assert kept > 200


def test_an_example_is_the_first_attempt_that_fits():
    tokens, offsets, labels = generate(7, (100, 112), (0, 6), (15, 65), (10, 10))
    for i in range(12):
        key = np.uint64(stream_state(7, 100 + i))
        for attempt in range(100_000):
            tree = listops_process.draw(listops_process.Stream(int(stream_state(key, attempt))))
            text = listops_process.tokens(tree)
            if not 15 < len(text) < 65:
                continue
            code = listops_process.fnv1a(encode(" ".join(text)).tobytes())
            if int(stream_state(np.uint64(code), 0)) * NUM_CLASSES >> 64 < 6:
                break
        assert decode(tokens[offsets[i] : offsets[i + 1]]).split() == text
        assert labels[i] == listops_evaluator.value(tree)


def test_examples_do_not_depend_on_where_a_shard_starts():
    whole, offsets, labels = generate(0, (0, 60), ALL, **OFFICIAL)
    for start, stop in [(0, 1), (17, 43), (59, 60)]:
        part, part_offsets, part_labels = generate(0, (start, stop), ALL, **OFFICIAL)
        assert np.array_equal(part, whole[offsets[start] : offsets[stop]])
        assert np.array_equal(part_offsets, offsets[start : stop + 1] - offsets[start])
        assert np.array_equal(part_labels, labels[start:stop])
    other, *_ = generate(1, (0, 60), ALL, **OFFICIAL)
    assert not np.array_equal(other[:500], whole[:500])


@pytest.fixture(scope="module")
def sample():
    """2,000 parsed examples at the official settings, and 20,000 lengths and labels."""
    tokens, offsets, labels = generate(5, (0, 20_000), ALL, **OFFICIAL)
    texts = [decode(tokens[offsets[i] : offsets[i + 1]]) for i in range(2_000)]
    return tokens, np.diff(offsets), labels, [listops_evaluator.parse(text) for text in texts]


def test_labels_are_those_of_an_independent_evaluator(sample):
    _, _, labels, trees = sample
    assert [listops_evaluator.value(tree) for tree in trees] == labels[:2_000].tolist()


def test_lengths_follow_their_exact_distribution(sample):
    _, lengths, _, _ = sample
    assert lengths.min() > 500
    assert lengths.max() < 2_000
    probabilities = length_probabilities(2_000, 10, 10)
    probabilities[:501] = 0
    cumulative = np.cumsum(probabilities / probabilities.sum())
    edges = np.searchsorted(cumulative, np.linspace(0, 1, 41)[1:-1])
    expected = np.diff(np.concatenate([[0], cumulative[edges], [1]])) * len(lengths)
    observed = np.bincount(np.searchsorted(edges, lengths), minlength=40)
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_the_exact_distribution_of_lengths_is_that_of_the_recursive_process():
    lengths = Counter(
        len(listops_process.tokens(listops_process.draw(listops_process.Stream(state * 7919), 4, 3)))
        for state in range(20_000)
    )
    probabilities = length_probabilities(60, 4, 3)
    common = [n for n in range(60) if probabilities[n] * 20_000 >= 5]
    observed = [lengths[n] for n in common]
    expected = [probabilities[n] * 20_000 for n in common]
    observed.append(20_000 - sum(observed))
    expected.append(20_000 - sum(expected))
    assert stats.chisquare(observed, expected).pvalue > 0.001
    # By hand: a digit; or an operator of two or three arguments, all of them digits.
    assert probabilities[1] == pytest.approx(0.75)
    assert probabilities[4] == pytest.approx(0.25 / 2 * 0.75**2)
    assert probabilities[5] == pytest.approx(0.25 / 2 * 0.75**3)
    assert acceptance(500, 2_000, 10, 10) == pytest.approx(0.082, abs=0.001)


def test_labels_have_the_official_distribution(sample):
    _, _, labels, _ = sample
    table = [np.bincount(labels, minlength=10), OFFICIAL_LABELS]
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_lengths_have_the_official_quantiles(sample):
    _, lengths, _, _ = sample
    for quantile, expected in OFFICIAL_QUANTILES.items():
        below = (lengths <= expected).mean()
        # 2,000 examples gave the expected quantile, 20,000 the observed share: five standard errors.
        assert abs(below - quantile) < 5 * np.sqrt(quantile * (1 - quantile) * (1 / 2_000 + 1 / 20_000))


def test_digits_operators_and_arguments_are_as_drawn(sample):
    tokens, _, _, trees = sample
    counts = np.bincount(tokens, minlength=15)
    assert stats.chisquare(counts[:10]).pvalue > 0.001
    assert stats.chisquare(counts[10:14]).pvalue > 0.001
    assert counts[10:14].sum() == counts[14]
    assert stats.chisquare(list(Counter(tree[0] for tree in trees).values())).pvalue > 0.001
    found = [listops_evaluator.operators(tree) for tree in trees[:500]]
    assert {count for tree in found for _, count in tree} == set(range(2, 11))
    # The number of arguments is independent of the operator, which is drawn after them.
    table = Counter(pair for tree in found for pair in tree)
    rows = [[table[name, count] for count in range(2, 11)] for name in ("[MIN", "[MAX", "[MED", "[SM")]
    assert stats.chi2_contingency(rows).pvalue > 0.001
    assert {listops_evaluator.depth(tree) for tree in trees} <= set(range(5, 10))
    assert np.mean([listops_evaluator.depth(tree) == 9 for tree in trees]) > 0.95


def test_classes_are_even_and_know_nothing_of_the_value(sample):
    tokens, lengths, labels, _ = sample
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    classes = np.array([expression_class(tokens[offsets[i] :], lengths[i]) for i in range(len(lengths))])
    assert stats.chisquare(np.bincount(classes, minlength=8)).pvalue > 0.001
    table = np.zeros((NUM_CLASSES, 10))
    np.add.at(table, (classes, labels), 1)
    assert stats.chi2_contingency(table).pvalue > 0.001
    by_class = [lengths[classes < 6], lengths[classes == 6], lengths[classes == 7]]
    assert stats.ks_2samp(by_class[0], by_class[1]).pvalue > 0.001
    assert stats.ks_2samp(by_class[0], by_class[2]).pvalue > 0.001


def test_against_rows_of_the_official_generator(sample, reference_data):
    with gzip.open(reference_data / "listops_reference" / "basic_sample.tsv.gz", "rt") as stream:
        rows = [line.split("\t") for line in stream.read().splitlines()[1:]]
    assert len(rows) == 400
    _, lengths, labels, _ = sample
    official_labels = [int(target) for _, target in rows]
    official_lengths = [len(encode(source)) for source, _ in rows]
    assert [listops_evaluator.evaluate(source) for source, _ in rows] == official_labels
    table = [np.bincount(labels, minlength=10), np.bincount(official_labels, minlength=10)]
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert stats.ks_2samp(lengths, official_lengths).pvalue > 0.001
