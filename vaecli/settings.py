"""Settings as they are given, by a recipe, a file, a dict and flags, and the config that they make together.

One lies over the other: the defaults of `config.py`, a recipe, a TOML file or a dict, flags.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from vaecli import limits, recipes
from vaecli.config import Config, DataConfig, ModelConfig, SettingError, SettingKey, TrainingConfig, check, setting_keys
from vaecli.errors import UsageError, VaeError, file_error, without_backticks
from vaecli.files import with_home

RECIPE = "recipe"  # the key of a file or a dict that names the recipe below its settings
LARGEST_TOML = 2**20  # bytes; its reader takes a hundred times as many
# What may change when a run is resumed. Anything else would make it another run.
SOURCES: set[SettingKey] = {("data", "source"), ("data", "held_out")}
CHANGEABLE = {("data", "dir"), *(("training", key) for key in ("epochs", "device", "previews", "log"))}

Flags: TypeAlias = Mapping[SettingKey, Any]  # None where a flag was not given


class Given(msgspec.Struct, frozen=True):
    """The settings that were given, each checked, and where each is from."""

    values: dict[SettingKey, Any]  # with those of the recipe that was named
    recipe: str | None = None  # that was named
    complete: bool = False  # whether a Config gave them all
    file: Path | None = None
    from_file: frozenset[SettingKey] = frozenset()
    from_recipe: frozenset[SettingKey] = frozenset()
    from_flags: frozenset[SettingKey] = frozenset()

    @property
    def needs_recipe(self) -> bool:
        """Whether the pictures shall choose a recipe, as none was named."""
        return self.recipe is None and not self.complete

    def config(self) -> Config:
        """These settings over the defaults.

        Raises:
            VaeError: a setting of the file excludes another one.
            UsageError: the same for a dict or a flag.
        """
        return self._over(Config())[0]

    def over(self, recipe: Mapping[str, Mapping[str, Any]]) -> Config:
        """These settings over others that the pictures chose: those of a recipe, or a size. Raises as `config`."""
        below = dict(_by_key(recipe, None))
        from_recipe = self.from_recipe | (frozenset(below) - frozenset(self.values))
        return msgspec.structs.replace(self, values={**below, **self.values}, from_recipe=from_recipe).config()

    def resumed(self, recorded: Config) -> Config:
        """The config of a resumed run: as recorded, with these changes.

        Raises:
            VaeError: the file asks for another run.
            UsageError: a dict or a flag does.
        """
        begun = self
        if self.from_recipe:  # without those that a given setting overruled when the run was begun
            _, begun = self._over(Config())
        for setting, value in begun.values.items():
            begun_with = getattr(getattr(recorded, setting[0]), setting[1])
            unchanged = value == begun_with or (setting == ("training", "seed") and value is None)
            # The pictures may have moved. Whether they are the same is seen from their hash, once they are loaded.
            known = begun_with is not None and value is not None and setting in SOURCES
            moved = known and Path(begun_with).is_absolute() and with_home(value).exists()
            if not (unchanged or moved or setting in CHANGEABLE):
                error = SettingError(
                    setting,
                    value,
                    "the run was begun without it" if begun_with is None else f"the run was begun with {begun_with}",
                    "leave it out to resume, or train anew with `overwrite` or in another `run`",
                )
                raise self.located(error)
        changes = {setting: value for setting, value in begun.values.items() if setting in CHANGEABLE | SOURCES}
        return msgspec.structs.replace(self, values=changes)._over(recorded)[0]

    def _over(self, base: Config) -> tuple[Config, Given]:
        """`base` with these settings, and those that were used: a recipe's that excludes a given one is left out."""
        merged = msgspec.to_builtins(base)
        for (section, key), value in self.values.items():
            merged[section][key] = value
        try:
            config = Config(
                data=DataConfig(**merged["data"]),
                model=ModelConfig(**merged["model"]),
                training=TrainingConfig(**merged["training"]),
            )
            self._check_latent_dim(config.model)
            return config, self
        except SettingError as error:
            if error.setting not in self.from_recipe:
                raise self.located(error) from error
            values = {setting: value for setting, value in self.values.items() if setting != error.setting}
            without = msgspec.structs.replace(self, values=values, from_recipe=self.from_recipe - {error.setting})
            return without._over(base)

    def _check_latent_dim(self, model: ModelConfig) -> None:
        """Raise SettingError where `latent_dim` was given and has no effect.

        A `latent_dim` that is the default counts only as a flag: --print-config writes it beside a `latent_map`, too.
        """
        setting, other = ("model", "latent_dim"), ("model", "latent_map")
        another = setting in self.values and model.latent_dim != ModelConfig().latent_dim
        asked = setting in self.from_flags or (another and not {setting, other} <= self.from_recipe)
        if asked and model.architecture == "conv" and model.latent_map:
            reason = f"it has no effect, as `latent_map` is {model.latent_map} and the latent's size follows from that"
            excluded = other if other in self.from_recipe else setting
            raise SettingError(excluded, model.latent_dim, reason, "leave it out, or add `latent_map` 0")

    def located(self, error: SettingError) -> VaeError:
        """The error, with file, section and key where the file gave the setting."""
        if error.setting not in self.from_file:
            return error
        (section, _), (message, hint) = error.setting, map(without_backticks, (error.message, error.hint))
        return VaeError(f"{self.file}: [{section}] {message}", hint)


# What `train` accepts: a config, nested settings, a recipe's name, a TOML file, or what `gather` made of them.
Settings: TypeAlias = Config | Mapping[str, Any] | Path | str | Given | None


