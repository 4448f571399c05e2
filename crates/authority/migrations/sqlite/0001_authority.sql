-- The authority's own keys, sealed under the key-encryption key, with what is public about them.
CREATE TABLE keys (
    name        TEXT PRIMARY KEY,
    sealed      BLOB NOT NULL,
    public      BLOB NOT NULL CHECK (length(public) = 64),
    certificate BLOB
) STRICT, WITHOUT ROWID;

-- What owner roots delegated to the signing key.
CREATE TABLE delegations (
    root_digest BLOB PRIMARY KEY CHECK (length(root_digest) = 32),
    root_key    BLOB NOT NULL CHECK (length(root_key) = 64),
    certificate BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lots (
    name        TEXT PRIMARY KEY,
    created_at  INTEGER NOT NULL,
    terms       TEXT NOT NULL,
    content_key BLOB NOT NULL,
    quota       INTEGER NOT NULL,
    issued      INTEGER NOT NULL DEFAULT 0,
    revoked     INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    CHECK (issued BETWEEN 0 AND quota)
) STRICT;

CREATE TABLE lot_dies (
    lot     TEXT NOT NULL REFERENCES lots (name),
    chip_id BLOB NOT NULL CHECK (length(chip_id) = 16),
    PRIMARY KEY (lot, chip_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE lot_stations (
    lot         TEXT NOT NULL REFERENCES lots (name),
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    PRIMARY KEY (lot, fingerprint)
) STRICT, WITHOUT ROWID;

-- One for each die, for ever: whatever becomes of it, its place in the quota is taken.
CREATE TABLE installs (
    id          BLOB PRIMARY KEY CHECK (length(id) = 32),
    lot         TEXT NOT NULL REFERENCES lots (name),
    chip_id     BLOB NOT NULL UNIQUE CHECK (length(chip_id) = 16),
    die_key     BLOB NOT NULL UNIQUE CHECK (length(die_key) = 64),
    serial      TEXT NOT NULL UNIQUE,
    state       TEXT NOT NULL CHECK (state IN ('reserved', 'csr', 'closed', 'void')),
    tickets     INTEGER NOT NULL,
    session     BLOB NOT NULL CHECK (length(session) = 32),
    certificate BLOB,
    csr         BLOB,
    release     BLOB,
    reserved_at INTEGER NOT NULL,
    closed_at   INTEGER
) STRICT;
CREATE INDEX installs_of_lot ON installs (lot, state);

-- Every ticket, byte for byte as it was answered.
CREATE TABLE tickets (
    request   BLOB PRIMARY KEY CHECK (length(request) = 32),
    nonce     BLOB NOT NULL UNIQUE CHECK (length(nonce) = 32),
    install   BLOB NOT NULL REFERENCES installs (id),
    stage_key BLOB NOT NULL CHECK (length(stage_key) = 64),
    stage1    BLOB NOT NULL CHECK (length(stage1) = 32),
    ticket    BLOB NOT NULL,
    issued_at INTEGER NOT NULL
) STRICT;

-- Every certificate request, and the receipt as it was answered.
CREATE TABLE receipts (
    message     BLOB PRIMARY KEY CHECK (length(message) = 32),
    install     BLOB NOT NULL REFERENCES installs (id),
    receipt     BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX receipts_of_install ON receipts (install);

-- What happened. Refusals that repeat within an hour are counted, so that nobody fills the disk with them.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    event   TEXT NOT NULL,
    code    INTEGER,
    lot     TEXT,
    chip_id BLOB,
    install BLOB,
    station BLOB,
    detail  TEXT NOT NULL,
    count   INTEGER NOT NULL DEFAULT 1,
    repeats BLOB UNIQUE
) STRICT;
CREATE INDEX audit_of_lot ON audit (lot);
