"""Which attention a loaded model computes with: its own, as it was loaded, or ours (`attention`) in its place.

Ours takes the engine's layouts and no masks, so whoever else reads a model must have the model's own back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from harness.attention import LETHE

OWN = "_attention_before_ours"


def choose_ours(model) -> bool:
    """Puts our attention in place of a model's own where its code lets it be chosen; True if it is in place."""
    if model.config._attn_implementation == LETHE:
        return True
    if not model._can_set_attn_implementation():  # loaded with LETHE by name, it would compute as ever but get no mask
        return False
    own = _implementations(model.config)
    setattr(model, OWN, own)
    with contextlib.suppress(ValueError):  # a part of it refuses
        model.set_attn_implementation(LETHE)
    if model.config._attn_implementation == LETHE:
        return True
    choose_own(model)
    delattr(model, OWN)
    return False


def choose_own(model) -> None:
    """Gives a model the attention back that it was loaded with."""
    default = {"": model.get_correct_attn_implementation(None)} if _is_ours(model) else _implementations(model.config)
    own = getattr(model, OWN, default)
    if own != _implementations(model.config):
        model.set_attn_implementation(own)
    if _implementations(model.config) != own:
        raise RuntimeError(
            f"{type(model).__name__} does not take its own attention {own} back; its scores would be wrong"
        )


def was_ours(model) -> bool:
    """True if our attention is in place, or was and may be again."""
    return _is_ours(model) or getattr(model, OWN, None) is not None


@contextlib.contextmanager
def own_attention(model) -> Iterator[None]:
    """The model's own attention inside the block, ours after it."""
    choose_own(model)
    try:
        yield
    finally:
        model.set_attn_implementation(LETHE)


def _is_ours(model) -> bool:
    return model.config._attn_implementation == LETHE


def _implementations(config) -> dict[str, Any]:
    """The attention of a model and of its parts, as `set_attn_implementation` takes it."""
    parts = {name: part for name in config.sub_configs if (part := getattr(config, name, None)) is not None}
    return {"": config._attn_implementation, **{name: _implementations(part) for name, part in parts.items()}}
