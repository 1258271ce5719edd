-- +goose Up

-- What a request has left behind is found by its correlation id. Ids that we make are in the order of time, and so the index grows at its end.
CREATE INDEX orders_by_correlation ON orders (correlation_id, id);
