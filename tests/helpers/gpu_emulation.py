"""An emulation of a GPU on the CPU, as a plugin of pytest: its tensors say that they are on cuda:0.

    python -m pytest -p tests.helpers.gpu_emulation tests/embedding/test_gpu.py

It shows operations that mix tensors of both devices (an error, as on a GPU), where the program waits for the GPU,
copies from memory that is not pinned, and the bytes that live at one time, with a limit if a test sets one. It does not
show speed, the rounding of kernels, streams that overtake each other, or Triton.
"""

import contextlib
import sys
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen as varlen
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
TOTAL_BYTES = 80 * 10**9
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero", "_linalg_eigh"}
COPYING = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}  # may mix both devices
LOCK = threading.RLock()


class Memory:
    """The bytes of storages that are alive; several tensors can share one."""

    def __init__(self) -> None:
        self.live = self.most = self.refused = 0
        self.limit: float | None = None
        self.users: dict[int, list[int]] = {}  # storage -> [bytes, tensors]

    def take(self, real: torch.Tensor) -> int:
        """Count a tensor, and return the key of its storage."""
        storage = real.untyped_storage()
        key = int(storage._cdata)
        with LOCK:
            if key not in self.users:
                if self.limit is not None and self.live + storage.nbytes() > self.limit:
                    self.refused += 1
                    raise torch.OutOfMemoryError("The emulated GPU has no room.")
                self.users[key] = [storage.nbytes(), 0]
                self.live += storage.nbytes()
                self.most = max(self.most, self.live)
            self.users[key][1] += 1
        return key

    def release(self, key: int) -> None:
        """Count a tensor that has gone."""
        with LOCK:
            self.users[key][1] -= 1
            if not self.users[key][1]:
                self.live -= self.users.pop(key)[0]


MEMORY = Memory()
WAITS: Counter[tuple[str, str]] = Counter()  # (operation, line of the program)
PAGEABLE: Counter[tuple[str, str]] = Counter()  # (shape, line of the program)


