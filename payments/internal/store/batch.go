package store

import (
	"context"
	"database/sql"
	"slices"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

// command is one decision about one order's money, or a write of the outbox, or both in one transaction.
type command struct {
	ctx    context.Context // names the correlation and the cause of the events, and who does it by hand
	order  string
	decide func(*payment.Record) error
	exec   func(*db.Tx) error

	err   error // of decide: the command's answer, and nothing is changed
	moved bool  // decide changed the payment's status
	facts int
}

// apply loads the records of a batch, decides in order of arrival, and writes what changed in sets.
func apply(tx *db.Tx, cmds []*command) error {
	records, err := load(tx, cmds)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(records))
	for id := range records {
		known[id] = true
	}
	var events []outbox.Event
	changed := map[string]bool{}
	for _, c := range cmds {
		c.err, c.moved, c.facts = nil, false, 0
		if c.decide == nil {
			continue
		}
		before := records[c.order]
		if before == nil {
			before = payment.NewRecord(c.order)
		}
		r := before.Clone()
		if c.err = c.decide(r); c.err != nil {
			continue
		}
		if r.Payment.Status == payment.None {
			continue // a decision that found nothing and made nothing
		}
		if before.Payment.Status == payment.None {
			r.Payment.Correlation = telemetry.Correlation(c.ctx)
		}
		for _, f := range r.Facts {
			events = append(events, event(c.ctx, f))
		}
		c.facts, c.moved = len(r.Facts), r.Payment.Status != before.Payment.Status
		records[c.order], changed[c.order] = r, true
	}
	if err := write(tx, records, changed, known); err != nil {
		return err
	}
	if err := outbox.Append(tx, events); err != nil {
		return err
	}
	for _, c := range cmds {
		if c.moved {
			if err := trail.Append(c.ctx, tx, c.order); err != nil {
				return err
			}
		}
		if c.exec != nil && c.err == nil {
			if err := c.exec(tx); err != nil {
				return err
			}
		}
	}
	return nil
}

func load(tx *db.Tx, cmds []*command) (map[string]*payment.Record, error) {
	var ids []string
	for _, c := range cmds {
		if c.decide != nil {
			ids = append(ids, c.order)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	records := make(map[string]*payment.Record, len(ids))
	err := tx.QueryWide(`SELECT `+paymentColumns+` FROM payments WHERE order_id IN (list) ORDER BY order_id FOR UPDATE`, args, func(rows *sql.Rows) error {
		p, err := scanPayment(rows)
		if err != nil {
			return err
		}
		r := payment.NewRecord(p.Order)
		r.Payment = p
		records[p.Order] = r
		return nil
	})
	if err != nil || len(records) == 0 {
		return records, err
	}
	args = args[:0]
	for _, id := range ids {
		if records[id] != nil {
			args = append(args, id)
		}
	}
	err = tx.QueryWide(`SELECT order_id, step, result, amount_minor, provider_ref, error, started_at, ended_at FROM attempts WHERE order_id IN (list)`, args, func(rows *sql.Rows) error {
		var order string
		var a payment.Attempt
		var started, ended int64
		if err := rows.Scan(&order, &a.Step, &a.Result, &a.Amount, &a.Ref, &a.Error, &started, &ended); err != nil {
			return err
		}
		a.Started, a.Ended = fromMicro(started), fromMicro(ended)
		records[order].Attempts[a.Step] = a
		return nil
	})
	return records, err
}

// write puts the changed records into the tables; known are those that were there before.
func write(tx *db.Tx, records map[string]*payment.Record, changed, known map[string]bool) error {
	ids := make([]string, 0, len(changed))
	for id := range changed {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	added := make([]any, 0, 16*len(ids))
	payments := make([]any, 0, 16*len(ids))
	attempts := make([]any, 0, 8*len(ids))
	for _, id := range ids {
		r := records[id]
		p := r.Payment
		into := &payments
		if !known[id] {
			into = &added
		}
		*into = append(*into, p.Order, p.ID, string(p.Status), p.Amount, p.Currency, p.Authorized, p.Captured, p.Voided, p.Refunded,
			p.Provider, string(p.Token), p.Decline, p.Correlation, micro(p.Created), micro(p.Updated), micro(p.Due))
		for _, a := range r.Attempts {
			attempts = append(attempts, p.Order, string(a.Step), string(a.Result), a.Amount, a.Ref, a.Error, micro(a.Started), micro(a.Ended))
		}
	}
	// No upsert: another replica may have added the same one since this batch looked for it in vain.
	if err := tx.ExecWide(`INSERT INTO payments (`+paymentColumns+`) VALUES (rows)`, 16, added); err != nil {
		return err
	}
	err := tx.ExecWide(`INSERT INTO payments (`+paymentColumns+`) VALUES (rows)
		ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, authorized_minor = excluded.authorized_minor,
			captured_minor = excluded.captured_minor, voided_minor = excluded.voided_minor, refunded_minor = excluded.refunded_minor,
			decline_code = excluded.decline_code, updated_at = excluded.updated_at, due_at = excluded.due_at`, 16, payments)
	if err != nil {
		return err
	}
	return tx.ExecWide(`INSERT INTO attempts (order_id, step, result, amount_minor, provider_ref, error, started_at, ended_at) VALUES (rows)
		ON CONFLICT (order_id, step) DO UPDATE SET result = excluded.result, amount_minor = excluded.amount_minor,
			provider_ref = excluded.provider_ref, error = excluded.error, ended_at = excluded.ended_at`, 8, attempts)
}
