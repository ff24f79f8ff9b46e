"""What fairseq2 has not: fairseq's AdamW, `birq_adamw`, and the learning rate of Latent-RQ's stages, `birq_stages`."""

from dataclasses import dataclass
from typing import Tuple

from fairseq2.optim.lr_schedulers import AbstractLRScheduler, LRScheduler
from fairseq2.recipe.component import register_component
from torch.nn import Module
from torch.optim import Optimizer

from fairseq_birq.config import StageScheduleConfig
from fairseq_birq.settings import from_dict
from fairseq_birq.training.adamw import GroupedAdamW
from fairseq_birq.training.stage_schedule import StageRates


@dataclass
class BirqAdamWConfig:
    """As fairseq's `adam`: eps is added before the second moment's bias is corrected. The names are those of fairseq2."""

    lr: float = 1e-3
    betas: Tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.0


class StagesLR(AbstractLRScheduler):
    """The learning rate is a function of the updates alone: `StageRates.lr_at`."""

    def __init__(self, optimizer: Optimizer, cfg: StageScheduleConfig):
        self.rates = StageRates(cfg, optimizer.param_groups[0]["lr"])
        super().__init__(optimizer)

    def _compute_lrs(self):
        return [self.rates.lr_at(self.last_epoch) for _ in self.base_lrs]

    def state_dict(self):
        return {key: value for key, value in super().state_dict().items() if key != "rates"}


def register(container) -> None:
    register_component(container, Optimizer, "birq_adamw", config_kls=BirqAdamWConfig, factory=_create_adamw)
    register_component(container, LRScheduler, "birq_stages", config_kls=StageScheduleConfig, factory=_create_stages)


def _create_adamw(resolver, config: BirqAdamWConfig) -> Optimizer:
    trained = [parameter for parameter in resolver.resolve(Module).parameters() if parameter.requires_grad]
    return GroupedAdamW(trained, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)


def _create_stages(resolver, config: StageScheduleConfig) -> LRScheduler:
    return StagesLR(resolver.resolve(Optimizer), from_dict(StageScheduleConfig, config, "lr_scheduler.config"))
