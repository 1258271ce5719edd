package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
	"github.com/orderkeep/orderkeep/payments/internal/provider/simulated"
)

// Inspect opens the records of Payments, and the simulated provider's own, for an audit.
func Inspect(ctx context.Context, url, providerURL string) (audit.Source, error) {
	at, err := db.OpenSnapshot(ctx, url, Schema())
	if err != nil {
		return nil, err
	}
	book, err := simulated.OpenRecord(ctx, providerURL)
	if err != nil {
		return nil, errors.Join(err, at.Close())
	}
	return &source{at, book}, nil
}

type source struct {
	at   *db.Snapshot
	book *simulated.Record
}

func (s *source) Name() string { return "payments" }
func (s *source) Close() error { return errors.Join(s.book.Close(), s.at.Close()) }

// States implements audit.Source.
func (s *source) States() []audit.What {
	return []audit.What{audit.MoneyHeld, audit.MoneyTaken, audit.MoneyBack, audit.ProviderHeld, audit.ProviderTaken, audit.ProviderBack}
}

// Check implements audit.Source: a payment's amounts follow from its attempts, the outbox is drained, nothing is parked.
func (s *source) Check(ctx context.Context) (map[string]int64, []audit.Violation, error) {
	counts := map[string]int64{"authorized": 0, "captured": 0, "declined": 0, "voided": 0, "refunded": 0, "underWay": 0}
	var violations []audit.Violation
	err := s.at.Read(func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT status, count(*) FROM payments GROUP BY status`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var status string
			var n int64
			if err := rows.Scan(&status, &n); err != nil {
				return err
			}
			if _, final := counts[status]; !final {
				status = "underWay"
			}
			counts[status] += n
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if violations, err = wrongAmounts(ctx, tx); err != nil {
			return err
		}
		undelivered, err := outbox.Audit(ctx, tx, counts)
		violations = append(violations, undelivered...)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if counts["providerHolds"], err = s.book.Count(ctx); err != nil {
		return nil, nil, err
	}
	return counts, violations, nil
}

// wrongAmounts finds payments whose amounts are not the sums of what their attempts moved.
func wrongAmounts(ctx context.Context, tx *sql.Tx) ([]audit.Violation, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT p.order_id, p.authorized_minor, p.captured_minor, p.voided_minor, p.refunded_minor,
			coalesce(sum(CASE WHEN a.step = 'authorize' THEN a.amount_minor END), 0) AS authorized,
			coalesce(sum(CASE WHEN a.step = 'capture' THEN a.amount_minor END), 0) AS captured,
			coalesce(sum(CASE WHEN a.step = 'void' THEN a.amount_minor END), 0) AS voided,
			coalesce(sum(CASE WHEN a.step = 'refund' THEN a.amount_minor END), 0) AS refunded
		FROM payments p LEFT JOIN attempts a ON a.order_id = p.order_id
		GROUP BY p.order_id, p.authorized_minor, p.captured_minor, p.voided_minor, p.refunded_minor
		HAVING p.authorized_minor <> coalesce(sum(CASE WHEN a.step = 'authorize' THEN a.amount_minor END), 0)
			OR p.captured_minor <> coalesce(sum(CASE WHEN a.step = 'capture' THEN a.amount_minor END), 0)
			OR p.voided_minor <> coalesce(sum(CASE WHEN a.step = 'void' THEN a.amount_minor END), 0)
			OR p.refunded_minor <> coalesce(sum(CASE WHEN a.step = 'refund' THEN a.amount_minor END), 0)`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var violations []audit.Violation
	for rows.Next() {
		var order string
		var has, sum [4]int64
		if err := rows.Scan(&order, &has[0], &has[1], &has[2], &has[3], &sum[0], &sum[1], &sum[2], &sum[3]); err != nil {
			return nil, err
		}
		violations = append(violations, audit.Violation{Rule: "amounts_follow_from_attempts",
			Detail: fmt.Sprintf("order %s: authorized, captured, voided, refunded %v, by its attempts %v", order, has, sum)})
	}
	return violations, rows.Err()
}

// states are the provider's states in which money was moved.
var states = map[payment.State]audit.What{
	payment.StateAuthorized: audit.ProviderHeld, payment.StateCaptured: audit.ProviderTaken, payment.StateRefunded: audit.ProviderBack,
}

// Claims implements audit.Source. The provider's book is read beside ours in one order of order ids: its keys begin with
// them, and ids all have one length.
func (s *source) Claims(ctx context.Context, yield func(audit.Claim) bool) error {
	return s.at.Read(func(tx *sql.Tx) error { return s.claims(ctx, tx, yield) })
}

func (s *source) claims(ctx context.Context, tx *sql.Tx, yield func(audit.Claim) bool) error {
	rows, err := tx.QueryContext(ctx, `SELECT order_id, payment_id, currency, status, authorized_minor, captured_minor, refunded_minor FROM payments
		WHERE status IN ('authorized', 'capturing', 'captured', 'refunding', 'refunded') ORDER BY order_id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ours audit.Claim
	more := func() bool {
		if !rows.Next() {
			return false
		}
		ours = audit.Claim{}
		var status payment.Status
		var authorized, captured, refunded int64
		if err = rows.Scan(&ours.Order, &ours.Ref, &ours.Currency, &status, &authorized, &captured, &refunded); err != nil {
			return false
		}
		switch status {
		case payment.Captured, payment.Refunding:
			ours.What, ours.Amount = audit.MoneyTaken, captured
		case payment.Refunded:
			ours.What, ours.Amount = audit.MoneyBack, refunded
		default:
			ours.What, ours.Amount = audit.MoneyHeld, authorized
		}
		return true
	}
	have, goOn := more(), true
	charges := s.book.Charges(ctx, func(h simulated.Charge) bool {
		order := strings.TrimSuffix(h.Key, payment.ChargeKey(""))
		for have && goOn && ours.Order <= order {
			goOn = yield(ours)
			have = more()
		}
		goOn = goOn && yield(audit.Claim{Order: order, What: states[h.State], Amount: h.Amount, Currency: h.Currency, Ref: h.Ref})
		return goOn
	})
	for have && goOn && charges == nil {
		goOn = yield(ours)
		have = more()
	}
	return errors.Join(charges, err, rows.Err())
}
