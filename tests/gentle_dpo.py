"""A pytest plugin for the DPO gate on tiny models, which the recipe's own steps would wear out."""

from functools import partial

from fixtures import dpo_release
from recipes.dpo import Settings

dpo_release.Settings = partial(Settings, steps=25, batch=8, lr=1e-3)
