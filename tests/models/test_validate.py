"""A model that cannot score is refused in words that help, and one that attacks gets nothing."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from onnx import TensorProto

from linkspan.errors import ConfigError, ModelRefused
from linkspan.models.validate import validate
from linkspan.sandbox.process import Outcome, run_confined
from tests.onnx_models import (
    endless_model,
    external_model,
    graph,
    identity_model,
    linear_model,
    operator_model,
)
from tests.waiting import until

pytestmark = pytest.mark.slow  # each opens its model in a process of its own

STRONG = ("namespaces", "user namespaces")
KINDS = (*STRONG, "network namespace", "user and network namespace", "socket block")


def test_a_model_is_opened_and_its_signature_told(tmp_path: Path) -> None:
    linear_model(4, 2, tmp_path / "model.onnx")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")

    found = validate(tmp_path)

    assert found.signature is not None
    (taken,), (given,) = found.signature.inputs, found.signature.outputs
    assert (taken.name, taken.dtype, taken.shape) == ("input", "float32", (None, 4))
    assert (given.name, given.dtype, given.shape) == ("scores", "float32", (None, 2))
    assert found.seconds > 0


def test_files_of_different_folders_are_brought_together(tmp_path: Path) -> None:
    external_model(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "weights.bin").rename(tmp_path / "b" / "elsewhere")

    found = validate(
        {"net/model.onnx": tmp_path / "a" / "model.onnx", "net/weights.bin": tmp_path / "b" / "elsewhere"}
    )

    assert list(found.signatures) == ["net/model.onnx"]


def test_every_onnx_file_is_opened_and_the_main_one_named(tmp_path: Path) -> None:
    linear_model(4, 2, tmp_path / "a.onnx")
    linear_model(7, 2, tmp_path / "model.onnx")
    linear_model(9, 2, tmp_path / "deep" / "b.onnx")

    found = validate(tmp_path)

    assert sorted(found.signatures) == ["a.onnx", "deep/b.onnx", "model.onnx"]
    assert found.signature == found.signatures["model.onnx"]
    (tmp_path / "deep" / "b.onnx").write_bytes(b"broken")
    with pytest.raises(ModelRefused, match=r"deep/b\.onnx cannot be opened"):
        validate(tmp_path)


def test_without_an_onnx_file_the_smoke_test_is_the_judge(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"whatever")
    found = validate(tmp_path)
    assert found.signature is None
    assert "no ONNX file" in found.sandbox


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.INT8, "int8"),
        (TensorProto.UINT64, "uint64"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.STRING, "string"),
    ],
)
def test_samples_of_every_type(tmp_path: Path, dtype: int, name: str) -> None:
    identity_model(tmp_path / "model.onnx", dtype)
    found = validate(tmp_path)
    assert found.signature is not None
    assert found.signature.inputs[0].dtype == name
    assert not found.unscored


def test_a_type_without_samples_is_opened_and_said_to_be_unscored(tmp_path: Path) -> None:
    identity_model(tmp_path / "model.onnx", TensorProto.BFLOAT16)
    assert "bfloat16" in validate(tmp_path).unscored["model.onnx"]


def test_a_sample_grows_until_the_model_can_take_it(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    pool = helper.make_node("MaxPool", ["input"], ["output"], kernel_shape=[5, 5])
    tensor = helper.make_tensor_value_info
    graph(
        tmp_path / "model.onnx",
        [pool],
        [tensor("input", onnx.TensorProto.FLOAT, [1, 1, "height", "width"])],
        [tensor("output", onnx.TensorProto.FLOAT, [1, 1, None, None])],
    )
    assert not validate(tmp_path).unscored


def test_zero_may_be_a_special_case_of_a_good_model(tmp_path: Path) -> None:
    operator_model(tmp_path / "model.onnx", "Log")  # -infinity for 0, finite for the random sample
    assert validate(tmp_path).signature is not None


def test_a_classifier_from_scikit_learn_gives_maps(tmp_path: Path) -> None:
    import numpy as np
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    points = np.eye(4, dtype=np.float32)
    trained = LogisticRegression().fit(points, [0, 1, 0, 1])
    # With its default options the classifier's probabilities are a sequence of maps.
    (tmp_path / "model.onnx").write_bytes(to_onnx(trained, points[:1]).SerializeToString())

    found = validate(tmp_path)

    assert found.signature is not None
    assert [each.dtype for each in found.signature.outputs] == ["int64", "seq(map(int64,tensor(float)))"]


def _not_onnx(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"I am a text")


def _truncated(folder: Path) -> None:
    path = linear_model(64, 64, folder / "model.onnx")
    path.write_bytes(path.read_bytes()[:-100])


def _empty(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"")


def _too_new(folder: Path) -> None:
    operator_model(folder / "model.onnx", "Relu", opset=99)


def _unknown_operator(folder: Path) -> None:
    operator_model(folder / "model.onnx", "Frobnicate")


def _without_weights(folder: Path) -> None:
    external_model(folder)
    (folder / "weights.bin").unlink()


def _short_weights(folder: Path) -> None:
    external_model(folder)
    (folder / "weights.bin").write_bytes(b"1234")


def _not_finite(folder: Path) -> None:
    import numpy as np
    from onnx import helper, numpy_helper

    value = helper.make_tensor_value_info
    graph(
        folder / "model.onnx",
        [helper.make_node("Div", ["input", "zero"], ["output"])],
        [value("input", TensorProto.FLOAT, ["n"])],
        [value("output", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.zeros(1, dtype=np.float32), "zero")],
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_not_onnx, "cannot be opened"),
        (_truncated, "Protobuf parsing failed"),
        (_empty, "No graph was found"),
        (_too_new, "Opset 99 is under development"),
        (_unknown_operator, "No Op registered for Frobnicate"),
        (_without_weights, "External data path does not exist"),
        (_short_weights, "weights"),
        (_not_finite, "not finite .* in output output"),
    ],
)
def test_a_bad_model_is_refused_in_one_line(tmp_path: Path, spoil: object, says: str) -> None:
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(ModelRefused, match=says) as caught:
        validate(tmp_path)
    assert "model.onnx" in caught.value.what
    assert "\n" not in str(caught.value)
    assert "/onnxruntime_src/" not in str(caught.value).partition("Error:")[0]


def test_a_model_that_never_answers_is_stopped(tmp_path: Path) -> None:
    endless_model(tmp_path / "model.onnx")
    with pytest.raises(ModelRefused, match="took too long"):
        validate(tmp_path, timeout=2)


def test_external_data_cannot_reach_out_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    external_model(tmp_path / "inside")
    weights = (tmp_path / "inside" / "weights.bin").read_bytes()
    (tmp_path / "inside" / "weights.bin").unlink()
    (tmp_path / "weights.bin").write_bytes(weights)
    import onnx

    whole = onnx.load(str(tmp_path / "inside" / "model.onnx"), load_external_data=False)
    for entry in whole.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../weights.bin"
    (tmp_path / "inside" / "model.onnx").write_bytes(whole.SerializeToString())

    with pytest.raises(ModelRefused):
        validate(tmp_path / "inside")


# The sandbox itself, with scripts in the worker's place.


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    try:
        _run("", Path("/"), name)
    except ConfigError:
        pytest.skip(f"this machine allows no {name}")
    return name


def _run(source: str, folder: Path, kind: str, *, timeout: float = 600, memory: int = 4 << 30) -> Outcome:
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(source)
        script.flush()
        return run_confined(Path(script.name), [], cwd=folder, timeout=timeout, memory=memory, forced=kind)


def test_the_sandbox_has_no_network(kind: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=3); print('reached')"
        free = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
        outcome = _run(probe, tmp_path, kind)
    # The same probe gets through outside, else its failure inside would prove nothing.
    assert free.stdout == "reached\n"
    assert outcome.stdout == ""
    assert "Network is unreachable" in outcome.stderr or "not allowed in the sandbox" in outcome.stderr


def test_the_sandbox_has_no_secret_in_its_environment(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "sesame")
    outcome = _run("import os; print(sorted(os.environ))", tmp_path, kind)
    names = set(eval(outcome.stdout))
    assert {"PATH", "LANG"} <= names
    assert names <= {"PATH", "LANG", "LC_CTYPE", "ORT_DISABLE_TELEMETRY"}


@pytest.mark.parametrize("strong", STRONG)
def test_the_sandbox_cannot_see_other_processes_or_credentials(
    strong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text("aws_secret_access_key = sesame")
    (home / ".netrc").write_text("password sesame")
    monkeypatch.setenv("HOME", str(home))
    (home / "linkspan").mkdir()
    (home / "linkspan" / "auth").write_text("linkspan:sesame")
    monkeypatch.setenv("LINKSPAN_HOME", str(home / "linkspan"))
    probe = f"""
