package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
)

// The files of a directory: what names it, its lock, and a directory for each part with what is about the part.
const (
	nameFile    = "archive.json"
	lockFile    = "archive.lock"
	manifest    = "manifest.json" // the part is whole
	outcomeFile = "removed.json"  // the databases are done with it
	version     = 1
)

// Kinds of parts.
const (
	Orders = "orders" // a record of an order is its rows in one context, by table
	Events = "events" // a record of an event is the event, as the feed has it
)

// Dir is an archive's directory.
type Dir struct {
	Path string
	ID   string // a UUID, by which Orders remembers where an order went

	lock *flock.Flock // nil of one that is only read
}

type name struct {
	Version int       `json:"version"`
	Archive string    `json:"archive"`
	Created time.Time `json:"created"`
}

// Open opens a directory to archive into, and makes it if there is none; what is written is readable to its owner alone. It fails if the
// directory has something else in it, or somebody archives into it already.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the archive: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	ours := func(e os.DirEntry) bool { return e.Name() == nameFile || e.Name() == lockFile }
	if len(entries) > 0 && !slices.ContainsFunc(entries, ours) {
		return nil, fmt.Errorf("%s is not empty, and no archive: name another directory, or the one of an archive that is to go on", path)
	}
	d := &Dir{Path: path, lock: flock.New(filepath.Join(path, lockFile), flock.SetPermissions(0o600))}
	ok, err := d.lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", path, err)
	case !ok:
		return nil, fmt.Errorf("somebody archives into %s already: wait until it has ended", path)
	}
	n, err := d.read()
	if errors.Is(err, fs.ErrNotExist) {
		n = name{version, uuid.Must(uuid.NewV7()).String(), time.Now().UTC().Truncate(time.Second)}
		err = writeDocument(filepath.Join(path, nameFile), n)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.ID = n.Archive
	return d, nil
}

// Look opens the directory of an archive to read it.
func Look(path string) (*Dir, error) {
	d := &Dir{Path: path}
	n, err := d.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no archive: it has no %s", path, nameFile)
	}
	d.ID = n.Archive
	return d, err
}

func (d *Dir) read() (n name, err error) {
	if err = readDocument(filepath.Join(d.Path, nameFile), &n); err == nil && n.Version != version {
		err = fmt.Errorf("%s is an archive of version %d, and this program knows version %d: use a newer one", d.Path, n.Version, version)
	}
	return n, err
}

// Close lets others archive into the directory.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Unlock()
}

var partName = regexp.MustCompile(`^part-[0-9]{6,}-(orders|events)$`)

// Parts returns the parts that are whole, oldest first, and the names of those that are not, from which nothing was removed.
func (d *Dir) Parts() (whole []*Part, torn []string, err error) {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !partName.MatchString(e.Name()) {
			continue
		}
		p := &Part{Name: e.Name(), path: filepath.Join(d.Path, e.Name())}
		err := readDocument(filepath.Join(p.path, manifest), &p.Manifest)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			torn = append(torn, e.Name())
			continue
		case err != nil:
			return nil, nil, err
		case p.Archive != d.ID:
			return nil, nil, fmt.Errorf("%s is of the archive %s, and %s is %s: it was moved here", p.path, p.Archive, d.Path, d.ID)
		}
		p.Outcome = &Outcome{}
		if err := readDocument(filepath.Join(p.path, outcomeFile), p.Outcome); errors.Is(err, fs.ErrNotExist) {
			p.Outcome = nil
		} else if err != nil {
			return nil, nil, err
		}
		whole = append(whole, p)
	}
	// Names of more than six digits sort before shorter ones.
	slices.SortFunc(whole, func(a, b *Part) int { return a.Number - b.Number })
	return whole, torn, nil
}

// Discard removes a part that is not whole.
func (d *Dir) Discard(torn string) error { return os.RemoveAll(filepath.Join(d.Path, torn)) }

// writeDocument writes a file that is there whole or not at all, also after a power cut.
func writeDocument(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func readDocument(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}
