package stock

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// Adjustment changes what is on hand at one location: by Delta, or, with Set, to OnHand if it still is Expected.
type Adjustment struct {
	Key           string // the idempotency key, or ""
	SKU           string
	Location      string
	Delta         int64
	Set           bool
	OnHand        int64
	Expected      int64
	Reason        string
	Actor         string
	CorrelationID string
}

// Outcome is the stored answer to an adjustment under a key.
type Outcome struct {
	Fingerprint string
	Item        Item         // after the change
	Refusal     *fault.Error // instead of Item
}

// KeptOutcome is an outcome under its key.
type KeptOutcome struct {
	Key string
	Outcome
}

// Check refuses an adjustment that no state of the stock could make right.
func (a Adjustment) Check() error {
	if a.Key != "" {
		if err := CheckKey(a.Key); err != nil {
			return err
		}
	}
	switch {
	case !a.Set && a.Delta == 0:
		return ErrInvalidAdjustment.Detailf("delta is 0, which changes nothing.").With(fault.Item{Field: "delta"})
	case a.Set && a.OnHand < 0:
		return ErrInvalidAdjustment.Detailf("onHand is %d, and must not be negative.", a.OnHand).With(fault.Item{Field: "onHand"})
	case outside(a.Delta), outside(a.OnHand), outside(a.Expected):
		return ErrOverflow
	}
	for _, t := range []struct {
		field, text string
		min, max    int
	}{{"reason", a.Reason, 1, maxReason}, {"actor", a.Actor, 1, maxActor}} {
		if n := utf8.RuneCountInString(t.text); n < t.min || n > t.max || !utf8.ValidString(t.text) || slices.ContainsFunc([]rune(t.text), unicode.IsControl) {
			return ErrInvalidAdjustment.Detailf("%s is not %d to %d characters of text.", t.field, t.min, t.max).With(fault.Item{Field: t.field})
		}
	}
	return nil
}

// outside reports that n is not a number of units that can be kept.
func outside(n int64) bool { return n < -MaxUnits || n > MaxUnits }

// Fingerprint names the payload: two adjustments with the same one ask for the same change.
func (a Adjustment) Fingerprint() string {
	a.Key, a.CorrelationID = "", ""
	b, err := json.Marshal(a)
	if err != nil {
		return "" // strings, integers and a boolean always marshal
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Adjusted is the answer to an adjustment.
type Adjusted struct {
	Item     Item
	Movement Movement // by this call; Delta is 0 if on hand did not change
	Replayed bool
}

// Adjust changes what is on hand and returns the item after it. Under a key, a repeat gives the first answer, a
// refusal too (as a *fault.Error with Replayed). The errors are ErrNotFound, ErrStale, ErrInsufficient, ErrOverflow
// and, for another payload under the same key, ErrKeyReused.
func (r *Room) Adjust(a Adjustment) (Adjusted, error) {
	if a.Key == "" {
		return r.adjust(a)
	}
	print := a.Fingerprint()
	if prior, ok := r.outcomes[a.Key]; ok {
		switch {
		case prior.Fingerprint != print:
			return Adjusted{}, ErrKeyReused
		case prior.Refusal != nil:
			again := *prior.Refusal
			again.Replayed = true
			return Adjusted{}, &again
		}
		return Adjusted{Item: prior.Item, Replayed: true}, nil
	}
	got, err := r.adjust(a)
	o := Outcome{Fingerprint: print, Item: got.Item}
	if err != nil && !errors.As(err, &o.Refusal) {
		return Adjusted{}, err // not an answer, so not to be repeated
	}
	r.outcomes[a.Key] = &o
	r.changes.Outcomes = append(r.changes.Outcomes, KeptOutcome{a.Key, o})
	return got, err
}

func (r *Room) adjust(a Adjustment) (Adjusted, error) {
	s, ok := r.shelves[a.SKU]
	if !ok {
		return Adjusted{}, ErrNotFound.Detailf("There is no item with the SKU %q.", a.SKU).With(fault.Item{SKU: a.SKU})
	}
	level := s.level(a.Location)
	if level == nil {
		return Adjusted{}, ErrNotFound.Detailf("There is no location %q.", a.Location).With(fault.Item{SKU: a.SKU, Field: "location"})
	}
	delta := a.Delta
	if a.Set {
		if level.OnHand != a.Expected {
			return Adjusted{}, ErrStale.Detailf("On hand of %s is %d by now, not %d. Look at it again and decide anew.", a.SKU, level.OnHand, a.Expected).
				With(fault.Item{SKU: a.SKU, Requested: a.Expected, Available: level.Available(), Field: "expectedOnHand"})
		}
		delta = a.OnHand - level.OnHand
	}
	if outside(level.OnHand + delta) {
		return Adjusted{}, ErrOverflow.Detailf("On hand of %s is %d; with %+d it would pass 2^53 - 1.", a.SKU, level.OnHand, delta)
	}
	if s.item.Tracked && delta < 0 && level.Available()+delta < 0 {
		return Adjusted{}, ErrInsufficient.Detailf("%d units of %s are available, so on hand cannot fall by %d.", level.Available(), a.SKU, -delta).
			With(fault.Item{SKU: a.SKU, Requested: -delta, Available: level.Available()})
	}
	var m Movement
	if delta != 0 {
		m = r.move(s, level, Movement{Delta: delta, Reason: a.Reason, Actor: a.Actor, CorrelationID: a.CorrelationID})
	}
	return Adjusted{Item: s.item.clone(), Movement: m}, nil
}

// clone copies the levels, which later commands of the same batch go on to change.
func (i Item) clone() Item {
	i.Levels = slices.Clone(i.Levels)
	return i
}
