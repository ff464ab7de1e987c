"""The `variant` node of the configuration, checked by the program that reads it.

The tree leaves that node open, because train_dpo.py knows no variant; so one experiment file can describe
both the program that makes a data column and the training run that uses it.
"""

import dataclasses
from typing import TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.schema import Config

Settings = TypeVar("Settings")


def settings(cfg: Config, kind: type[Settings]) -> Settings:
    """cfg.variant as a dataclass; an unknown key, a wrong type or a missing value is an error."""
    names = ", ".join(field.name for field in dataclasses.fields(kind))
    if not cfg.variant:
        raise ValueError(
            f"this program needs the settings {names}: choose +variant=NAME (conf/variant), "
            "or an experiment that has them"
        )
    try:
        given = OmegaConf.to_container(cfg.variant, resolve=True)
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), given))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"variant: {reason}; this program takes {names}") from None
