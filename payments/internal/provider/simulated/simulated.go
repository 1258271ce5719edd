// Package simulated is a payment provider that moves no money and keeps a durable record of what it would have moved.
//
// It behaves as the world does: one key has one outcome for ever, and what a script says goes wrong goes wrong by the
// token (see tokens.go). Its record is a database of its own, so that "charged twice" can be checked against a
// book that Payments does not write. It promises what payment.Provider asks for; it refuses nothing that a real
// provider would take.
package simulated

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/payments/internal/payment"
)

// Name is the provider's name in requests.
const Name = "simulated"

//go:embed migrations
var migrations embed.FS

func schema() db.Schema { return db.Schema{Context: "simulated-provider", Migrations: migrations} }

// Provider implements payment.Provider. It is safe for concurrent use.
type Provider struct {
	db    *db.DB
	batch *db.Batcher[*command]
	now   func() time.Time
}

// Open opens the provider's record at url. now is the clock; nil is time.Now.
func Open(ctx context.Context, url string, now func() time.Time) (*Provider, error) {
	d, err := db.Open(ctx, url, schema())
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now // not the lab's: a provider is somebody else, whose clock does not jump with ours
	}
	return &Provider{db: d, batch: db.NewBatcher(d, apply), now: now}, nil
}

// Close finishes what is queued and closes the record.
func (p *Provider) Close() error {
	p.batch.Close()
	return p.db.Close()
}

// Authorize implements payment.Provider. A script's delay ends early when ctx does, and the money is held all the
// same: a caller that hangs up does not stop a provider.
func (p *Provider) Authorize(ctx context.Context, c payment.Charge) (payment.Outcome, error) {
	s := read(string(c.Token))
	if s.down {
		return payment.Outcome{}, payment.ErrUnavailable
	}
	if s.downFor > 0 || s.lost && !s.acts {
		times, away, err := p.called(ctx, c.Key, s.downFor)
		if err != nil {
			return payment.Outcome{}, err
		}
		if away {
			return payment.Outcome{}, payment.ErrUnavailable
		}
		if s.lost && times == 1 { // the first call never arrives; the repeat does
			return payment.Outcome{}, payment.ErrUnknownOutcome
		}
	}
	o, fresh, err := p.change(ctx, c.Key, func(ch *charge) {
		if ch.state != "" {
			return
		}
		ch.amount, ch.currency = c.Amount, c.Currency
		if s.decline != "" {
			ch.state, ch.decline = declined, s.decline
			return
		}
		ch.state, ch.authorized = authorized, c.Amount
	})
	if err != nil {
		return payment.Outcome{}, err
	}
	if s.lost && s.acts && fresh {
		return payment.Outcome{}, payment.ErrUnknownOutcome
	}
	if s.slow > 0 && fresh {
		t := time.NewTimer(s.slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return payment.Outcome{}, errors.Join(payment.ErrUnknownOutcome, ctx.Err())
		}
	}
	return o, nil
}

// Lookup implements payment.Provider.
func (p *Provider) Lookup(ctx context.Context, key string) (payment.Outcome, error) {
	if err := p.reached(ctx, key); err != nil {
		return payment.Outcome{}, err
	}
	var ch charge
	err := p.db.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+columns+` FROM charges WHERE key = $1`, key)
		if err != nil {
			return err
		}
		defer rows.Close()
		if rows.Next() {
			ch, err = scan(rows)
		}
		return errors.Join(err, rows.Err())
	})
	if err != nil {
		return payment.Outcome{}, errors.Join(payment.ErrUnavailable, err)
	}
	return ch.outcome(), nil
}

// Capture implements payment.Provider.
func (p *Provider) Capture(ctx context.Context, key string) (payment.Outcome, error) {
	if err := p.reached(ctx, key); err != nil {
		return payment.Outcome{}, err
	}
	o, _, err := p.change(ctx, key, func(ch *charge) {
		if ch.state == authorized {
			ch.state, ch.captured = captured, ch.authorized
		}
	})
	return o, err
}

// Void implements payment.Provider.
func (p *Provider) Void(ctx context.Context, key string) (payment.Outcome, error) {
	if err := p.reached(ctx, key); err != nil {
		return payment.Outcome{}, err
	}
	o, _, err := p.change(ctx, key, func(ch *charge) {
		if ch.state == authorized || ch.state == "" {
			ch.state, ch.voided = voided, ch.authorized
		}
	})
	return o, err
}

// Refund implements payment.Provider.
func (p *Provider) Refund(ctx context.Context, key string) (payment.Outcome, error) {
	if err := p.reached(ctx, key); err != nil {
		return payment.Outcome{}, err
	}
	o, _, err := p.change(ctx, key, func(ch *charge) {
		if ch.state == captured {
			ch.state, ch.refunded = refunded, ch.captured
		}
	})
	return o, err
}

// change applies f to the charge, durably, and returns it; fresh says that f made it what it is.
func (p *Provider) change(ctx context.Context, key string, f func(*charge)) (o payment.Outcome, fresh bool, err error) {
	c := &command{key: key, change: f, at: p.now()}
	if err := p.batch.Do(ctx, c); err != nil {
		// The caller does not know what became of it, and asks again.
		return payment.Outcome{}, false, errors.Join(payment.ErrUnknownOutcome, err)
	}
	lab.Point("provider.recorded")
	return c.after.outcome(), c.changed, nil
}

