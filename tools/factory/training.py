"""The training loop: batches, schedule, checkpoints that survive, exact resume, validation on held-out pictures.

Everything random is keyed by (seed, epoch, position), so a batch depends on its step alone; the checkpoint holds
the rest (weights, averaged weights, optimiser, torch's generators). A resumed run ends in the same bits.
"""

from __future__ import annotations

import copy
import ctypes
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from edge_runtime.errors import ConfigError, DataError, NoInputError, StuckError, first_line
from edge_runtime.files import write_atomically
from tools.factory import conditions
from tools.factory.augment import VIEW, draw, stack_views, whole_picture
from tools.factory.datasets import PictureCache
from tools.factory.losses import objective
from tools.factory.mobilenet import Conv, insert_batch_norm
from tools.factory.recipe import Recipe, StageRecipe
from tools.factory.stems import Stems
from tools.factory.students import Student, to_pixels
from tools.factory.targets import Targets, Texts, draw_view, may_get_condition

LOG_EVERY = 20
VOCABULARY_LIMIT = 4096  # beyond it the contrastive term compares with the texts of the batch only
SCHEMA = "edge-label-checkpoint/1"
# Not --resume: that wants the recipe the checkpoint was made with, and would come to the same step again.
_LOWER = "lower train.lr and start anew with another --output"


@dataclass(frozen=True)
class Materials:
    """All that a run reads. `bank` is (N, D) float32; `stems`, where there are any, stand in for pixels."""

    recipe: Recipe
    cache: PictureCache
    targets: Targets
    texts: Texts
    bank: NDArray[np.float32]
    text_space: str
    stems: Stems | None = None


@dataclass(frozen=True)
class Batch:
    """pixels (B, size, size, 3) uint8 RGB, or stem (B, C, h, w) int8; target (B, D); text and condition rows (B,),
    -1 for none; posterior (B, K) where the teacher is a classifier."""

    pixels: NDArray[np.uint8] | None
    stem: NDArray[np.int8] | None
    target: NDArray[np.float32]
    text: NDArray[np.int64]
    condition: NDArray[np.int64]
    posterior: NDArray[np.float32] | None


