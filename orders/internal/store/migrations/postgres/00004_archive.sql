-- +goose Up

-- The archives that ended orders have gone into, and what of each order stays: enough to say that there was one, and to hold the
-- provider's record against it.
CREATE TABLE archives (
    n  BIGINT NOT NULL PRIMARY KEY,
    id TEXT   NOT NULL UNIQUE, -- as archive.json in its directory has it
    at BIGINT NOT NULL         -- when the first order went there
);
CREATE TABLE archived (
    order_id    TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    state       TEXT   NOT NULL CHECK (state = 'rejected' OR state = 'cancelled' OR state = 'fulfilled' OR state = 'returned'),
    total_minor BIGINT NOT NULL CHECK (total_minor >= 0),
    currency    TEXT   NOT NULL,
    archive     BIGINT NOT NULL REFERENCES archives (n)
);

-- To remove an order, the database would look through all keys for it.
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_order_id_fkey;
