"""Devices and number formats of torch by name, in one place."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from embedx.errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_devices(device: str) -> tuple[str, ...]:
    """Return the devices that a name stands for: "auto", "cpu", "cuda", or several GPUs such as "cuda:0,cuda:1".

    Raises:
        UsageError: a device is unknown, repeated, or not available.
    """
    if device == "auto":
        return ("cuda" if torch.cuda.is_available() else "cpu",)
    devices = tuple(name.strip() for name in device.split(","))
    gpus = [name for name in devices if re.fullmatch(r"cuda(:\d+)?", name)]
    if devices != ("cpu",) and len(gpus) < len(devices):
        raise UsageError(f"Unknown device {device!r}. Devices: auto, cpu, cuda, or several such as cuda:0,cuda:1.")
    numbers = [int(name.partition(":")[2] or 0) for name in gpus]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"Device {device!r} names a GPU twice (cuda is cuda:0). Name each GPU once.")
    if gpus and not torch.cuda.is_available():
        raise UsageError(f"Device {device!r} is not available: torch finds no GPU. Use cpu or auto.")
    available = torch.cuda.device_count()
    if any(number >= available for number in numbers):
        raise UsageError(f"Device {device!r} is not available: torch finds {available} GPUs, numbered from cuda:0.")
    return devices


def pick_device(device: str) -> torch.device:
    """Return the single device that a name stands for: "auto", "cpu", "cuda" or one GPU such as "cuda:1".

    Raises:
        UsageError: the device is unknown or not available, or there are several.
    """
    devices = pick_devices(device)
    if len(devices) > 1:
        raise UsageError(f"Heads are fitted on one device, not on {device!r}. Give one of them.")
    return torch.device(devices[0])


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; a GPU copies it later, and nothing waits for that."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def pick_precision(precision: str, possible: Sequence[str] = tuple(DTYPES)) -> str:
    """Return the precision for a name; "auto" is float32: no other is known to keep the nearest neighbours.

    Args:
        precision: the name.
        possible: those in which the model runs.

    Raises:
        UsageError: the name is unknown, or the model does not run in this precision.
    """
    if precision not in ("auto", *DTYPES):
        raise UsageError(f"Unknown precision {precision!r}. Precisions: auto, {', '.join(DTYPES)}.")
    if precision not in ("auto", *possible):
        raise UsageError(f"This model does not run in {precision}. Precisions: auto, {', '.join(possible)}.")
    return "float32" if precision == "auto" else precision