import os
from pathlib import Path
print(Path("/proc/{os.getpid()}/environ").exists(), len([n for n in os.listdir("/proc") if n.isdigit()]))
for name in (".aws/credentials", ".netrc", "linkspan/auth"):
    path = Path({str(home)!r}) / name
    print(path.read_text() if path.exists() else "")
"""
    outcome = _forced(probe, tmp_path, strong)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.split() == ["False", "1"]
    assert (home / ".netrc").read_text() == "password sesame"


@pytest.mark.parametrize("strong", STRONG)
def test_nothing_can_be_removed_or_written(strong: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"precious")
    outcome = _forced("import os; os.remove('model.onnx')", tmp_path, strong)
    assert outcome.code != 0
    assert "Read-only file system" in outcome.stderr
    assert (tmp_path / "model.onnx").read_bytes() == b"precious"


def test_no_byte_is_written_even_without_a_mount_namespace(kind: str, tmp_path: Path) -> None:
    outcome = _run("with open('loot', 'w') as loot: loot.write('x')", tmp_path, kind)
    assert outcome.code != 0
    assert not (tmp_path / "loot").exists() or (tmp_path / "loot").stat().st_size == 0


def test_a_crash_names_its_signal(kind: str, tmp_path: Path) -> None:
    outcome = _run("import ctypes; ctypes.string_at(0)", tmp_path, kind)
    assert outcome.how == "was killed by SIGSEGV"


def test_memory_is_limited(kind: str, tmp_path: Path) -> None:
    outcome = _run("x = bytearray(3 << 30)", tmp_path, kind, memory=2 << 30)
    assert "MemoryError" in outcome.stderr


def test_time_is_limited_and_nothing_is_left_running(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text("import time; time.sleep(3600)")

    outcome = run_confined(script, [], cwd=tmp_path, timeout=1, memory=4 << 30, forced=kind)

    assert outcome.code is None
    assert outcome.how == "took too long"
    until(lambda: not _processes_with(str(script)), what="the end of its processes")


def test_a_signature_of_a_crashing_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "crash.py"
    script.write_text("import ctypes; ctypes.string_at(0)")
    monkeypatch.setattr("linkspan.models.validate._WORKER", script)
    linear_model(2, 2, tmp_path / "model.onnx")
    with pytest.raises(ModelRefused, match=r"model\.onnx: the process that opened it was killed by SIGSEGV"):
        validate(tmp_path)


def _forced(source: str, folder: Path, kind: str) -> Outcome:
    try:
        return _run(source, folder, kind)
    except ConfigError:
        pytest.skip(f"this machine allows no {kind}")


def _processes_with(argument: str) -> list[str]:
    """Processes with that text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            if argument in command:
                found.append(entry.name)
    return found
