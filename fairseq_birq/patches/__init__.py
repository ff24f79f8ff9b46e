"""What mends fairseq and torch, as one table and one `install()`; for our tasks alone.

`REPLACED` are functions of fairseq that `install()` puts ours around. Each of ours looks at the task (`run_state.run_of`)
and hands everything of another task to fairseq's own function. `INSIDE` is replaced only while a run of ours loads, saves
or trains, and is fairseq's own again afterwards. No module patches anything when it is imported.
"""

import importlib
import sys
from typing import NamedTuple


class Patch(NamedTuple):
    """One thing of fairseq or torch that is not as they made it. Both fairseqs (0.12.2 and 0.12.3.1) need all of them."""

    place: str  # module:name
    ours: str  # module:name, below `fairseq_birq`; in REPLACED a function that takes fairseq's own and gives ours
    what: str
    why: str
    breaks: str  # what would be different from fairseq, where it matters to somebody
    test: str  # file::function, below `tests`


REPLACED = (
    Patch(
        "fairseq.checkpoint_utils:load_checkpoint",
        "patches.resuming:resuming_carefully",
        "A run begins: settings that do harm are refused, the newest whole checkpoint is found, the trainer becomes careful.",
        "fairseq starts over without a word, dies of a damaged checkpoint, and loses its place with more or fewer processes.",
        "Damaged checkpoints are renamed, half-written ones removed; a complete run ends at once; `restore_file` is taken once.",
        "runs/test_resuming.py::test_nothing_starts_over_in_silence",
    ),
    Patch(
        "fairseq.checkpoint_utils:save_checkpoint",
        "patches.saving:saving_whole_files",
        "Checkpoints are whole or not there; further names of one are hard links.",
        "fairseq copies over checkpoint_last.pt in place: a full disk leaves half a file where the last good one was.",
        "Names share one file: whoever writes into one by hand changes the others.",
        "runs/test_saving.py::test_a_full_disk_leaves_the_last_checkpoint_and_no_rest",
    ),
    Patch(
        "fairseq.checkpoint_utils:load_model_ensemble_and_task",
        "patches.loading:of_our_models",
        "fairseq's commands read checkpoints of ours, and for tasks of ours, as plain values.",
        "A hostile --path would run code, with torch before 2.6.",
        "Without a task, a checkpoint is looked at once before it is read; one that holds more than plain values is fairseq's.",
        "unit/patches/test_loading.py::test_fairseq_generate_refuses_it",
    ),
    Patch(
        "fairseq_cli.train:validate_and_save",
        "patches.preemption:leaving",
        "After every update a run leaves when the cluster asked: a checkpoint, and exit status 75.",
        "A preempted run would lose all updates since its last checkpoint.",
        "SIGTERM and SIGUSR1 no longer end the process at once.",
        "runs/test_resuming.py::test_signals_to_the_whole_job_end_it_with_a_checkpoint_and_its_own_status",
    ),
    Patch(
        "fairseq.scoring:build_scorer",
        "patches.scoring:in_words",
        "`fairseq-generate` scores words where letters are decoded and `--scoring` is left out.",
        "fairseq's default is BLEU: its last line is what people copy.",
        "`--scoring bleu` cannot be told from its default, and gives the word error rate too.",
        "unit/patches/test_scoring.py::test_letters_are_scored_in_words_unless_told_otherwise",
    ),
    Patch(
        "fairseq.logging.progress_bar:TensorboardProgressBarWrapper._log_to_tensorboard",
        "patches.metric_groups:sending_groups",
        "TensorBoard gets names with groups, as codes/perplexity_raw_input.",
        "It sorts by what stands before the slash: else dozens of groups of one curve each.",
        "The names of curves, on TensorBoard alone.",
        "unit/patches/test_metric_groups.py::test_tensorboard_gets_groups_and_the_json_log_plain_names",
    ),
    Patch(
        "fairseq.logging.progress_bar:WandBProgressBarWrapper._log_to_wandb",
        "patches.metric_groups:sending_groups",
        "The same for Weights & Biases.",
        "As above.",
        "The names of curves, on Weights & Biases alone.",
        "unit/patches/test_metric_groups.py::test_weights_and_biases_gets_groups_below_the_subset",
    ),
    Patch(
        "fairseq.logging.meters:CodeHistogramMeter",
        "doors.code_logging:meter_of_code_histograms",
        "The meter that perplexity is read from can be restored from a checkpoint.",
        "fairseq looks up the class of a saved meter by its name in this module, and drops what it does not find.",
        "Nothing: a name that fairseq does not have.",
        "unit/patches/test_table.py::test_the_meter_of_code_histograms_comes_back_from_a_checkpoint",
    ),
)
INSIDE = (
    Patch(
        "fairseq.trainer:Trainer",
        "patches.trainer:CarefulTrainer",
        "The trainer of a run of ours gets a class with five methods before its own.",
        "Whole files, plain values, float32 weights in half-precision checkpoints, and a bad update that costs itself alone.",
        "The type of that one object, which is still a Trainer.",
        "unit/patches/test_table.py::test_a_run_of_another_task_is_fairseqs_own",
    ),
    Patch(
        "fairseq.trainer:Trainer.clip_grad_norm",
        "patches.bad_updates:judged_norm",
        "A gradient that is not finite: the update is skipped, counted and written down.",
        "fairseq ends the run at the first one.",
        "The count of updates includes those that were skipped.",
        "runs/test_resuming.py::test_a_bad_update_costs_itself_and_nothing_else_in_every_precision",
    ),
    Patch(
        "fairseq.trainer:Trainer._build_optimizer",
        "patches.grouped_copies:group_copies",
        "fp16's and bf16's float32 copies of gradients and weights are written in groups.",
        "fairseq copies and clears them one by one: three launches a parameter and update, 924 for C2.",
        "The type of that optimizer, which is still an FP16Optimizer; the numbers are the same to the bit.",
        "unit/doors/test_optimizer.py::test_grouped_copies_change_nothing",
    ),
    Patch(
        "fairseq.trainer:Trainer.state_dict",
        "patches.half_precision:with_float32_weights",
        "fp16 and bf16 checkpoints hold the float32 weights that are trained.",
        "fairseq writes what they round to: steps smaller than the rounding are lost with every stop.",
        "Nothing: fairseq writes float32 numbers as well.",
        "runs/test_half_precision.py::test_a_stopped_run_goes_on_bit_for_bit",
    ),
    Patch(
        "fairseq.checkpoint_utils:load_checkpoint_to_cpu",
        "patches.loading:load",
        "Checkpoints are read as plain values (also `torch.load`, for the length of the call).",
        "fairseq's torch.load takes code.",
        "Checkpoints with classes in them are refused, unless torch was told to trust these.",
        "unit/patches/test_loading.py::test_training_that_resumes_refuses_it",
    ),
    Patch(
        "fairseq.distributed.utils:_broadcast_object_slow",
        "patches.loading:broadcast",
        "Rank 0 sends a checkpoint to the others by torch's own call.",
        "From torch 2.6 on fairseq's way refuses the settings in it, and several processes cannot resume.",
        "Nothing.",
        "unit/patches/test_loading.py::test_rank_0_can_send_a_checkpoint_to_the_others",
    ),
    Patch(
        "fairseq.checkpoint_utils:torch_persistent_save",
        "patches.saving:save",
        "A checkpoint is written beside its place, flushed to the disk and moved.",
        "A full disk or a power cut leaves half a file.",
        "A failed save ends the run with a sentence, after one try instead of three.",
        "runs/test_saving.py::test_a_full_disk_leaves_the_last_checkpoint_and_no_rest",
    ),
    Patch(
        "fairseq.file_io:PathManager.copy",
        "patches.saving:copy",
        "A hard link, moved into its place.",
        "A copy of gigabytes takes seconds, and in place is half a file for as long.",
        "Names share one file.",
        "runs/test_saving.py::test_further_names_of_a_checkpoint_cost_no_room_and_stay_as_they_are",
    ),
    Patch(
        "torch.serialization:clear_safe_globals",
        "checkpoint:load_checkpoint",
        "torch's list of trusted classes is empty while this package reads a checkpoint.",
        "What other code told torch to trust does not count for checkpoints.",
        "Another thread that loads at that moment does not find its classes.",
        "unit/patches/test_loading.py::test_what_the_user_trusts_is_let_into_fairseq_s_reading_only",
    ),
)
_installed = set()


def install() -> None:
    """Put ours around every function of `REPLACED` whose module is loaded, once. Harmless when called again.

    The module of fairseq's command is left alone until somebody has imported it: an import would set up logging.
    """
    for patch in REPLACED:
        module, _, name = patch.place.partition(":")
        if patch.place in _installed or (module.startswith("fairseq_cli.") and module not in sys.modules):
            continue
        _installed.add(patch.place)
        owner, attribute = find(f"{module}:{name.rpartition('.')[0]}"), name.rpartition(".")[2]
        setattr(owner, attribute, find(f"fairseq_birq.{patch.ours}")(getattr(owner, attribute, None)))


def find(place: str):
    """What `module:name` or `module:class.name` names; `module:` is the module itself."""
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        found = getattr(found, part)
    return found
