import torch

from fairseq_birq.modules.attention import attention_keep
from fairseq_birq.modules.chunks import seen_in_chunks
from fairseq_birq.structs import Chunks


def test_a_frame_sees_its_chunk_and_some_before_it():
    for left in (0, 1, None):
        seen = seen_in_chunks(7, Chunks(3, left), "cpu")
        for query in range(7):
            first = 0 if left is None else max(0, query // 3 - left) * 3
            assert seen[query].nonzero().flatten().tolist() == list(range(first, min(7, query // 3 * 3 + 3)))


def test_full_rows_see_everything_but_padding():
    padding_mask = torch.arange(6) >= torch.tensor([[6], [4], [3]])
    keep = attention_keep(padding_mask, 6, 0, "cpu", Chunks(2, 0, full_rows=1), num_rows=3)[:, 0]
    assert keep.shape == (3, 6, 6)
    assert torch.equal(keep[0], seen_in_chunks(6, Chunks(2, 0), "cpu"))
    assert keep[1, 3].tolist() == [False, False, True, True, False, False]
    assert keep[1, 5].tolist() == [False] * 5 + [True]  # padding, which sees itself
    assert keep[2, 0].tolist() == [True] * 3 + [False] * 3
