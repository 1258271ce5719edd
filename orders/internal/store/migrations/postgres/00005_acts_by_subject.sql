-- +goose Up

-- What was done to one order, event or SKU: its page asks for it, among as many acts as there have been.
CREATE INDEX acts_by_subject ON acts (subject, id);
