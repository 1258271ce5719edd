-- +goose Up

-- The same tables as for SQLite. Keys sort by bytes, as they do there and in Go, whatever the database's language.
CREATE TABLE items (
    sku        TEXT    COLLATE "C" NOT NULL PRIMARY KEY CHECK (sku <> ''),
    title      TEXT    NOT NULL,
    tracked    BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL,
    changed_at BIGINT  NOT NULL
);

-- unlimited is a copy of NOT items.tracked: a CHECK sees one row of one table.
CREATE TABLE stock (
    sku       TEXT    COLLATE "C" NOT NULL REFERENCES items (sku),
    location  TEXT    COLLATE "C" NOT NULL CHECK (location <> ''),
    on_hand   BIGINT  NOT NULL,
    reserved  BIGINT  NOT NULL CHECK (reserved >= 0),
    unlimited BOOLEAN NOT NULL,
    PRIMARY KEY (sku, location),
    CHECK (unlimited OR on_hand - reserved >= 0)
) WITH (fillfactor = 50); -- a hot row is written anew in each batch, and has room for it on its page

CREATE TABLE reservations (
    id             TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    owner          TEXT   NOT NULL CHECK (owner IN ('order', 'direct')),
    state          TEXT   NOT NULL CHECK (state IN ('reserved', 'refused', 'released', 'committed', 'returned')),
    refusal        TEXT   NOT NULL DEFAULT '', -- JSON: the shortages of the first answer
    correlation_id TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    changed_at     BIGINT NOT NULL
);

CREATE TABLE reservation_lines (
    reservation_id TEXT   COLLATE "C" NOT NULL,
    sku            TEXT   COLLATE "C" NOT NULL,
    location       TEXT   COLLATE "C" NOT NULL,
    qty            BIGINT NOT NULL CHECK (qty > 0),
    PRIMARY KEY (reservation_id, sku, location)
);

CREATE TABLE movements (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT   COLLATE "C" NOT NULL UNIQUE,
    sku            TEXT   COLLATE "C" NOT NULL REFERENCES items (sku),
    location       TEXT   COLLATE "C" NOT NULL,
    delta          BIGINT NOT NULL CHECK (delta <> 0),
    on_hand        BIGINT NOT NULL, -- after it
    reason         TEXT   NOT NULL,
    actor          TEXT   NOT NULL,
    order_id       TEXT   NOT NULL DEFAULT '',
    correlation_id TEXT   NOT NULL DEFAULT '',
    at             BIGINT NOT NULL
);
CREATE INDEX movements_of_sku ON movements (sku, seq);

-- +goose StatementBegin
CREATE FUNCTION movements_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'movements are append-only: write another movement that puts it right';
END $$;
-- +goose StatementEnd
CREATE TRIGGER movements_are_not_changed BEFORE UPDATE OR DELETE ON movements
    FOR EACH ROW EXECUTE FUNCTION movements_are_append_only();
CREATE TRIGGER movements_are_not_truncated BEFORE TRUNCATE ON movements
    FOR EACH STATEMENT EXECUTE FUNCTION movements_are_append_only();

CREATE TABLE adjustments (
    key         TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    fingerprint TEXT   NOT NULL, -- of the payload; another payload under the key is refused
    outcome     TEXT   NOT NULL, -- JSON: the item after the change, or the refusal
    at          BIGINT NOT NULL
);

CREATE TABLE outbox (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    time           BIGINT NOT NULL,
    correlation_id TEXT   NOT NULL,
    causation_id   TEXT   NOT NULL,
    traceparent    TEXT   NOT NULL,
    data           BYTEA  NOT NULL,
    position       BIGINT -- the place in the feed; NULL until published
);
CREATE INDEX outbox_waiting ON outbox (seq) WHERE position IS NULL;
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;

CREATE TABLE inbox (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer       TEXT   NOT NULL,
    event_id       TEXT   NOT NULL,
    source         TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    time           BIGINT NOT NULL,
    correlation_id TEXT   NOT NULL,
    causation_id   TEXT   NOT NULL,
    traceparent    TEXT   NOT NULL,
    data           BYTEA  NOT NULL,
    state          TEXT   NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'parked')),
    attempts       BIGINT NOT NULL DEFAULT 0,
    next_at        BIGINT NOT NULL DEFAULT 0,
    error          TEXT   NOT NULL DEFAULT '',
    UNIQUE (consumer, event_id)
);
CREATE INDEX inbox_waiting ON inbox (seq) WHERE state <> 'done';
