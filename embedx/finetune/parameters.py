"""Parameters: what is trained at which step, at which rate, and LoRA."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from embedx.errors import UsageError
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions

FIRST_RATE, LAST_RATE = 1 / 25, 1e-4  # of the highest rate: the start and the end of one-cycle in Smith (2018), fastai
ATTENTION = ("attention",)  # WavLM reads the weights of its attention without calling the layers
Group = dict[str, Any]


def trained_depths(options: FinetuneOptions, blocks: int, epoch: int) -> range:
    """Return the depths of the encoder that are trained in an epoch: 0 before the blocks, then 1 to `blocks`.

    >>> trained_depths(FinetuneOptions("m", freeze="2"), blocks=4, epoch=0)
    range(3, 5)
    >>> trained_depths(FinetuneOptions("m", unfreeze_every=2), blocks=4, epoch=3)
    range(4, 5)
    """
    first = {"none": 0, "features": 1, "encoder": blocks + 1}.get(options.freeze, -1)
    if first < 0:
        first = int(options.freeze) + 1
    if options.unfreeze_every:
        first = max(first, blocks + 1 - epoch // options.unfreeze_every)
    return range(first, blocks + 1)


def check_freeze(options: FinetuneOptions, blocks: int) -> None:
    """Refuse a number of blocks that the encoder does not have.

    Raises:
        UsageError: there are fewer blocks.
    """
    if options.freeze.isdecimal() and int(options.freeze) > blocks:
        raise UsageError(f"freeze={options.freeze}, but {options.model} has {blocks} blocks.")


def set_trained(network: Network, options: FinetuneOptions, epoch: int) -> None:
    """Let the parameters of an epoch be trained, and no others."""
    encoder = network.encoder
    if not options.lora:
        encoder.requires_grad_(True)
        depths = encoder.depths()
        trained = trained_depths(options, len(depths) - 1, epoch)
        for depth, parameters in enumerate(depths):
            if depth not in trained:
                for parameter in parameters:
                    parameter.requires_grad_(False)
    for module in encoder.modules():  # the library asks for gradients of the waves unless it knows of the freezing
        if hasattr(module, "_requires_grad"):
            module._requires_grad = any(parameter.requires_grad for parameter in module.parameters())


def count_parameters(network: Network) -> tuple[int, int]:
    """Return the number of all parameters, and of those that are trained."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return sum(size for size, _ in counts), sum(size for size, trained in counts if trained)


def group_parameters(network: Network, options: FinetuneOptions) -> list[Group]:
    """Return groups for AdamW: the rate of each depth, and no weight decay for biases and norms."""
    depths = network.encoder.depths()
    rates = [options.encoder_rate * options.layer_decay ** (len(depths) - 1 - i) for i in range(len(depths))]
    known = {id(parameter): rate for parameters, rate in zip(depths, rates, strict=True) for parameter in parameters}
    groups: dict[tuple[float, bool], Group] = {}
    for name, parameter in network.named_parameters():
        rate = options.linear_rate if name.startswith("head.") else known.get(id(parameter), options.encoder_rate)
        decays = parameter.ndim > 1
        group = {"params": [], "lr": rate, "weight_decay": options.weight_decay if decays else 0.0}
        groups.setdefault((rate, decays), group)["params"].append(parameter)
    return list(groups.values())


def rate_schedule(options: FinetuneOptions, steps: int) -> Callable[[int], float]:
    """Return the share of the highest rate at each step.

    >>> rates = rate_schedule(FinetuneOptions("m", schedule="linear", warm_up=0.5), 4)
    >>> [round(rates(step), 3) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rise = round(options.warm_up * steps)

    def share(step: int) -> float:
        if step < rise:
            risen = (step + 1) / rise
            if options.schedule != "one-cycle":
                return risen
            return FIRST_RATE + (1 - FIRST_RATE) * (1 - math.cos(math.pi * risen)) / 2
        done = (step - rise) / max(1, steps - rise)
        cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
        falls = {"constant": 1.0, "linear": 1 - done, "cosine": cosine, "one-cycle": max(LAST_RATE, cosine)}
        return falls[options.schedule]

    return share


def add_lora(encoder: Any, rank: int) -> None:
    """Add LoRA's matrices to all linear layers in the encoder's blocks; only they are trained.

    Raises:
        UsageError: the package peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError("LoRA needs the package peft: pip install 'embedx[finetune]'.") from error
    names = {id(module): name for name, module in encoder.model.named_modules()}
    skipped = ATTENTION if encoder.kind == "wavlm" else ()
    targets = [
        names[id(module)]
        for block in encoder.blocks
        for module in block.modules()
        if isinstance(module, nn.Linear) and not any(part in names[id(module)] for part in skipped)
    ]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), encoder.model)


def merge_lora(encoder: Any) -> None:
    """Add the product of LoRA's matrices to the weights, and remove the matrices."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(name, module) for name, module in encoder.model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in layers:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(encoder.model.get_submodule(parent), child, module.get_base_layer())
