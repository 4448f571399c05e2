-- One row for each transaction that changed the books: what it wrote, and a digest over this and all before.
-- The first row says which books these are.
CREATE TABLE chain (
    sequence INTEGER PRIMARY KEY CHECK (sequence >= 0),
    entries  BLOB NOT NULL,
    head     BLOB NOT NULL CHECK (length(head) = 32)
) STRICT;
INSERT INTO chain (sequence, entries, head) VALUES (0, x'', randomblob(32));
