package node

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// lockData makes the data directory and takes the SQLite files, given by database, for this process: different processes may share a
// directory, and no file belongs to two. The locks end with the process, however it ends.
func (c Config) lockData(files map[string]string) (unlock func(), err error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory %s: %w; name one that can be written with --data", c.Data, reason(err))
	}
	var held []*flock.Flock
	unlock = func() {
		for _, l := range held {
			_ = l.Unlock()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l, err := c.lockFile(name, files[name])
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, l)
	}
	return unlock, nil
}

func (c Config) lockFile(name, database string) (*flock.Flock, error) {
	instead := fmt.Sprintf("another directory with --data, or another database with %s", c.db(name).name)
	path := strings.TrimSuffix(database, ".db") + ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of %s: %w; name %s", database, reason(err), instead)
	}
	lock := flock.New(path, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s at %s: %w; name %s", name, path, reason(err), instead)
	}
	if !ok {
		return nil, fmt.Errorf("%s at %s is in use%s, and a file has one process; stop that one, or name %s", name, database, holder(path), instead)
	}
	// The number is for whoever meets the lock; without it the lock holds as well.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return lock, nil
}

func holder(path string) string {
	pid, err := os.ReadFile(path)
	if p := strings.TrimSpace(string(pid)); err == nil && p != "" {
		return " by process " + p
	}
	return ""
}

// reason is the system's word for an error, without the path that the text around it names already.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
