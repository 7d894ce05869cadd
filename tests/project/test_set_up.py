"""tools/set_up.py: what it reads of the locks, when it builds anew, what it tells uv, and its fallback to pip."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """The script as a module, on a folder of its own with copies of the locks."""
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "tools" / "set_up.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.INPUTS["dev"]:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, value in (("ROOT", tmp_path), ("VENV", tmp_path / ".venv"), ("UV", bin_folder / "uv")):
        monkeypatch.setattr(module, name, value)
    return module


def test_entries_of_a_lock(set_up):
    entries = ("a-b==1.0 ; python_version < '3.12'", "a-b==2.0", "c==3")
    lock = "".join(f"{entry} \\\n    --hash=sha256:00\n    # via d\n" for entry in entries)
    found = set_up.packages_of(lock)
    assert [name for name, _ in found] == ["a-b", "a-b", "c"]
    assert "".join(text for _, text in found) == lock


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-run.lock", "requirements-uv.lock"])
def test_every_line_of_a_lock_is_an_entry(set_up, name):
    text = (ROOT / name).read_text("utf-8")
    assert "".join(entry for _, entry in set_up.packages_of(text)) == text


def test_a_stage_is_built_once_and_anew_when_a_lock_changes(set_up, monkeypatch):
    done = []
    monkeypatch.setattr(set_up, "make_venv", lambda: done.append("venv"))
    monkeypatch.setattr(set_up, "install_packages", done.append)
    monkeypatch.setattr(set_up, "install_brachy", lambda: done.append("brachy"))
    set_up.build("run")
    assert done == ["venv", "run", "brachy"]
    set_up.build("run")
    assert len(done) == 3
    set_up.build("dev")
    assert done[3:] == ["dev"]
    lock = set_up.ROOT / "requirements-run.lock"
    lock.write_text(lock.read_text() + "# changed\n")
    set_up.build("dev")
    assert done[4:] == ["venv", "run", "brachy", "dev"]


def test_what_was_interrupted_is_built_anew(set_up, monkeypatch):
    done = []

    def interrupted(stage):
        raise KeyboardInterrupt

    monkeypatch.setattr(set_up, "make_venv", lambda: done.append("venv"))
    monkeypatch.setattr(set_up, "install_packages", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            set_up.build("run")
    assert done == ["venv", "venv"]


class Finished:
    """What `subprocess.run` gives."""

    def __init__(self, code):
        self.returncode, self.stdout = code, "global.index-url='file:///mirror'\nglobal.cert='/certificate'\n"


def test_pip_installs_where_uv_is_missing_or_fails(set_up, monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        return Finished(int(command[0] == str(set_up.UV)))

    monkeypatch.setattr(set_up.subprocess, "run", run)
    set_up.install(Path("some.lock"))
    assert len(commands) == 1
    assert commands[0][1:4] == ["-m", "pip", "install"]
    set_up.UV.touch()
    set_up.install(Path("some.lock"))
    installers = [command[0] for command in commands[1:] if "install" in command]
    assert installers == [str(set_up.UV), str(set_up.PYTHON)]
    assert all("--require-hashes" in command for command in commands if "install" in command)


def test_uv_uses_the_index_that_pip_uses(set_up, monkeypatch):
    monkeypatch.setattr(set_up.subprocess, "run", lambda *_, **__: Finished(0))
    for name in ("PIP_INDEX_URL", "PIP_CERT", "UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    found = set_up.uv_environment()
    assert (found["UV_DEFAULT_INDEX"], found["SSL_CERT_FILE"]) == ("file:///mirror", "/certificate")
    monkeypatch.setenv("PIP_INDEX_URL", "file:///another")
    monkeypatch.setenv("SSL_CERT_FILE", "/own")
    found = set_up.uv_environment()
    assert (found["UV_DEFAULT_INDEX"], found["SSL_CERT_FILE"]) == ("file:///another", "/own")


def test_the_size_is_that_of_the_disk(set_up, tmp_path):
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(bytes(3_000_000))
    assert set_up.megabytes(folder) == pytest.approx(3.0, abs=0.1)


def test_wrong_use(set_up, monkeypatch, capsys):
    monkeypatch.setattr(set_up.sys, "argv", ["set_up.py", "all"])
    assert set_up.main() == 2
    assert "usage: python3 tools/set_up.py" in capsys.readouterr().err
