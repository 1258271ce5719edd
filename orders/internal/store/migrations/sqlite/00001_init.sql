-- +goose Up

-- An order. Times are microseconds since 1970 UTC, 0 for "not yet"; money is in minor units.
CREATE TABLE orders (
    id             TEXT    NOT NULL PRIMARY KEY, -- UUIDv7
    state          TEXT    NOT NULL,
    currency       TEXT    NOT NULL,
    total_minor    BIGINT  NOT NULL CHECK (total_minor >= 0),
    customer       TEXT    NOT NULL,
    provider       TEXT    NOT NULL,
    token          TEXT    NOT NULL,
    payment_id     TEXT    NOT NULL DEFAULT '',
    key            TEXT    NOT NULL, -- the idempotency key, or ''
    correlation_id TEXT    NOT NULL,
    reject_kind    BIGINT  NOT NULL DEFAULT 0,
    reject_code    TEXT    NOT NULL DEFAULT '',
    reject_detail  TEXT    NOT NULL DEFAULT '', -- JSON
    cancel_reason  TEXT    NOT NULL DEFAULT '',
    return_reason  TEXT    NOT NULL DEFAULT '',
    placed_at      BIGINT  NOT NULL,
    reserved_at    BIGINT  NOT NULL DEFAULT 0,
    authorized_at  BIGINT  NOT NULL DEFAULT 0,
    decided_at     BIGINT  NOT NULL DEFAULT 0,
    cancelled_at   BIGINT  NOT NULL DEFAULT 0,
    fulfilled_at   BIGINT  NOT NULL DEFAULT 0,
    returned_at    BIGINT  NOT NULL DEFAULT 0,
    -- What Inventory and Payments answered, and when it happened there.
    units_taken_at BIGINT  NOT NULL DEFAULT 0,
    money_taken_at BIGINT  NOT NULL DEFAULT 0,
    units_back_at  BIGINT  NOT NULL DEFAULT 0,
    money_back_at  BIGINT  NOT NULL DEFAULT 0,
    kept           TEXT    NOT NULL DEFAULT '', -- what an Inventory that cannot give back has taken, such as '2 BOOK-001'
    lease_owner    TEXT    NOT NULL,
    lease_until    BIGINT  NOT NULL,
    attempts       BIGINT  NOT NULL DEFAULT 0,
    CHECK (total_minor = 0 OR currency <> ''),
    -- What an order has in each state; there are no other states.
    CHECK (CASE state
        WHEN 'pending'   THEN reject_code = ''  AND decided_at = 0 AND cancelled_at = 0 AND fulfilled_at = 0 AND returned_at = 0
        WHEN 'confirmed' THEN reject_code = ''  AND decided_at > 0 AND cancelled_at = 0 AND fulfilled_at = 0 AND returned_at = 0
        WHEN 'undoing'   THEN reject_code <> '' AND decided_at = 0 AND cancelled_at = 0 AND fulfilled_at = 0 AND returned_at = 0
        WHEN 'rejected'  THEN reject_code <> '' AND decided_at > 0 AND cancelled_at = 0 AND fulfilled_at = 0 AND returned_at = 0
        WHEN 'cancelled' THEN reject_code = ''  AND decided_at > 0 AND cancelled_at > 0 AND fulfilled_at = 0 AND returned_at = 0
        WHEN 'fulfilled' THEN reject_code = ''  AND decided_at > 0 AND cancelled_at = 0 AND fulfilled_at > 0 AND returned_at = 0
        WHEN 'returned'  THEN reject_code = ''  AND decided_at > 0 AND cancelled_at = 0 AND fulfilled_at > 0 AND returned_at > 0
        ELSE FALSE END)
) WITHOUT ROWID;

-- In the long run most orders are fulfilled: the others are found here, recovery's work and what is to be fulfilled among them.
-- A query that may use it says so with the same state <> 'fulfilled'.
CREATE INDEX orders_not_fulfilled ON orders (state, id) WHERE state <> 'fulfilled';
CREATE INDEX orders_by_customer ON orders (customer, id) WHERE customer <> '';

CREATE TABLE order_lines (
    order_id         TEXT   NOT NULL REFERENCES orders (id),
    n                BIGINT NOT NULL,
    sku              TEXT   NOT NULL CHECK (sku <> ''),
    qty              BIGINT NOT NULL CHECK (qty > 0),
    unit_price_minor BIGINT NOT NULL CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, n)
) WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    key      TEXT NOT NULL PRIMARY KEY,
    payload  BLOB NOT NULL, -- SHA-256 of what was asked for
    order_id TEXT NOT NULL REFERENCES orders (id)
) WITHOUT ROWID;

-- What other contexts said about an order, each event once.
CREATE TABLE notes (
    order_id TEXT   NOT NULL REFERENCES orders (id),
    at       BIGINT NOT NULL,
    event_id TEXT   NOT NULL,
    what     TEXT   NOT NULL,
    detail   TEXT   NOT NULL,
    PRIMARY KEY (order_id, at, event_id)
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
