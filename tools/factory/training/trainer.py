"""The training loop: steps, log, checkpoints that survive, exact resume, validation on held-out
pictures.

A batch depends on its step alone; the checkpoint holds the rest (weights, averaged weights,
optimiser, torch's generators). A resumed run ends in the same bits."""

from __future__ import annotations

import copy
import io
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
from edge_runtime.files import write_atomically
from tools.factory.students.mobilenet import Conv, insert_batch_norm
from tools.factory.students.student import Student, to_pixels
from tools.factory.training.batches import Batch, Batches, prefetch
from tools.factory.training.checkpoint import SCHEMA, read_checkpoint
from tools.factory.training.losses import objective
from tools.factory.training.materials import Materials
from tools.factory.training.plan import Plan
from tools.factory.training.scoring import score_held_out

LOG_EVERY = 20
VOCABULARY_LIMIT = 4096  # beyond it the contrastive term compares with the texts of the batch only
# Not --resume: that wants the recipe the checkpoint was made with, and would come to the same step again.
_LOWER = "lower train.lr and start anew with another --output"


class Trainer:
    """One process of a distillation; with several, gradients are averaged by
    DistributedDataParallel."""

    def __init__(
        self,
        student: Student,
        materials: Materials,
        output: Path,
        device: torch.device,
        *,
        quiet: bool = False,
    ) -> None:
        self.m = materials
        self.recipe = materials.recipe
        self.output = output
        self.device = device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.quiet = quiet or self.rank > 0
        self.batches = Batches(materials, self.rank, self.world)
        self.plan = Plan(self.recipe, self.batches.steps_per_epoch)
        self.student = student.to(device, memory_format=torch.channels_last)
        self._insert_norms()
        self.average = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.optimiser = self._optimiser()
        half = (
            torch.bfloat16
            if device.type == "cuda" and torch.cuda.is_bf16_supported()
            else torch.float16
        )
        self.autocast = torch.autocast(device.type, half, enabled=device.type == "cuda")
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=device.type == "cuda" and half == torch.float16
        )
        texts = materials.texts
        self.bank, self.texts, self.groups, self.conditions = (
            torch.from_numpy(np.ascontiguousarray(rows)).to(device)
            for rows in (materials.bank, texts.rows, texts.groups, texts.conditions)
        )
        names = materials.targets.names
        self.names = None if names is None else torch.from_numpy(names).to(device)
        self.step = 0
        self._stop = False

    @property
    def checkpoint_path(self) -> Path:
        """Where the last good state stands."""
        return self.output / "checkpoint.pt"

    def _insert_norms(self) -> None:
        """BatchNorm for the trained part of a network whose checkpoint had it folded away."""
        count = self.recipe.train.norm_batches
        backbone = self.student.backbone
        convs = [m for m in backbone.modules() if isinstance(m, Conv)]
        if not count or not convs or any(isinstance(c.norm, nn.BatchNorm2d) for c in convs):
            return
        frozen = min(self.plan.frozen(step) for step in range(self.plan.steps))
        self.student.freeze(frozen)
        trained = nn.Sequential(*backbone.layers[frozen:])
        with torch.no_grad():
            shown = []
            for step in range(count):
                batch = self.batches.batch(step, self.plan.sizes[0])
                shown.append(self.student.stem(to_pixels(batch.pixels, self.device)))
        insert_batch_norm(trained, shown)

    def _optimiser(self) -> torch.optim.Optimizer:
        train = self.recipe.train
        groups = []
        for module, peak in (
            (self.student.backbone, train.backbone_lr),
            (self.student.head, train.lr),
        ):
            for decays in (True, False):
                chosen = [p for p in module.parameters() if (p.ndim > 1) == decays]
                groups.append(
                    {
                        "params": chosen,
                        "peak": peak,
                        "weight_decay": train.weight_decay if decays else 0.0,
                    }
                )
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=train.lr, fused=self.device.type == "cuda"
        )

    def run(
        self, *, stop_after_s: float = float("inf"), stop_at_step: int = 1 << 62, workers: int = 1
    ) -> bool:
        """Train to the end of the plan, or until told to stop; True when the plan is finished.

        Saves a checkpoint at the end of every epoch, every few minutes, on SIGINT and SIGTERM, and
        at the end. Raises StuckError when the loss is not a number; the last good checkpoint then
        stands.
        """
        begin = saved = time.monotonic()
        last = min(self.plan.steps, stop_at_step)
        previous = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(
            total=self.plan.steps,
            initial=self.step,
            desc=self.recipe.name,
            unit="step",
            disable=self.quiet,
        )
        model = None
        frozen = -1
        try:
            for batch in prefetch(self.batches, range(self.step, last), self.plan, workers):
                if model is None or self.plan.frozen(self.step) != frozen:
                    frozen = self.plan.frozen(self.step)
                    model = self._wrap(frozen)
                terms = self._train_step(model, batch)
                self.step += 1
                bar.update()
                self._log(terms, begin, bar)
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
            for which, handler in previous.items():
                signal.signal(which, handler)
        return self.step >= self.plan.steps

    def _ask_to_stop(self, *_: object) -> None:
        self._stop = True

    def _agree(self, stop: bool) -> bool:
        """All processes stop after the same step."""
        if self.world == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def _wrap(self, frozen: int) -> nn.Module:
        self.optimiser.zero_grad(set_to_none=True)
        self.student.freeze(frozen)
        self.student.train()
        if self.world == 1:
            return self.student
        return nn.parallel.DistributedDataParallel(self.student)

    def _train_step(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step, group["peak"])
        texts, groups, wanted = self._vocabulary(batch.text)
        with self.autocast:
            if batch.stem is not None and self.m.stems:
                stem = self.m.stems.restore(batch.stem, self.device)
                embedding = model(stem, self.recipe.student.frozen)
            else:
                embedding = model(to_pixels(batch.pixels, self.device))
        loss, terms = objective(
            self.recipe.losses,
            embedding,
            torch.from_numpy(batch.target).to(self.device),
            bank=self.bank,
            texts=texts,
            groups=groups,
            wanted_text=wanted,
            conditions=self.conditions,
            wanted_condition=torch.from_numpy(batch.condition).to(self.device),
            names=self.names,
            wanted_names=None
            if batch.posterior is None
            else torch.from_numpy(batch.posterior).to(self.device),
        )
        seen = loss.detach().clone()
        if self.world > 1:
            dist.all_reduce(seen)
        terms = {"loss": float(seen) / self.world, **terms}
        if not np.isfinite(terms["loss"]):
            kept = (
                f"{self.checkpoint_path} holds the last good state"
                if self.checkpoint_path.exists()
                else "none kept"
            )
            raise StuckError(f"step {self.step}: the loss is {terms['loss']}; {kept}; {_LOWER}")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(
            [p for p in self.student.parameters() if p.grad is not None], self.recipe.train.clip
        )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._update_average()
        return terms

    def _vocabulary(self, wanted: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """(texts, their groups, wanted rows among them): all of them, or of a large vocabulary
        those of the batch."""
        if len(self.texts) <= VOCABULARY_LIMIT:
            return self.texts, self.groups, torch.from_numpy(wanted).to(self.device)
        rows, inverse = np.unique(wanted[wanted >= 0], return_inverse=True)
        local = np.full(len(wanted), -1, np.int64)
        local[wanted >= 0] = inverse
        chosen = torch.from_numpy(rows).to(self.device)
        return self.texts[chosen], self.groups[chosen], torch.from_numpy(local).to(self.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.train.ema, (self.step + 1) / (self.step + 10))
        pairs = list(
            zip(self.average.state_dict().values(), self.student.state_dict().values(), strict=True)
        )
        floats = [(a, s) for a, s in pairs if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [s for _, s in floats], 1 - decay)
        for a, s in pairs:
            if not a.is_floating_point():
                a.copy_(s)

    def _log(self, terms: dict[str, float], begin: float, bar: tqdm[Any]) -> None:
        bar.set_postfix({name: f"{value:.3f}" for name, value in terms.items()}, refresh=False)
        if self.step % LOG_EVERY == 0:
            rate = bar.format_dict["rate"] or 0.0
            rates = {"lr": self.plan.rate(self.step, self.recipe.train.lr), "pictures_per_s": 0.0}
            rates["pictures_per_s"] = round(rate * self.recipe.train.batch * self.world, 1)
            self._record({**{k: round(v, 5) for k, v in terms.items()}, **rates})

    def _record(self, entry: dict[str, Any]) -> None:
        if self.rank == 0:
            line = {
                "step": self.step,
                "epoch": round(self.step / self.batches.steps_per_epoch, 3),
                **entry,
            }
            with (self.output / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            if "validation" in entry and not self.quiet:
                tqdm.write(f"step {self.step}: held out {json.dumps(entry['validation'])}")

    def validate(self) -> dict[str, Any]:
        """Scores of the averaged weights on held-out training pictures: {"validation": {...}}; {}
        where none are."""
        rows = np.array([i for i, s in enumerate(self.m.cache.samples) if s.held_out], np.int64)
        if self.rank or not len(rows):
            return {}
        return {"validation": score_held_out(self.average, self.m, rows, self.device)}

    def save(self) -> None:
        """Write the checkpoint atomically (process 0). Raises DataError on a full disk; the old one
        survives."""
        if self.rank:
            return
        state = self.student.state_dict()
        if not all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point()):
            raise StuckError(f"step {self.step}: weights are no numbers any more; {_LOWER}")
        bundle = {
            "schema": SCHEMA,
            "recipe": self.recipe.digest(),
            "text_space": self.m.text_space,
            "step": self.step,
            "student": state,
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }
        buffer = io.BytesIO()
        torch.save(bundle, buffer)
        write_atomically(self.checkpoint_path, buffer.getvalue())

    def resume(self) -> None:
        """Go on from the checkpoint. Raises NoInputError without one, ConfigError for another
        recipe's."""
        state = read_checkpoint(self.checkpoint_path)
        if state["recipe"] != self.recipe.digest():
            raise ConfigError(
                f"{self.checkpoint_path}: made with another recipe; give another --output or that recipe"
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
        """Drop log lines of steps after the checkpoint: they are about to be made again."""
        log = self.output / "log.jsonl"
        if self.rank == 0 and log.exists():
            lines = [
                line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")
            ]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            write_atomically(log, "".join(line + "\n" for line in kept).encode())
