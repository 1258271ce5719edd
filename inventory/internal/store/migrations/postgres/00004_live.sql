-- +goose Up

-- How many reservations are live, which is the sum of n, of each kind of owner: for the figures of the process, which must not count a million rows. A batch
-- writes by how much it changes that. A process has its slot, so that replicas do not wait for each other's commits; n of one slot may be below zero,
-- where another process ends what was reserved by this one. A program of before may go on beside this one, and does not write here: the sum is off by what it did,
-- and nothing but a figure goes by it.
CREATE TABLE live_reservations (
    owner TEXT   COLLATE "C" NOT NULL CHECK (owner IN ('order', 'direct')),
    slot  BIGINT NOT NULL,
    n     BIGINT NOT NULL,
    PRIMARY KEY (owner, slot)
) WITH (fillfactor = 50); -- a row is written anew in each batch, and has room for it on its page

INSERT INTO live_reservations (owner, slot, n)
SELECT owner, 0, count(*) FROM reservations WHERE state = 'reserved' GROUP BY owner;
