"""A log-Mel Conformer of fairseq_birq in one file that needs only torch, for inference.

    encoder = load("model.safetensors")  # written by `birq-export CHECKPOINT OUT --to safetensors`
    hidden, padding_mask = encoder(waveform, padding_mask)

waveform: (B, S) float in [-1, 1] at `encoder.sample_rate`; padding_mask: (B, S) bool, True on padding, or left out.
hidden: (1 + K, B, T, d): what enters the first layer, then layers 1 to K; padding_mask: (B, T) bool, of the frames.
"""

import json

import torch
from torch import nn
from torch.nn import functional as F


def load(path):
    """The encoder of a `model.safetensors` of float32 weights, in eval mode."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        content = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    encoder = StandaloneEncoder(json.loads(header.pop("__metadata__")["config"]))
    ends = {name: [byte // 4 for byte in entry["data_offsets"]] for name, entry in header.items()}
    encoder.load_state_dict({name: content[slice(*ends[name])].view(entry["shape"]) for name, entry in header.items()})
    return encoder.eval()


class StandaloneEncoder(nn.Module):
    """config: {"frontend": {...}, "encoder": {...}}, settings of the checkpoint's model."""

    def __init__(self, config):
        super().__init__()
        frontend, encoder = config["frontend"], config["encoder"]
        self.sample_rate, self.positions = frontend["sample_rate"], encoder["positions"]
        self.num_heads, self.window = encoder["num_heads"], encoder["attention_window"]
        self.log_mel, layers = LogMel(frontend), nn.ModuleList(Layer(encoder) for _ in range(encoder["num_layers"]))
        self.frontend = nn.ModuleDict({"subsampling": Subsampling(frontend, encoder["dim"])})
        self.encoder, self.step_samples = nn.ModuleDict({"layers": layers}), 4 * self.log_mel.hop

    def forward(self, waveform, padding_mask=None):
        if padding_mask is None:
            padding_mask = torch.zeros_like(waveform, dtype=torch.bool)
        x, lengths = self.log_mel(waveform.float(), (~padding_mask).sum(1))
        x, padding = self.frontend["subsampling"](x, lengths)
        keep, positions = self._keep(padding), self._positions(x)
        hidden = [x]
        for layer in self.encoder["layers"]:
            hidden.append(layer(hidden[-1], keep, padding, positions))
        return torch.stack(hidden), padding

    def _keep(self, padding):
        """(B, 1, T, T) bool: which frames a frame attends to; always itself, so that no softmax is over nothing."""
        frame = torch.arange(padding.shape[1], device=padding.device)
        distance = (frame[:, None] - frame[None]).abs()[None, None]
        keep = ~padding[:, None, None] | (distance == 0)
        return keep & (distance <= self.window) if self.window else keep

    def _positions(self, x):
        dim = x.shape[2] // self.num_heads if self.positions == "rotary" else x.shape[2]
        rates = 10000.0 ** (-torch.arange(0, dim, 2, device=x.device, dtype=torch.float32) / dim)
        frames = torch.arange(2 * x.shape[1] - 1, device=x.device, dtype=torch.float32)[:, None]
        if self.positions == "rotary":
            angles = frames[: x.shape[1]] * rates
            return angles.cos().repeat(1, 2)[:, None], torch.cat([-angles.sin(), angles.sin()], 1)[:, None]
        angles = (x.shape[1] - 1 - frames) * rates
        return (torch.cat([angles.sin(), angles.cos()], 1)[:, :dim],)


