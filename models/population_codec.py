"""A block of customers after the funnel, as bytes that a checkpoint keeps; exact to the last bit."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.batch_population import Population, Standing
from models.scoring import EffectBlock, Source


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """The arrays of a population as the bytes that they are."""

    customer_ids: list[str]
    standings: list[Standing]
    rows: bytes
    n_candidates: int
    allowed: bytes
    control_response: bytes
    uplift: bytes
    sigma: bytes
    sources: tuple[Source, ...]
    fatigue: bytes


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(_Kept).decode


def dump_population(population: Population) -> bytes:
    """A population as bytes."""
    effects = population.effects
    return _ENCODE(
        _Kept(
            population.customer_ids,
            population.standings,
            population.rows.tobytes(),
            population.allowed.shape[1],
            population.allowed.tobytes(),
            effects.control_response.tobytes(),
            effects.uplift.tobytes(),
            effects.sigma.tobytes(),
            effects.source,
            population.fatigue.tobytes(),
        )
    )


def load_population(data: bytes) -> Population:
    """The population that ``dump_population`` made bytes of."""
    kept = _DECODE(data)
    rows = np.frombuffer(kept.rows, dtype=np.int64)

    def table(numbers: bytes) -> NDArray[np.float64]:
        return np.frombuffer(numbers, dtype=np.float64).reshape(len(rows), len(kept.sources))

    return Population(
        kept.customer_ids,
        kept.standings,
        rows,
        np.frombuffer(kept.allowed, dtype=np.bool_).reshape(len(rows), kept.n_candidates),
        EffectBlock(table(kept.control_response), table(kept.uplift), table(kept.sigma), kept.sources),
        np.frombuffer(kept.fatigue, dtype=np.float64),
    )
