package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// lockData makes the data directory and takes the named databases in it for this process: different processes may share
// the directory, and no file belongs to two. The locks end with the process, however it ends.
func lockData(dir string, names []string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory %s: %w; name one that can be written with --data", dir, reason(err))
	}
	var held []*flock.Flock
	unlock = func() {
		for _, l := range held {
			_ = l.Unlock()
		}
	}
	for _, name := range names {
		l, err := lockFile(dir, name)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, l)
	}
	return unlock, nil
}

func lockFile(dir, name string) (*flock.Flock, error) {
	path := filepath.Join(dir, name+".lock")
	lock := flock.New(path, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s in the data directory %s: %w; name one that can be written with --data", name, dir, reason(err))
	}
	if !ok {
		return nil, fmt.Errorf("%s in the data directory %s is in use%s; stop that process, or name another directory with --data", name, dir, holder(path))
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
