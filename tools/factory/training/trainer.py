"""The training loop: steps, log, checkpoints, exact resume, validation on held-out pictures.

A batch depends on its step alone; the checkpoint holds the rest (weights, averaged weights,
optimiser, torch's generators). So a resumed run ends in the same bits.
"""

from __future__ import annotations

import copy
import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from edge_runtime.errors import ConfigError, StuckError
from edge_runtime.system.files import write_atomically
from tools.factory.students.mobilenet import Conv, insert_batch_norm
from tools.factory.students.student import Student, to_pixels
from tools.factory.training.batches import Batch, Batches, prefetch
from tools.factory.training.checkpoint import read_checkpoint, write_checkpoint
from tools.factory.training.losses import objective
from tools.factory.training.materials import Materials
from tools.factory.training.plan import Plan
from tools.factory.training.scoring import score_held_out

LOG_EVERY = 20  # steps
VOCABULARY_LIMIT = 4096  # above it, the contrastive term compares only with texts of the batch
# Not --resume: it needs the same recipe, and would come to the same step again.
_LOWER = "lower train.lr and start again with another --output"


class Trainer:
    """One process of a distillation; with several, DistributedDataParallel averages gradients."""

    def __init__(
        self,
        student: Student,
        materials: Materials,
        output: Path,
        device: torch.device,
        *,
        quiet: bool = False,
    ) -> None:
        self.materials = materials
        self.recipe = materials.recipe
        self.output = output
        self.device = device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.quiet = quiet or self.rank > 0
        self.batches = Batches(materials, self.rank, self.world)
        self.plan = Plan(self.recipe, self.batches.steps_per_epoch)
        self.step = 0
        self._stop = False

        self.student = student.to(device, memory_format=torch.channels_last)
        self._insert_norms()
        self.average = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.optimiser = self._optimiser()

        # Half precision on GPUs only. float16 needs its losses scaled, bfloat16 does not.
        cuda = device.type == "cuda"
        half = torch.bfloat16 if cuda and torch.cuda.is_bf16_supported() else torch.float16
        self.autocast = torch.autocast(device.type, half, enabled=cuda)
        scaled = cuda and half == torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)

        texts = materials.texts
        self.bank = self._on_device(materials.bank)
        self.texts = self._on_device(texts.rows)
        self.groups = self._on_device(texts.groups)
        self.conditions = self._on_device(texts.conditions)
        names = materials.targets.names
        self.names = None if names is None else self._on_device(names)

    @property
    def checkpoint_path(self) -> Path:
        """Where the last good state is."""
        return self.output / "checkpoint.pt"

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _insert_norms(self) -> None:
        """BatchNorm for the trained part of a network whose checkpoint had it folded away."""
        count = self.recipe.train.norm_batches
        backbone = self.student.backbone
        convs = [module for module in backbone.modules() if isinstance(module, Conv)]
        has_norms = any(isinstance(conv.norm, nn.BatchNorm2d) for conv in convs)
        if not count or not convs or has_norms:
            return

        frozen = min(self.plan.frozen(step) for step in range(self.plan.steps))
        self.student.freeze(frozen)
        trained = nn.Sequential(*backbone.layers[frozen:])
        stems = []
        with torch.no_grad():
            for step in range(count):
                batch = self.batches.batch(step, self.plan.sizes[0])
                stems.append(self.student.stem(to_pixels(batch.pixels, self.device)))
        insert_batch_norm(trained, stems)

    def _optimiser(self) -> torch.optim.Optimizer:
        """AdamW with a peak rate for the backbone and one for the head; vectors do not decay.

        Biases and norms are vectors: decay would pull them towards 0 without making anything
        simpler.
        """
        train = self.recipe.train
        groups = []
        peaks = ((self.student.backbone, train.backbone_lr), (self.student.head, train.lr))
        for module, peak in peaks:
            parameters = list(module.parameters())
            matrices = [p for p in parameters if p.ndim > 1]
            vectors = [p for p in parameters if p.ndim <= 1]
            decay = train.weight_decay
            groups.append({"params": matrices, "peak": peak, "weight_decay": decay})
            groups.append({"params": vectors, "peak": peak, "weight_decay": 0.0})

        filled = [group for group in groups if group["params"]]
        return torch.optim.AdamW(filled, lr=train.lr, fused=self.device.type == "cuda")

    def run(
        self, *, stop_after_s: float = float("inf"), stop_at_step: int = 1 << 62, workers: int = 1
    ) -> bool:
        """Train to the end of the plan, or to the stop; True when the plan is finished.

        Saves a checkpoint at the end of every epoch, every few minutes, on SIGINT and SIGTERM, and
        at the end. Raises StuckError when the loss is not a number; the last good checkpoint stays.
        """
        begin = time.monotonic()
        saved = begin
        last = min(self.plan.steps, stop_at_step)
        batches = prefetch(self.batches, range(self.step, last), self.plan, workers)
        signals = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self._ask_to_stop) for number in signals}
        bar = self._bar()

        model = None
        frozen = -1
        try:
            for batch in batches:
                if model is None or self.plan.frozen(self.step) != frozen:
                    frozen = self.plan.frozen(self.step)
                    model = self._wrap(frozen)
                terms = self._train_step(model, batch)
                self.step += 1
                bar.update()
                self._log(terms, bar)

                epoch_ends = self.step % self.batches.steps_per_epoch == 0
                if epoch_ends or self.step == self.plan.steps:
                    self._record(self.validate())
                late = time.monotonic() - saved > self.recipe.train.checkpoint_minutes * 60
                if epoch_ends or late:
                    self.save()
                    saved = time.monotonic()
                if self._agree(self._stop or time.monotonic() - begin > stop_after_s):
                    break
            self.save()
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.step >= self.plan.steps

    def _bar(self) -> tqdm[Any]:
        return tqdm(
            total=self.plan.steps,
            initial=self.step,
            desc=self.recipe.name,
            unit="step",
            disable=self.quiet,
        )

    def _ask_to_stop(self, *_: object) -> None:
        self._stop = True

    def _agree(self, stop: bool) -> bool:
        """All processes stop after the same step, or one would wait for the others for ever."""
        if self.world == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def _wrap(self, frozen: int) -> nn.Module:
        """The student ready to train; wrapped anew where other layers freeze, as DDP demands."""
        self.optimiser.zero_grad(set_to_none=True)
        self.student.freeze(frozen)
        self.student.train()
        if self.world == 1:
            return self.student
        return nn.parallel.DistributedDataParallel(self.student)

    def _train_step(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step, group["peak"])

        with self.autocast:
            embedding = self._embed(model, batch)
        loss, terms = self._loss(embedding, batch)
        mean_loss = self._mean_over_processes(loss)
        if not np.isfinite(mean_loss):
            raise StuckError(self._stuck(mean_loss))

        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        # Gradients are clipped at their true size, so their scale goes first.
        self.scaler.unscale_(self.optimiser)
        trained = [p for p in self.student.parameters() if p.grad is not None]
        nn.utils.clip_grad_norm_(trained, self.recipe.train.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._update_average()
        return {"loss": mean_loss, **terms}

    def _embed(self, model: nn.Module, batch: Batch) -> Tensor:
        """From the stored activations of the frozen layers where the batch has them."""
        if batch.stem is not None and self.materials.stems:
            stem = self.materials.stems.restore(batch.stem, self.device)
            return model(stem, self.recipe.student.frozen)
        return model(to_pixels(batch.pixels, self.device))

    def _loss(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        texts, groups, text_rows = self._vocabulary(batch.text)
        posterior = batch.posterior
        return objective(
            self.recipe.losses,
            embedding,
            torch.from_numpy(batch.target).to(self.device),
            bank=self.bank,
            texts=texts,
            groups=groups,
            text_rows=text_rows,
            conditions=self.conditions,
            condition_rows=torch.from_numpy(batch.condition).to(self.device),
            names=self.names,
            shares=None if posterior is None else self._on_device(posterior),
        )

    def _mean_over_processes(self, loss: Tensor) -> float:
        total = loss.detach().clone()
        if self.world > 1:
            dist.all_reduce(total)
        return float(total) / self.world

    def _stuck(self, loss: float) -> str:
        path = self.checkpoint_path
        kept = f"{path} holds the last good state" if path.exists() else "none kept"
        return f"step {self.step}: the loss is {loss}; {kept}; {_LOWER}"

    def _vocabulary(self, text_rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """(texts to compare with, their groups, the batch's rows among them).

        All texts; of a large vocabulary only those of the batch, or the softmax costs more than the
        network.
        """
        if len(self.texts) <= VOCABULARY_LIMIT:
            return self.texts, self.groups, torch.from_numpy(text_rows).to(self.device)

        labelled = text_rows >= 0
        rows, inverse = np.unique(text_rows[labelled], return_inverse=True)
        local = np.full(len(text_rows), -1, np.int64)
        local[labelled] = inverse
        chosen = torch.from_numpy(rows).to(self.device)
        return self.texts[chosen], self.groups[chosen], torch.from_numpy(local).to(self.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of the weights.

        It averages over few steps at first. Otherwise the random start would stay in it for long.
        """
        decay = min(self.recipe.train.ema, (self.step + 1) / (self.step + 10))
        averages = self.average.state_dict().values()
        currents = self.student.state_dict().values()
        pairs = list(zip(averages, currents, strict=True))

        floats = [(average, current) for average, current in pairs if average.is_floating_point()]
        # All tensors in one call, because single calls cost more than the arithmetic.
        torch._foreach_lerp_(
            [average for average, _ in floats], [current for _, current in floats], 1 - decay
        )
        for average, current in pairs:
            if not average.is_floating_point():
                average.copy_(current)

    def _log(self, terms: dict[str, float], bar: tqdm[Any]) -> None:
        shown = {name: f"{value:.3f}" for name, value in terms.items()}
        bar.set_postfix(shown, refresh=False)
        if self.step % LOG_EVERY:
            return
        steps_per_s = bar.format_dict["rate"] or 0.0
        rounded = {name: round(value, 5) for name, value in terms.items()}
        rates = {
            "lr": self.plan.rate(self.step, self.recipe.train.lr),
            "pictures_per_s": round(steps_per_s * self.recipe.train.batch * self.world, 1),
        }
        self._record({**rounded, **rates})

    def _record(self, entry: dict[str, Any]) -> None:
        """Append a line to log.jsonl (process 0)."""
        if self.rank:
            return
        epoch = round(self.step / self.batches.steps_per_epoch, 3)
        line = {"step": self.step, "epoch": epoch, **entry}
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if "validation" in entry and not self.quiet:
            tqdm.write(f"step {self.step}: held out {json.dumps(entry['validation'])}")

    def validate(self) -> dict[str, Any]:
        """{"validation": scores of the averaged weights on held-out pictures}, {} without any."""
        samples = self.materials.cache.samples
        rows = np.array([row for row, sample in enumerate(samples) if sample.held_out], np.int64)
        if self.rank or not len(rows):
            return {}
        return {"validation": score_held_out(self.average, self.materials, rows, self.device)}

    def save(self) -> None:
        """Write the checkpoint atomically (process 0).

        Raises DataError on a full disk, StuckError for weights that are not finite; the old
        checkpoint survives both.
        """
        if self.rank:
            return
        weights = self.student.state_dict()
        floats = [tensor for tensor in weights.values() if tensor.is_floating_point()]
        if not all(torch.isfinite(tensor).all() for tensor in floats):
            raise StuckError(f"step {self.step}: weights are no numbers any more", f"{_LOWER}")

        cuda = self.device.type == "cuda"
        write_checkpoint(
            self.checkpoint_path,
            {
                "recipe": self.recipe.digest(),
                "text_space": self.materials.text_space,
                "step": self.step,
                "student": weights,
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.scaler.state_dict(),
                "rng": torch.get_rng_state(),
                "rng_cuda": torch.cuda.get_rng_state() if cuda else None,
            },
        )

    def resume(self) -> None:
        """Continue from the checkpoint.

        Raises NoInputError without one, ConfigError for another recipe's.
        """
        state = read_checkpoint(self.checkpoint_path)
        if state["recipe"] != self.recipe.digest():
            raise ConfigError(
                f"{self.checkpoint_path}: made with another recipe",
                "give another --output or that recipe",
            )
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state["rng_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_cuda"])
        self.step = state["step"]
        self._cut_log()

    def _cut_log(self) -> None:
        """Drop log lines of steps after the checkpoint: these steps are about to be run again."""
        log = self.output / "log.jsonl"
        if self.rank or not log.exists():
            return
        # A line without its end was being written when the machine stopped.
        lines = log.read_text(encoding="utf-8").splitlines()
        whole = [line for line in lines if line.endswith("}")]
        kept = [line for line in whole if json.loads(line)["step"] <= self.step]
        write_atomically(log, "".join(line + "\n" for line in kept).encode())
