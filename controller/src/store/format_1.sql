CREATE TABLE edges (
    day INTEGER NOT NULL,
    pod_uid TEXT NOT NULL,
    edge TEXT NOT NULL,
    count INTEGER NOT NULL,
    bytes_to_destination INTEGER NOT NULL,
    bytes_to_source INTEGER NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    sender_uid INTEGER,
    report_id TEXT,
    PRIMARY KEY (day, pod_uid, edge)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    pod_uid TEXT NOT NULL,
    instance TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    heard_ms INTEGER NOT NULL,
    PRIMARY KEY (pod_uid, instance)
) STRICT;

CREATE TABLE losses (
    pod_uid TEXT NOT NULL PRIMARY KEY,
    by_sidecar INTEGER NOT NULL,
    by_controller INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    pod_uid TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER
) STRICT;

CREATE TABLE proposals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    open INTEGER NOT NULL,
    proposal TEXT NOT NULL
) STRICT;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