def gather(settings: Settings = None, flags: Flags | None = None) -> Given:
    """All given settings. A file is read here and not again: it may be a pipe.

    Raises:
        VaeError: the file cannot be read, is not TOML, has an unknown key or a value that is not allowed.
        UsageError: the same for a dict or a flag.
    """
    given = settings if isinstance(settings, Given) else _given(settings)
    changes = {}
    for setting, value in (flags or {}).items():
        if setting not in setting_keys():
            raise UsageError(f"flags: {setting!r}: no such setting", "name a pair, such as ('training', 'epochs')")
        if value is not None:
            changes[setting] = check(setting, value)
    over = frozenset(changes)
    return msgspec.structs.replace(
        given,
        values={**given.values, **changes},
        from_file=given.from_file - over,
        from_recipe=given.from_recipe - over,
        from_flags=given.from_flags | over,
    )


def without_seed(config: Config) -> bytes:
    """What the settings of two trainings share that differ in their seed only.

    Settings that change no number, such as the device and how often previews are drawn, may differ, too.
    """
    settings = msgspec.to_builtins(config)
    for section, key in (*CHANGEABLE, ("training", "seed")):
        del settings[section][key]
    return msgspec.json.encode(settings)


def resolve(settings: Settings = None, flags: Flags | None = None) -> Config:
    """The config that they make where no pictures choose a recipe. Raises as `gather` and `Given.config`."""
    return gather(settings, flags).config()


def _given(settings: Config | Mapping[str, Any] | Path | str | None) -> Given:
    if isinstance(settings, Config):
        return Given(dict(_by_key(msgspec.to_builtins(settings), None)), complete=True)
    if isinstance(settings, str) and settings in recipes.names():
        settings = {RECIPE: settings}
    file = Path(settings) if isinstance(settings, str | Path) else None
    content = (settings or {}) if file is None else _read_toml(file)
    if not isinstance(content, Mapping):
        problem = f"settings: a {type(content).__name__}"
        raise UsageError(problem, "pass a dict, a Config, the name of a recipe, or a TOML file")
    sections = {name: section for name, section in content.items() if name != RECIPE}
    own = dict(_by_key(sections, file))
    recipe = content.get(RECIPE)
    if recipe is not None and recipe not in recipes.names():
        raise _unknown(file, f"{RECIPE} {recipe}", str(recipe), recipes.names(), "the recipes are", "no such recipe")
    below = {} if recipe is None else dict(_by_key(recipes.read(recipe).settings, None))
    every = frozenset(own)
    given = Given(
        {**below, **own},
        recipe,
        file=file,
        from_file=frozenset() if file is None else every,
        from_recipe=frozenset(below) - every,
    )
    for setting, value in given.values.items():
        try:
            given.values[setting] = check(setting, value)
        except SettingError as error:
            raise given.located(error) from error
    return given


def _by_key(settings: Mapping[str, Any], file: Path | None) -> Iterable[tuple[SettingKey, Any]]:
    """Nested settings by (section, key). Raises for sections and keys that do not exist."""
    sections: dict[str, list[str]] = {}
    for section, key in setting_keys():
        sections.setdefault(section, []).append(key)
    for section, keys in settings.items():
        if section not in sections:
            if owners := [f"[{owner}]" for owner, known in sections.items() if section in known]:
                raise _error(file, f"{section}: no section", f"{section} belongs below {' or '.join(owners)}")
            raise _unknown(file, section, section, list(sections), "the sections are")
        if not isinstance(keys, Mapping):
            if file is None:
                hint = f'write {{"{section}": {{"{sections[section][0]}": …}}}}'
                raise UsageError(f"{section}: a {type(keys).__name__}, expected a dict of settings", hint)
            raise _error(file, f"[{section}]: expected a table of settings", f"write [{section}], then key = value")
        for key, value in keys.items():
            if key not in sections[section]:
                raise _unknown(file, f"[{section}] {key}", key, sections[section], f"[{section}] has")
            yield (section, key), value


def _unknown(
    file: Path | None, setting: str, name: str, known: list[str], listing: str, what: str = "unknown key"
) -> VaeError:
    close = difflib.get_close_matches(name, known, n=1)
    return _error(file, f"{setting}: {what}", f"did you mean {close[0]}?" if close else f"{listing} {', '.join(known)}")


def _error(file: Path | None, message: str, hint: str) -> VaeError:
    return UsageError(message, hint) if file is None else VaeError(f"{file}: {message}", hint)


def _read_toml(file: Path) -> dict[str, Any]:
    if file.is_dir():
        problem = f"`config` {file}: is a folder, not a recipe or a TOML file"
        raise VaeError(problem, "`source` names the pictures to train on")
    try:
        content = limits.read_file_or_pipe(file)
        if len(content) > LARGEST_TOML:
            raise VaeError(
                f"{file}: too large for a config, {len(content) / 1e6:,.0f} MB", "name a TOML file of settings"
            )
        text = content.decode("utf-8-sig")  # Windows' editor begins a file with a byte order mark
        settings = msgspec.toml.decode(text, type=dict[str, Any])
        settings.pop(recipes.ABOUT, None)
    except FileNotFoundError as error:
        names = recipes.names()
        close = [] if file.suffix else difflib.get_close_matches(str(file), names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        missing = "no such file" if file.suffix else "no recipe or file of this name"
        raise VaeError(f"`config` {file}: {missing}", f"{hint}the recipes are {', '.join(names)}") from error
    except OSError as error:
        raise file_error(file, error) from error
    except UnicodeDecodeError as error:
        raise VaeError(f"{file}: not UTF-8 text, from byte {error.start + 1} on", "save it as UTF-8") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: of long numbers
        raise VaeError(f"{file}: not valid TOML: {error}", "see examples/ for files that work") from error
    return settings
