import pytest
import torch

from fairseq_birq.modules.rotary import rotary_table, rotate, split_and_rotate


def test_rotated_products_depend_on_the_distance_only():
    query, key = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 30, 1, 8)
    table = rotary_table(30, 8, "cpu")
    products = (rotate(query, table)[0, :, 0] @ rotate(key, table)[0, :, 0].t()).double()
    for distance in (-7, 0, 5):
        assert products.diagonal(distance).std() < 1e-5
    assert (products[0] - products[0, 0]).abs().max() > 1e-2
    torch.testing.assert_close(rotate(query, table).norm(dim=-1), query.norm(dim=-1))


def parts_and_gradient(qkv, counts, table, weights, rotated):
    qkv = qkv.detach().requires_grad_()
    heads = rotated(qkv, table, counts)
    sum((part * weight).sum() for part, weight in zip(heads, weights)).backward()
    return heads, qkv.grad


def as_printed(qkv, table, counts):
    query, key, value = qkv.unbind(2)
    heads = rotate(query, table), rotate(key, table), value
    return [part for rows in zip(*(one.split(counts) for one in heads)) for part in rows]


@pytest.mark.parametrize("counts", [[3], [2, 1]])
def test_query_key_value_and_their_gradient_are_those_of_the_formula(counts):
    torch.manual_seed(0)
    qkv, table = torch.randn(3, 5, 3, 2, 8, dtype=torch.float64), rotary_table(5, 8, "cpu")
    weights = [torch.randn(count, 2, 5, 8, dtype=torch.float64).transpose(1, 2) for count in counts for _ in range(3)]
    ours = parts_and_gradient(
        qkv, counts, table, weights, lambda *args: [part for rows in split_and_rotate(*args) for part in rows]
    )
    printed = parts_and_gradient(qkv, counts, table, weights, as_printed)
    for found, expected in zip([*ours[0], ours[1]], [*printed[0], printed[1]], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("dtype, bits", [(torch.bfloat16, 8), (torch.float16, 11)])  # a rounding errs by 2^-bits at most
def test_half_precision_is_rounded_twice_at_most(dtype, bits):
    torch.manual_seed(0)
    qkv, table = torch.randn(1, 200, 3, 1, 16).to(dtype), rotary_table(200, 16, "cpu")
    query = split_and_rotate(qkv, table, [1])[0][0]
    exact = rotate(qkv[:, :, 0].double(), table)
    length = qkv[:, :, 0].double().unflatten(-1, (2, 8)).norm(dim=-2).repeat(1, 1, 1, 2)  # of each pair, the most that it can be
    assert query.dtype == dtype and ((query - exact).abs() <= 2 * length * 2.0**-bits).all()


def test_compilers_see_plain_operations(monkeypatch):
    qkv, table = torch.randn(3, 5, 3, 2, 8), rotary_table(5, 8, "cpu")
    ours = split_and_rotate(qkv, table, [2, 1])
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    plain = split_and_rotate(qkv.requires_grad_(), table, [2, 1])
    for rows, expected in zip(ours, plain):
        for part, other in zip(rows, expected):
            torch.testing.assert_close(part, other)
            assert "Rotate" not in type(other.grad_fn.next_functions[0][0]).__name__
