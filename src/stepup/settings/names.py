"""The names of settings, and the sentences about unknown and malformed settings."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stepup.system.json_texts import RepeatedNameError, json_with_unique_names
from stepup.system.near_names import instead_of

Location: TypeAlias = tuple[str | int, ...]
"""The path of a setting, such as `("callers", 0, "rules")`."""

UNKNOWN = "there is no such setting"
_OF_COMMANDS = ("CONFIG", "GRANT_TO", "CTL_CONFIG", "CTL_PROFILE", "DECISION_LOGS")
# Variables of other programs: clients, tests, and the files in deploy/.
_OF_OTHERS = re.compile(
    r"STEPUP_((CLIENT|TEST|WEB)_\w+|DEPLOY_TOOLS|MIGRATE_PASSWORD|SERVE_PASSWORD)", re.IGNORECASE
)
# Kubernetes sets these in each container for a Service whose name begins with `stepup`.
_SERVICE_LINK = re.compile(
    r"STEPUP_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_PORT_OF_SERVICE = re.compile(r"STEPUP_(\w+_)?PORT"), re.compile(r"(tcp|udp|sctp)://\S+")


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section type in a setting's type: the type itself, of a union, or of a list; or None."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def is_list(annotation: Any) -> bool:
    """Whether a setting is a list."""
    return get_origin(annotation) is tuple


def locations(model: type[BaseModel]) -> Iterator[tuple[Location, Any]]:
    """Every section, list and setting with its type, without the settings inside lists."""
    for name, field in model.model_fields.items():
        yield (name,), field.annotation
        section = section_in(field.annotation)
        if section is not None and not is_list(field.annotation):
            yield from (((name, *inner), type_) for inner, type_ in locations(section))


def variable(model: type[BaseModel], location: Location) -> str:
    """The name of the environment variable of a setting."""
    return _prefix(model) + "__".join(map(str, location)).upper()


def _prefix(model: type[BaseModel]) -> str:
    """What the names of all variables of the settings begin with, such as `STEPUP_`."""
    return str(model.model_config["env_prefix"])  # type: ignore[typeddict-item]


def unknown_variables(
    model: type[BaseModel], environment: Mapping[str, str], keys_variable: str | None
) -> dict[Location, str]:
    """A problem for each variable with the prefix that sets nothing, by its location."""
    prefix = _prefix(model)
    known = [
        *(variable(model, location) for location, _ in locations(model)),
        *(f"{prefix}{name}" for name in _OF_COMMANDS),
    ]
    sections = [variable(model, (name,)) for name in model.model_fields]

    def meant_by(name: str) -> str:
        return instead_of(name, sections, known, most=1, prefix=prefix)

    return {
        tuple(name[len(prefix) :].lower().split("__")): f"{name}: {UNKNOWN}{meant_by(name.upper())}"
        for name, value in environment.items()
        if name.upper().startswith(prefix)
        and name.upper() not in known
        and name != keys_variable
        and not _is_of_another_program(name.upper().replace(prefix, "STEPUP_", 1), value)
    }


def malformed_variables(
    model: type[BaseModel], environment: Mapping[str, str]
) -> dict[Location, str]:
    """A problem for each variable of a section or list that is not JSON, by its location.

    The messages contain no values (S11).
    """
    given = {name.upper(): (name, value) for name, value in environment.items()}
    problems = {}
    for location, annotation in locations(model):
        section, many = section_in(annotation), is_list(annotation)
        if variable(model, location) not in given or not (section or many):
            continue
        name, value = given[variable(model, location)]
        wanted = "a JSON list" if many else "a JSON object"
        try:
            found = json_with_unique_names(value)
        except RepeatedNameError as error:
            problems[location] = f"{name}: {error}"
        except ValueError:
            problems[location] = f"{name}: must be {wanted}"
        else:
            if not isinstance(found, list if many else dict) and found is not None:
                problems[location] = f"{name}: must be {wanted}"
    return problems


def dotted(location: Location) -> str:
    """The name of a setting in messages: `callers.0.rules`."""
    return ".".join(map(str, location))


def problems(
    model: type[BaseModel], error: ValidationError, reported: Collection[Location]
) -> list[str]:
    """A line for each problem of a validation, without values: a URL can contain a password (S11).

    Other lines report the locations in `reported` already.
    """
    return [
        ": ".join(filter(None, (dotted(problem["loc"]), _in_words(model, problem))))
        for problem in error.errors(include_url=False, include_input=False)
        if problem["loc"] not in reported
    ]


def _in_words(model: type[BaseModel], problem: ErrorDetails) -> str:
    location = problem["loc"]
    match problem["type"]:
        case "extra_forbidden":
            return UNKNOWN + _instead_of(model, location)
        case "tuple_type" if section_in(dict(locations(model)).get(location)):
            return f"must be a list: [[{dotted(location)}]] for each in the file"
        case "tuple_type":
            return "must be a list"
        case "model_type" | "model_attributes_type":
            return f"must be a section: [{dotted(location)}] in the file"
    return problem["msg"].removeprefix("Value error, ")


def _beside(model: type[BaseModel], location: Location) -> list[str]:
    """The names of the settings in the section of an unknown setting."""
    here: type[BaseModel] | None = model
    for part in location[:-1]:
        if here is not None and isinstance(part, str):
            field = here.model_fields.get(part)
            here = section_in(field.annotation) if field else None
    return [dotted((*location[:-1], name)) for name in (here or model).model_fields]


def _instead_of(model: type[BaseModel], location: Location) -> str:
    """The end of a sentence that suggests a setting in place of an unknown setting."""
    section = "".join(f"{part}." for part in location[:-1])
    elsewhere = [dotted(each) for each, _ in locations(model) if each[-1] == location[-1]]
    return instead_of(dotted(location), _beside(model, location), elsewhere, most=1, prefix=section)


def _is_of_another_program(name: str, value: str) -> bool:
    link, content = _PORT_OF_SERVICE
    return bool(
        _OF_OTHERS.fullmatch(name)
        or _SERVICE_LINK.fullmatch(name)
        or (link.fullmatch(name) and content.fullmatch(value))
    )
