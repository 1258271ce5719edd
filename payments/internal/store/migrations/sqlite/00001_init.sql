-- +goose Up

-- One order's money. Times are microseconds since 1970 UTC, amounts minor units. A CHECK compares word by word: for each IN of more than two,
-- SQLite makes a table in memory, at every row that it checks.
CREATE TABLE payments (
    order_id         TEXT   NOT NULL PRIMARY KEY,
    payment_id       TEXT   NOT NULL, -- '' if the payment was voided before it was asked for
    status           TEXT   NOT NULL,
    amount_minor     BIGINT NOT NULL CHECK (amount_minor >= 0),
    currency         TEXT   NOT NULL,
    authorized_minor BIGINT NOT NULL CHECK (authorized_minor >= 0),
    captured_minor   BIGINT NOT NULL CHECK (captured_minor >= 0),
    voided_minor     BIGINT NOT NULL CHECK (voided_minor >= 0),
    refunded_minor   BIGINT NOT NULL CHECK (refunded_minor >= 0),
    provider         TEXT   NOT NULL,
    token            TEXT   NOT NULL, -- the provider's; never a card number
    decline_code     TEXT   NOT NULL,
    correlation_id   TEXT   NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    due_at           BIGINT NOT NULL DEFAULT 0, -- when recovery takes up what is under way; 0 if nothing is
    CHECK (authorized_minor <= amount_minor),
    CHECK (captured_minor <= authorized_minor),
    CHECK (voided_minor + captured_minor <= authorized_minor),
    CHECK (refunded_minor <= captured_minor),
    CHECK (payment_id <> '' OR (status = 'voided' AND amount_minor = 0)),
    -- What a payment has in each status; there are no others. Nothing begun is left to nobody, and what has ended holds nothing.
    CHECK (CASE status
        WHEN 'pending'    THEN due_at <= 0
        WHEN 'authorized' THEN due_at <= 0 AND authorized_minor > 0
        WHEN 'declined'   THEN due_at <= 0 AND authorized_minor = voided_minor + refunded_minor
        WHEN 'capturing'  THEN due_at > 0  AND authorized_minor > 0
        WHEN 'captured'   THEN due_at <= 0 AND authorized_minor > 0 AND captured_minor > 0
        WHEN 'voiding'    THEN due_at > 0
        WHEN 'voided'     THEN due_at <= 0 AND authorized_minor = voided_minor + refunded_minor
        WHEN 'refunding'  THEN due_at > 0  AND captured_minor > 0
        WHEN 'refunded'   THEN due_at <= 0 AND authorized_minor = voided_minor + refunded_minor
        ELSE FALSE END)
) WITHOUT ROWID;

CREATE INDEX payments_under_way ON payments (due_at) WHERE due_at > 0;

-- Each operation on an order's money has one attempt, stored before the provider is called.
CREATE TABLE attempts (
    order_id     TEXT   NOT NULL REFERENCES payments (order_id),
    step         TEXT   NOT NULL CHECK (step = 'authorize' OR step = 'capture' OR step = 'void' OR step = 'refund'),
    result       TEXT   NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 0),
    provider_ref TEXT   NOT NULL,
    error        TEXT   NOT NULL,
    started_at   BIGINT NOT NULL,
    ended_at     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (order_id, step),
    CHECK (CASE result
        WHEN 'started'   THEN ended_at <= 0
        WHEN 'unknown'   THEN ended_at <= 0
        WHEN 'succeeded' THEN ended_at > 0
        WHEN 'declined'  THEN ended_at > 0
        ELSE FALSE END)
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
