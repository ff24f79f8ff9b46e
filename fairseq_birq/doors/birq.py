"""Door: model `birq`, which is `fairseq_birq.model.BirqModel`."""

from fairseq.models import BaseFairseqModel, register_model

from fairseq_birq.config import BirqConfig
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.errors import RefusesOtherArchitectures, reports_user_errors
from fairseq_birq.model import BirqModel


@register_model("birq", dataclass=as_fairseq(BirqConfig))
class FairseqBirqModel(RefusesOtherArchitectures, BirqModel, BaseFairseqModel):
    """The pre-training model as fairseq wants it; the names of its parameters are the plain model's."""

    @classmethod
    @reports_user_errors
    def build_model(cls, cfg, task=None):
        return super().build_model(cfg)
