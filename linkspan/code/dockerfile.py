"""Which images a Dockerfile builds on: a new base is a new code image, even when the app's tree is the same.

Reads as much of the Dockerfile reference (docs.docker.com/reference/dockerfile) as that needs: directives,
continued lines, ARG before the first FROM with its default, stages, FROM and COPY --from.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from linkspan.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::?(?P<how>[-+])(?P<word>[^}]*))?\}|(?P<plain>\w+))")


def read_dockerfile(folder: Path) -> str:
    """The text of an app's Dockerfile. Raises ConfigError if it is not there or leads elsewhere."""
    path = folder / "Dockerfile"
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            "the app has no Dockerfile",
            expected="Dockerfile in the app's folder",
            found=", ".join(sorted(entry.name for entry in folder.iterdir())[:10])
            if folder.is_dir()
            else "no folder",
            fix="Add one, or set the git repository's folder to the one that has it",
        )
    return path.read_text(errors="replace")


def base_images(text: str, build_args: Mapping[str, str]) -> list[str]:
    """The images outside of the Dockerfile that it takes, each once, in order; `scratch` is none.

    Raises ConfigError for a FROM that cannot be resolved, naming its line.
    """
    args: dict[str, str] = {}
    stages: set[str] = set()
    found: dict[str, None] = {}
    count = 0
    for line, word, rest in _instructions(text):
        if word == "ARG" and count == 0:
            name, has_default, default = rest.partition("=")
            if name in build_args:
                args[name] = build_args[name]
            elif has_default:
                args[name] = _expand(_unquote(default), args)
        elif word == "FROM":
            parts = [part for part in rest.split() if not part.startswith("--")]
            image = _expand(_unquote(parts[0]), args) if parts else ""
            if not image:
                raise ConfigError(
                    f"Dockerfile, line {line}: FROM {rest} names no image",
                    fix="Give its ARG a default, or set it in the builder's build_args",
                )
            if image.lower() not in stages and image != "scratch":
                found[image] = None
            stages.add(str(count))
            count += 1
            if len(parts) == 3 and parts[1].upper() == "AS":
                stages.add(parts[2].lower())
        elif word in {"COPY", "ADD"}:
            for image in re.findall(r"(?:^|\s)--from=(\S+)", rest):
                if image.lower() not in stages:
                    found[image] = None
    if count == 0:
        raise ConfigError("the Dockerfile has no FROM", fix="Begin it with FROM and the image it builds on")
    return list(found)


def default_base(text: str) -> str:
    """The image that BASE is by default. Raises ConfigError if it has none."""
    with_base, without = base_images(text, {}), base_images(text, {"BASE": "scratch"})
    found = [image for image in with_base if image not in without]
    if not found:
        raise ConfigError("ARG BASE in the Dockerfile has no default", fix="Set BASE=… in build_args")
    return found[0]


def takes_base(text: str) -> bool:
    """Whether the Dockerfile can be given another base: `ARG BASE`, and a FROM that uses it."""
    words = list(_instructions(text))
    args = {rest.partition("=")[0] for _, word, rest in words if word == "ARG"}
    return "BASE" in args and any(
        word == "FROM" and re.search(r"\$\{?BASE\b", rest) for _, word, rest in words
    )


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, instruction in capitals, and the rest with continued lines joined."""
    escape = "\\"
    held, start = "", 0
    directives = True
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = raw.strip()
        if directives and (match := re.fullmatch(r"#\s*(\w+)\s*=\s*(.+)", line)):
            if match[1].lower() == "escape":
                escape = match[2].strip()
            continue
        directives = False
        if line.startswith("#") or not line:
            continue  # also between continued lines
        start = start or number
        if line.endswith(escape):
            held += line[:-1] + " "
            continue
        word, _, rest = (held + line).strip().partition(" ")
        yield start, word.upper(), rest.strip()
        held, start = "", 0
    if held:
        word, _, rest = held.strip().partition(" ")
        yield start, word.upper(), rest.strip()


def _unquote(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _expand(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        known = values.get(match["braced"] or match["plain"], "")
        if match["how"] == "-":
            return known or match["word"]
        if match["how"] == "+":
            return match["word"] if known else ""
        return known

    return _VARIABLE.sub(value, text)
