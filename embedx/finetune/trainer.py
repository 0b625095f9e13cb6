"""Trainer: transformers' Trainer with steps of several batches, and a state that depends on seed and step only.

A training that was killed goes on from its last whole checkpoint, and ends with the weights that it would have had.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import DataLoader

from embedx.errors import UsageError
from embedx.finetune.batches import Batch, Steps, to_device
from embedx.finetune.network import Network, Objective
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.parameters import group_parameters, rate_schedule, set_trained
from embedx.finetune.start import averaged

STATE, WEIGHTS, OPTIMIZER = "trainer_state.json", "model.safetensors", "optimizer.pt"  # of a checkpoint of Trainer
CLIP_NORM = 1.0  # of the gradients, as in the recipes of wav2vec 2.0 and Whisper
LOGS_PER_EPOCH = 5  # points of the loss curve
Validate = Callable[[], dict[str, float]]


class StepTrainer(transformers.Trainer):
    """Trains a network on `Steps`.

    Args:
        network: the network.
        arguments: the arguments of the Trainer.
        steps: the steps; `first` is the step at which the training goes on.
        objective: the loss.
        options: rates, freezing and schedule.
        validate: returns the figures of the validation part, with the loss.
    """

    def __init__(
        self,
        network: Network,
        arguments: transformers.TrainingArguments,
        steps: Steps,
        objective: Objective,
        options: FinetuneOptions,
        validate: Validate,
    ) -> None:
        super().__init__(model=network, args=arguments, train_dataset=steps, eval_dataset=steps)  # not read: `evaluate`
        self.network, self.options, self.validate = network, options, validate
        self.start: dict[str, torch.Tensor] = {}  # the weights before training, where they are averaged
        self.steps: Steps = steps
        self.loss_of: Objective = objective
        self.remove_callback(transformers.PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return the steps one by one."""
        return DataLoader(self.steps, batch_size=None, shuffle=False)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create AdamW with the rates of the options."""
        self.optimizer = torch.optim.AdamW(group_parameters(self.network, self.options))
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule of the rates."""
        shares = rate_schedule(self.options, num_training_steps)
        chosen: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, shares)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Add up the gradients of all batches (`inputs`) of a step; the loss is the mean over its rows."""
        step = self.state.global_step
        torch.manual_seed(self.options.seed * 1_000_003 + step)  # dropout depends on the step, not on what ran before
        set_trained(self.network, self.options, step // self.steps.per_epoch)
        model.train()
        if not any(parameter.requires_grad for parameter in self.network.encoder.parameters()):
            self.network.encoder.eval()
        rows = sum(len(batch["lengths"]) for batch in inputs)
        total = torch.zeros((), device=self.args.device)
        for batch in inputs:
            batch = to_device(batch, self.args.device)
            with self.compute_loss_context_manager():
                logits = model(batch["waves"], batch["lengths"])
            loss = self.loss_of(logits, batch["targets"], batch["known"]) / rows
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return and log the figures of the validation part."""
        with averaged(self.network, self.start, self.options.average):
            metrics = {f"eval_{name}": value for name, value in self.validate().items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: operations are not counted."""
        return 0


class Watcher(transformers.TrainerCallback):
    """Reports the progress, and stops with a checkpoint when a signal has come."""

    def __init__(self, report: Callable[[dict[str, Any]], None], interrupted: Callable[[], int]) -> None:
        self.report, self.interrupted = report, interrupted

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Stop and save if a signal has come."""
        if self.interrupted():
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Report what the Trainer logs."""
        names = {"loss": "loss", "eval_loss": "validation_loss", args.metric_for_best_model: "validation_metric"}
        values = {names[name]: value for name, value in (logs or {}).items() if name in names}
        if values:
            epoch = state.global_step / args.save_steps
            self.report({"step": state.global_step, "steps": state.max_steps, "epoch": epoch, **values})


def make_arguments(
    options: FinetuneOptions, folder: Path, steps: int, per_epoch: int, precision: str, has_validation: bool
) -> transformers.TrainingArguments:
    """Return the arguments of the Trainer.

    Args:
        options: the options.
        folder: where checkpoints are written.
        steps, per_epoch: the number of steps, and of steps of an epoch.
        precision: "float32", "bfloat16" or "float16".
        has_validation: whether the best checkpoint is chosen on a validation part.
    """
    on_cpu = options.device == "cpu" or not torch.cuda.is_available()
    metric = options.metric or "main"
    return transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,
        eval_strategy="steps" if has_validation else "no",
        eval_steps=per_epoch,
        save_strategy="steps",
        save_steps=per_epoch,
        save_total_limit=2,
        load_best_model_at_end=has_validation,
        metric_for_best_model=f"eval_{metric}" if has_validation else None,
        greater_is_better=metric != "loss" if has_validation else None,
        logging_steps=max(1, per_epoch // LOGS_PER_EPOCH),
        max_grad_norm=CLIP_NORM,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=on_cpu,
        seed=options.seed,
        ignore_data_skip=True,  # `Steps.first` says where the training goes on
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
    )


def pick_precision(precision: str, on_gpu: bool) -> str:
    """Return the number format of the forward pass.

    Raises:
        UsageError: float16 on a CPU, where gradients would become zero.
    """
    if precision == "auto":
        return "bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float16" and not on_gpu:
        raise UsageError("precision=float16 needs a GPU. Use float32, or bfloat16 where the CPU has it.")
    return precision


def last_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Return the newest whole checkpoint and its step, None if there is none; remove those that a kill left in part."""
    found: list[tuple[int, Path]] = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            step = int(json.loads((checkpoint / STATE).read_text())["global_step"])
            if not all((checkpoint / name).is_file() for name in (WEIGHTS, OPTIMIZER)):
                raise ValueError("a file is missing")
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(checkpoint, ignore_errors=True)
            continue
        found.append((step, checkpoint))
    return (max(found)[1], max(found)[0]) if found else None
