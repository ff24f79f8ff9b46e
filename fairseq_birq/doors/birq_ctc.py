"""Door: model `birq_ctc`, which is `fairseq_birq.ctc.BirqCtcModel`."""

from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.ctc import BirqCtcModel
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.errors import RefusesOtherArchitectures, reports_user_errors
from fairseq_birq.structs import CtcOutput


@register_model("birq_ctc", dataclass=as_fairseq(BirqCtcConfig))
class FairseqBirqCtcModel(RefusesOtherArchitectures, BirqCtcModel, BaseFairseqModel):
    """The fine-tuning model as fairseq wants it; the names of its parameters are the plain model's."""

    @classmethod
    @reports_user_errors
    def build_model(cls, cfg, task):
        return super().build_model(cfg, len(task.target_dictionary))

    def get_normalized_probs(self, net_output: CtcOutput, log_probs: bool, sample=None) -> Tensor:
        """(B, T, V) float32 (log-)probabilities, whatever the precision of the logits."""
        normalise = nn.functional.log_softmax if log_probs else nn.functional.softmax
        return normalise(net_output.logits.float(), dim=-1)
