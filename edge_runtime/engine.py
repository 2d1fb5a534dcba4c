"""What labels a picture, loaded: a verified bundle, its encoder, and a compiled label set.

The daemon, ``once``, ``bench``, the Python door and the tools all load a model here. A bundle that was just
installed is on trial at the first start of the daemon (`start_engine`); where it fails, the one before is used.
"""

from __future__ import annotations

import logging
from dataclasses import replace

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
from edge_runtime.system.memory import release_memory

log = logging.getLogger("edge_label")


class Engine:
    """One bundle and one label set, loaded. A reload makes a new one beside the old, then switches."""

    def __init__(
        self, bundle: Bundle, labels: CompiledLabels, config: ModelConfig, old: Engine | None = None
    ) -> None:
        """``old`` lends its encoder where bundle and threads are the same: new labels then cost no second model.

        Raises ConfigError when the bundle was not trained for the configured modality.
        """
        check_trained(config.modality, bundle.manifest)
        self.manifest = bundle.manifest
        self.config = config
        if old is None or (old.manifest, old.config.threads) != (bundle.manifest, config.threads):
            self.preprocess, self.encode = (
                Preprocessor(bundle.manifest.input),
                Encoder(bundle, config.threads),
            )
        else:
            self.preprocess, self.encode = old.preprocess, old.encode
        self.score = Scorer(labels, config.top_k)


def load_model(config: ModelConfig) -> tuple[Bundle, CompiledLabels]:
    """The verified bundle and the compiled label set; the text bank is freed again on return."""
    path = find_bundle(config.bundle)
    bundle = load_bundle(
        path.resolve() if path.is_symlink() else path
    )  # an install may switch the link meanwhile
    return bundle, load_labels(config.labels, bundle)


def load_engine(config: ModelConfig, old: Engine | None = None) -> Engine:
    """Bundle and labels, ready to label; ``old`` lends what has not changed."""
    bundle, labels = load_model(config)
    release_memory()
    engine = Engine(bundle, labels, config, old)
    release_memory()
    return engine


def start_engine(config: ModelConfig, old: Engine | None = None) -> Engine:
    """``load_engine``, and the trial of a bundle that was just installed: if it fails, the previous one is used."""
    store = BundleStore.of(find_bundle(config.bundle))
    bundle = store.target(CURRENT) if store else None
    if store is None or bundle is None:
        return load_engine(config, old)
    if store.root == FORMER_STORE:
        log.warning(
            "%s: the service can write in this store of a former version; install a bundle anew",
            store.root,
        )

    chosen = replace(
        config, bundle=str(store.root / bundle)
    )  # an install may switch the link meanwhile
    trial = Trial.of(store.root)
    verdict = trial.verdict(bundle)
    if verdict == PASSED:
        return load_engine(chosen, old)
    if verdict == STARTED:
        log.warning("%s: the last start with it died; it will not be tried again", bundle)
        trial.note(FAILED, bundle)
    if verdict in (STARTED, FAILED):
        return _load_previous(store, config, old, f"{bundle} failed its first start")

    trial.note(STARTED, bundle)
    try:
        self_test(load_bundle(store.root / bundle))
        engine = load_engine(chosen, old)
    except Exception as error:
        # At a reload what runs goes on running. A mistake in the configuration says nothing about the bundle.
        if old is not None:
            trial.note(FAILED if isinstance(error, BundleError) else UNTRIED, bundle)
            raise
        trial.note(UNTRIED, bundle)
        engine = _load_previous(
            store, config, None, f"{bundle} is not used: {one_line(error)}", error
        )
        trial.note(FAILED, bundle)
        return engine
    trial.note(PASSED, bundle)
    return engine


def _load_previous(
    store: BundleStore,
    config: ModelConfig,
    old: Engine | None,
    why: str,
    error: Exception | None = None,
) -> Engine:
    """The engine of the bundle before, or of the one that ships where none was installed before."""
    name = store.target(PREVIOUS)
    try:
        path = store.root / name if name else find_bundle(config.bundle, excluded_store=store.root)
        engine = load_engine(replace(config, bundle=str(path)), old)
    except Exception as second:
        if error is not None:
            raise error from None
        raise BundleError(
            f"{store.root}: {why}, and the one before: {one_line(second)}", "install another"
        ) from None
    log.warning("%s; %s is used instead", why, path)
    return engine
