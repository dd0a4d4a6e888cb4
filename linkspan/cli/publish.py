"""`linkspan publish`: what a data scientist types."""

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from linkspan.cli.context import AppOption, Context, EnvironmentOption, JsonOption
from linkspan.cli.follow import follow_to_live
from linkspan.cli.output import err, note, out, print_json
from linkspan.config import read_config
from linkspan.errors import ConfigError
from linkspan.models import publish as publish_model
from linkspan.validate import signature_of


def publish(
    path: Annotated[
        Path, typer.Argument(help="A model file, or a folder with all of its files.", exists=True)
    ],
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    name: Annotated[
        str, typer.Option(help="The model's name. Default: what linkspan.toml here says, or the app's name.")
    ] = "",
    version: Annotated[
        str, typer.Option(help="Default: the next number. An order must be in it: v12, 1.4.2, 2026.11.22.")
    ] = "",
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="name=value; may be repeated.")
    ] = None,
    metrics: Annotated[Path | None, typer.Option(help="A JSON file of metrics.", exists=True)] = None,
    by: Annotated[str, typer.Option(help="Who publishes.")] = "",
    allow_older: Annotated[bool, typer.Option(help="Publish a version that is not the newest.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the model is live.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a model and start its way to production."""
    context = Context(app, environment)
    measured = _metrics(metric or [], metrics)
    publisher = by or getpass.getuser()
    model_name = name or _name_here() or context.app
    objects = context.store_settings.objects()
    onnx = _onnx_in(path)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=err
    ) as bars:
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        bar = bars.add_task(f"Uploading to {objects.url}", total=sum(each.stat().st_size for each in files))
        model = publish_model(
            objects,
            model_name,
            path,
            version=version or None,
            metrics=measured,
            published_by=publisher,
            signature=signature_of(onnx) if onnx else None,
            allow_older=allow_older,
            progress=lambda count: bars.advance(bar, count),
        )
    hint = f"{model.name} {model.version} published by {publisher}"
    run = context.engine.start(
        context.model_deployment, {"hint": hint}, idempotency_key=f"publish:{model.name}:{model.version}"
    )
    context.engine.emit(
        "linkspan.model.published", f"linkspan.model.{model.name}", model.model_dump(mode="json")
    )
    if not as_json:
        out.print(f"Published [bold]{model.name} {model.version}[/] ({model.size:,} bytes) to {objects.url}")
        note(f"{context.model_deployment} takes it from here: {run.url}")
    live = (
        follow_to_live(context, run.id, lambda release: release.model.digest == model.digest)
        if wait
        else None
    )
    if as_json:
        print_json({"model": model.model_dump(mode="json"), "run": run.model_dump(), "live": live})


def _metrics(pairs: list[str], file: Path | None) -> dict[str, float]:
    values: dict[str, float] = {}
    if file is not None:
        try:
            values = {str(key): float(value) for key, value in json.loads(file.read_text()).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{file} holds no metrics: {error}", expected='JSON such as {"accuracy": 0.98}'
            ) from error
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            values[key] = float(value)
        except ValueError:
            equals = ""
        if not (key and equals):
            raise ConfigError(
                f"--metric {pair!r} is no metric", expected="name=number, such as accuracy=0.98"
            )
    return values


def _name_here() -> str:
    path = Path("linkspan.toml")
    return read_config(path.read_text(), where=str(path)).model.name if path.is_file() else ""


def _onnx_in(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix == ".onnx" else None
    return next(iter(sorted(path.rglob("*.onnx"))), None)
