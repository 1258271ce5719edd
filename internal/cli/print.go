package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// document prints v as the one JSON document of a command, indented for eyes.
func (s *session) document(v any) error {
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false) // this is no web page
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows in columns. Numbers are set to the right by giving the column's name a leading ">".
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	right := make([]int, len(header)) // the width of a column set to the right, or 0
	names := make([]string, len(header))
	for i, name := range header {
		n, ok := strings.CutPrefix(name, ">")
		names[i] = n
		if !ok {
			continue
		}
		right[i] = len(n)
		for _, r := range rows {
			right[i] = max(right[i], len(r[i]))
		}
	}
	for _, r := range append([][]string{names}, rows...) {
		for i, cell := range r {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprintf(t, "%*s", right[i], cell)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// commas writes a number with its thousands set apart.
func commas(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// pounds writes pence as pounds.
func pounds(pence int64) string {
	return fmt.Sprintf("%s.%02d GBP", commas(pence/100), pence%100)
}

// open opens a file to read, or standard input for "-".
func (s *session) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(s.in), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if i, err := f.Stat(); err == nil && i.IsDir() {
		f.Close()
		return nil, fmt.Errorf("%s is a directory", name)
	}
	return f, nil
}

// create writes a file through write, or standard output for "-". The file is there whole or, after an error, as
// it was before.
func (s *session) create(name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(s.out)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing under this name
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
