"""Stages of `benchmarks/gpu.py`: time of an update, what each lever gives, what fits, and the peers."""

import statistics
import time
from functools import partial
from pathlib import Path

import torch
from gpu_setup import PEAK_TFLOPS, SAMPLE_RATE, Check, build_trainer, corpus, make_batch, tflop_of, update

PLAIN = ["optimizer._name=adam", "++model.block_mb=16", "++model.compile_layers=false"]  # every lever off
LEVERS = {
    "no lever": PLAIN,
    "block_mb=1024": [*PLAIN, "++model.block_mb=1024"],
    "birq_adamw": [*PLAIN, "optimizer._name=birq_adamw"],
    "compile_layers": [*PLAIN, "++model.compile_layers=true"],
    "all": ["optimizer._name=birq_adamw", "++model.block_mb=1024", "++model.compile_layers=true"],
}
RECIPES = {"BiRQ C2": "birq/c2_librispeech.yaml", "BEST-RQ C2": "best_rq/c2_librispeech.yaml"}
RECIPES["Latent-RQ base, stage 1"] = "latent_rq/librispeech_base.yaml"
_FLOPS = {}  # TFLOP of an utterance, by recipe


def step(check: Check) -> None:
    """The recipes as they are, 8 utterances: time, MFU, memory, kernels and host waits of an update."""
    for name, recipe in RECIPES.items():
        if check.tiny and "C2" not in name:
            continue
        check.tried(name, partial(speed, check, recipe, [], 8, profiled=True))


def levers(check: Check) -> None:
    """BiRQ C2 with one thing changed at a time, then all of them."""
    for name, overrides in LEVERS.items():
        compiles = "++model.compile_layers=true" in overrides
        if check.left() < (60 if compiles else 15) or (check.tiny and name not in ("no lever", "birq_adamw")):
            check.note(**{name: {"skipped": "tiny" if check.tiny else "no time left"}})
            continue
        check.tried(name, partial(speed, check, RECIPES["BiRQ C2"], overrides, 8))


def batch_sizes(check: Check) -> None:
    """BiRQ C2 with more utterances, until they do not fit."""
    for count in (2,) if check.tiny else (16, 32, 64, 128):
        if check.left() < 20:
            return check.note(**{f"{count} utterances": {"skipped": "no time left"}})
        check.tried(f"{count} utterances", partial(speed, check, RECIPES["BiRQ C2"], [], count, rounds=6))


def speed(check: Check, recipe: str, overrides, count: int, rounds: int = 12, profiled: bool = False) -> dict:
    """Median ms of an update over three batches of different lengths in turn, and what follows."""
    trainer = build_trainer(check.recipe(recipe, *overrides))
    rows = len(trainer.task.dataset(trainer.cfg.dataset.train_subset))
    batches = [make_batch(trainer, min(count, rows), rows - 1 - shift) for shift in ((0,) if count >= rows else (0, 1, 2))]
    if recipe not in _FLOPS:
        _FLOPS[recipe] = tflop_of(trainer, batches[0]) / len(batches[0]["net_input"]["waveform"])
    if check.cuda:
        torch.cuda.reset_peak_memory_stats()
    turn = iter(range(10**6))
    ms = check.median_ms(lambda: update(trainer, batches[next(turn) % len(batches)]), warm=7, rounds=rounds)
    used = len(batches[0]["net_input"]["waveform"])
    audio = statistics.mean(float((~batch["net_input"]["padding_mask"]).sum()) / SAMPLE_RATE for batch in batches)
    found = dict(ms=ms, utterances=used, audio_seconds_per_second=round(1e3 * audio / ms))
    found["tflop"] = round(_FLOPS[recipe] * used, 6 if check.tiny else 3)
    if check.cuda:
        found["mfu"] = round(found["tflop"] / PEAK_TFLOPS / ms * 1e3, 4)
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 2)
        if profiled:
            found.update(profile(check, trainer, batches[0]))
    return found


