-- +goose Up

-- A program of before may go on running beside this one. It writes no expires_at, so that what it makes does not expire. An expired hold holds for it until one
-- that knows better has released it: it refuses units that could be had, and sells none twice, because the row of stock says what is reserved,
-- and changes together with the hold. If it releases or commits a hold, the trigger below takes it off the list.

-- When a hold expires, in microseconds; NULL for what lives until it is released, as an order's reservation always does.
ALTER TABLE reservations ADD COLUMN expires_at BIGINT;
-- NOT VALID: the rows of before have nothing to look at, and looking would keep everybody waiting.
ALTER TABLE reservations ADD CHECK (expires_at IS NULL OR owner = 'direct') NOT VALID;

-- The lines of live holds that expire, and no others: where expired ones are looked for, by every decision and every read. An order has no row here,
-- and a hold that has ended has none any more. An index over reservations would be as small, but a planner that does not know the time takes
-- a third of them for expired, and reads them all.
CREATE TABLE holds (
    reservation_id TEXT   COLLATE "C" NOT NULL,
    sku            TEXT   COLLATE "C" NOT NULL,
    location       TEXT   COLLATE "C" NOT NULL,
    qty            BIGINT NOT NULL CHECK (qty > 0),
    expires_at     BIGINT NOT NULL,
    PRIMARY KEY (reservation_id, sku, location)
);
CREATE INDEX holds_by_expiry ON holds (expires_at);

-- +goose StatementBegin
CREATE FUNCTION hold_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM holds WHERE reservation_id = NEW.id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER holds_end AFTER UPDATE OF state ON reservations
    FOR EACH ROW WHEN (NEW.expires_at IS NOT NULL AND NEW.state <> 'reserved') EXECUTE FUNCTION hold_ends();
