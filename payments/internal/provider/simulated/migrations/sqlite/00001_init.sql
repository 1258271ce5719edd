-- +goose Up

-- What the simulated provider did, as a real one would keep it: apart from Payments' own books. Times are microseconds since
-- 1970 UTC, amounts minor units. A CHECK compares word by word: for each IN of more than two, SQLite makes a table in memory, at every row
-- that it checks.
CREATE TABLE charges (
    key              TEXT   NOT NULL PRIMARY KEY, -- the caller's; it starts with the order id
    state            TEXT   NOT NULL CHECK (state = 'authorized' OR state = 'declined' OR state = 'captured' OR state = 'voided' OR state = 'refunded'),
    amount_minor     BIGINT NOT NULL CHECK (amount_minor >= 0),
    currency         TEXT   NOT NULL,
    authorized_minor BIGINT NOT NULL CHECK (authorized_minor >= 0 AND authorized_minor <= amount_minor),
    captured_minor   BIGINT NOT NULL CHECK (captured_minor >= 0 AND captured_minor + voided_minor <= authorized_minor),
    voided_minor     BIGINT NOT NULL CHECK (voided_minor >= 0),
    refunded_minor   BIGINT NOT NULL CHECK (refunded_minor >= 0 AND refunded_minor <= captured_minor),
    decline_code     TEXT   NOT NULL,
    ref              TEXT   NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
) WITHOUT ROWID;

-- Calls for money whose script counts them, by key: how often they came, and until when the provider is away for this charge.
CREATE TABLE calls (
    key        TEXT   NOT NULL PRIMARY KEY,
    times      BIGINT NOT NULL,
    away_until BIGINT NOT NULL
) WITHOUT ROWID;
