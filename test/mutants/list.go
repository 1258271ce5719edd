package mutants

// oneProcess is the fault lab's short run of one process.
var oneProcess = Catcher{Package: "./test/faults", Run: "TestOneProcess", Seeds: 3}

// crashPoints is its short run of crashes where random kills seldom hit.
var crashPoints = Catcher{Package: "./test/faults", Run: "TestCrashPoints", Seeds: 3}

// All lists the mutants.
var All = []Mutant{
	{
		Name:  "lock removed",
		Wrong: "two replicas of Inventory read the same level, and each sells the last units",
		Edits: []Edit{{"inventory/internal/store/rows.go",
			"WHERE sku IN (list) ORDER BY sku, location FOR UPDATE`",
			"WHERE sku IN (list) ORDER BY sku, location`"}},
		By: Catcher{Package: "./inventory/internal/store", Run: "TestStockIsLinearizable", Seeds: 3, Says: "have no order that explains them"},
	},
	{
		Name:  "key check removed",
		Wrong: "a repeat under one Idempotency-Key is an order of its own: units and money are taken twice",
		Edits: []Edit{
			{"orders/internal/store/batch.go", "if h, ok := keys[o.Key]; ok {", "if h, ok := keys[o.Key]; ok && false {"},
			{"orders/internal/store/batch.go",
				"`INSERT INTO idempotency_keys (key, payload, order_id) VALUES (rows)`",
				"`INSERT INTO idempotency_keys (key, payload, order_id) VALUES (rows) ON CONFLICT (key) DO NOTHING`"},
		},
		By: oneProcess.saying("one_key_one_outcome"),
	},
	{
		Name:  "undo skipped",
		Wrong: "the units of an order whose payment was declined stay reserved for ever",
		Edits: []Edit{{"orders/internal/order/saga.go", `	if o.Kept == "" {
		if err := s.stock.Release`, `	if o.Kept == "" && o.Rejection.Code != codeDeclined {
		if err := s.stock.Release`}},
		By: oneProcess.saying("refused_holds_nothing"),
	},
	{
		Name:  "event before commit",
		Wrong: "an event goes out for a change that is not made afterwards, because another driver was faster or the process dies between the two",
		Edits: []Edit{
			{"orders/internal/store/store.go", `	c := &command{kind: move, order: &next,`, `	if m.To != order.Undoing {
		if err := s.Write(ctx, func(tx *db.Tx) error { return announce(tx, &next) }); err != nil {
			return false, err
		}
		s.Appended()
		lab.Point("orders.moved")
	}
	c := &command{kind: move, order: &next,`},
			{"orders/internal/store/batch.go", `		if c.order.State != order.Undoing {
			*events = append(*events, event(c.order, c.traceParent))
		}
`, ""},
			{"orders/internal/store/batch.go", `func moves(cmds []*command)`, `func announce(tx *db.Tx, o *order.Order) error {
	return outbox.Append(tx, []outbox.Event{event(o, "")})
}

func moves(cmds []*command)`},
		},
		By: oneProcess.saying("events_are_true"),
	},
	{
		Name:  "marked before it is published",
		Wrong: "an event that could not be published, or whose process died, is never published",
		Edits: []Edit{
			{"internal/outbox/relay.go", "	if len(waiting.wanted) > 0 {\n", "	if err := r.mark(ctx, waiting); err != nil {\n		return 0, err\n	}\n	lab.Point(\"relay.marked\")\n	if len(waiting.wanted) > 0 {\n"},
			{"internal/outbox/relay.go", "		lab.Point(\"relay.published\")\n	}\n	if err := r.mark(ctx, waiting); err != nil {\n		return 0, err\n	}\n", "		lab.Point(\"relay.published\")\n	}\n"},
		},
		By: crashPoints.saying("events_arrive"),
	},
	{
		Name:  "acknowledged before it is stored",
		Wrong: "the broker forgets an event that its consumer has not stored yet, and the consumer dies",
		Edits: []Edit{{"internal/broker/nats.go", `		if !in.take(ctx, []outbox.Event{e}) {
			return ignoreClosed(m.Nak())
		}
		if err := m.Ack(); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
`, `		if err := m.DoubleAck(ctx); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
		lab.Point("inbox.stored")
		if !in.take(ctx, []outbox.Event{e}) {
			return nil
		}
`}, {"internal/broker/nats.go", `	"github.com/orderkeep/orderkeep/internal/outbox"
`, `	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/outbox"
`}},
		By: unit("./internal/broker", "TestEventsOfACrashedConsumerComeAgain").saying("201 events are there; 200 events have arrived"),
	},
	{
		Name:  "done before it is handled",
		Wrong: "an event counts as handled whose handler failed or never ran",
		Edits: []Edit{{"internal/outbox/inbox.go", `	if err := guarded(bounded, e, done, handler); err != nil {
		return err
	}
	if !called.Load() {
		return i.write(ctx, func(tx *db.Tx) error { return markDone(tx, seq) })
	}
`, `	if err := i.write(ctx, func(tx *db.Tx) error { return markDone(tx, seq) }); err != nil {
		return err
	}
	lab.Point("inbox.handled")
	done = func(*db.Tx) error { called.Store(true); return nil }
	return guarded(bounded, e, done, handler)
`}, {"internal/outbox/inbox.go", `	var state string
	if err := i.db.QueryRow(ctx, ` + "`SELECT state FROM inbox WHERE seq = $1`" + `, seq).Scan(&state); err != nil {
		return fmt.Errorf("look whether the event is done: %w", err)
	}
	if state == waiting {
		return errNotFinished
	}
	return nil
}
`, "}\n"}},
		By: crashPoints.saying("verify_is_clean"),
	},
	{
		Name:  "expiry only by the sweeper",
		Wrong: "the units of a hold that has expired are refused to buyers until somebody has swept, and for ever if nobody sweeps",
		Edits: []Edit{
			{"inventory/internal/store/rows.go", "if err := addExpired(tx, &n, room.Now()); err != nil {", "if err := error(nil); err != nil {"},
			{"inventory/internal/store/read.go", "FROM holds WHERE expires_at <= $1 GROUP BY", "FROM holds WHERE expires_at <= $1 AND qty < 0 GROUP BY"},
		},
		By: unit("./inventory/internal/store", "TestExpiryIsJudgedWithoutASweeper").saying("at the instant at which it expires"),
	},
	{
		Name:  "void without tombstone",
		Wrong: "a void that comes before the authorization leaves nothing behind, and the late authorization holds money for an order that is off",
		Edits: []Edit{{"payments/internal/payment/decide.go", `	if r.Payment.Status == None {
		r.bury(now)
		return Call{}, nil
	}
	return r.begin(AskVoid`, `	if r.Payment.Status == None {
		return Call{}, nil
	}
	return r.begin(AskVoid`}, {"payments/internal/payment/decide.go", `func answerVoid(s Status) error {
	switch s {
	case Voided,`, `func answerVoid(s Status) error {
	switch s {
	case None, Voided,`}},
		By: unit("./payments/internal/payment", "TestNoOrderOfStepsBreaksAPromise").saying("undo was told that it is done, and the provider has"),
	},
	{
		Name:  "release without tombstone",
		Wrong: "a release that comes before the reservation leaves nothing behind, and the late reservation holds units for an order that is off",
		Edits: []Edit{{"inventory/internal/stock/room.go", `	h, ok := r.reservations[id]
	if !ok {
		h = &held{Reservation: Reservation{ID: id, Owner: ByOrder, CorrelationID: correlation, Created: r.now}}
		r.reservations[id] = h
	}
`, `	h, ok := r.reservations[id]
	if !ok {
		return Reservation{ID: id, Owner: ByOrder, State: Released, CorrelationID: correlation, Created: r.now}, nil
	}
`}},
		By: unit("./inventory/internal/stock", "TestNoOrderOfCommandsBreaksThePromises").saying("answered reserved, and before released"),
	},
	{
		Name:  "taken back before it is recorded",
		Wrong: "units that seem to be of no order go back while the order's driver, who was only slow, confirms it",
		Edits: []Edit{{"orders/internal/order/ahead.go", `	ok, err := s.store.Move(ctx, o, Move{
		To: Undoing, At: now,`, `	err := s.stock.Release(ctx, o.ID, ErrInterrupted.Code)
	op.End(err)
	if err != nil {
		return err
	}
	ok, err := s.store.Move(ctx, o, Move{
		To: Undoing, At: now,`}},
		By: unit("./orders/internal/order", "TestNoOrderOfStepsBreaksAPromise").saying("is confirmed: units held false"),
	},
	{
		Name:  "retry of a call without key",
		Wrong: "a foreign Inventory that knows no keys is asked twice for one line, and holds twice as much",
		Edits: []Edit{{"internal/call/table.go", `Method: "POST /reserve", Timeout: 5 * time.Second, Attempts: 1,`, `Method: "POST /reserve", Timeout: 5 * time.Second, Attempts: 3,`}},
		By:    unit("./internal/call", "TestREST").saying("sends_what_a_foreign_peer_would_do_twice_once"),
	},
	{
		Name:  "answered before it is durable",
		Wrong: "a customer is told of an order that a crash takes away",
		Edits: []Edit{{"internal/db/batch.go", `	err := b.db.Write(context.Background(), func(tx *Tx) error { return b.apply(tx, cmds) })
	if err != nil && len(batch) > 1`, `	run := func(tx *Tx) error {
		err := b.apply(tx, cmds)
		if err == nil {
			for _, w := range batch {
				close(w.done)
				w.done = make(chan struct{})
			}
			time.Sleep(5 * time.Millisecond) // for the test to be quick: the window is there without it
		}
		return err
	}
	err := b.db.Write(context.Background(), run)
	if err != nil && len(batch) > 1`}},
		By: oneProcess.saying("reads_see_it"),
	},
	{
		Name:  "confirmed without its money",
		Wrong: "an order counts as paid whose payment's outcome nobody knows",
		Edits: []Edit{{"orders/internal/order/saga.go", "	return errOutcomeUnknown\n", "	return s.end(ctx, o, Move{To: Confirmed, At: s.now(), ReservedAt: o.ReservedAt, AuthorizedAt: s.now(), PaymentID: a.PaymentID})\n"}},
		By:    oneProcess.saying("money_follows_orders"),
	},
}
