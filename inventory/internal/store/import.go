package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/lab"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// maxImport bounds a file: 256 MiB are several million items.
const maxImport = 256 << 20

// chunk is how many rows of an import are loaded, decided and written at once.
const chunk = 256

// ErrTooLarge refuses a file past the limit of an import.
var ErrTooLarge = fault.New(fault.Invalid, "body_too_large", "The file is larger than 256 MiB. Import it in parts.")

// errPreview takes a transaction back that was only to say what it would do.
var errPreview = fault.New(fault.Conflict, "preview", "This was a preview.")

// Imported counts what an import did.
type Imported struct {
	Rows      int64
	Created   int64
	Changed   int64
	Unchanged int64
}

// Import makes and changes items as a CSV file says (stock.Sheet), all of it or nothing. The errors are
// stock.ErrInvalidCSV with the rows, ErrTooLarge, and those of reading the file, as they are.
//
// The file is spooled first, so that a slow sender holds no transaction, and read twice: once to find what is
// wrong with it, and once inside the one transaction. Memory is constant but for eight bytes a row. Other writes wait
// while the transaction runs.
func (s *Store) Import(ctx context.Context, file io.Reader) (Imported, error) {
	return s.take(ctx, file, false)
}

// Preview says what Import would do, or why it would not, and changes nothing.
func (s *Store) Preview(ctx context.Context, file io.Reader) (Imported, error) {
	return s.take(ctx, file, true)
}

// take does all of an import, and takes it back if it is only a preview.
func (s *Store) take(ctx context.Context, file io.Reader, preview bool) (Imported, error) {
	f, err := s.spoolFile(file)
	if err != nil {
		return Imported{}, fmt.Errorf("spool an import: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := examine(ctx, f); err != nil {
		return Imported{}, fmt.Errorf("examine an import: %w", err)
	}
	var done Imported
	defer s.wake()
	// Not through the batcher: a refusal here would make it run its whole batch again, one by one.
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		done = Imported{}
		if err := s.importRows(ctx, tx, f, &done); err != nil {
			return err
		}
		if preview {
			return errPreview
		}
		if done.Created+done.Changed == 0 {
			return nil
		}
		return trail.Append(ctx, tx, "")
	})
	if errors.Is(err, errPreview) {
		return done, nil
	}
	if err != nil {
		return Imported{}, fmt.Errorf("import: %w", err)
	}
	lab.Point("inventory.imported")
	return done, nil
}

// spoolFile copies the file into the spool directory.
func (s *Store) spoolFile(from io.Reader) (*os.File, error) {
	if err := os.MkdirAll(s.spool, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.spool, spooled)
	if err != nil {
		return nil, full(err)
	}
	n, err := io.Copy(f, io.LimitReader(from, s.maxImport+1))
	if err == nil && n > s.maxImport {
		err = ErrTooLarge
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, full(err)
	}
	return f, nil
}

// full gives a full disk its kind.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fault.New(fault.Unavailable, "disk_full", "The disk is full. Free some space; nothing was imported.").Because(err)
	}
	return err
}

// examine finds everything that is wrong with a file by itself.
func examine(ctx context.Context, f *os.File) error {
	var p stock.Problems
	// A SKU stands for its hash here. Two of a million SKUs share one by a chance of one in 37 million, and the file
	// is then refused; the next attempt has another seed.
	seed := maphash.MakeSeed()
	var seen []uint64
	err := eachRow(ctx, f, &p, func(row stock.Row) error {
		seen = append(seen, maphash.String(seed, row.SKU))
		return nil
	})
	if err != nil {
		return err
	}
	twice := repeated(seen)
	if len(twice) == 0 {
		return p.Err()
	}
	// Once more from the start, so that the problems are in order of row.
	p = stock.Problems{}
	met := make([]bool, len(twice))
	err = eachRow(ctx, f, &p, func(row stock.Row) error {
		i, ok := slices.BinarySearch(twice, maphash.String(seed, row.SKU))
		if ok && met[i] {
			p.Add(row.N, "sku", row.SKU, "the SKU occurs in a row above")
		}
		if ok {
			met[i] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.Err()
}

// repeated sorts all and returns those that occur more than once, each once, in the memory of all.
func repeated(all []uint64) []uint64 {
	slices.Sort(all)
	twice := all[:0]
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] && (len(twice) == 0 || twice[len(twice)-1] != all[i]) {
			twice = append(twice, all[i])
		}
	}
	return twice
}

// eachRow reads a spooled file from its start and calls yield for each good row.
func eachRow(ctx context.Context, f *os.File, p *stock.Problems, yield func(stock.Row) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sheet, err := stock.ReadSheet(f, p)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n%chunk == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		row, ok, err := sheet.Next(p)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case !ok:
			continue
		}
		if err := yield(row); err != nil {
			return err
		}
	}
}

// importRows puts an examined file into the tables, and refuses all of it if rows ask for less than is reserved.
func (s *Store) importRows(ctx context.Context, tx *db.Tx, f *os.File, done *Imported) error {
	// Its rows are in no order, and many: other replicas' batches wait for all of it, instead of for each row. Reservations first, as
	// they are in a batch: chunks may release expired holds.
	for _, table := range []string{"reservations", "stock"} {
		if err := tx.LockTable(table); err != nil {
			return err
		}
	}
	var p stock.Problems
	rows := make([]stock.Row, 0, chunk)
	flush := func() error {
		err := s.importChunk(ctx, tx, rows, &p, done)
		rows = rows[:0]
		return err
	}
	err := eachRow(ctx, f, &p, func(row stock.Row) error {
		rows = append(rows, row)
		if len(rows) < chunk {
			return nil
		}
		return flush()
	})
	if err == nil && len(rows) > 0 {
		err = flush()
	}
	if err != nil {
		return err
	}
	return p.Err()
}

func (s *Store) importChunk(ctx context.Context, tx *db.Tx, rows []stock.Row, p *stock.Problems, done *Imported) error {
	var n needs
	for _, r := range rows {
		n.skus = append(n.skus, r.SKU)
		n.titles = append(n.titles, r.SKU)
	}
	room := stock.NewRoom(s.now())
	if err := load(tx, n, room); err != nil {
		return err
	}
	var events []outbox.Event
	for _, r := range rows {
		did, m := room.Import(r, telemetry.Correlation(ctx), p)
		done.Rows++
		switch did {
		case stock.Created:
			done.Created++
		case stock.Changed:
			done.Changed++
		default:
			done.Unchanged++
		}
		if m.Delta != 0 {
			events = append(events, adjusted(ctx, m))
		}
	}
	if p.Err() != nil {
		return nil // all will be rolled back; the rest is read only for its problems
	}
	if err := s.write(tx, room.Changes()); err != nil {
		return err
	}
	return outbox.Append(tx, events)
}
