"""The tables of the spool."""

VERSION = 1
APPLICATION = 0x48435350
"""By which a spool is told from another program's database: HCSP."""
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE escalations (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    captured_at_ns INTEGER NOT NULL,
    fresh_until_ns INTEGER NOT NULL,
    reason TEXT NOT NULL,
    value REAL NOT NULL,
    size_bytes INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '',
    cause TEXT NOT NULL DEFAULT '',
    ended_at_ns INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX by_end ON escalations (outcome, ended_at_ns);
CREATE INDEX by_density ON escalations (outcome, value / max(size_bytes, 1));
CREATE TABLE crops (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    question BLOB NOT NULL,
    escalation BLOB NOT NULL
);
CREATE TABLE verdicts (id TEXT PRIMARY KEY, verdict BLOB NOT NULL);
"""
