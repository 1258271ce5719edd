package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestHoldersOfAnItemOverREST(t *testing.T) {
	t.Parallel()
	b, pass := setupAt(t)
	b.call("POST", "/v1/stock.csv", "sku,title,on_hand,tracked\nBOOK,A book,50,true\nPEN,A pen,50,true\n").is(200)
	id := func(n int) string { return fmt.Sprintf("0198d0c5-7c11-7b4e-9d3a-%012d", n) }
	order := func(n int, lines string) { b.call("PUT", "/v1/reservations/"+id(n), `{"lines":[`+lines+`]}`).is(200) }
	order(1, `{"sku":"BOOK","qty":2},{"sku":"PEN","qty":1}`)
	order(2, `{"sku":"PEN","qty":3}`)
	order(3, `{"sku":"BOOK","qty":4}`)
	b.call("DELETE", "/v1/reservations/"+id(3), "").is(204)
	b.call("PUT", "/v1/reservations/"+id(4), `{"lines":[{"sku":"BOOK","qty":1}],"expiresIn":60}`).is(200)
	b.call("GET", "/v1/reservations?sku=BOOK", "").is(200).shows(`{"reservations":[{"reservationId":"` + id(4) + `","owner":"direct","qty":1,"reservedAt":"2026-01-31T12:00:00Z","expiresAt":"2026-01-31T12:01:00Z"},
		{"reservationId":"` + id(1) + `","owner":"order","qty":2,"expiresAt":null}],"nextCursor":null,"lookedBackTo":"2026-01-31T12:00:00Z"}`)
	pass(time.Minute)
	b.call("GET", "/v1/reservations?sku=BOOK", "").is(200).shows(`{"reservations":[{"reservationId":"` + id(1) + `"}]}`)
	first := b.call("GET", "/v1/reservations?sku=PEN&limit=1", "").is(200).shows(`{"reservations":[{"reservationId":"` + id(2) + `"}]}`)
	b.call("GET", "/v1/reservations?sku=PEN&limit=1&cursor="+first.body["nextCursor"].(string), "").is(200).shows(`{"reservations":[{"reservationId":"` + id(1) + `"}],"nextCursor":null}`)
	b.call("GET", "/v1/reservations?sku=GHOST", "").is(200).shows(`{"reservations":[],"nextCursor":null}`)
	b.call("GET", "/v1/reservations", "").is(400)
}

func TestWhatIsAboutToRunOutOverREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call("PUT", "/v1/reservations/"+uuid.NewString(), `{"lines":[{"sku":"BOOK","qty":2}]}`).is(200)
	b.call("GET", "/v1/stock?availableAtMost=2", "").is(200).shows(`{"items":[{"sku":"PEN","available":0}],"nextCursor":null}`)
	b.call("GET", "/v1/stock?availableAtMost=3", "").is(200).shows(`{"items":[{"sku":"BOOK","available":3},{"sku":"PEN","available":0}]}`)
	page := b.call("GET", "/v1/stock?availableAtMost=3&limit=1", "").is(200).shows(`{"items":[{"sku":"BOOK"}]}`)
	b.call("GET", "/v1/stock?availableAtMost=3&limit=1&cursor="+page.body["nextCursor"].(string), "").is(200).shows(`{"items":[{"sku":"PEN"}],"nextCursor":null}`)
	b.call("GET", "/v1/stock?availableAtMost=-1", "").is(400)
}

func TestAPreviewOfAnImportChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const sheet = "sku,title,on_hand,tracked\nBOOK,A book,9,true\nNEW,New,1,true\nGIFT,A gift,0,false\n"
	before := b.call("GET", "/v1/stock.csv", "").is(200).raw
	for range 2 {
		b.call("POST", "/v1/stock.csv?dryRun=true&actor=ann", sheet, "Content-Type", "text/csv").is(200).shows(`{"rows":3,"created":1,"changed":1,"unchanged":1}`)
	}
	b.call("POST", "/v1/stock.csv?dryRun=true", "sku,title,on_hand,tracked\nBOOK,A book,many,true\n", "Content-Type", "text/csv").is(422, "invalid_csv").shows(`{"items":[{"row":2}]}`)
	if after := b.call("GET", "/v1/stock.csv", "").is(200).raw; after != before {
		t.Errorf("the preview changed\n%s to\n%s", before, after)
	}
	b.call("POST", "/v1/stock.csv?dryRun=false", sheet, "Content-Type", "text/csv").is(200).shows(`{"rows":3,"created":1,"changed":1,"unchanged":1}`)
	b.call("GET", "/v1/stock/NEW", "").is(200).shows(`{"onHand":1}`)
}

func TestWhatPeopleDoToStockIsInTheTrail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call("POST", "/v1/stock/BOOK/adjustments?actor=ann", `{"delta":1,"reason":"found one"}`).is(200)
	b.call("POST", "/v1/stock/BOOK/adjustments?actor=ann", `{"onHand":7,"expectedOnHand":1,"reason":"counted"}`).is(409, "stale_stock")
	b.call("POST", "/v1/stock/BOOK/adjustments", `{"delta":1,"reason":"by a program"}`).is(200)
	for range 2 { // the repeat does nothing more
		b.call("POST", "/v1/stock/PEN/adjustments?actor=ann", `{"delta":1,"reason":"under a key"}`, "Idempotency-Key", "k").is(200)
	}
	for range 2 { // the second changes nothing
		b.call("POST", "/v1/stock.csv?actor=bob&reason=delivery", "sku,title,on_hand,tracked\nNEW,New,1,true\n", "Content-Type", "text/csv").is(200)
	}
	acts, err := b.acts()
	want := "[ann adjust_stock BOOK found one] [ann adjust_stock PEN under a key] [bob import_stock  delivery]"
	if err != nil || acts != want {
		t.Errorf("%v\n%s, want\n%s", err, acts, want)
	}
}

// acts are those of the trail, in its order.
func (b *bundle) acts() (string, error) {
	rows, err := b.store.DB().Query(b.t.Context(), `SELECT actor, what, subject, reason FROM acts ORDER BY id`)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var actor, what, subject, reason string
		if err := rows.Scan(&actor, &what, &subject, &reason); err != nil {
			return "", err
		}
		all = append(all, fmt.Sprintf("[%s %s %s %s]", actor, what, subject, reason))
	}
	return strings.Join(all, " "), rows.Err()
}

// shows is has, with no look at what nested fields there are besides.
func (a answer) shows(fields string) answer {
	a.t.Helper()
	var want any
	if err := json.Unmarshal([]byte(fields), &want); err != nil {
		a.t.Fatal(err)
	}
	if !part(want, a.body) {
		a.t.Errorf("%s has no %s", a.raw, fields)
	}
	return a
}

// part reports whether all that is in want is in got. Lists are as long as each other.
func part(want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		for name, v := range want {
			ok = ok && part(v, got[name])
		}
		return ok
	case []any:
		got, ok := got.([]any)
		ok = ok && len(got) == len(want)
		for i := range want {
			ok = ok && part(want[i], got[i])
		}
		return ok
	}
	return want == got
}
