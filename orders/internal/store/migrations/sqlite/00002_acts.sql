-- +goose Up

-- What people did by hand: who, when, what and why. Written in the transaction of the change that it tells of.
CREATE TABLE acts (
    id             TEXT   NOT NULL PRIMARY KEY, -- UUIDv7
    at             BIGINT NOT NULL,
    actor          TEXT   NOT NULL CHECK (actor <> ''),
    what           TEXT   NOT NULL CHECK (what <> ''),
    subject        TEXT   NOT NULL, -- the id of the order or the event
    reason         TEXT   NOT NULL,
    correlation_id TEXT   NOT NULL
) WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER acts_are_not_changed BEFORE UPDATE ON acts
BEGIN
    SELECT RAISE(ABORT, 'acts are append-only: they say what was done');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER acts_are_not_deleted BEFORE DELETE ON acts
BEGIN
    SELECT RAISE(ABORT, 'acts are append-only: they say what was done');
END;
-- +goose StatementEnd