class Emulated(torch.Tensor):
    """A tensor on cuda:0 whose numbers are in `held`, a tensor on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> "Emulated":
        layout: dict[str, Any] = {"strides": real.stride(), "storage_offset": real.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, real.size(), dtype=real.dtype, device=GPU, **layout)
        made.held = real
        weakref.finalize(made, MEMORY.release, MEMORY.take(real))
        return made

    def __init__(self, real: torch.Tensor) -> None:
        """`__new__` has done everything."""

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Emulated({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, _: Any) -> "Emulated":
        return Emulated(self.held.clone())

    def __getitem__(self, index: Any) -> Any:
        """Take parts; torch would copy a list of places to a real GPU."""
        places = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(
            tuple(Emulated(torch.tensor(place)) if isinstance(place, list) else place for place in places)
        )

    def tolist(self) -> Any:
        """Return the numbers; the program waits for them."""
        note(WAITS, "tolist")
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return dispatch(func, args, kwargs or {})


class Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Also calls without an emulated tensor, such as torch.zeros(3, device="cuda"), come here."""

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU, and refuse or note what a GPU would refuse or wait for."""
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, Emulated)]
    device = kwargs.get("device")
    if len(on_cpu) == len(tensors):
        if not is_gpu(device):
            return func(*args, **kwargs)
        if name == "_to_copy":
            note_pageable(on_cpu[0])
        options = {key: value for key, value in kwargs.items() if key not in ("pin_memory", "non_blocking")}
        return wrap(func(*args, **options | {"device": "cpu"}), args)
    if name == "_pack_padded_sequence":  # it takes lengths of the CPU, and gives sizes there
        packed, sizes = func(*unwrap(args), **kwargs)
        return Emulated(packed), sizes
    if name == "_thnn_fused_lstm_cell":
        return wrap(step_lstm(*unwrap(args)), args)
    if name not in COPYING and any(tensor.dim() for tensor in on_cpu):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got some of the CPU: {line()}")
    if name in WAITING or (name.startswith(("index", "_index")) and has_mask(args)):
        note(WAITS, name)
    if name == "_to_copy" and device is not None and not is_gpu(device):
        note(WAITS, "copy to the CPU")
        return func(*unwrap(args), **{key: value for key, value in kwargs.items() if key != "pin_memory"})
    if name == "copy_" and not isinstance(args[0], Emulated):
        if not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
            note(WAITS, "copy to the CPU")
        return args[0].copy_(args[1].held)
    if name == "copy_" and on_cpu:
        note_pageable(args[1])
    options = {key: "cpu" if key == "device" else unwrap(value) for key, value in kwargs.items()}
    result = func(*unwrap(args), **options)
    return args[0] if name.endswith("_") and not name.startswith("_") else wrap(result, args)


def step_lstm(inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, *biases: torch.Tensor | None) -> Any:
    """Return the output, cell and gates of one step of an LSTM: a kernel that torch has for a GPU only."""
    gates = inputs + hidden + sum(bias for bias in biases if bias is not None)
    enter, forget, new, out = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell, gates


def is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def unwrap(values: Any) -> Any:
    return tree_map(lambda value: value.held if isinstance(value, Emulated) else value, values)


def wrap(result: Any, args: Any) -> Any:
    """Emulate the results; an argument that is returned stays the same object."""
    known = {id(leaf.held): leaf for leaf in tree_leaves(args) if isinstance(leaf, Emulated)}
    return tree_map(lambda one: (known.get(id(one)) or Emulated(one)) if isinstance(one, torch.Tensor) else one, result)


def has_mask(args: Any) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else []
    return any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in indices)


def note(seen: Counter[tuple[str, str]], what: str) -> None:
    with LOCK:
        seen[what, line()] += 1


def note_pageable(tensor: torch.Tensor) -> None:
    if tensor.numel() > 1 and not getattr(tensor, "is_emulated_pinned", False):
        note(PAGEABLE, str(tuple(tensor.shape)))


def line() -> str:
    """Return the line of embedx, or of a library of models, that is running."""
    for frame in reversed(traceback.extract_stack()):
        if any(part in frame.filename for part in ("/embedx/", "/transformers/", "/torchaudio/")):
            return f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno}"
    return "?"


class Stream:
    """A stream that has always done everything."""

    def __init__(self, device: object = None) -> None:
        self.device = device

    def synchronize(self) -> None:
        """Return at once."""


@contextlib.contextmanager
def in_stream(_: Stream) -> Iterator[None]:
    with Dispatch():  # type: ignore[no-untyped-call]
        yield


def run_thread(thread: threading.Thread) -> None:
    """Run a thread of the program, such as one of the layer sweep, with emulated operations."""
    with Dispatch():  # type: ignore[no-untyped-call]
        RUN_THREAD(thread)


def pinned(tensor: torch.Tensor, *_: object) -> torch.Tensor:
    copy = tensor.clone()
    copy.is_emulated_pinned = True  # type: ignore[attr-defined]
    return copy


def attend(q: Any, k: Any, v: Any, bounds: Any, _: Any, most_q: int, most_k: int) -> Emulated:
    """Attention within clips of unequal length, with the checks of the kernel."""
    assert q.dtype in (torch.float16, torch.bfloat16) and bounds.dtype == torch.int32 and most_q == most_k
    assert all(each.stride(-1) == 1 and each.shape[-1] % 8 == 0 and each.shape[-1] <= 256 for each in (q, k, v))
    clips = [each.held.split(bounds.held.diff().tolist()) for each in (q, k, v)]
    out = [
        torch.nn.functional.scaled_dot_product_attention(*(one.transpose(0, 1)[None] for one in clip))[0]
        for clip in zip(*clips, strict=True)
    ]
    return Emulated(torch.cat([one.transpose(0, 1) for one in out]))


def move(module: torch.nn.Module, device: Any = None, *rest: Any, **options: Any) -> torch.nn.Module:
    """Replace the parameters and buffers of a module by emulated ones."""
    if not is_gpu(device):
        MODULE_TO(module, device, *rest, **options)
        return module
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None and not isinstance(parameter, Emulated):
                each._parameters[name] = torch.nn.Parameter(Emulated(parameter.data), requires_grad=False)
        for name, buffer in each._buffers.items():
            if buffer is not None and not isinstance(buffer, Emulated):
                each._buffers[name] = Emulated(buffer)
    return module


def set_limit(share: float) -> None:
    MEMORY.limit = None if share == 1.0 else share * TOTAL_BYTES


def make_empty(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
    tensor: torch.Tensor = EMPTY(*shape, **options)
    if pin_memory:
        tensor.is_emulated_pinned = True  # type: ignore[attr-defined]
    return tensor


def make_tensor(*values: Any, device: Any = None, **options: Any) -> torch.Tensor:
    """Make a tensor of numbers; torch itself would copy them to a real GPU."""
    tensor: torch.Tensor = TENSOR(*values, device=None if is_gpu(device) else device, **options)
    return Emulated(tensor) if is_gpu(device) else tensor


MODULE_TO: Any = torch.nn.Module.to
TENSOR: Any = torch.tensor
EMPTY: Any = torch.empty
RUN_THREAD: Any = threading.Thread.run
CUDA: dict[str, Any] = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "Stream": Stream,
    "stream": in_stream,
    "synchronize": lambda *_: None,
    "empty_cache": lambda: None,
    "get_device_capability": lambda *_: (9, 0),
    "get_device_name": lambda *_: "emulated GPU",
    "get_device_properties": lambda *_: SimpleNamespace(total_memory=TOTAL_BYTES),
    "get_amp_supported_dtype": lambda: [torch.float16, torch.bfloat16],
    "current_device": lambda: 0,
    "is_bf16_supported": lambda *_, **__: True,
    "memory_reserved": lambda *_: MEMORY.live,
    "memory_stats": lambda *_: {"num_ooms": MEMORY.refused},
    "set_per_process_memory_fraction": set_limit,
}


def install() -> None:
    """Replace the functions of torch that need a GPU; before embedx is imported."""
    places: Any = torch
    threads: Any = threading
    for name, function in CUDA.items():
        setattr(places.cuda, name, function)
    places.inference_mode = torch.no_grad  # emulated tensors do not exist in inference mode
    places.amp.autocast_mode.is_available = lambda *_: True
    _device_constructors()  # remembers those that are replaced here, for torch.device("meta")
    places.empty, places.Tensor.pin_memory, places.nn.Module.to = make_empty, pinned, move
    places.tensor = make_tensor
    threads.Thread.run = run_thread
    places.backends.cudnn.enabled = False  # batch norms would call it; it has no kernels for a CPU
    places._C._set_only_lift_cpu_tensors(True)
    places._C._ensureCUDADeviceGuardSet()  # a device guard that needs no driver
    varlen.varlen_attn = attend  # type: ignore[assignment]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Emulate also what a test does outside of the streams of workers."""
    with Dispatch():  # type: ignore[no-untyped-call]
        return (yield)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for title, seen in (("The program waits for the GPU", WAITS), ("Copied from memory that is not pinned", PAGEABLE)):
        terminalreporter.section(title)
        for (what, where), count in seen.most_common(40):
            terminalreporter.line(f"{count:7} {what}: {where}")
    terminalreporter.line(f"{MEMORY.most / 1e6:.0f} MB at most; {MEMORY.refused} tensors had no room")


if "pytest" in sys.modules:
    install()
