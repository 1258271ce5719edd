package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/program"
)

// document prints v as the one JSON document of a command.
func (s *session) document(v any) error { return program.Document(s.out, v) }

// table prints rows in columns. A column whose name begins with ">" is set to the right.
func table(w io.Writer, header []string, rows [][]string) error {
	names := make([]string, len(header))
	right := make([]bool, len(header))
	width := make([]int, len(header))
	for i, name := range header {
		names[i], right[i] = strings.CutPrefix(name, ">")
		width[i] = utf8.RuneCountInString(names[i])
		for _, r := range rows {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	out := bufio.NewWriter(w)
	for _, r := range append([][]string{names}, rows...) {
		var line strings.Builder
		for i, cell := range r {
			if !right[i] {
				cell += strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			}
			fmt.Fprintf(&line, "%*s  ", width[i], cell)
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
	return out.Flush()
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

// plural writes a number of things.
func plural(n int64, thing string) string {
	if n != 1 && n != -1 {
		thing += "s"
	}
	return commas(n) + " " + thing
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
