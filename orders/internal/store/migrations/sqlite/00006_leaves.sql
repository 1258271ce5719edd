-- +goose Up

-- The times of which a process may have had units reserved for orders that are not recorded, in microseconds since 1970 UTC.
CREATE TABLE leaves (
    name  TEXT   NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL,
    until BIGINT NOT NULL CHECK (until > since)
) WITHOUT ROWID;
