"""Item scores on disk: everything else is derived from them.

One SQLite database in WAL mode, shared by workers. A row is keyed by what made it - the digest of the model as it was
run, the digest of the benchmark, the seed and the item - so two different models can never share a row and nothing is
evaluated twice. Rows are committed as batches finish: a killed run loses at most the batch it was in.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.fingerprint import digest_of
from harness.specs import Unusable

SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    model TEXT, benchmark TEXT, seed INTEGER, item TEXT, metrics TEXT, responses TEXT, prompt TEXT, tokens INTEGER,
    seconds REAL, PRIMARY KEY (model, benchmark, seed, item)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True)
class Cell:
    """One replicate of one benchmark on one model, by digests: the unit of work that a worker takes."""

    model: str
    benchmark: str
    seed: int

    @property
    def key(self) -> str:
        return digest_of([self.model, self.benchmark, self.seed])[:24]


@dataclass(frozen=True)
class Score:
    """(model, benchmark, seed, item) -> what came out.

    metrics: name -> value, the deciding one in [0, 1]; responses: texts, or [loglikelihood, is greedy] pairs; prompt:
    digest of the tokens that went in; tokens, seconds: of the item's share of its batch.
    """

    cell: Cell
    item: str
    metrics: dict[str, float]
    responses: list[Any] = field(repr=False)
    prompt: str = ""
    tokens: int = 0
    seconds: float = 0.0


class Store:
    """The database in a directory, for several processes at once; `Unusable` where it cannot be written."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory).expanduser()
        try:
            (self.directory / "locks").mkdir(parents=True, exist_ok=True)
            # SQLite answers a second process that turns WAL on at the same time with "locked", whatever the timeout
            with FileLock(self.directory / "locks" / "open.lock"), self._open() as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(SCHEMA)
        except (OSError, sqlite3.DatabaseError) as error:
            raise Unusable(
                f"store '{directory}' cannot be opened ({error}); name another directory with --store."
            ) from None

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.directory / "scores.sqlite", timeout=120)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            with db:
                yield db
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) in DAMAGED:
                raise Unusable(
                    f"store '{self.directory}' is damaged ({error}); name another directory with --store, or delete"
                    " this one and evaluate again."
                ) from None
            raise
        finally:
            db.close()

    def put(self, scores: Iterable[Score]) -> None:
        """Writes scores in one transaction."""
        rows = [
            (*_key(s.cell), s.item, json.dumps(s.metrics), json.dumps(s.responses), s.prompt, s.tokens, s.seconds)
            for s in scores
        ]
        with self._open() as db:
            db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def get(self, cell: Cell) -> dict[str, Score]:
        """All stored scores of a cell by item id."""
        query = (
            "SELECT item, metrics, responses, prompt, tokens, seconds FROM scores WHERE model = ? AND benchmark = ? AND"
            " seed = ?"
        )
        with self._open() as db:
            rows = db.execute(query, _key(cell)).fetchall()
        return {
            item: Score(cell, item, json.loads(metrics), json.loads(responses), prompt, tokens, seconds)
            for item, metrics, responses, prompt, tokens, seconds in rows
        }

    def items(self, cell: Cell) -> set[str]:
        """Ids of the items a cell has, without reading their scores."""
        query = "SELECT item FROM scores WHERE model = ? AND benchmark = ? AND seed = ?"
        with self._open() as db:
            return {row[0] for row in db.execute(query, _key(cell))}

    def count(self, cells: Sequence[Cell]) -> int:
        """How many scores the cells have together."""
        query = "SELECT COUNT(*) FROM scores WHERE model = ? AND benchmark = ? AND seed = ?"
        with self._open() as db:
            return sum(db.execute(query, _key(cell)).fetchone()[0] for cell in cells)

    @contextlib.contextmanager
    def lock(self, cell: Cell) -> Iterator[None]:
        """Held by the one worker that fills a cell; the operating system frees it when that worker dies."""
        with self._lock(cell.key):
            yield

    @contextlib.contextmanager
    def claim(self, work: Cell | str) -> Iterator[bool]:
        """As `lock`, without waiting: whether this worker is now the one that is at a cell, or at work of that name."""
        lock = self._lock(work.key if isinstance(work, Cell) else work)
        try:
            lock.acquire(timeout=0)
        except OSError:  # another worker holds it (`Timeout`), or no file can be made, which is then said elsewhere
            claimed = False
        else:
            claimed = True
        try:
            yield claimed
        finally:
            if claimed:
                lock.release()

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.directory / "locks" / f"{name}.lock")

    def note(self, key: str) -> Any:
        """A remembered JSON value that is no score, or None."""
        with self._open() as db:
            row = db.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def put_note(self, key: str, value: Any) -> None:
        with self._open() as db:
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))


def _key(cell: Cell) -> tuple[str, str, int]:
    return cell.model, cell.benchmark, cell.seed
