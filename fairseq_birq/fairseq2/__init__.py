"""Doors to fairseq2: the methods in its recipes, with its trainer, DDP and FSDP, checkpoints and metric recorders.

`register` is the extension function behind the entry point `fairseq2.extension`: fairseq2 calls it when its library is set up.
Nothing outside of this folder imports fairseq2, and nothing in it imports fairseq. docs/fairseq2.md says what differs.
"""


def register(container) -> None:
    """Make model families, optimizer, schedule and errors known to a fairseq2 container; a second call changes nothing.

    container: a `fairseq2.runtime.dependency.DependencyContainer`
    """
    from fairseq_birq.fairseq2 import ctc_family, errors, families, optim

    if families.are_known(container):
        return
    families.register(container)
    ctc_family.register(container)
    errors.register(container)
    optim.register(container)
