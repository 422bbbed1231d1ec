"""params.yaml, read strictly.

DVC decides *when* a stage runs from the keys it names in dvc.yaml; this module decides whether what
stands under those keys makes sense. A stage reads its own block with :func:`block`, against a schema
that lives beside the code which uses it. Unknown keys, wrong types and impossible values end in one
sentence that names the key.
"""

from __future__ import annotations

import re
import reprlib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from beatline.common.errors import UserError, did_you_mean, names_there_are

PATH = Path("params.yaml")
BLOCKS = (
    "datasets",
    "extract_features",
    "training",
    "train",
    "evaluate",
    "report",
    "compare",
    "serve",
    "monitoring",
)
NAME = r"[A-Za-z0-9_-]+"  # of a data set: part of file names, of stage names and of dotted keys
SHOWN = 200  # characters of a key or a value in a sentence
_REPR = reprlib.Repr()
_REPR.maxstring, _REPR.maxlist, _REPR.maxdict, _REPR.maxother = SHOWN, 20, 20, SHOWN
DATASET_BLOCKS = ("module", "download", "aggregate_labels", "split", "normalize")


class Parameters(BaseModel):
    """A block of params.yaml: every key known, no silent conversion of types, not changeable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


AtLeastOne = Annotated[int, Field(ge=1)]
Schema = TypeVar("Schema", bound=Parameters)


def load(path: Path = PATH) -> dict[str, Any]:
    """All of params.yaml, its outline checked: blocks, data sets and models that exist."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: run the command in the project's root folder"
        ) from None
    _check_outline(content, path)
    return content


def read_yaml(path: Path) -> Any:
    """The content of a file of YAML 1.2, as DVC reads it, so that `1e-3` is a number and `no` is a word
    in both. Raises UserError if it is not valid."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {_yaml_problem(error)}") from None


def block_of(content: dict[str, Any], key: str) -> Any:
    """Return the content at a dotted `key`, such as `datasets.ptbxl.split`; UserError without one."""
    value: Any = content
    for depth, part in enumerate(parts := key.split("."), 1):
        if not isinstance(value, dict) or part not in value:
            there = names_there_are(part, value) if isinstance(value, dict) else ""
            raise UserError(
                f"{PATH} has no {'.'.join(parts[:depth])}: add it, or name another{there}"
            )
        value = value[part]
    return value


def block(content: dict[str, Any], key: str, schema: type[Schema]) -> Schema:
    """The block at a dotted `key`, validated against `schema`.

    Raises UserError that names the first wrong key and what is expected there.
    """
    return validated(block_of(content, key), key, schema)


def validated(value: Any, key: str, schema: type[Schema], path: Path = PATH) -> Schema:
    """`value` as an instance of `schema`; `key` is where in the file `path` it stands."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error, value, key, schema)}") from None


def models_of(content: dict[str, Any], dataset: str) -> list[str]:
    """The models that params.yaml trains on a data set, in the order in which it lists them."""
    return [model for model, datasets in content["train"].items() if dataset in (datasets or {})]


def _check_outline(content: Any, path: Path) -> None:
    _check_keys(content, BLOCKS, "the file", path)
    if missing := [name for name in BLOCKS if name not in content]:
        raise UserError(f"{path} has no block {missing[0]}: add it")
    for name, blocks in _mapping(content["datasets"], "datasets", "data set", path).items():
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise UserError(
                f"{path}: datasets.{name}: the name of a data set is a text of letters, digits, "
                f"_ and -: rename it"
            )
        _check_keys(blocks, DATASET_BLOCKS, f"datasets.{name}", path)
        if missing := [key for key in DATASET_BLOCKS if key not in blocks]:
            raise UserError(f"{path} has no datasets.{name}.{missing[0]}: add it")
        _check_module(blocks["module"], "datasets", f"datasets.{name}.module", path)
    extracted = _mapping(content["extract_features"], "extract_features", "data set", path)
    for name, block in extracted.items():
        where = f"extract_features.{name}"
        _check_dataset(name, where, content, path)
        for key, package in (("module", "datasets"), ("kind", "features")):
            if key not in _mapping(block, where, "parameter", path):
                for other in block:
                    if hint := did_you_mean(str(other), [key]):
                        raise UserError(f"{path}: {where}.{other}: unknown parameter{hint}")
                raise UserError(f"{path} has no {where}.{key}: add it")
            _check_module(block[key], package, f"{where}.{key}", path)
        if block["module"] != (module := content["datasets"][name]["module"]):
            raise UserError(
                f"{path}: {where}.module is {block['module']}, and datasets.{name}.module {module}: "
                f"write the latter in both"
            )
    for model, datasets in _mapping(content["train"], "train", "model", path).items():
        if model not in (modules := _modules("models")):
            raise UserError(
                f"{path}: train.{model}: there is no such model{names_there_are(str(model), modules)}"
            )
        for dataset in _mapping(datasets or {}, f"train.{model}", "data set", path):
            _check_dataset(dataset, f"train.{model}.{dataset}", content, path)


