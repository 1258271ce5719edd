package store

import (
	"context"
	"database/sql"
	"maps"
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
	known := maps.Clone(records)
	var events []outbox.Event
	changed := make(map[string]*payment.Record, len(cmds))
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
		records[c.order], changed[c.order] = r, r
	}
	if err := write(tx, changed, known); err != nil {
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

// updatePayment and updateAttempt change a row by its key, for all that a decision may change of it; the second form of each changes many.
const (
	updatePayment = `UPDATE payments SET status = ?, authorized_minor = ?, captured_minor = ?, voided_minor = ?, refunded_minor = ?,
		decline_code = ?, updated_at = ?, due_at = ? WHERE order_id = ?`
	updatePayments = `WITH v (status, authorized_minor, captured_minor, voided_minor, refunded_minor, decline_code, updated_at, due_at, order_id) AS (VALUES (rows))
		UPDATE payments SET status = v.status, authorized_minor = v.authorized_minor, captured_minor = v.captured_minor, voided_minor = v.voided_minor,
			refunded_minor = v.refunded_minor, decline_code = v.decline_code, updated_at = v.updated_at, due_at = v.due_at
		FROM v WHERE payments.order_id = v.order_id`
	updateAttempt  = `UPDATE attempts SET result = ?, amount_minor = ?, provider_ref = ?, error = ?, ended_at = ? WHERE order_id = ? AND step = ?`
	updateAttempts = `WITH v (result, amount_minor, provider_ref, error, ended_at, order_id, step) AS (VALUES (rows))
		UPDATE attempts SET result = v.result, amount_minor = v.amount_minor, provider_ref = v.provider_ref, error = v.error, ended_at = v.ended_at
		FROM v WHERE attempts.order_id = v.order_id AND attempts.step = v.step`
)

// write puts the changed records into the tables; known are those that were there before, as they were.
func write(tx *db.Tx, changed, known map[string]*payment.Record) error {
	ids := slices.Sorted(maps.Keys(changed))
	added := make([]any, 0, 16*len(ids))
	var moved, begun, ended []any
	for _, id := range ids {
		r, before := changed[id], known[id]
		p := r.Payment
		if before == nil {
			before = payment.NewRecord(id)
			added = append(added, p.Order, p.ID, string(p.Status), p.Amount, p.Currency, p.Authorized, p.Captured, p.Voided, p.Refunded,
				p.Provider, string(p.Token), p.Decline, p.Correlation, micro(p.Created), micro(p.Updated), micro(p.Due))
		} else {
			moved = append(moved, string(p.Status), p.Authorized, p.Captured, p.Voided, p.Refunded, p.Decline, micro(p.Updated), micro(p.Due), p.Order)
		}
		for step, a := range r.Attempts {
			switch was, ok := before.Attempts[step]; {
			case !ok:
				begun = append(begun, p.Order, string(step), string(a.Result), a.Amount, a.Ref, a.Error, micro(a.Started), micro(a.Ended))
			case was != a:
				ended = append(ended, string(a.Result), a.Amount, a.Ref, a.Error, micro(a.Ended), p.Order, string(step))
			}
		}
	}
	// No upsert: another replica may have added the same one since this batch looked for it in vain.
	if err := tx.ExecWide(`INSERT INTO payments (`+paymentColumns+`) VALUES (rows)`, 16, added); err != nil {
		return err
	}
	if err := tx.ExecEach(updatePayment, updatePayments, 9, moved); err != nil {
		return err
	}
	if err := tx.ExecWide(`INSERT INTO attempts (order_id, step, result, amount_minor, provider_ref, error, started_at, ended_at) VALUES (rows)`, 8, begun); err != nil {
		return err
	}
	return tx.ExecEach(updateAttempt, updateAttempts, 7, ended)
}
