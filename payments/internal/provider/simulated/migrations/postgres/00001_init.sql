-- +goose Up

-- The same tables as for SQLite. Keys sort by bytes, as they do there and in Go, whatever the database's language.

-- What the simulated provider did, as a real one would keep it: apart from Payments' own books. Times are microseconds since
-- 1970 UTC, amounts minor units.
CREATE TABLE charges (
    key              TEXT   COLLATE "C" NOT NULL PRIMARY KEY, -- the caller's; it starts with the order id
    state            TEXT   NOT NULL CHECK (state IN ('authorized', 'declined', 'captured', 'voided', 'refunded')),
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
);

-- Calls for money whose script counts them, by key: how often they came, and until when the provider is away for this charge.
CREATE TABLE calls (
    key        TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    times      BIGINT NOT NULL,
    away_until BIGINT NOT NULL
);
