import torch

from fairseq_birq.frontends.logmel import LogMelFrontend
from fairseq_birq.modules.running_norm import normalise_running
from fairseq_birq.structs import Features
from tests.fixtures.audio import waveform_batch
from tests.fixtures.models import build


def features(num_frames, dim=3, seed=0):
    x = 10 + 4 * torch.randn(2, num_frames, dim, generator=torch.Generator().manual_seed(seed))
    return Features(x, torch.zeros(2, num_frames, dtype=torch.bool))


def test_each_frame_has_the_statistics_of_those_before_it_and_of_a_second_that_is_assumed():
    given = features(40)
    got, _ = normalise_running(given)
    assumed = torch.tensor([9.0, 19.0] * 50, dtype=torch.float64)[:, None].expand(100, 3)  # mean 14, deviation 5
    for frame in (0, 1, 17, 39):
        known = torch.cat([assumed, given.x[0, : frame + 1].double()])
        expected = (given.x[0, frame].double() - known.mean(0)) / known.std(0, unbiased=False)
        torch.testing.assert_close(got.x[0, frame].double(), expected, atol=1e-5, rtol=0)


def test_a_stream_in_pieces_gives_the_same():
    given, heard, found = features(50), None, []
    for begin, end in ((0, 1), (1, 1), (1, 20), (20, 50)):
        part, heard = normalise_running(Features(given.x[:, begin:end], given.padding_mask[:, begin:end]), heard)
        found.append(part.x)
    torch.testing.assert_close(torch.cat(found, dim=1), normalise_running(given)[0].x, atol=1e-6, rtol=0)


def test_a_frontend_sees_no_future_and_no_padding():
    frontend = LogMelFrontend(dim=8, feature_norm="running")
    waveform, padding_mask, _ = waveform_batch(0.9, 0.5)
    both = frontend.features(waveform, padding_mask)
    alone = frontend.features(waveform[1:, : int((~padding_mask[1]).sum())])
    assert torch.equal(both.x[1, : alone.x.shape[1]], alone.x[0]) and (both.x[1, alone.x.shape[1] :] == 0).all()
    begin = frontend.features(waveform[:1, :4000])
    assert torch.equal(both.x[0, : begin.x.shape[1]], begin.x[0])


def test_hours_of_silence_are_finite():
    silence = Features(torch.full((1, 400000, 1), -15.942385), torch.zeros(1, 400000, dtype=torch.bool))
    assert normalise_running(silence)[0].x.isfinite().all()


def test_labels_do_not_take_running_features_for_their_own():
    for norm in ("frame", "utterance", "none"):
        labels = {"use": ["raw_input"], "raw_input": {"quantizer_norm": norm}}
        running, plain = (
            build(parts={"frontend": {"feature_norm": kind}}, targets=labels).targets["raw_input"]
            for kind in ("running", "utterance")
        )
        assert not running.features_are_inputs and running.fingerprint() == plain.fingerprint()
