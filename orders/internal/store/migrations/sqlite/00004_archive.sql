-- +goose Up

-- The archives that ended orders have gone into, and what of each order stays: enough to say that there was one, and to hold the
-- provider's record against it.
CREATE TABLE archives (
    n  BIGINT NOT NULL PRIMARY KEY,
    id TEXT   NOT NULL UNIQUE, -- as archive.json in its directory has it
    at BIGINT NOT NULL         -- when the first order went there
);
CREATE TABLE archived (
    order_id    TEXT   NOT NULL PRIMARY KEY,
    state       TEXT   NOT NULL CHECK (state = 'rejected' OR state = 'cancelled' OR state = 'fulfilled' OR state = 'returned'),
    total_minor BIGINT NOT NULL CHECK (total_minor >= 0),
    currency    TEXT   NOT NULL,
    archive     BIGINT NOT NULL REFERENCES archives (n)
) WITHOUT ROWID;

-- Without the reference to orders: to remove an order, the database would look through all keys for it.
CREATE TABLE idempotency_keys_new (
    key      TEXT NOT NULL PRIMARY KEY,
    payload  BLOB NOT NULL, -- SHA-256 of what was asked for
    order_id TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO idempotency_keys_new (key, payload, order_id) SELECT key, payload, order_id FROM idempotency_keys ORDER BY key;
DROP TABLE idempotency_keys;
ALTER TABLE idempotency_keys_new RENAME TO idempotency_keys;
