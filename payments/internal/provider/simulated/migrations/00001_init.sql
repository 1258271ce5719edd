-- +goose Up

-- What the simulated provider did, as a real one would keep it: apart from Payments' own books. Times are microseconds since
-- 1970 UTC, amounts minor units.
CREATE TABLE charges (
    key              TEXT   NOT NULL PRIMARY KEY, -- the caller's; it starts with the order id
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
) WITHOUT ROWID;

-- Each call that asked for money, answered or not: how often it came and when it came first.
CREATE TABLE calls (
    key      TEXT   NOT NULL PRIMARY KEY,
    first_at BIGINT NOT NULL,
    times    BIGINT NOT NULL
) WITHOUT ROWID;
