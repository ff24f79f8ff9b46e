"""Probes: what a frozen encoder knows, as SUPERB asks it (arXiv 2105.01051). A new one is a file here and a line in `PROBES`."""

from fairseq_birq.tools.probes.asr import Asr
from fairseq_birq.tools.probes.phone import Phone
from fairseq_birq.tools.probes.pooled import Emotion, Intent, Keyword, Speaker
from fairseq_birq.tools.probes.verification import Verification

PROBES = {
    "asr": Asr,
    "phone": Phone,
    "sid": Speaker,
    "sv": Verification,
    "ks": Keyword,
    "ic": Intent,
    "er": Emotion,
}
