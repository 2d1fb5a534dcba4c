"""Loads what labels a picture: a verified bundle, its encoder, and a compiled label set.

The daemon, ``once``, ``bench``, the Python API and the tools all load a model here. A bundle that
was just installed is on trial at the first start of the daemon (`start_engine`). If it fails, the
previous bundle is used.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.config import ModelConfig
from edge_runtime.errors import BundleError, one_line
from edge_runtime.model.bundle import FORMER_STORE, Bundle, find_bundle, load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.compiled import CompiledLabels, load_labels
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.modality import check_trained
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.model.self_test import self_test
from edge_runtime.model.store.bundle_store import CURRENT, PREVIOUS, BundleStore
from edge_runtime.model.store.trial import FAILED, PASSED, STARTED, UNTRIED, Trial
from edge_runtime.model.strange import StrangeViews
from edge_runtime.records import Modality
from edge_runtime.system.memory import release_memory

log = logging.getLogger("edge_label")


class Engine:
    """One bundle and one label set, ready to use: ``preprocess``, ``encode`` and ``score``."""

    def __init__(
        self, bundle: Bundle, labels: CompiledLabels, config: ModelConfig, old: Engine | None = None
    ) -> None:
        """``old`` lends its encoder and its strange views where bundle and threads are the same.

        A reload of labels then needs no memory for a second model. Raises ConfigError where the
        bundle was not trained for the configured modality.
        """
        check_trained(config.modality, bundle.manifest)
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.config = config
        self.score = Scorer(labels, config.top_k)

        self._strange_views: StrangeViews | None
        self.preprocess: Preprocessor
        self.encode: Encoder
        if old and old.manifest == bundle.manifest and old.config.threads == config.threads:
            self._strange_views = old._strange_views
            self.preprocess = old.preprocess
            self.encode = old.encode
        else:
            self._strange_views = StrangeViews.from_bundle(bundle)
            self.preprocess = Preprocessor(bundle.manifest.input)
            self.encode = Encoder(bundle, config.threads)

    def is_strange(
        self, embedding: NDArray[np.float32], contrast: float, modality: Modality
    ) -> bool:
        """Whether the view shows nothing a label could be right about (`model.strange`).

        Nothing is known of infrared and depth: the views it was fitted on are in colour.
        """
        strange = self._strange_views
        return strange is not None and modality == "rgb" and strange(embedding, contrast)

    def with_labels(self, labels: CompiledLabels) -> Engine:
        """The same model with other labels of its bundle."""
        return Engine(self.bundle, labels, self.config, old=self)


def load_model(config: ModelConfig) -> tuple[Bundle, CompiledLabels]:
    """The verified bundle and the compiled label set. The text bank is freed on return."""
    path = find_bundle(config.bundle)
    if path.is_symlink():
        # An install may switch the link between two files of the bundle.
        path = path.resolve()

    bundle = load_bundle(path)
    return bundle, load_labels(config.labels, bundle)


def load_engine(config: ModelConfig, old: Engine | None = None) -> Engine:
    """Bundle and labels, ready to label. ``old`` lends what has not changed.

    Raises NoInputError for a bundle or a label set that does not exist, BundleError or ConfigError
    for one that is wrong.
    """
    bundle, labels = load_model(config)
    # After the imports and again after the session is built: docs/decisions/014.
    release_memory()
    engine = Engine(bundle, labels, config, old)
    release_memory()
    return engine


def start_engine(config: ModelConfig, old: Engine | None = None) -> Engine:
    """`load_engine` for the daemon, with the trial of a bundle that was just installed.

    A trial has three outcomes. The bundle works: it is marked as good. It fails: the previous
    bundle is used. The process dies: the next start finds the mark and uses the previous bundle.
    """
    store = BundleStore.of(find_bundle(config.bundle))
    name = store.target(CURRENT) if store else None
    if store is None or name is None:
        return load_engine(config, old)
    if store.root == FORMER_STORE:
        log.warning(
            "%s: the service can write in this store of a former version; install a bundle anew",
            store.root,
        )

    trial = Trial.of(store.root)
    verdict = trial.verdict(name)
    if verdict == STARTED:
        log.warning("%s: the last start with it died; it will not be tried again", name)
        trial.note(FAILED, name)
    if verdict in (STARTED, FAILED):
        return _load_previous(store, config, old, f"{name} failed its first start")

    # By its own name: an install may switch the link `current` meanwhile.
    current = replace(config, bundle=str(store.root / name))
    if verdict == PASSED:
        return load_engine(current, old)

    trial.note(STARTED, name)
    try:
        self_test(load_bundle(store.root / name))
        engine = load_engine(current, old)
    except Exception as error:
        if old is not None:
            # A reload: the engine that runs goes on. Only an error of the bundle is held against
            # it; the configuration may be wrong instead.
            trial.note(FAILED if isinstance(error, BundleError) else UNTRIED, name)
            raise
        return _start_previous(store, config, trial, name, error)

    trial.note(PASSED, name)
    return engine


def _start_previous(
    store: BundleStore, config: ModelConfig, trial: Trial, name: str, error: Exception
) -> Engine:
    """The previous bundle at a first start. If that fails too, the configuration is to blame."""
    trial.note(UNTRIED, name)
    reason = f"{name} is not used: {one_line(error)}"
    engine = _load_previous(store, config, None, reason, error)
    trial.note(FAILED, name)
    return engine


def _load_previous(
    store: BundleStore,
    config: ModelConfig,
    old: Engine | None,
    reason: str,
    error: Exception | None = None,
) -> Engine:
    """The engine of the previous bundle, or of the shipped one where there is no previous.

    Raises ``error``, the first failure, or BundleError with the ``reason``.
    """
    name = store.target(PREVIOUS)
    try:
        path = store.root / name if name else find_bundle(config.bundle, excluded_store=store.root)
        engine = load_engine(replace(config, bundle=str(path)), old)
    except Exception as second:
        if error is not None:
            raise error from None
        raise BundleError(
            f"{store.root}: {reason}, and the one before: {one_line(second)}", "install another"
        ) from second

    log.warning("%s; %s is used instead", reason, path)
    return engine