class Batches:
    """Batch of any step, for one process of `world`; nothing is remembered between calls."""

    def __init__(self, materials: Materials, rank: int = 0, world: int = 1) -> None:
        self.m, self.rank, self.world = materials, rank, world
        cache, recipe = materials.cache, materials.recipe
        weights = np.array([0.0 if s.held_out else recipe.data[s.source].weight for s in cache.samples])
        if not weights.any():
            raise DataError("no picture is left to train on; lower 'validation' or raise 'weight' of a source")
        self._ends = np.cumsum(weights)
        self.length = max(1, round(self._ends[-1]))
        self.steps_per_epoch = max(1, self.length // (recipe.train.batch * world))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of one epoch: each picture as often as its source's weight says, shuffled."""
        rng = np.random.default_rng((self.m.recipe.seed, 2, epoch))
        points = (np.arange(self.length) + rng.random()) * (self._ends[-1] / self.length)
        rows = np.minimum(np.searchsorted(self._ends, points, side="right"), len(self._ends) - 1)
        return rng.permutation(rows)

    def batch(self, step: int, size: int, *, stem: bool = False) -> Batch:
        """The batch of a step, at an input size, or as activations of the frozen layers."""
        recipe = self.m.recipe
        epoch, within = divmod(step, self.steps_per_epoch)
        share = recipe.train.batch
        start = (within * self.world + self.rank) * share
        order = self._cached_order(epoch)
        positions = np.arange(start, start + share) % len(order)
        rows = order[positions]
        views = np.zeros(share, VIEW)
        planes = np.zeros(share, np.int64)
        for i, (row, position) in enumerate(zip(rows, positions, strict=True)):
            views[i], planes[i] = self._view(int(row), epoch, int(position), size, stem=stem)
        return self._assemble(rows, views, planes, size, stem=stem)

    def _cached_order(self, epoch: int) -> NDArray[np.int64]:
        held = getattr(self, "_order", None)
        if held is None or held[0] != epoch:
            held = self._order = (epoch, self.order(epoch))
        return held[1]

    def _view(self, row: int, epoch: int, position: int, size: int, *, stem: bool) -> tuple[np.void, int]:
        recipe, stored = self.m.recipe, self.m.targets.views
        key = (recipe.seed, 3, epoch, position)
        plane = 0
        if stored is not None:
            plane = int(np.random.default_rng((*key, 4)).integers(len(stored)))
            if stem or recipe.targets.teacher_sees == "all":
                return stored[plane, row], plane
        view = draw_view(key, recipe, self.m.cache, row, size)
        if stored is not None:  # the teacher saw this crop; colours may be fresh
            fresh = np.array(view, VIEW)
            fresh["box"], fresh["flip"] = stored[plane, row]["box"], stored[plane, row]["flip"]
            view = fresh[()]
        return view, plane

    def _assemble(
        self, rows: NDArray[np.int64], views: NDArray[np.void], planes: NDArray[np.int64], size: int, *, stem: bool
    ) -> Batch:
        m = self.m
        pixels = None if stem else stack_views(m.cache.pictures, rows, views, size)
        stems = m.stems.values[planes, rows] if stem and m.stems else None
        target = m.targets.embeddings[planes, rows].astype(np.float32)
        condition = np.empty(len(rows), np.int64)
        for i, row in enumerate(rows):
            shown = int(views[i]["condition"])
            condition[i] = shown or known_condition(m, int(row))
        mix = 0.0 if m.recipe.targets.teacher_sees == "all" else m.recipe.targets.condition_mix
        mixed = views["condition"] > 0
        if mix and mixed.any():
            target[mixed] = (1 - mix) * target[mixed] + mix * m.texts.conditions[condition[mixed]]
            target[mixed] /= np.linalg.norm(target[mixed], axis=1, keepdims=True)
        shares = m.targets.posterior
        posterior = None if shares is None else shares[planes, rows].astype(np.float32)
        return Batch(pixels, stems, target, m.texts.of_sample[rows], condition, posterior)


def known_condition(m: Materials, row: int) -> int:
    """Row of the condition a picture shows by itself: its own, "clear" where its source promises it, else -1."""
    sample = m.cache.samples[row]
    if sample.condition:
        return conditions.NAMES.index(sample.condition)
    return 0 if m.recipe.data[sample.source].conditions else -1


def prefetch(batches: Batches, steps: range, plan: Plan, workers: int) -> Iterator[Batch]:
    """Batches of consecutive steps, made by `workers` threads ahead of their use."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Batch]] = []
        try:
            for step in steps:
                waiting.append(pool.submit(batches.batch, step, plan.sizes[step], stem=plan.from_stem(step)))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


class Plan:
    """Stages turned into steps: the stage, size and learning-rate factor of every step."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.recipe = recipe
        self.stage_of: list[StageRecipe] = []
        for stage in recipe.train.stages:
            self.stage_of += [stage] * max(1, round(stage.epochs * steps_per_epoch))
        self.steps = len(self.stage_of)
        default = recipe.stem_size if recipe.targets.stem else recipe.input.size
        self.sizes = [stage.size or default for stage in self.stage_of]

    def frozen(self, step: int) -> int:
        """How many layers are frozen at a step."""
        stage = self.stage_of[step]
        return self.recipe.student.frozen if stage.frozen < 0 else stage.frozen

    def from_stem(self, step: int) -> bool:
        """Whether a step starts at the stored activations of the frozen layers."""
        stored = self.recipe.targets.stem and self.frozen(step) >= self.recipe.student.frozen
        return stored and self.sizes[step] == self.recipe.stem_size

    def rate(self, step: int, peak: float) -> float:
        """Linear warm-up, then cosine decay to final_lr."""
        train = self.recipe.train
        warm = min(train.warmup, self.steps // 4)
        if step < warm:
            return peak * (step + 1) / warm
        progress = (step - warm) / max(1, self.steps - warm)
        return train.final_lr + (peak - train.final_lr) * 0.5 * (1 + float(np.cos(np.pi * progress)))


class Trainer:
    """One process of a distillation; with several, gradients are averaged by DistributedDataParallel."""

    def __init__(
        self, student: Student, materials: Materials, output: Path, device: torch.device, *, quiet: bool = False
    ) -> None:
        self.m, self.recipe, self.output, self.device = materials, materials.recipe, output, device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.quiet = quiet or self.rank > 0
        self.batches = Batches(materials, self.rank, self.world)
        self.plan = Plan(self.recipe, self.batches.steps_per_epoch)
        self.student = student.to(device, memory_format=torch.channels_last)
        self._insert_norms()
        self.average = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.optimiser = self._optimiser()
        half = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
        self.autocast = torch.autocast(device.type, half, enabled=device.type == "cuda")
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda" and half == torch.float16)
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
        for module, peak in ((self.student.backbone, train.backbone_lr), (self.student.head, train.lr)):
            for decays in (True, False):
                chosen = [p for p in module.parameters() if (p.ndim > 1) == decays]
                groups.append({"params": chosen, "peak": peak, "weight_decay": train.weight_decay if decays else 0.0})
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=train.lr, fused=self.device.type == "cuda")

    def run(self, *, stop_after_s: float = float("inf"), stop_at_step: int = 1 << 62, workers: int = 1) -> bool:
        """Train to the end of the plan, or until told to stop; True when the plan is finished.

        Saves a checkpoint at the end of every epoch, every few minutes, on SIGINT and SIGTERM, and at the end.
        Raises StuckError when the loss is not a number; the last good checkpoint then stands.
        """
        begin = saved = time.monotonic()
        last = min(self.plan.steps, stop_at_step)
        previous = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(total=self.plan.steps, initial=self.step, desc=self.recipe.name, unit="step", disable=self.quiet)
        model, frozen = None, -1
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
            wanted_names=None if batch.posterior is None else torch.from_numpy(batch.posterior).to(self.device),
        )
        seen = loss.detach().clone()
        if self.world > 1:
            dist.all_reduce(seen)
        terms = {"loss": float(seen) / self.world, **terms}
        if not np.isfinite(terms["loss"]):
            kept = f"{self.checkpoint_path} holds the last good state" if self.checkpoint_path.exists() else "none kept"
            raise StuckError(f"step {self.step}: the loss is {terms['loss']}; {kept}; {_LOWER}")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_([p for p in self.student.parameters() if p.grad is not None], self.recipe.train.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._update_average()
        return terms

    def _vocabulary(self, wanted: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """(texts, their groups, wanted rows among them): all of them, or of a large vocabulary those of the batch."""
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
        pairs = list(zip(self.average.state_dict().values(), self.student.state_dict().values(), strict=True))
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
            line = {"step": self.step, "epoch": round(self.step / self.batches.steps_per_epoch, 3), **entry}
            with (self.output / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            if "validation" in entry and not self.quiet:
                tqdm.write(f"step {self.step}: held out {json.dumps(entry['validation'])}")

    def validate(self) -> dict[str, Any]:
        """Scores of the averaged weights on held-out training pictures: {"validation": {...}}; {} where none are."""
        rows = np.array([i for i, s in enumerate(self.m.cache.samples) if s.held_out], np.int64)
        if self.rank or not len(rows):
            return {}
        return {"validation": score_held_out(self.average, self.m, rows, self.device)}

    def save(self) -> None:
        """Write the checkpoint atomically (process 0). Raises DataError on a full disk; the old one survives."""
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
        """Go on from the checkpoint. Raises NoInputError without one, ConfigError for another recipe's."""
        state = read_checkpoint(self.checkpoint_path)
        if state["recipe"] != self.recipe.digest():
            raise ConfigError(f"{self.checkpoint_path}: made with another recipe; give another --output or that recipe")
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
            lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            write_atomically(log, "".join(line + "\n" for line in kept).encode())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Raises NoInputError when it is missing, DataError when it is no checkpoint of ours."""
    if not path.is_file():
        raise NoInputError(f"{path}: no checkpoint to go on from; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling rubbish may raise anything
        raise DataError(f"{path}: not a checkpoint ({first_line(error)})") from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise DataError(f"{path}: not a checkpoint of this version")
    return state


@torch.no_grad()
def embed_pictures(
    model: Callable[[Tensor], Tensor],
    cache: PictureCache,
    rows: NDArray[np.int64],
    views: NDArray[np.void],
    size: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """What `model` makes of RGB values (B, 3, size, size), for the given views of cached pictures: (len(rows), D)."""
    parts = []
    for start in range(0, len(rows), 64):
        part = slice(start, start + 64)
        pixels = stack_views(cache.pictures, rows[part], views[part], size)
        parts.append(model(to_pixels(pixels, device)).float().cpu().numpy())
    return np.concatenate(parts)


def score_held_out(
    model: nn.Module, m: Materials, rows: NDArray[np.int64], device: torch.device
) -> dict[str, float | dict[str, float]]:
    """Scores on held-out pictures of the training sources.

    cosine: mean to the teacher's target. top1: per source, among that source's own texts; mean_top1 over sources;
    small_top1: the same mean with every picture scaled down to 32 pixels first. conditions: share of synthetic
    conditions (fixed draws) told apart.
    """
    whole, small = (np.full(len(rows), whole_picture(), VIEW) for _ in range(2))
    small["small"] = 32

    def embed(rows: NDArray[np.int64], views: NDArray[np.void]) -> NDArray[np.float32]:
        return embed_pictures(model, m.cache, rows, views, m.recipe.input.size, device)

    found = embed(rows, whole)
    target = m.targets.embeddings[0, rows].astype(np.float32)
    report: dict[str, float | dict[str, float]] = {"cosine": round(float((found * target).sum(1).mean()), 4)}
    top1 = _top1_by_source(found, m, rows)
    if top1:
        report["top1"] = top1
        report["mean_top1"] = round(float(np.mean(list(top1.values()))), 4)
        shrunk = _top1_by_source(embed(rows, small), m, rows)
        report["small_top1"] = round(float(np.mean(list(shrunk.values()))), 4)
    allowed = [i for i in rows if may_get_condition(m.recipe, m.cache, int(i))]
    if allowed and m.recipe.augment.conditions:
        chosen = np.array(allowed, np.int64)
        sure = replace(m.recipe.augment, conditions=1.0, small_probability=0.0)
        drawn = [draw((m.recipe.seed, 5, int(i)), sure, m.recipe.input.size, conditions=True) for i in chosen]
        views = np.array(drawn, VIEW)
        guess = (embed(chosen, views) @ m.texts.conditions.T).argmax(1)
        report["conditions"] = round(float((guess == views["condition"]).mean()), 4)
    return report


def _top1_by_source(found: NDArray[np.float32], m: Materials, rows: NDArray[np.int64]) -> dict[str, float]:
    top1: dict[str, float] = {}
    source_of = np.array([m.cache.samples[i].source for i in rows])
    everyone = np.array([sample.source for sample in m.cache.samples])
    for number, source in enumerate(m.recipe.data):
        of_source = m.texts.of_sample[everyone == number]
        vocabulary = np.unique(of_source[of_source >= 0])
        mine = (source_of == number) & (m.texts.of_sample[rows] >= 0)
        if len(vocabulary) > 1 and mine.any():
            guess = vocabulary[(found[mine] @ m.texts.rows[vocabulary].T).argmax(1)]
            top1[source.name] = round(float((guess == m.texts.of_sample[rows[mine]]).mean()), 4)
    return top1


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks: giving 30 MB tensors back to the kernel each step costs 5-15 % on a CPU."""
    try:
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):
        pass  # another C library: slower, not wrong


def join_processes(device_name: str) -> torch.device:
    """Join the process group torchrun announces in the environment (nccl on GPUs, gloo without); pick the device."""
    cuda = torch.cuda.is_available() if device_name == "auto" else device_name.startswith("cuda")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device(f"cuda:{local}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # The others wait at a barrier while the first one decodes pictures and asks the teacher: that may take hours.
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(days=2))
    return device
