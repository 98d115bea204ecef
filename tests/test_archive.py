"""What an archive may hold, and that nothing of one that breaks a rule is written outside its folder."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from harness.specs import Unusable
from harness.submission import archive
from harness.submission.archive import Bounds, Refused, unpack

USUAL = Bounds()
SOUND = {"run.py": "print()", "README.md": "It prints."}


def packed(path: Path, members) -> Path:
    """A zip of {name or ZipInfo: text}."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, text)
    return path


def refusal(tmp_path: Path, members, bounds: Bounds = USUAL) -> str:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    source = packed(tmp_path / "submission.zip", members)
    with pytest.raises(Refused) as caught:
        unpack(source, tmp_path / "deep" / "in" / "target", bounds)
    outside = {p for p in tmp_path.rglob("*") if p.is_file() and (tmp_path / "deep/in/target") not in p.parents}
    assert outside == before | {source}
    return str(caught.value)


@pytest.mark.parametrize("top", ["", "mine/", "a folder/"])
def test_run_lies_at_the_root_or_in_the_one_top_directory(tmp_path, top):
    source = packed(tmp_path / "s.zip", {top + name: text for name, text in (SOUND | {"data/x.txt": "x"}).items()})
    root = unpack(source, tmp_path / "target")
    assert (root / "run.py").read_text() == "print()"
    assert (root / "data/x.txt").read_text() == "x"


def test_a_folder_is_taken_as_it_is_without_what_python_left_there(tmp_path):
    folder = tmp_path / "mine"
    (folder / "__pycache__").mkdir(parents=True)
    for name, text in SOUND.items():
        (folder / name).write_text(text)
    (folder / "__pycache__" / "run.pyc").write_text("old")
    root = unpack(folder, tmp_path / "target")
    assert sorted(path.name for path in root.iterdir()) == ["README.md", "run.py"]


@pytest.mark.parametrize(
    "name", ["../../escaped.txt", "/tmp/escaped-lethe.txt", "a/../../../escaped.txt", "..\\..\\escaped.txt", "C:x.txt"]
)
def test_a_path_that_leaves_the_archive_is_refused(tmp_path, name):
    assert "would leave the archive's folder" in refusal(tmp_path, SOUND | {name: "out"})


def test_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("taxonomy.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "is a link or a device" in refusal(tmp_path, [*SOUND.items(), (link, "/etc/passwd")])


def test_a_link_in_a_folder_is_refused(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in SOUND.items():
        (folder / name).write_text(text)
    (folder / "secret").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="'secret' is a link"):
        unpack(folder, tmp_path / "target")


def test_a_bomb_of_two_gigabytes_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in SOUND.items():
            archive.writestr(name, text)
        with archive.open("zeros.bin", "w", force_zip64=True) as file:
            for _ in range(16):
                file.write(bytes(1 << 20))
    size = struct.pack("<L", 2_000_000_000)  # what the list of members says; 16 MiB keep the test short
    path.write_bytes(_with_size(path.read_bytes(), b"zeros.bin", size))
    with pytest.raises(Refused, match="unpacks to 2000000"):
        unpack(path, tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_a_bomb_that_lies_about_its_size_is_stopped_while_it_unpacks(tmp_path):
    path = packed(tmp_path / "bomb.zip", SOUND | {"zeros.bin": "0" * 3_000_000})
    path.write_bytes(_with_size(path.read_bytes(), b"zeros.bin", struct.pack("<L", 10)))
    with pytest.raises(Refused, match=r"'zeros\.bin' "):
        unpack(path, tmp_path / "target", Bounds(unpacked=1_000_000))
    assert sum(p.stat().st_size for p in (tmp_path / "target").rglob("*") if p.is_file()) <= 1_000_000


def _with_size(data: bytes, name: bytes, size: bytes) -> bytes:
    """The archive with another unpacked size of a member in its list of members."""
    at = data.rindex(name) - 46  # a central directory header has 46 bytes before the name
    assert data[at : at + 4] == b"PK\x01\x02"
    return data[: at + 24] + size + data[at + 28 :]


@pytest.mark.parametrize(
    ("members", "bounds", "said"),
    [
        ({"run.py": "x"}, Bounds(), "has no README.md"),
        ({"README.md": "x"}, Bounds(), "has no run.py"),
        ({"a/run.py": "x", "b/README.md": "x"}, Bounds(), "has no run.py"),
        ({"a/b/run.py": "x", "a/b/README.md": "x"}, Bounds(), "has no run.py"),
        (SOUND | {"data/HIDDEN.jsonl": "x"}, Bounds(), "is named as the host's evaluation data"),
        (SOUND | {"RUN.PY": "x"}, Bounds(), "stands twice"),
        (SOUND, Bounds(members=1), "holds 2 files and may hold 1"),
        (SOUND, Bounds(packed=50), "and may have 50"),
    ],
)
def test_other_rules_of_the_archive(tmp_path, members, bounds, said):
    assert said in refusal(tmp_path, members, bounds)


def test_what_is_no_zip_is_refused_and_what_is_not_there_cannot_be_used(tmp_path):
    other = tmp_path / "submission.tar"
    other.write_bytes(io.BytesIO(b"no zip at all").getvalue())
    with pytest.raises(Refused, match="is no zip archive"):
        unpack(other, tmp_path / "one")
    with pytest.raises(Unusable, match="does not exist"):
        unpack(tmp_path / "nothing.zip", tmp_path / "two")


def test_the_name_that_is_written_is_checked_whatever_the_archive_says_first():
    """From Python 3.12 on a member's name is taken out of a second field."""
    member = zipfile.ZipInfo("a.txt")
    member.filename = "../../x.pth"
    with pytest.raises(Refused, match=r"'\.\./\.\./x\.pth' would leave the archive's folder"):
        archive._check_members([member], USUAL)


@pytest.mark.parametrize("where", ["content", "list of members"])
def test_a_damaged_archive_is_refused(tmp_path, where):
    path = packed(tmp_path / "s.zip", SOUND | {"data.txt": "words " * 3000})
    data = bytearray(path.read_bytes())
    at = data.index(b"data.txt") + 12 if where == "content" else data.index(b"PK\x01\x02")
    data[at : at + 4] = b"\xff" * 4
    path.write_bytes(bytes(data))
    with pytest.raises(Refused, match="cannot be unpacked"):
        unpack(path, tmp_path / "target")
