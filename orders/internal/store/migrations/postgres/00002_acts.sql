-- +goose Up

-- What people did by hand: who, when, what and why. Written in the transaction of the change that it tells of.
CREATE TABLE acts (
    id             TEXT   COLLATE "C" NOT NULL PRIMARY KEY, -- UUIDv7
    at             BIGINT NOT NULL,
    actor          TEXT   NOT NULL CHECK (actor <> ''),
    what           TEXT   NOT NULL CHECK (what <> ''),
    subject        TEXT   NOT NULL, -- the id of the order or the event
    reason         TEXT   NOT NULL,
    correlation_id TEXT   NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION acts_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'acts are append-only: they say what was done';
END $$;
-- +goose StatementEnd
CREATE TRIGGER acts_are_not_changed BEFORE UPDATE OR DELETE ON acts
    FOR EACH ROW EXECUTE FUNCTION acts_are_append_only();
CREATE TRIGGER acts_are_not_truncated BEFORE TRUNCATE ON acts
    FOR EACH STATEMENT EXECUTE FUNCTION acts_are_append_only();