class LogMel(nn.Module):
    """Kaldi's log-Mel features without dither, then zero mean and unit variance per bin over each utterance."""

    def __init__(self, frontend):
        super().__init__()
        rate, self.norm = frontend["sample_rate"], frontend["feature_norm"]
        self.window_samples, self.hop = int(rate * frontend["window_ms"] / 1000), int(rate * frontend["hop_ms"] / 1000)
        self.fft_size = 1 << (self.window_samples - 1).bit_length()
        window = torch.hann_window(self.window_samples, periodic=False, dtype=torch.float64) ** 0.85
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("filters", self._filters(frontend["num_mels"], rate).float(), persistent=False)

    def _filters(self, num_mels, rate):
        hertz = torch.arange(self.fft_size // 2 + 1, dtype=torch.float64) * rate / self.fft_size
        low, high, *bins = (1127.0 * torch.log1p(torch.tensor([20.0, rate / 2, *hertz], dtype=torch.float64) / 700.0)).tolist()
        left, centre, right = torch.linspace(low, high, num_mels + 2, dtype=torch.float64).unfold(0, 3, 1).unbind(1)
        bins = torch.tensor(bins, dtype=torch.float64)[:, None]
        return torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)

    def forward(self, waveform, num_samples):
        """(B, S), (B,) -> (B, F, num_mels) float32, (B,) valid frames."""
        lengths = ((num_samples - self.window_samples) // self.hop + 1).clamp(min=0)
        frames = waveform.unfold(1, self.window_samples, self.hop) * 32768.0
        frames = frames - frames.mean(-1, keepdim=True)
        frames = (frames[..., 1:] - 0.97 * frames[..., :-1]) * self.window[1:]
        spectrum = torch.view_as_real(torch.fft.rfft(frames.double(), n=self.fft_size))
        x = (spectrum.square().sum(-1).float() @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()
        valid = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
        if self.norm == "none":
            return x * valid, lengths
        count = lengths.clamp(min=1)[:, None, None]
        centred = (x.double() - (x.double() * valid).sum(1, keepdim=True) / count) * valid
        variance = centred.square().sum(1, keepdim=True) / count
        return (centred * (variance + 1e-10).rsqrt()).float(), lengths


class Subsampling(nn.Module):
    def __init__(self, frontend, dim):
        super().__init__()
        num_mels, self.two_d = frontend["num_mels"], frontend["subsampling"] == "conv2d"
        conv, channels = (nn.Conv2d, (1, 128, 32)) if self.two_d else (nn.Conv1d, (num_mels, dim, dim))
        self.conv1, self.conv2 = (conv(*pair, 3, stride=2) for pair in zip(channels, channels[1:]))
        self.output = nn.Linear(32 * ((num_mels + 3) // 4) if self.two_d else dim, dim)

    def forward(self, x, lengths):
        """(B, F, D), (B,) -> (B, F // 4, d), (B, F // 4) bool."""
        x = x[:, None] if self.two_d else x.transpose(1, 2)
        for conv in (self.conv1, self.conv2):  # a frame of padding on the left of the time, and on both sides of the Mel bins
            x = F.gelu(conv(F.pad(x, (1, 1, 1, 0) if self.two_d else (1, 0))))
        x = self.output(x.transpose(1, 2).flatten(2) if self.two_d else x.transpose(1, 2))
        padding = torch.arange(x.shape[1], device=x.device) >= (lengths // 4)[:, None]
        return x * ~padding[..., None], padding


class Layer(nn.Module):
    """Conformer layer (arXiv 2005.08100)."""

    def __init__(self, encoder):
        super().__init__()
        dim = encoder["dim"]
        self.ffn1, self.ffn2 = FeedForward(dim, encoder["ffn_dim"]), FeedForward(dim, encoder["ffn_dim"])
        self.attention = Attention(dim, encoder["num_heads"], encoder["positions"])
        self.convolution = Convolution(dim, encoder["conv_kernel"], encoder["conv_norm"])
        self.attention_norm, self.final_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x, keep, padding, positions):
        x = x + 0.5 * self.ffn1(x)
        x = x + self.attention(self.attention_norm(x), keep, positions)
        x = x + self.convolution(x, padding)
        return self.final_norm(x + 0.5 * self.ffn2(x))


class FeedForward(nn.Module):
    def __init__(self, dim, ffn_dim):
        super().__init__()
        self.norm, self.expand, self.project = nn.LayerNorm(dim), nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)

    def forward(self, x):
        return self.project(F.silu(self.expand(self.norm(x))))


class Attention(nn.Module):
    def __init__(self, dim, num_heads, positions):
        super().__init__()
        self.num_heads, self.relative = num_heads, positions == "relative"
        self.qkv, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        if self.relative:
            self.distance = nn.Linear(dim, dim, bias=False)
            biases = torch.zeros(2, num_heads, dim // num_heads)
            self.content_bias, self.distance_bias = (nn.Parameter(bias.clone()) for bias in biases)

    def forward(self, x, keep, positions):
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # each (B, T, H, head)
        mask = torch.zeros_like(keep, dtype=x.dtype).masked_fill(~keep, float("-inf"))
        if self.relative:
            mask = mask + self._distance_scores(query, positions[0])
            query = query + self.content_bias
        else:
            query, key = self._rotate(query, *positions), self._rotate(key, *positions)
        heads = [part.transpose(1, 2) for part in (query, key, value)]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return self.output(torch.cat(attended.unbind(1), dim=-1))  # a view of this has no symbolic shape for ONNX

    def _rotate(self, x, cosines, sines):
        return x * cosines + torch.cat(x.chunk(2, dim=-1)[::-1], dim=-1) * sines

    def _distance_scores(self, query, table):
        """(B, H, T, T): each query's score of its distance to each key; column r of `scores` is distance T - 1 - r."""
        query = (query + self.distance_bias) * query.shape[-1] ** -0.5
        scores = torch.einsum("bthd,rhd->bhtr", query, self.distance(table).unflatten(-1, (self.num_heads, -1)))
        frame = torch.arange(query.shape[1], device=query.device)
        column = query.shape[1] - 1 - frame[:, None] + frame
        return scores.gather(-1, column.expand(*scores.shape[:2], -1, -1))


class Convolution(nn.Module):
    def __init__(self, dim, kernel, norm):
        super().__init__()
        self.norm, self.gate, self.project = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.depthwise_norm = BatchNorm(dim) if norm == "batch" else nn.LayerNorm(dim)

    def forward(self, x, padding):
        x = F.glu(self.gate(self.norm(x)), dim=-1) * ~padding[..., None]
        return self.project(F.silu(self.depthwise_norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))))


class BatchNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x):
        return (x - self.running_mean) * (self.weight * (self.running_var + 1e-5).rsqrt()) + self.bias
