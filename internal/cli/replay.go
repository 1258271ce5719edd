package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/cli/sales"
	"github.com/orderkeep/orderkeep/internal/program"
	"github.com/schollz/progressbar/v3"
)

type replayCmd struct {
	File        string  `arg:"" help:"The sales as CSV, gzipped or not; - for standard input."`
	Concurrency int     `default:"8" placeholder:"N" help:"Invoices under way at once; 1 keeps strictly to the order of the file."`
	Rate        float64 `placeholder:"R" help:"At most so many invoices a second."`
}

// maxConcurrency keeps a slip of the finger from opening more connections than a process may.
const maxConcurrency = 1000

// Validate refuses numbers that mean nothing.
func (c *replayCmd) Validate() error {
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		return fmt.Errorf("--concurrency: must be between 1 and %d", maxConcurrency)
	}
	if c.Rate < 0 || math.IsInf(c.Rate, 0) || math.IsNaN(c.Rate) {
		return errors.New("--rate: must not be negative")
	}
	return nil
}

func (c *replayCmd) Run(s *session) error {
	f, err := s.open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	invoices, err := sales.Read(f)
	if err != nil {
		return fmt.Errorf("%s: nothing was sent:\n%w", c.File, err)
	}
	sum, err := s.replay(invoices, c.Concurrency, c.Rate)
	if err != nil {
		return err
	}
	if s.json {
		err = s.document(sum)
	} else {
		sum.print(s.out)
	}
	if err == nil && sum.Failed > 0 {
		err = errShown
	}
	return err
}

// replay runs invoices through the server, concurrency of them at once, with a progress bar if there is somebody to
// see it. The first failures are told on standard error.
func (s *session) replay(invoices []sales.Invoice, concurrency int, perSecond float64) (*summary, error) {
	cl, err := s.client(concurrency, false)
	if err != nil {
		return nil, err
	}
	if err := cl.health(s.ctx); err != nil {
		return nil, cl.explain(err)
	}
	bar := s.bar(len(invoices), "replaying", "invoices")
	r := &replayer{
		till: cl.orders, shelf: cl.stock, explain: cl.explain,
		tell: func(text string) {
			_ = bar.Clear()
			fmt.Fprintln(s.err, "orderkeep:", text)
		},
		done: func() { _ = bar.Add(1) },
	}
	begin := time.Now()
	sum, err := r.run(s.ctx, invoices, concurrency, perSecond)
	_ = bar.Finish()
	if err != nil {
		return nil, fmt.Errorf("%w: the replay stopped half-way; run it again, and what was done is not done twice", err)
	}
	sum.finish(time.Since(begin))
	return sum, nil
}

// bar returns a progress bar on standard error if that is a terminal, and one that shows nothing elsewhere.
// things are what is counted; with none, only how far it is is shown.
func (s *session) bar(n int, what, things string) *progressbar.ProgressBar {
	if !program.Terminal(s.err) {
		return progressbar.DefaultSilent(int64(n))
	}
	var counted []progressbar.Option
	if things != "" {
		counted = []progressbar.Option{progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(things)}
	}
	return progressbar.NewOptions(n, append(counted,
		progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription(what), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth())...)
}

// maxTold bounds the failures told one by one; a broken run has thousands of the same.
const maxTold = 10

// replayer runs invoices through a server. It may be used once.
type replayer struct {
	till    till
	shelf   shelf
	explain func(error) error
	tell    func(string)
	done    func() // after each invoice

	mu   sync.Mutex // guards the rest
	sum  summary
	told int
}

// run hands the invoices out in order to concurrency workers and returns what became of them. Only the end of ctx
// is an error.
func (r *replayer) run(ctx context.Context, invoices []sales.Invoice, concurrency int, perSecond float64) (*summary, error) {
	begin := time.Now()
	work := make(chan *sales.Invoice)
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for v := range work {
				r.add(v, r.invoice(ctx, v))
			}
		})
	}
	for i := range invoices {
		if perSecond > 0 {
			due := begin.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
			_ = sleep(ctx, time.Until(due)) // the end of ctx is seen below
		}
		select {
		case work <- &invoices[i]:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.Sort(r.sum.latencies)
	return &r.sum, nil
}

// add counts what became of an invoice.
func (r *replayer) add(v *sales.Invoice, o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum.add(v, o)
	if o.err != nil && !errors.Is(o.err, context.Canceled) {
		if r.told++; r.told <= maxTold {
			r.tell(fmt.Sprintf("invoice %s failed: %v", v.Number, r.explain(o.err)))
		} else if r.told == maxTold+1 {
			r.tell("more invoices failed; the summary counts them")
		}
	}
	r.done()
}
