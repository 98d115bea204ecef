"""The embedded default's files: what is in the cache is whole, and what cannot be had is said.

A small wheel of our own is served to the real pip from a directory, so no network is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import assets
from harness.assets import Wheel, publish
from harness.specs import Unusable

ROOT = Path(__file__).resolve().parent.parent
WHEEL = "lethe_fake-1.0-py3-none-any.whl"
MEMBERS = {
    "lethe_fake/data/one.txt": "one",
    "lethe_fake/data/two.txt": "two",
    "lethe_fake/code.py": "raise SystemExit",
    "lethe_fake-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lethe-fake\nVersion: 1.0\n",
    "lethe_fake-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "lethe_fake-1.0.dist-info/RECORD": "",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache directory, and a pip that knows no index but the directory `links`."""
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path) -> Wheel:
    """The wheel that `links` serves."""
    path = tmp_path / "links" / WHEEL
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in MEMBERS.items():
            archive.writestr(name, text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel("lethe-fake", "1.0", digest, path.stat().st_size, ("lethe_fake/data/*",), "MIT")


def changed(wheel: Wheel, **values) -> Wheel:
    return Wheel(**{**vars(wheel), **values})


def files_in(folder: Path) -> set[str]:
    """Relative paths of the files below a folder, without locks."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


def said(call, *arguments) -> str:
    """The error of a call, which must be one line."""
    with pytest.raises(Unusable) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- publish ---------------------------------------------------------------------------------------------------------

PUBLISH = """
import sys
from pathlib import Path
from harness.assets import publish

def build(made):
    (made / "part.txt").write_text("half")
    with open(sys.argv[2], "a") as builds:
        builds.write("built\\n")
    print("building", flush=True)
    sys.stdin.readline()
    (made / "rest.txt").write_text("whole")

print("asking", flush=True)
publish(Path(sys.argv[1]), build)
print("done", flush=True)
"""


def start_publishing(target: Path, builds: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", PUBLISH, str(target), str(builds)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "asking\n"
    return process


def write_both(made: Path) -> None:
    (made / "part.txt").write_text("half")
    (made / "rest.txt").write_text("whole")


def test_a_directory_is_built_once_and_then_found(tmp_path):
    assert publish(tmp_path / "deep" / "target", write_both) == tmp_path / "deep" / "target"
    publish(tmp_path / "deep" / "target", lambda made: pytest.fail("built again"))
    assert files_in(tmp_path / "deep") == {"target/part.txt", "target/rest.txt"}


def test_a_build_that_raises_leaves_nothing(tmp_path):
    def half(made: Path) -> None:
        (made / "part.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "target", half)
    assert files_in(tmp_path) == set()
    assert files_in(publish(tmp_path / "target", write_both)) == {"part.txt", "rest.txt"}


def test_a_build_that_is_killed_is_never_seen_and_the_next_clears_it(tmp_path):
    target = tmp_path / "cache" / "target"
    process = start_publishing(target, tmp_path / "builds")
    assert process.stdout.readline() == "building\n"
    assert not target.exists()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    publish(target, write_both)
    assert files_in(target.parent) == {"target/part.txt", "target/rest.txt"}


def test_processes_that_want_the_same_directory_build_it_once(tmp_path):
    target, builds = tmp_path / "cache" / "target", tmp_path / "builds"
    first = start_publishing(target, builds)
    assert first.stdout.readline() == "building\n"
    others = [start_publishing(target, builds) for _ in range(3)]
    outputs = [process.communicate("\n", timeout=60)[0] for process in (first, *others)]
    assert outputs == ["done\n"] * 4
    assert builds.read_text() == "built\n"
    assert files_in(target) == {"part.txt", "rest.txt"}


def test_too_little_room_is_said_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 2**20))
    sentence = said(publish, tmp_path / "target", lambda made: pytest.fail("built"), 90 * 2**20)
    assert f"the cache '{tmp_path}' has 3 MiB free and needs 90 MiB for target" in sentence
    assert "make room or set LETHE_CACHE to another disk." in sentence
    assert not (tmp_path / "target").exists()


def test_a_cache_directory_that_cannot_be_made_is_said(cache):
    cache.write_text("a file in its place")
    sentence = said(assets.cache_dir)
    assert f"cache directory '{cache}' cannot be made (File exists); set LETHE_CACHE to another." in sentence


def test_a_cache_that_cannot_be_written_is_said(cache, wheel):
    cache.mkdir()
    (cache / "wheels").write_text("a file in its place")
    sentence = said(assets.fetch, wheel)
    assert f"the cache '{cache / 'wheels'}' cannot be written (File exists); set LETHE_CACHE to another." in sentence


def test_a_home_directory_in_lethe_cache_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LETHE_CACHE", "~/mine")
    assert assets.cache_dir() == tmp_path / "mine"


# ---- downloads -------------------------------------------------------------------------------------------------------


def test_a_wheel_gives_the_members_that_are_wanted_and_no_others(cache, wheel):
    folder = assets.fetch(wheel)
    assert folder == cache / "wheels" / wheel.folder
    assert wheel.sha256[:12] in folder.name
    assert files_in(cache) == {f"wheels/{wheel.folder}/lethe_fake/data/{name}.txt" for name in ("one", "two")}
    assert (folder / "lethe_fake/data/two.txt").read_text() == "two"


def test_what_is_cached_needs_no_index(cache, wheel, tmp_path):
    folder = assets.fetch(wheel)
    shutil.rmtree(tmp_path / "links")
    assert assets.fetch(wheel) == folder


def test_a_wrong_hash_names_the_file_and_both_hashes(cache, wheel):
    sentence = said(assets.fetch, changed(wheel, sha256="0" * 64))
    assert f"lethe-fake-1.0 has the hash {wheel.sha256} where {'0' * 64} is pinned" in sentence
    assert "check the package index." in sentence
    assert files_in(cache) == set()


def test_a_wheel_that_was_cut_short_is_not_taken(cache, wheel, tmp_path):
    path = tmp_path / "links" / WHEEL
    path.write_bytes(path.read_bytes()[:-50])
    assert "lethe-fake-1.0 has the hash" in said(assets.fetch, wheel)
    assert files_in(cache) == set()


def test_a_half_file_that_pip_calls_whole_is_not_taken(cache, wheel, monkeypatch):
    def cut_short(command, **options):
        (Path(command[-1]) / WHEEL).write_bytes(b"PK half")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", cut_short)
    got = hashlib.sha256(b"PK half").hexdigest()
    assert f"{WHEEL} has the hash {got} where {wheel.sha256} is pinned" in said(assets.fetch, wheel)
    assert files_in(cache) == set()


def test_an_interrupted_download_starts_again(cache, wheel, monkeypatch):
    def interrupted(command, **options):
        (Path(command[-1]) / WHEEL).write_bytes(b"PK half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            assets.fetch(wheel)
    assert files_in(cache) == set()
    assert len(files_in(assets.fetch(wheel))) == 2


def test_no_network_and_nothing_cached_is_said(cache, wheel, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    sentence = said(assets.fetch, wheel)
    assert f"lethe-fake 1.0 is not in the cache '{cache}' and could not be downloaded (ERROR: No matching" in sentence
    assert (
        "connect this machine to a package index, or copy a filled cache directory here and set LETHE_CACHE."
        in sentence
    )


def test_a_member_that_the_wheel_lacks_is_said(cache, wheel):
    sentence = said(assets.fetch, changed(wheel, members=("lethe_fake/data/one.txt", "lethe_fake/none/*")))
    assert sentence == f"{WHEEL} holds no lethe_fake/none/*; the pin in harness/assets.py is wrong."
    assert files_in(cache) == set()


def test_every_pinned_wheel_has_a_place_of_its_own():
    assert len({wheel.folder for wheel in assets.WHEELS}) == len(assets.WHEELS)
    assert all(len(wheel.sha256) == 64 and wheel.members and wheel.licence for wheel in assets.WHEELS)


# ---- what is embedded ------------------------------------------------------------------------------------------------


def test_embedded_names_are_directories_of_the_project():
    first, *adapters = assets.embedded_names()
    assert first == "base"
    assert adapters
    assert all((assets.embedded(name) / "adapter_config.json").is_file() for name in adapters)


@pytest.mark.parametrize("name", ["nope", "../adapters/chemistry", ""])
def test_an_embedded_name_that_is_unknown_lists_those_that_are(name):
    sentence = said(assets.embedded, name)
    assert f"embedded:{name} does not exist; known are embedded:base, embedded:chemistry" in sentence


def test_a_converted_model_needs_its_wheel_no_longer(cache, monkeypatch):
    monkeypatch.setattr(assets, "fetch", lambda wheel: pytest.fail("fetched"))
    made = cache / "models" / f"smollm2-135m-instruct-{assets.SMOLLM2.sha256[:12]}"
    made.mkdir(parents=True)
    assert assets.embedded("base") == made


UNKNOWN_SETS = [("org/else", None), ("cais/mmlu", "astrology"), ("openai/gsm8k", "socratic")]


@pytest.mark.parametrize(("path", "subset"), UNKNOWN_SETS)
def test_documents_that_are_not_embedded_are_said(tmp_path, monkeypatch, path, subset):
    monkeypatch.setattr(assets, "fetch", lambda wheel: tmp_path)
    named = f"{path}/{subset}" if subset else path
    sentence = said(assets.documents, path, subset)
    assert sentence.startswith(f"data set '{named}' is not embedded; set documents = \"hub\" in the basket")
