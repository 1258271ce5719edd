-- +goose Up
CREATE TABLE items (
    sku        TEXT    NOT NULL PRIMARY KEY CHECK (sku <> ''),
    title      TEXT    NOT NULL,
    tracked    BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL,
    changed_at BIGINT  NOT NULL
) WITHOUT ROWID;

-- unlimited is a copy of NOT items.tracked: a CHECK sees one row of one table.
CREATE TABLE stock (
    sku       TEXT    NOT NULL REFERENCES items (sku),
    location  TEXT    NOT NULL CHECK (location <> ''),
    on_hand   BIGINT  NOT NULL,
    reserved  BIGINT  NOT NULL CHECK (reserved >= 0),
    unlimited BOOLEAN NOT NULL,
    PRIMARY KEY (sku, location),
    CHECK (unlimited OR on_hand - reserved >= 0)
) WITHOUT ROWID;

-- A CHECK compares word by word: for each IN of more than two, SQLite makes a table in memory, at every row that it checks.
CREATE TABLE reservations (
    id             TEXT   NOT NULL PRIMARY KEY,
    owner          TEXT   NOT NULL CHECK (owner IN ('order', 'direct')),
    state          TEXT   NOT NULL CHECK (state = 'reserved' OR state = 'refused' OR state = 'released' OR state = 'committed' OR state = 'returned'),
    refusal        TEXT   NOT NULL DEFAULT '', -- JSON: the shortages of the first answer
    correlation_id TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    changed_at     BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE reservation_lines (
    reservation_id TEXT   NOT NULL,
    sku            TEXT   NOT NULL,
    location       TEXT   NOT NULL,
    qty            BIGINT NOT NULL CHECK (qty > 0),
    PRIMARY KEY (reservation_id, sku, location)
) WITHOUT ROWID;

CREATE TABLE movements (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT   NOT NULL UNIQUE,
    sku            TEXT   NOT NULL REFERENCES items (sku),
    location       TEXT   NOT NULL,
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
CREATE TRIGGER movements_are_not_changed BEFORE UPDATE ON movements
BEGIN
    SELECT RAISE(ABORT, 'movements are append-only: write another movement that puts it right');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER movements_are_not_deleted BEFORE DELETE ON movements
BEGIN
    SELECT RAISE(ABORT, 'movements are append-only: write another movement that puts it right');
END;
-- +goose StatementEnd

CREATE TABLE adjustments (
    key         TEXT   NOT NULL PRIMARY KEY,
    fingerprint TEXT   NOT NULL, -- of the payload; another payload under the key is refused
    outcome     TEXT   NOT NULL, -- JSON: the item after the change, or the refusal
    at          BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE outbox (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    time           BIGINT NOT NULL,
    correlation_id TEXT   NOT NULL,
    causation_id   TEXT   NOT NULL,
    traceparent    TEXT   NOT NULL,
    data           BLOB   NOT NULL,
    position       BIGINT -- the place in the feed; NULL until published
);
CREATE INDEX outbox_waiting ON outbox (seq) WHERE position IS NULL;
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;

CREATE TABLE inbox (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer       TEXT   NOT NULL,
    event_id       TEXT   NOT NULL,
    source         TEXT   NOT NULL,
    type           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    time           BIGINT NOT NULL,
    correlation_id TEXT   NOT NULL,
    causation_id   TEXT   NOT NULL,
    traceparent    TEXT   NOT NULL,
    data           BLOB   NOT NULL,
    state          TEXT   NOT NULL DEFAULT 'waiting' CHECK (state = 'waiting' OR state = 'done' OR state = 'parked'),
    attempts       BIGINT NOT NULL DEFAULT 0,
    next_at        BIGINT NOT NULL DEFAULT 0,
    error          TEXT   NOT NULL DEFAULT '',
    UNIQUE (consumer, event_id)
);
CREATE INDEX inbox_waiting ON inbox (seq) WHERE state <> 'done';
