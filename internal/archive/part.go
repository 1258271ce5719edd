package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Manifest says what is in a part. It is written last: with it the part is whole.
type Manifest struct {
	Archive string    `json:"archive"`
	Number  int       `json:"part"`
	Kind    string    `json:"kind"` // Orders or Events
	Before  time.Time `json:"before"`
	Written time.Time `json:"written"`
	Files   []File    `json:"files"` // one for each context that has records
}

// File is one of a part: records as lines of JSON, compressed by gzip.
type File struct {
	Context string `json:"context"`
	Name    string `json:"name"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`  // of the file
	SHA256  string `json:"sha256"` // of the file
	First   string `json:"first"`  // the ids of its first and last record, which are in order: of orders, or cursors of events
	Last    string `json:"last"`
}

// Outcome says that the databases are done with a part: all its records were removed from them, but for those that are left.
type Outcome struct {
	At   time.Time `json:"at"`
	Left []Left    `json:"left,omitempty"` // what the part has of these is out of date
}

// Part is one that is whole.
type Part struct {
	Name string
	Manifest
	Outcome *Outcome // nil while records may be in the databases too

	path string
}

// Writer writes a part. Use Seal or Abandon at its end.
type Writer struct {
	part  *Part
	files map[string]*writing // by context
}

type writing struct {
	File
	out  *os.File
	buf  *bufio.Writer
	zip  *gzip.Writer
	sum  hash.Hash
	size int64
}

// idNames are the names that records have for what they are about.
var idNames = map[string]string{Orders: "id", Events: "cursor"}

// New begins a part, the next of the directory.
func (d *Dir) New(kind string, before time.Time) (*Writer, error) {
	parts, torn, err := d.Parts()
	if err != nil {
		return nil, err
	}
	for _, name := range torn {
		if err := d.Discard(name); err != nil {
			return nil, err
		}
	}
	n := 1
	if len(parts) > 0 {
		n = parts[len(parts)-1].Number + 1
	}
	p := &Part{Name: fmt.Sprintf("part-%06d-%s", n, kind), Manifest: Manifest{Archive: d.ID, Number: n, Kind: kind, Before: before.UTC()}}
	p.path = filepath.Join(d.Path, p.Name)
	if err := os.Mkdir(p.path, 0o700); err != nil {
		return nil, err
	}
	return &Writer{p, map[string]*writing{}}, nil
}

// Add adds a record of a context, in the order of their ids.
func (w *Writer) Add(context string, line []byte) error {
	id, err := idOf(line, idNames[w.part.Kind])
	if err != nil || id == "" || bytes.IndexByte(line, '\n') >= 0 {
		return fmt.Errorf("%s gave a record that is none: %.100q", context, line)
	}
	f := w.files[context]
	if f == nil {
		if f, err = w.create(context); err != nil {
			return err
		}
		f.First = id
	}
	f.Last = id
	f.Records++
	_, err = f.zip.Write(append(line, '\n'))
	return err
}

func (w *Writer) create(context string) (*writing, error) {
	f := &writing{File: File{Context: context, Name: context + ".jsonl.gz"}, sum: sha256.New()}
	var err error
	if f.out, err = os.OpenFile(filepath.Join(w.part.path, f.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	f.buf = bufio.NewWriterSize(f.out, 64<<10)
	f.zip = gzip.NewWriter(io.MultiWriter(f.buf, f.sum, (*counter)(&f.size)))
	w.files[context] = f
	return f, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// Seal makes the part whole and durable.
func (w *Writer) Seal() (*Part, error) {
	p := w.part
	for _, context := range slices.Sorted(maps.Keys(w.files)) {
		f := w.files[context]
		if err := errors.Join(f.zip.Close(), f.buf.Flush(), f.out.Sync()); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.out.Name(), err)
		}
		if err := f.out.Close(); err != nil {
			return nil, err
		}
		f.Bytes, f.SHA256 = f.size, hex.EncodeToString(f.sum.Sum(nil))
		p.Files = append(p.Files, f.File)
	}
	if err := syncDir(p.path); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(p.path)); err != nil {
		return nil, err
	}
	p.Written = time.Now().UTC().Truncate(time.Second)
	return p, writeDocument(filepath.Join(p.path, manifest), p.Manifest)
}

// Abandon gives up a part that is not sealed, and its room on the disk.
func (w *Writer) Abandon() error {
	var errs []error
	for _, f := range w.files {
		if err := f.out.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.RemoveAll(w.part.path))...)
}

// Each reads the records of a file, and fails unless all of it is as the manifest says. What it has given until then came out of the file.
func (p *Part) Each(f File, yield func(id string, line []byte) error) error {
	in, err := os.Open(filepath.Join(p.path, filepath.Base(f.Name)))
	if err != nil {
		return err
	}
	defer in.Close()
	wrong := func(why error) error { return fmt.Errorf("%s is not as its manifest says: %w", in.Name(), why) }
	sum, size := sha256.New(), counter(0)
	raw := io.TeeReader(in, io.MultiWriter(sum, &size))
	zip, err := gzip.NewReader(raw)
	if err != nil {
		return wrong(err)
	}
	lines := bufio.NewReader(zip)
	n, first, last := int64(0), "", ""
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if err != nil {
			return wrong(err)
		}
		line = line[:len(line)-1]
		id, err := idOf(line, idNames[p.Kind])
		if err != nil {
			return wrong(fmt.Errorf("record %d: %w", n+1, err))
		}
		if n++; n == 1 {
			first = id
		}
		last = id
		if err := yield(id, line); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, raw); err != nil { // what follows what gzip has read
		return wrong(err)
	}
	switch {
	case int64(size) != f.Bytes || hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return wrong(errors.New("its size or its SHA-256 is another"))
	case n != f.Records || first != f.First || last != f.Last:
		return wrong(fmt.Errorf("it has %d records, from %s to %s", n, first, last))
	}
	return nil
}

// Stamps reads all files of the part back, and returns what their records are by context.
func (p *Part) Stamps() (map[string][]Stamp, error) {
	all := map[string][]Stamp{}
	for _, f := range p.Files {
		stamps := make([]Stamp, 0, f.Records)
		err := p.Each(f, func(id string, line []byte) error {
			stamps = append(stamps, Stamp{id, SumOf(line)})
			return nil
		})
		if err != nil {
			return nil, err
		}
		all[f.Context] = stamps
	}
	return all, nil
}

// Done notes that the databases are done with the part.
func (p *Part) Done(left []Left) error {
	o := &Outcome{time.Now().UTC().Truncate(time.Second), left}
	if err := writeDocument(filepath.Join(p.path, outcomeFile), o); err != nil {
		return err
	}
	p.Outcome = o
	return nil
}

// LeftOf reports whether a record of the part is out of date, because its database kept it.
func (p *Part) LeftOf(context, id string) bool {
	return p.Outcome != nil && slices.ContainsFunc(p.Outcome.Left, func(l Left) bool { return l.Context == context && l.ID == id })
}
