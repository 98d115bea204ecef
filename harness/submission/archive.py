"""A submission as it comes, a zip or a folder -> its files in a folder of ours, or `Refused` with the reason.

Nothing of a zip is written before its list of members has passed, and what is written is counted while it is unpacked,
as the sizes that a zip states are only what it says of itself.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.specs import Unusable

RUN, README = "run.py", "README.md"
CHUNK = 1 << 20


class Refused(Exception):
    """A submission that breaks the rules of the archive: one sentence with the remedy. It is graded as such."""


# what unpacking an archive raises that is damaged, or packed in a way that is not known here
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, OSError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Bounds:
    """What an archive may hold, in bytes and files. evaluation: names of files that only the host may have."""

    packed: int = 20_000_000
    unpacked: int = 200_000_000
    members: int = 2_000
    evaluation: tuple[str, ...] = ("hidden.jsonl",)


def unpack(submission: Path, target: Path, bounds: Bounds = Bounds()) -> Path:
    """Puts the files of a submission under `target`, which is new; returns the folder that holds its run.py.

    Raises `Refused` for an archive that breaks a rule, `Unusable` if `submission` is neither a zip nor a folder.
    """
    target.mkdir(parents=True)
    if submission.is_dir():
        _copy(submission, target, bounds)
    elif submission.is_file():
        _extract(submission, target, bounds)
    else:
        raise Unusable(f"submission '{submission}' does not exist; name a zip file, or a folder with {RUN}.")
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # it is run by a user that owns nothing
    return _root(target)


# ---- a zip -----------------------------------------------------------------------------------------------------------


def _extract(archive: Path, target: Path, bounds: Bounds) -> None:
    if (size := archive.stat().st_size) > bounds.packed:
        raise Refused(f"the archive has {size} bytes and may have {bounds.packed}; leave weights and outputs out.")
    if not zipfile.is_zipfile(archive):
        raise Refused(f"'{archive.name}' is no zip archive; pack {RUN} and {README} as a zip.")
    with _opened(archive) as opened:
        members = opened.infolist()
        _check_members(members, bounds)
        left = bounds.unpacked
        for member in members:
            if not member.is_dir():
                left -= _write(opened, member, target, left)


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except UNREADABLE as error:
        raise Refused(f"'{archive.name}' cannot be unpacked ({error}); pack it anew with deflate.") from None


def _check_members(members: Iterable[zipfile.ZipInfo], bounds: Bounds) -> None:
    members, seen = list(members), set()
    _check_amount(len(members), sum(member.file_size for member in members), bounds)
    for member in members:
        # orig_filename is what the archive says, before zipfile cuts it at a zero byte or turns backslashes; filename
        # is what is written, which from Python 3.12 on another field of the archive may say
        _check_name(member.orig_filename, bounds)
        _check_name(member.filename, bounds)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise Refused(f"'{member.filename}' is a link or a device; put a plain file in its place.")
        if member.flag_bits & 0x1:
            raise Refused(f"'{member.filename}' is encrypted; pack it without a password.")
        if (name := str(PurePosixPath(member.filename)).lower()) in seen:
            raise Refused(f"'{member.filename}' stands twice in the archive; pack it once.")
        seen.add(name)


def _check_amount(files: int, size: int, bounds: Bounds) -> None:
    if files > bounds.members:
        raise Refused(f"the submission holds {files} files and may hold {bounds.members}; leave some out.")
    if size > bounds.unpacked:
        raise Refused(f"the submission unpacks to {size} bytes and may have {bounds.unpacked}; leave large files out.")


def _check_name(name: str, bounds: Bounds) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts or ":" in name or "\0" in name or "\\" in name:
        raise Refused(f"'{name}' would leave the archive's folder; pack files under plain relative names.")
    if parts[-1].lower() in bounds.evaluation:
        raise Refused(f"'{name}' is named as the host's evaluation data; a submission holds none of it.")


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Unpacks a member of at most `left` bytes, and returns how many it has."""
    path = target.joinpath(*PurePosixPath(member.filename).parts)
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, path.open("xb") as file:
            while chunk := source.read(CHUNK):
                written += len(chunk)
                if written > left:
                    raise Refused(f"'{member.filename}' unpacks to more than the archive says; pack it anew.")
                file.write(chunk)
    except UNREADABLE as error:
        raise Refused(f"'{member.filename}' cannot be unpacked ({error}); pack it anew with deflate.") from None
    return written


# ---- a folder --------------------------------------------------------------------------------------------------------


def _copy(folder: Path, target: Path, bounds: Bounds) -> None:
    found = [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts]
    for path in found:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Refused(f"'{path.relative_to(folder)}' is a link or a device; put a plain file in its place.")
        _check_name(path.relative_to(folder).as_posix(), bounds)
    files = [path for path in found if path.is_file()]
    _check_amount(len(files), sum(path.stat().st_size for path in files), bounds)
    for path in files:
        copied = target / path.relative_to(folder)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)


def _root(target: Path) -> Path:
    """The folder with run.py: the archive's own, or its one top directory."""
    tops = [path for path in target.iterdir() if path.name != "__MACOSX"]  # which macOS packs beside the files
    places = [target, *(tops if len(tops) == 1 and tops[0].is_dir() else [])]
    for place in places:
        if (place / RUN).is_file():
            if not (place / README).is_file():
                raise Refused(f"the submission has no {README} beside {RUN}; say in one what it does.")
            return place
    raise Refused(f"the submission has no {RUN} at its root or in its one top directory; put it there.")
