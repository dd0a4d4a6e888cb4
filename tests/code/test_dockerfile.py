"""What is read from a Dockerfile before the engine reads it."""

import pytest

from linkspan.code.dockerfile import base_images, takes_base
from linkspan.errors import (
    ConfigError,
)


@pytest.mark.parametrize(
    ("text", "args", "images"),
    [
        ("FROM python:3.11", {}, ["python:3.11"]),
        ("# syntax=docker/dockerfile:1\nARG BASE=python:3.11-slim\nFROM ${BASE}\n", {}, ["python:3.11-slim"]),
        ("ARG BASE=python:3.11-slim\nFROM $BASE\n", {"BASE": "mine:1"}, ["mine:1"]),
        ("ARG V\nFROM python:${V:-3.11}\n", {}, ["python:3.11"]),
        ("ARG V\nFROM python${V:+:$V}\n", {}, ["python"]),
        ("ARG V=3\nARG I='python:'$V\nFROM python:$V\n", {}, ["python:3"]),
        (
            "FROM a AS x\nFROM b\nCOPY --from=x / /\nCOPY --from=0 / /\nCOPY --chown=1 --from=c:1 / /",
            {},
            ["a", "b", "c:1"],
        ),
        ("from a as Build\nfrom build\n", {}, ["a"]),
        ("FROM --platform=linux/amd64 a AS x\nFROM a\nFROM scratch\n", {}, ["a"]),
        ("FROM \\\n# a comment between\n  a \\\n  AS x\n", {}, ["a"]),
        ("# escape=`\nFROM `\n a\n", {}, ["a"]),
        ("FROM a\nARG BASE=b\nRUN FROM c\n", {}, ["a"]),
        ("FROM reg.example.com:5000/x@sha256:" + "0" * 64, {}, ["reg.example.com:5000/x@sha256:" + "0" * 64]),
    ],
)
def test_the_base_images_of_a_dockerfile(text: str, args: dict[str, str], images: list[str]) -> None:
    assert base_images(text, args) == images


def test_a_base_that_cannot_be_known() -> None:
    with pytest.raises(ConfigError, match=r"line 3: FROM \$\{BASE\} names no image"):
        base_images("ARG BASE\n\nFROM ${BASE}\n", {})
    with pytest.raises(ConfigError, match="no FROM"):
        base_images("RUN true\n", {})


def test_whether_a_dockerfile_takes_another_base() -> None:
    assert takes_base("ARG BASE=x\nFROM ${BASE}\n")
    assert not takes_base("FROM x\nARG BASE\n")
    assert not takes_base("ARG BASE=x\nFROM ${BASEMENT}\n")
