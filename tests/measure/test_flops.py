"""FLOPs against counts by hand, a multiply-add as two."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lra_bench.errors import UsageError
from lra_bench.measure.flops import count_flops, transform_flops
from lra_bench.measure.operations import arithmetic_name


def on_meta(build, *inputs):
    with torch.device("meta"):
        model = build()
    return count_flops(model, [None if x is None else x.to("meta") for x in inputs])


class Attention(nn.Module):
    """Embedding, norm, one projection, SDPA over `heads`."""

    def __init__(self, dim=64, heads=2, dropout=0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.embedding, self.norm = nn.Embedding(32, dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, ids, mask=None):
        y = self.qkv(self.norm(self.embedding(ids)))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in y.chunk(3, -1))
        key_mask = None if mask is None else mask[:, None, None]
        return F.scaled_dot_product_attention(q, k, v, key_mask, dropout_p=self.dropout)


class Lambda(nn.Module):
    """A function of x and one weight."""

    def __init__(self, function, *shape, dtype=torch.float32):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.zeros(shape, dtype=dtype))

    def forward(self, x):
        return self.function(x, self.weight)


def test_mlp():
    b, widths = 64, (256, 512, 10)
    layers = [2 * b * n * m for n, m in itertools.pairwise(widths)]
    count = on_meta(
        lambda: nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10)), torch.empty(b, 256)
    )
    assert count.forward == sum(layers)
    # Backward: a product for each weight, and for each input but the first, which needs no gradient.
    assert count.step == 3 * sum(layers) - layers[0]
    assert count.uncovered == ["elementwise", "reduction"]


@pytest.mark.parametrize("mask", [None, torch.ones(4, 512, dtype=torch.bool)], ids=["no mask", "mask"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_fused_attention_counts_as_the_mathematics_says(mask, dropout):
    b, n, d = 4, 512, 64
    ids = torch.zeros(b, n, dtype=torch.int64)
    count = on_meta(lambda: Attention(d, 2, dropout), ids, mask)
    forward = 2 * b * n * d * 3 * d + 2 * (2 * b * n * n * d)
    assert count.forward == forward
    assert count.step == 3 * forward  # and not 3.5 x for recomputed scores
    assert count.uncovered == ["elementwise", "embedding_gradient", "layer_norm", "reduction", "softmax"]


def test_the_same_on_the_cpu_with_values():
    ids = torch.zeros(2, 16, dtype=torch.int64)
    assert count_flops(Attention(), [ids]) == on_meta(Attention, ids)


def test_convolution():
    b, cin, cout, n, k = 2, 8, 16, 128, 5
    forward = 2 * b * cout * n * cin * k
    x = torch.empty(b, cin, n)
    count = on_meta(lambda: nn.Conv1d(cin, cout, k, padding=k // 2), x)
    assert (count.forward, count.step) == (forward, 2 * forward)  # the input needs no gradient
    assert set(count.uncovered) <= {"reduction"}  # the bias's gradient
    depthwise = on_meta(lambda: nn.Conv1d(cin, cin, k, padding=k // 2, groups=cin), x)
    assert depthwise.forward == 2 * b * cin * n * k


def test_fourier_transforms_forward():
    b, n = 3, 1_000
    full = 5 * n * math.log2(n) * b
    complex_x = torch.empty(b, n, dtype=torch.complex64)
    assert on_meta(lambda: Lambda(lambda x, w: torch.fft.fft(x * w), 1), complex_x).forward == round(full)
    real_x = torch.empty(b, n)
    half = round(full / 2)
    assert on_meta(lambda: Lambda(lambda x, w: torch.fft.rfft(x * w), 1), real_x).forward == half
    back = Lambda(lambda x, w: torch.fft.irfft(x * w, n=n), 1)
    half_x = torch.empty(b, n // 2 + 1, dtype=torch.complex64, device="meta")
    assert count_flops(back.to("meta"), [half_x]).forward == half


def test_two_dimensional_transform_counts_the_product_of_its_lengths():
    b, n, d = 2, 64, 32
    count = on_meta(
        lambda: Lambda(lambda x, w: torch.fft.fft2(x * w), 1), torch.empty(b, n, d, dtype=torch.complex64)
    )
    assert count.forward == 5 * n * d * math.log2(n * d) * b


def test_convolution_by_transforms():
    """The kernel of a state-space model: transform both, multiply, transform back."""
    b, d, n = 2, 16, 128

    def convolve(x, kernel):
        spectrum = torch.fft.rfft(x, n=2 * n) * torch.fft.rfft(kernel, n=2 * n)
        return torch.fft.irfft(spectrum, n=2 * n)[..., :n]

    count = on_meta(lambda: Lambda(convolve, d, n), torch.empty(b, d, n))
    per_line = 2.5 * 2 * n * math.log2(2 * n)
    assert count.forward == per_line * (b * d + d + b * d)
    assert count.step > 2 * count.forward - per_line * b * d  # no gradient for x
    assert "elementwise" in count.uncovered


def test_transform_of_a_single_point_is_free():
    assert transform_flops([1], 100) == 0
    assert transform_flops([8], 2) == 2 * 5 * 8 * 3
    assert transform_flops([8], 2, real=True) == 5 * 8 * 3


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 1), (torch.complex64, 4)])
def test_complex_products_count_four_times_real_ones(dtype, factor):
    n, m, k = 8, 16, 32
    x = torch.empty(n, m, dtype=dtype)
    count = on_meta(lambda: Lambda(torch.matmul, m, k, dtype=dtype), x)
    assert count.forward == factor * 2 * n * m * k
    batched = on_meta(lambda: Lambda(torch.matmul, 5, m, k, dtype=dtype), x.expand(5, n, m))
    assert batched.forward == factor * 5 * 2 * n * m * k


def test_vectors_count_too():
    matrix = torch.empty(8, 16)
    assert on_meta(lambda: Lambda(lambda x, w: x @ w, 16), matrix).forward == 2 * 8 * 16
    assert on_meta(lambda: Lambda(torch.dot, 16), torch.empty(16)).forward == 2 * 16


def test_what_has_no_formula_is_named_and_not_counted():
    def scan_and_sort(x, w):
        y = (x * w).cumsum(-1)
        best, where = y.topk(4)
        return F.gelu(best.exp()).sort(-1).values + y.gather(-1, where)

    count = on_meta(lambda: Lambda(scan_and_sort, 8), torch.empty(4, 8))
    assert count.forward == count.step == 0
    assert set(count.uncovered) >= {"cumsum", "elementwise", "exp", "gelu", "sort", "topk"}
    # Views, copies and gathers are no arithmetic; the gather's gradient adds, and is named.
    assert not {"view", "expand", "clone", "gather", "zeros", "detach", "t"} & set(count.uncovered)
    assert "scatter_add" in count.uncovered


def test_auxiliary_loss_is_differentiated_as_the_trainer_does():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
            self.auxiliary_loss = None

        def forward(self, x):
            self.auxiliary_loss = self.side(x).sum()
            return self.main(x)

    product = 2 * 4 * 8 * 8
    count = on_meta(Auxiliary, torch.empty(4, 8))
    assert (count.forward, count.step) == (2 * product, 4 * product)


def test_a_model_that_looks_at_values_is_a_clear_error_on_meta():
    class Looking(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(UsageError, match=r"Looking can't run on meta tensors.*count it on the CPU"):
        on_meta(lambda: Looking(3, 3), torch.ones(2, 3))
    assert count_flops(Looking(3, 3), [torch.ones(2, 3)]).forward == 2 * 2 * 3 * 3


def test_a_model_error_is_not_dressed_up():
    with pytest.raises(RuntimeError, match="reduction dim"):
        on_meta(lambda: nn.Linear(3, 3), torch.empty(2, 4))


def test_nothing_to_differentiate_is_an_error():
    with pytest.raises(UsageError, match="no output depends on a parameter"):
        on_meta(lambda: nn.Linear(3, 3).requires_grad_(False), torch.empty(2, 3))


def test_gradients_are_not_left_behind():
    with torch.device("meta"):
        model = nn.Linear(3, 3)
    count_flops(model, [torch.empty(2, 3, device="meta")])
    assert model.weight.grad is None


@pytest.mark.parametrize(
    ("overload", "name"),
    [
        (torch.ops.aten.view.default, None),
        (torch.ops.aten._to_copy.default, None),
        (torch.ops.aten.slice_backward.default, None),
        (torch.ops.aten.eq.Tensor, None),
        (torch.ops.aten._softmax.default, "softmax"),
        (torch.ops.aten._softmax_backward_data.default, "softmax"),
        (torch.ops.aten.native_layer_norm_backward.default, "layer_norm"),
        (torch.ops.aten.add_.Tensor, "elementwise"),
        (torch.ops.aten.sum.dim_IntList, "reduction"),
        (torch.ops.aten.gelu_backward.default, "gelu"),
        (torch.ops.aten.embedding_dense_backward.default, "embedding_gradient"),
        (torch.ops.aten.nll_loss_forward.default, "nll_loss"),
        (torch.ops.aten.linalg_qr.default, "linalg_qr"),
    ],
)
def test_names(overload, name):
    assert arithmetic_name(overload) == name