def profile(check: Check, trainer, batch) -> dict:
    """Kernels, the time that the GPU is busy, and where the host waits, of one update."""
    import warnings

    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorded

    with recorded(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        update(trainer, batch)
        check.sync()
    kernels = [event for event in record.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.self_device_time_total for event in kernels) / 1e3
    slowest = sorted(record.key_averages(), key=lambda event: -event.self_device_time_total)[:12]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        update(trainer, batch)
        torch.cuda.set_sync_debug_mode("default")
    places = {}
    for warning in seen:
        place = f"{warning.filename.rsplit('/', 1)[-1]}:{warning.lineno}"
        places[place] = places.get(place, 0) + 1
    top = [(event.key[:60], event.count, round(event.self_device_time_total / 1e3, 2)) for event in slowest]
    return dict(kernels=len(kernels), gpu_busy_ms=round(busy, 2), host_waits=len(seen), waits_at=places, slowest_kernels=top)


def peers(check: Check) -> None:
    """Forward and backward, without the optimizer, at BiRQ C2's size: ours, SpeechBrain's BEST-RQ and fairseq's HuBERT."""
    import peers as others

    cfg = check.recipe(RECIPES["BEST-RQ C2"])
    encoder, half = cfg.model.encoder, torch.bfloat16 if check.cuda else None
    sizes = dict(layers=encoder.num_layers, dim=encoder.dim, ffn_dim=encoder.ffn_dim, heads=encoder.num_heads)
    share = 1 - (1 - cfg.model.mask.start_prob) ** (cfg.model.mask.span_ms / 10)
    codes = cfg.model.quantizer.codebook_size
    wave = waveform(check, 8)
    made = {
        "ours, BEST-RQ": lambda: our_step(check, cfg),
        "SpeechBrain, BEST-RQ": lambda: others.speechbrain_step(
            **sizes, codebook_size=codes, masked_share=share, device=check.device, autocast=half
        ),
        "fairseq, HuBERT": lambda: others.hubert_step(**sizes, device=check.device, dtype=half or torch.float32),
    }
    for name, make in made.items():
        if check.tiny and name == "fairseq, HuBERT":
            check.note(**{name: {"skipped": "its default CNN is not tiny"}})
            continue
        check.tried(name, partial(peer, check, make, wave))


def peer(check: Check, make, wave) -> dict:
    try:
        step, parameters = make()
    except ImportError as error:
        return {"skipped": f"not installed: {error}"}
    lengths = torch.ones(len(wave), device=check.device)
    if check.cuda:
        torch.cuda.reset_peak_memory_stats()
    found = dict(ms=check.median_ms(lambda: step(wave, lengths), rounds=6), parameters=parameters)
    if check.cuda:
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def waveform(check: Check, count: int):
    seconds = 1.5 if check.tiny else 12.3
    noise = 0.1 * torch.randn(min(count, 2) if check.tiny else count, int(seconds * SAMPLE_RATE))
    return noise.to(check.device)


def our_step(check: Check, cfg):
    from fairseq_birq.model import BirqModel

    settings = {key: value for key, value in cfg.model.items() if key != "_name"}
    model = BirqModel.build_model(settings).to(torch.bfloat16 if check.cuda else torch.float32).to(check.device).train()
    padding = torch.zeros(1, dtype=torch.bool, device=check.device)

    def step(wave, lengths):
        ids = torch.arange(len(wave), device=check.device)
        model(wave.double(), padding.expand(wave.shape), ids).loss.backward()

    return step, sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def labels(check: Check) -> None:
    """Codes of 6,400 frames, the log-Mel frontend of 8 utterances, and the copy of their audio to the device."""
    from fairseq_birq.frontends.logmel import LogMel
    from fairseq_birq.objective.quantizer import RandomProjectionQuantizer

    frames = 200 if check.tiny else 6400
    for number, codes in ((1, 64), (2, 32)) if check.tiny else ((1, 8192), (18, 4096)):
        ours = RandomProjectionQuantizer(320, codes, 16, number, seed=1).to(check.device)
        x = torch.randn(frames, 320, device=check.device)
        check.tried(f"codes N={number} V={codes}", partial(timed, check, partial(ours.nearest, x)))
    wave = waveform(check, 8)
    mel, padding = LogMel().to(check.device), torch.zeros(wave.shape, dtype=torch.bool, device=check.device)
    check.tried("log-Mel", partial(timed, check, partial(mel, wave.double(), padding)))
    host = wave.double().cpu().pin_memory() if check.cuda else wave.double()
    check.tried("copy of the audio", partial(timed, check, partial(host.to, check.device, non_blocking=True)))


def timed(check: Check, call) -> dict:
    return {"ms": check.median_ms(call)}


def loading(check: Check) -> None:
    """Audio seconds per second from 16 kHz FLAC to the device, by workers."""
    from fairseq_birq.data.dataset import AudioDataset
    from fairseq_birq.data.manifest import read_manifest

    data = AudioDataset(read_manifest(corpus(check) / "train.tsv"))
    for workers in (1, 3, 8) if check.cuda else (0,):
        order = [
            [(index * 8 + row) % len(data) for row in range(8)] for index in range(24 * max(1, workers) if check.cuda else 2)
        ]
        check.tried(f"{workers} workers", partial(loaded, check, data, workers, order))


def loaded(check: Check, data, workers: int, order) -> dict:
    options = dict(num_workers=workers, pin_memory=check.cuda, prefetch_factor=4 if workers else None)
    batches = iter(torch.utils.data.DataLoader(data, collate_fn=data.collater, batch_sampler=order, **options))
    next(batches)
    begin, samples = time.perf_counter(), 0
    for batch in batches:
        batch["net_input"]["waveform"].to(check.device, non_blocking=True)
        samples += int((~batch["net_input"]["padding_mask"]).sum())
    check.sync()
    return {"audio_seconds_per_second": round(samples / SAMPLE_RATE / (time.perf_counter() - begin))}


def checkpoints(check: Check) -> None:
    """BiRQ C2 written as in training, and read again."""
    trainer = build_trainer(check.recipe(RECIPES["BiRQ C2"]))
    update(trainer, make_batch(trainer, 2))
    path = Path(trainer.cfg.checkpoint.save_dir) / "measured.pt"
    check.sync()
    begin = time.perf_counter()
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(path), {})
    written = time.perf_counter() - begin
    found = dict(seconds_to_write=round(written, 2), mib=path.stat().st_size >> 20)
    begin = time.perf_counter()
    trainer.load_checkpoint(str(path))
    check.note(**found, seconds_to_read=round(time.perf_counter() - begin, 2))
    path.unlink()
