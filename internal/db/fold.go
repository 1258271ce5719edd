package db

import "context"

// SQLite folds its log back into the file in the commit that makes it too long: that commit, and all that wait behind it, then take
// as long as writing and syncing some thousand pages does. Here another connection does it beside the writer, and the writer stands
// still only for what it has written meanwhile: after that the log begins anew.
const (
	// foldAfter is after how many commits it is done: so few that little is left for the moment in which the writer stands still,
	// and so many that the syncs of it are no more than one for sixteen of the commits'.
	foldAfter = 32
	// foldPages is from which length on the log is to begin anew: 16 MiB.
	foldPages = 4000
	// foldAlways is the length at which the commit does it all the same, if the folder could not for a while: a reader of an old
	// snapshot, such as an export, keeps what it may still read.
	foldAlways = "16000"
)

// folded counts a commit, and wakes the folder when it is time. It is called by whoever has the gate.
func (d *DB) folded() {
	if d.unfolded++; d.unfolded < foldAfter {
		return
	}
	select {
	case d.fold <- struct{}{}:
		d.unfolded = 0
	default: // it is at it
	}
}

// keepFolding folds the log back until ctx ends.
func (d *DB) keepFolding(ctx context.Context) {
	for {
		select {
		case <-d.fold:
			_ = d.foldBack(ctx) // an error is for the next commit to find out, and to say
		case <-ctx.Done():
			return
		}
	}
}

// foldBack folds back what no reader needs any more. It has its connection before it has the gate: readers may have all of them for long.
func (d *DB) foldBack(ctx context.Context) error {
	conn, err := d.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var busy, pages, done int
	fold := func() error {
		return conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &pages, &done)
	}
	if err := fold(); err != nil || pages < foldPages {
		return err
	}
	select {
	case tx := <-d.gate:
		defer func() { d.gate <- tx }()
		return fold()
	case <-ctx.Done():
		return nil
	}
}
