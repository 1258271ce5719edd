-- +goose Up

-- When a hold expires, in microseconds; NULL for what lives until it is released, as an order's reservation always does.
ALTER TABLE reservations ADD COLUMN expires_at BIGINT CHECK (expires_at IS NULL OR owner = 'direct');

-- The lines of live holds that expire, and no others: where expired ones are looked for, by every decision and every read. An order has no row here,
-- and a hold that has ended has none any more.
CREATE TABLE holds (
    reservation_id TEXT   NOT NULL,
    sku            TEXT   NOT NULL,
    location       TEXT   NOT NULL,
    qty            BIGINT NOT NULL CHECK (qty > 0),
    expires_at     BIGINT NOT NULL,
    PRIMARY KEY (reservation_id, sku, location)
) WITHOUT ROWID;
CREATE INDEX holds_by_expiry ON holds (expires_at);

-- +goose StatementBegin
CREATE TRIGGER holds_end AFTER UPDATE OF state ON reservations WHEN NEW.expires_at IS NOT NULL AND NEW.state <> 'reserved'
BEGIN
    DELETE FROM holds WHERE reservation_id = NEW.id;
END;
-- +goose StatementEnd
