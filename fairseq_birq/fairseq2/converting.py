"""What fairseq2 is given as a checkpoint of our models: its own, one of fairseq's side, or weights that `birq-export` wrote."""

from fairseq_birq.checkpoint import check_is_ours
from fairseq_birq.fairseq2_files import tensors_only

_EXPORTED = "birq."  # before the names of a folder for Hugging Face


def convert_state(state: dict, config) -> dict:
    """The tensors of a model by their names in it. config: the model's settings, which fairseq2 has from elsewhere.

    Raises:
        UserError: it is a checkpoint of another model.
    """
    if isinstance(state.get("model"), dict):
        check_is_ours("of `model.path` or of the card", state)
        state = state["model"]
    return tensors_only({name[len(_EXPORTED) :] if name.startswith(_EXPORTED) else name: x for name, x in state.items()})
