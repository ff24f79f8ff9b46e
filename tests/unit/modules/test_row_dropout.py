import torch

from fairseq_birq.modules.row_dropout import RowDropout


def test_row_dropout_leaves_the_last_rows_alone():
    x = torch.ones(4, 50)
    y = RowDropout(0.5).train()(x, clean_rows=2)
    assert torch.equal(y[2:], x[2:]) and (y[:2] == 0).any()
    assert torch.equal(RowDropout(0.5).eval()(x), x)