// called notes that a call for money came, says how many there have been of its key, and whether the provider is away: it
// is for downFor after the first of them.
func (p *Provider) called(ctx context.Context, key string, downFor time.Duration) (times int64, away bool, err error) {
	now := p.now()
	var n, until int64 // not the results: after ctx has ended the command may still write them
	err = p.batch.Do(ctx, &command{exec: func(tx *db.Tx) error {
		rows, err := tx.Query(`INSERT INTO calls (key, times, away_until) VALUES ($1, 1, $2)
			ON CONFLICT (key) DO UPDATE SET times = calls.times + 1 RETURNING times, away_until`, key, now.Add(downFor).UnixMicro())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(&n, &until); err != nil {
				return err
			}
		}
		return rows.Err()
	}})
	if err != nil {
		return 0, false, errors.Join(payment.ErrUnavailable, err)
	}
	return n, now.UnixMicro() < until, nil
}

// reached fails with ErrUnavailable while a script keeps the provider away from all calls about a charge.
func (p *Provider) reached(ctx context.Context, key string) error {
	var until int64
	err := p.db.QueryRow(ctx, `SELECT away_until FROM calls WHERE key = $1`, key).Scan(&until)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return errors.Join(payment.ErrUnavailable, err)
	case p.now().UnixMicro() < until:
		return payment.ErrUnavailable
	}
	return nil
}

type state string

const (
	authorized state = "authorized"
	declined   state = "declined"
	captured   state = "captured"
	voided     state = "voided"
	refunded   state = "refunded"
)

// charge is a row; its zero value is a charge never seen.
type charge struct {
	key                                            string
	state                                          state
	amount, authorized, captured, voided, refunded int64
	currency, decline, ref                         string
	created, updated                               int64
}

func (c charge) outcome() payment.Outcome {
	states := map[state]payment.State{
		authorized: payment.StateAuthorized, declined: payment.StateDeclined, captured: payment.StateCaptured,
		voided: payment.StateVoided, refunded: payment.StateRefunded,
	}
	return payment.Outcome{
		State: states[c.state], Authorized: c.authorized, Captured: c.captured, Voided: c.voided, Refunded: c.refunded,
		Decline: c.decline, Ref: c.ref,
	}
}

const columns = `key, state, amount_minor, currency, authorized_minor, captured_minor, voided_minor, refunded_minor,
	decline_code, ref, created_at, updated_at`

func scan(rows *sql.Rows) (charge, error) {
	var c charge
	err := rows.Scan(&c.key, &c.state, &c.amount, &c.currency, &c.authorized, &c.captured, &c.voided, &c.refunded,
		&c.decline, &c.ref, &c.created, &c.updated)
	return c, err
}

type command struct {
	key    string
	change func(*charge)
	at     time.Time
	exec   func(*db.Tx) error

	after   charge
	changed bool
}

func apply(tx *db.Tx, cmds []*command) error {
	var keys []string
	for _, c := range cmds {
		if c.change != nil {
			keys = append(keys, c.key)
		}
	}
	slices.Sort(keys)
	var args []any
	for _, k := range slices.Compact(keys) {
		args = append(args, k)
	}
	charges := map[string]charge{}
	err := tx.QueryWide(`SELECT `+columns+` FROM charges WHERE key IN (list) ORDER BY key FOR UPDATE`, args, func(rows *sql.Rows) error {
		c, err := scan(rows)
		charges[c.key] = c
		return err
	})
	if err != nil {
		return err
	}
	dirty, fresh := map[string]bool{}, map[string]bool{}
	for _, c := range cmds {
		if c.change == nil {
			continue
		}
		c.after = charges[c.key]
		before := c.after
		c.change(&c.after)
		if c.changed = c.after != before; !c.changed {
			continue
		}
		us := c.at.UnixMicro()
		if before.state == "" {
			fresh[c.key] = true
			c.after.key, c.after.created, c.after.ref = c.key, us, "sim_"+uuid.Must(uuid.NewV7()).String()
		}
		c.after.updated = us
		charges[c.key], dirty[c.key] = c.after, true
	}
	var added, changed []any
	for _, k := range slices.Compact(keys) {
		if c := charges[k]; dirty[k] {
			into := &changed
			if fresh[k] {
				into = &added
			}
			*into = append(*into, c.key, string(c.state), c.amount, c.currency, c.authorized, c.captured, c.voided, c.refunded,
				c.decline, c.ref, c.created, c.updated)
		}
	}
	// No upsert: another replica may have added the same one since this batch looked for it in vain.
	if err := tx.ExecWide(`INSERT INTO charges (`+columns+`) VALUES (rows)`, 12, added); err != nil {
		return err
	}
	err = tx.ExecWide(`INSERT INTO charges (`+columns+`) VALUES (rows)
		ON CONFLICT (key) DO UPDATE SET state = excluded.state, amount_minor = excluded.amount_minor, authorized_minor = excluded.authorized_minor,
			captured_minor = excluded.captured_minor, voided_minor = excluded.voided_minor, refunded_minor = excluded.refunded_minor,
			decline_code = excluded.decline_code, updated_at = excluded.updated_at`, 12, changed)
	if err != nil {
		return err
	}
	for _, c := range cmds {
		if c.exec != nil {
			if err := c.exec(tx); err != nil {
				return err
			}
		}
	}
	return nil
}