def _check_module(name: Any, package: str, where: str, path: Path) -> None:
    if name not in (modules := _modules(package)):
        raise UserError(
            f"{path}: {where}: there is no module {name!r} in beatline/{package}"
            f"{names_there_are(str(name), modules)}"
        )


def _check_dataset(name: Any, where: str, content: Any, path: Path) -> None:
    if name not in content["datasets"]:
        raise UserError(
            f"{path}: {where}: there is no such data set"
            f"{names_there_are(str(name), content['datasets'])}"
        )


def _mapping(value: Any, where: str, entry: str, path: Path) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: {where} must be a mapping with one entry per {entry}, not {value!r}"
        )
    return value


def _check_keys(value: Any, known: tuple[str, ...], where: str, path: Path) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{path}: {where} must be a mapping with the keys {', '.join(known)}")
    for key in value:
        if key not in known:
            raise UserError(
                f"{path}: {where}: unknown key {key!r}{names_there_are(str(key), known)}"
            )


def _modules(package: str) -> list[str]:
    """List the packages inside `package`, or its modules if it has no packages."""
    folder = Path(__file__).parents[1] / package
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    names = packages or [path.stem for path in folder.glob("*.py")]
    return sorted(name for name in names if not name.startswith("_"))


def _yaml_problem(error: YAMLError | UnicodeDecodeError) -> str:
    """The problem and its line, in one sentence."""
    if not isinstance(error, MarkedYAMLError) or not error.problem:
        return " ".join(str(error).split())
    line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
    return f"{error.problem}{line}"


def _sentence(error: ValidationError, value: Any, key: str, schema: type[Parameters]) -> str:
    first = _first(error.errors())
    location = _location(first, value)
    where = ".".join(part for part in (key, *location) if part)[:SHOWN]
    where = "".join(letter if letter.isprintable() else "?" for letter in where)
    if first["type"] == "extra_forbidden":
        return (
            f"{where}: unknown parameter{names_there_are(location[-1], _fields(schema, location))}"
        )
    if first["type"] == "missing":
        return f"{where}: missing, add it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] in ("too_short", "too_long"):  # which say how many there are
        message = message.removeprefix("List ").replace(" after validation", "")
        return f"{where}: {message}"
    got = "" if first["type"] == "value_error" else f", not {_shown(first['input'])}"
    if first["type"] == "literal_error":
        got += did_you_mean(str(first["input"]), re.findall(r"'([^']+)'", message))
    if isinstance(first["input"], date):
        got = f", and {first['input']} is a date in YAML: write it in quotes"
    return f"{where}: {message}{got}"


def _location(error: Any, value: Any) -> list[str]:
    """Return where in a `value` an error is. Pydantic adds which of several types it has tried last."""
    found = []
    for part in error["loc"]:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        inside = in_list or (isinstance(value, dict) and part in value)
        if not inside and error["type"] != "missing":
            break
        found.append(str(part))
        value = value[part] if inside else None
    return found


def _first(errors: list[Any]) -> Any:
    """Return the first error; of a key that is missing and another that is unknown beside it, the one of
    the unknown key, which is the missing one misspelt if anything is."""
    block = errors[0]["loc"][:-1]
    unknown = (
        error
        for error in errors
        if error["type"] == "extra_forbidden" and error["loc"][:-1] == block
    )
    return next(unknown, errors[0]) if errors[0]["type"] == "missing" else errors[0]


def _shown(value: Any) -> str:
    """A value as it can stand in a sentence, however long and however deep it is."""
    text = _REPR.repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _fields(schema: type[Parameters], location: list[str]) -> list[str]:
    """The known keys of the block in which the last part of `location` stands."""
    current: Any = schema
    for part in location[:-1]:
        fields = getattr(current, "model_fields", {})
        current = fields[part].annotation if part in fields else None
    return list(getattr(current, "model_fields", {})) or ["none at this place"]
