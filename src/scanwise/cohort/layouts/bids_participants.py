"""The people of a BIDS tree: participants.tsv, with a row a participant or a row a session, and tables of sessions.

What was found at one visit is not true of another: a row that names a session is about the images of that session alone.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scanwise.cohort import table_files
from scanwise.cohort.listing import first
from scanwise.errors import DataError
from scanwise.records.names import compose

SESSION_COLUMNS = ("session_id", "session", "ses", "visit_id", "visit")
"""Columns that name the session of a row, the first that is there."""

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Participants:
    """Rows of the tables of a tree.

    Attributes:
        file: participants.tsv.
        columns: of all tables, without those that name participant and session.
        people: row of each participant that is about all its sessions.
        visits: row of each participant and session.
    """

    file: Path
    columns: tuple[str, ...]
    people: Mapping[str, Row]
    visits: Mapping[tuple[str, str], Row]

    @classmethod
    def read(cls, root: Path, sessions: Mapping[str, Collection[str]]) -> Self:
        """Read participants.tsv, and `sub-XX_sessions.tsv` of each participant that has one.

        Args:
            root: of the tree.
            sessions: of each participant, those that images are in.

        Raises:
            DataError: if the table names no participants, or several rows of one cannot be told apart.
        """
        file = root / "participants.tsv"
        table = table_files.read_user_table(file)
        frame = table.columns.fillna("")
        if "participant_id" not in frame:
            raise DataError(f"{file} has no column 'participant_id'; it has {', '.join(map(str, frame))}.")
        rows: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
        for line, row in zip(table.lines, frame.to_dict("records"), strict=True):
            values = {str(name): str(value) for name, value in row.items()}
            rows[_named("sub", values.pop("participant_id"))].append((line, values))
        names = [str(name) for name in frame if name != "participant_id"]
        column = next((name for name in SESSION_COLUMNS if name in names), "")
        people: dict[str, Row] = {}
        visits: dict[tuple[str, str], Row] = {}
        for participant, entries in rows.items():
            rows_by_session = _visits(file, participant, entries, column, sessions.get(participant, ()))
            visits |= {(participant, session): row for session, row in rows_by_session.items()}
            if not rows_by_session:
                people[participant] = entries[0][1]
        for participant, imaged in sessions.items():
            own = _read_sessions(root / participant / f"{participant}_sessions.tsv")
            visits |= {
                (participant, session): {**people.get(participant, {}), **visits.get((participant, session), {}), **row}
                for session, row in own.items()
                if session in imaged
            }
            names += [name for row in own.values() for name in row]
        return cls(file, tuple(dict.fromkeys(name for name in names if name != column)), people, visits)

    def row_of(self, participant: str, session: str) -> Row | str:
        """The row about an image, or why there is none."""
        row = self.visits.get((compose(participant), session)) or self.people.get(compose(participant))
        if row is not None:
            return row
        if not any(named == compose(participant) for named, _ in self.visits):
            return f"its participant has no row in {self.file.name}"
        if not session:
            return f"{self.file.name} has a row a session of its participant, and its path names no session"
        return f"{self.file.name} has no row of its session"


def _visits(
    file: Path, participant: str, entries: list[tuple[int, dict[str, str]]], column: str, imaged: Collection[str]
) -> dict[str, Row]:
    """The rows of a participant by session; nothing where one row is about all."""
    sessions = [_named("ses", row[column]) if column else "" for _, row in entries]
    if len(entries) == 1:
        return {sessions[0]: entries[0][1]} if sessions[0] and sessions[0] in imaged else {}
    if all(row == entries[0][1] for _, row in entries):
        return {}
    if not all(sessions) or len(set(sessions)) < len(sessions):
        differing = [name for name in entries[0][1] if len({row[name] for _, row in entries}) > 1]
        raise DataError(
            f"{file} has {len(entries)} rows of {participant} (lines {first([line for line, _ in entries], 5)}), which differ in "
            f"{first(differing)}. Name the session of each in a column session_id (ses-1, ses-2), or keep one row of each participant."
        )
    return {session: row for session, (_, row) in zip(sessions, entries, strict=True)}


def _read_sessions(file: Path) -> dict[str, Row]:
    """The row of each session in a table of one participant's sessions; nothing where there is no such table."""
    if not file.is_file():
        return {}
    table = table_files.read_user_table(file)
    frame = table.columns.fillna("")
    column = next((name for name in SESSION_COLUMNS if name in frame), "")
    if not column:
        raise DataError(f"{file} has no column 'session_id'; it has {', '.join(map(str, frame))}.")
    rows: dict[str, Row] = {}
    for line, row in zip(table.lines, frame.to_dict("records"), strict=True):
        values = {str(name): str(value) for name, value in row.items()}
        session = _named("ses", values.pop(column))
        if rows.get(session, values) != values:
            raise DataError(f"{file} has two rows of {session}, which differ (the second in line {line}). Keep one.")
        rows[session] = values
    return rows


def _named(kind: str, value: str) -> str:
    """A value with its prefix: sub-01 of 01; nothing of nothing.

    >>> _named("ses", "1"), _named("ses", "ses-1"), _named("ses", "")
    ('ses-1', 'ses-1', '')
    """
    text = compose(value.strip())
    return text if not text or text.startswith(f"{kind}-") else f"{kind}-{text}"
