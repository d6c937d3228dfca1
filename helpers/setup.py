"""Step 1, Setup: open a run folder with the configuration in force."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.run import machine, parameters, presets
from helpers.run.config import STAGES, RunConfig, stage_of
from helpers.run.folder import OUTPUTS, OtherConfiguration, Run


def start(
    run_dir: str | Path | None,
    preset: str | None,
    *,
    use_drive: bool = False,
    switches: Mapping[str, bool] | None = None,
    origin: str = "this notebook",
    **overrides: Any,
) -> tuple[Run, RunConfig]:
    """Make a run folder, or reopen one, with the configuration asked for (01 Setup).

    Args:
        run_dir: the folder; None is the default one.
        preset: None is an existing run's own, else RUN_PRESET, else `auto`.
        use_drive: keep the run on Google Drive (Colab only).
        switches: parameters of the notebook that are True or False but no settings of the run.
        origin: where the overrides come from, for the table of settings.
        overrides: settings that differ from the preset; None keeps the preset's.

    Raises:
        ValueError: an unknown preset or setting, or a value out of range.
        OtherConfiguration: the folder holds results that were made with other settings.
    """
    run = check_parameters(run_dir, use_drive, switches or {}, overrides)
    if run.has("setup"):
        return run, amend(run, "setup", preset, overrides, origin)
    settings = presets.preset(parameters.as_type("preset", preset, str | None) or presets.default_preset())
    settings = settings.with_overrides(overrides, origin)
    run.save_config(settings)
    run.add_to_record(**machine.provenance())
    return run, settings


def open_run(
    run_dir: str | Path | None,
    preset: str | None,
    *,
    stage: str,
    needs: str,
    use_drive: bool = False,
    switches: Mapping[str, bool] | None = None,
    **overrides: Any,
) -> tuple[Run, RunConfig]:
    """Open the run folder for a notebook from 02 on.

    Args:
        stage: the notebook's own stage, one of STAGES.
        needs: the stage whose result it reads.
        use_drive, switches, overrides: as for `start`.

    Raises: as `start`, and MissingStep.
    """
    run = check_parameters(run_dir, use_drive, switches or {}, overrides)
    run.require("setup", OUTPUTS[stage][2])
    run.require(needs, OUTPUTS[stage][2])
    return run, amend(run, stage, preset, overrides, "this notebook")


def check_parameters(
    run_dir: str | Path | None, use_drive: bool, switches: Mapping[str, bool], overrides: Mapping[str, Any]
) -> Run:
    """Check the names and types of a notebook's parameters; return the run folder that they name.

    Raises:
        ValueError: the notebook has no such parameter, or a switch is neither True nor False.
    """
    parameters.refuse_unknown_parameters({"run_dir", "preset", "use_drive", *switches, *overrides})
    for name, value in {"use_drive": use_drive, **switches}.items():
        parameters.as_type(name, value, bool)
    folder = parameters.as_type("run_dir", str(run_dir) if isinstance(run_dir, Path) else run_dir, str | None)
    return Run(machine.run_path(folder, use_drive))


def amend(run: Run, stage: str, preset: str | None, overrides: Mapping[str, Any], origin: str) -> RunConfig:
    """Return the run's configuration with a notebook's parameters, and save it where they change it.

    Raises:
        OtherConfiguration: results exist that the new values would invalidate.
    """
    current = run.config()
    preset = parameters.as_type("preset", preset, str | None)
    if preset is not None and preset != current.preset and presets.preset(preset).preset != current.preset:
        raise OtherConfiguration(
            f"{machine.short_path(run.path)} was made with preset {current.preset!r}, not {preset!r}: "
            "leave preset at None, or set run_dir to a new folder"
        )
    settings = current.with_overrides(overrides, origin)
    changed = [name for name, value in settings.values().items() if value != current.values()[name]]
    for name in changed:
        refuse_stale(run, stage, name, current, settings)
    if changed:
        run.save_config(settings)
        return settings
    return current


def refuse_stale(run: Run, stage: str, name: str, current: RunConfig, wanted: RunConfig) -> None:
    """Raise if a changed setting would invalidate results in the run folder that this notebook does not recompute.

    Settings of the evaluation are free: 05 always judges again.

    Raises:
        OtherConfiguration: names the setting, both values and the result.
    """
    if stage_of(name) == "evaluate":
        return
    for later in STAGES[STAGES.index(stage_of(name)) :]:
        if later != stage and run.has(later):
            raise OtherConfiguration(
                f"{name}={getattr(wanted, name)!r} is not what this run was made with ({getattr(current, name)!r}), "
                f"and {machine.short_path(run.path)} already has {OUTPUTS[later][0]}.\n"
                f"  Set run_dir to a new folder, or leave {name} at None."
            )
