"""Labels of the page are taken between two frames, or refused with the reason."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge_runtime.config import ModelConfig
from edge_runtime.daemon import label_exchange
from edge_runtime.daemon.label_exchange import LabelExchange
from edge_runtime.engine import Engine, load_engine
from edge_runtime.errors import ConfigError
from tests.daemon import wait_until


@pytest.fixture
def engine(tiny_bundle: Path) -> Engine:
    return load_engine(ModelConfig(bundle=str(tiny_bundle), labels="colours"))


class Offer(threading.Thread):
    """The page's thread: it offers, and keeps what came of it."""

    def __init__(self, exchange: LabelExchange, engine: Engine) -> None:
        super().__init__(daemon=True)
        self.exchange = exchange
        self.engine = engine
        self.said: str | None = None
        self.start()
        wait_until(lambda: exchange._offered or not self.is_alive(), what="the offer")

    def run(self) -> None:
        try:
            self.exchange.offer(self.engine.score.labels, self.engine)
            self.said = "in use"
        except ConfigError as error:
            self.said = str(error)


def test_the_loop_takes_an_offer_once_and_the_page_knows(engine: Engine):
    exchange = LabelExchange()
    used: list[Engine] = []
    exchange.take(engine, used.append)
    assert used == []
    offer = Offer(exchange, engine)
    assert offer.said is None, "it waits for the loop"
    exchange.take(engine, used.append)
    exchange.take(engine, used.append)
    offer.join(10)
    assert offer.said == "in use"
    assert len(used) == 1
    assert used[0].encode is engine.encode, "no second model"


@pytest.mark.fault("E5")
def test_the_loop_goes_on_when_it_refuses_and_the_page_gets_the_reason(engine: Engine):
    exchange = LabelExchange()

    def refuse(_: Engine) -> None:
        raise ConfigError("a trigger needs it")

    offer = Offer(exchange, engine)
    exchange.take(engine, refuse)
    offer.join(10)
    assert offer.said == "a trigger needs it"


@pytest.mark.fault("E3")
def test_an_offer_that_a_reload_has_overtaken_is_refused(engine: Engine, tiny_bundle: Path):
    exchange = LabelExchange()
    offer = Offer(exchange, engine)
    exchange.take(engine.with_labels(engine.score.labels), pytest.fail)
    offer.join(10)
    assert offer.said == "the configuration was loaded again meanwhile; try again"


def test_an_offer_that_nobody_takes_ends(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(label_exchange, "PATIENCE_S", 0.05)
    exchange = LabelExchange()
    offer = Offer(exchange, engine)
    offer.join(10)
    assert offer.said == "no frame came, so the labels are not in use; try again"
    exchange.take(engine, pytest.fail)


def test_an_offer_that_is_taken_at_the_last_moment_is_in_use(engine: Engine):
    exchange = LabelExchange()
    taken = threading.Event()

    class Settled(threading.Event):
        """The patience ends when the loop has taken the offer and not yet used it."""

        def wait(self, timeout: float | None = None) -> bool:
            return super().wait() if timeout is None else not taken.wait(10)

    exchange._settled = Settled()
    offer = Offer(exchange, engine)
    exchange.take(engine, lambda _: taken.set())
    offer.join(10)
    assert offer.said == "in use"
