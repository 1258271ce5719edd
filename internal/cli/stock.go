package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	api "github.com/orderkeep/orderkeep/inventory/v1/rest"
)

type stockCmd struct {
	Import stockImportCmd `cmd:"" help:"Import items from CSV: sku,title,on_hand,tracked. All rows or none."`
	Export stockExportCmd `cmd:"" help:"Export all items as CSV."`
	Get    stockGetCmd    `cmd:"" help:"Look up an item."`
	List   stockListCmd   `cmd:"" help:"List items by SKU."`
	Adjust stockAdjustCmd `cmd:"" help:"Change what is on hand."`
}

type stockImportCmd struct {
	File string `arg:"" help:"The file, or - for standard input."`
}

func (c *stockImportCmd) Run(s *session) error {
	f, err := s.open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	cl, err := s.client(1, true)
	if err != nil {
		return err
	}
	got, err := importStock(s, cl, f)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(got)
	}
	fmt.Fprintf(s.out, "%s: %s created, %s changed, %s unchanged\n", plural(got.Rows, "row"), plural(got.Created, "item"), commas(got.Changed), commas(got.Unchanged))
	return nil
}

func importStock(s *session, cl *client, f io.Reader) (*api.ImportResult, error) {
	res, err := cl.stock.ImportStock(s.ctx, api.ImportStockReq{Data: f}, api.ImportStockParams{})
	if err := cl.explain(answer(res, err)); err != nil {
		return nil, err
	}
	return res.(*api.ImportResult), nil
}

type stockExportCmd struct {
	File string `arg:"" optional:"" default:"-" help:"The file, or - for standard output."`
}

// Run does not go through the generated client, which would hold the whole file in memory.
func (c *stockExportCmd) Run(s *session) error {
	cl, err := s.client(1, true)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(s.ctx, http.MethodGet, cl.url+"/v1/stock.csv", nil)
	if err != nil {
		return err
	}
	res, err := cl.http.Do(r)
	if err != nil {
		return cl.explain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return cl.explain(readProblem(res))
	}
	return s.create(c.File, func(w io.Writer) error {
		if _, err := io.Copy(w, res.Body); err != nil {
			return fmt.Errorf("the export broke off: %w", err)
		}
		return nil
	})
}

type stockGetCmd struct {
	SKU string `arg:"" name:"sku" help:"The item. SKUs are case-sensitive."`
}

func (c *stockGetCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	res, err := cl.stock.GetStock(s.ctx, api.GetStockParams{Sku: c.SKU})
	if err := cl.explain(answer(res, err)); err != nil {
		return err
	}
	return s.item(res.(*api.Stock))
}

// item prints one item.
func (s *session) item(i *api.Stock) error {
	if s.json {
		return s.document(i)
	}
	return items(s.out, []api.Stock{*i})
}

func items(w io.Writer, all []api.Stock) error {
	rows := make([][]string, len(all))
	for n, i := range all {
		tracked := "yes"
		if !i.Tracked {
			tracked = "no"
		}
		rows[n] = []string{i.Sku, strconv.FormatInt(i.OnHand, 10), strconv.FormatInt(i.Reserved, 10), strconv.FormatInt(i.Available, 10), tracked, i.Title}
	}
	return table(w, []string{"SKU", ">ON HAND", ">RESERVED", ">AVAILABLE", "TRACKED", "TITLE"}, rows)
}

// page is the flags of every list.
type page struct {
	Limit  int    `default:"100" placeholder:"N" help:"At most so many; 0 for all."`
	Cursor string `placeholder:"CURSOR" help:"Go on after an earlier list: its nextCursor."`
}

// pageSize is the largest page that the contracts give.
const pageSize = 1000

// pages calls next with a cursor and a size, page by page, until there are enough. next returns how many it got and the
// cursor after them, "" at the end. pages returns the cursor to go on with.
func (p page) pages(next func(cursor string, size int32) (int, string, error)) (string, error) {
	left := p.Limit
	if left == 0 {
		left = math.MaxInt
	}
	cursor := p.Cursor
	for left > 0 {
		n, after, err := next(cursor, int32(min(left, pageSize)))
		if err != nil {
			return "", err
		}
		if cursor = after; cursor == "" {
			return "", nil
		}
		left -= n
	}
	return cursor, nil
}

// Validate refuses a limit that means nothing.
func (p page) Validate() error {
	if p.Limit < 0 {
		return errors.New("--limit: must not be negative")
	}
	return nil
}

type stockListCmd struct {
	page
}

func (c *stockListCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	all := api.StockPage{Items: []api.Stock{}}
	more, err := c.pages(func(cursor string, size int32) (int, string, error) {
		p := api.ListStockParams{Limit: api.NewOptInt32(size)}
		if cursor != "" {
			p.Cursor = api.NewOptString(cursor)
		}
		res, err := cl.stock.ListStock(s.ctx, p)
		if err := cl.explain(answer(res, err)); err != nil {
			return 0, "", err
		}
		got := res.(*api.StockPage)
		all.Items = append(all.Items, got.Items...)
		return len(got.Items), got.NextCursor.Value, nil
	})
	if err != nil {
		return err
	}
	if more != "" {
		all.NextCursor = api.NewOptString(more)
	}
	if s.json {
		return s.document(&all)
	}
	if err := items(s.out, all.Items); err != nil {
		return err
	}
	s.more(more)
	return nil
}

// more says how to see the rest of a list.
func (s *session) more(cursor string) {
	if cursor != "" {
		fmt.Fprintf(s.err, "There are more: --cursor %s goes on, --limit 0 lists all.\n", cursor)
	}
}

type stockAdjustCmd struct {
	SKU    string  `arg:"" name:"sku" help:"The item."`
	Delta  *signed `placeholder:"N" help:"Units to add; below 0, to take away."`
	OnHand *int64  `placeholder:"N" help:"Units that are there; with --expect."`
	Expect *int64  `placeholder:"N" help:"Units that you saw on hand; refused as stale_stock if there are others by now."`
	Reason string  `required:"" placeholder:"TEXT" help:"Why, for the movement."`
	Actor  string  `placeholder:"NAME" help:"Who, for the movement."`
	Key    string  `placeholder:"KEY" help:"Idempotency key; the same key never acts twice. Made if absent."`
}

// signed is a number that may be written with its sign as a word of its own: --delta -3.
type signed int64

// Decode implements kong.MapperValue.
func (n *signed) Decode(ctx *kong.DecodeContext) error {
	text := fmt.Sprint(ctx.Scan.Pop().Value)
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	*n = signed(v)
	return nil
}

// Validate checks that one of the two ways was chosen.
func (c *stockAdjustCmd) Validate() error {
	switch {
	case c.Delta != nil && (c.OnHand != nil || c.Expect != nil):
		return errors.New("give --delta, or --on-hand with --expect, not both")
	case c.Delta == nil && c.OnHand == nil:
		return errors.New("give --delta, or --on-hand with --expect")
	case c.Delta == nil && c.Expect == nil:
		return errors.New("--on-hand needs --expect, the units that you saw on hand")
	}
	return nil
}

func (c *stockAdjustCmd) Run(s *session) error {
	cl, err := s.client(1, false)
	if err != nil {
		return err
	}
	req := &api.Adjustment{Reason: c.Reason}
	if c.Delta != nil {
		req.Delta = api.NewOptInt64(int64(*c.Delta))
	} else {
		req.OnHand, req.ExpectedOnHand = api.NewOptInt64(*c.OnHand), api.NewOptInt64(*c.Expect)
	}
	if c.Actor != "" {
		req.Actor = api.NewOptString(c.Actor)
	}
	key := attemptKey(c.Key)
	res, err := cl.stock.AdjustStock(s.ctx, req, api.AdjustStockParams{Sku: c.SKU, IdempotencyKey: api.NewOptString(key)})
	if err := answer(res, err); err != nil {
		return repeatable(cl, err, key)
	}
	return s.item(&res.(*api.StockHeaders).Response)
}

// attemptKey returns the key given, or a new one, so that an attempt whose answer was lost can be repeated.
func attemptKey(given string) string {
	if given != "" {
		return given
	}
	return "cli:" + uuid.Must(uuid.NewV7()).String()
}

// repeatable adds to an error after which it is not known whether the server acted, how to find out.
func repeatable(cl *client, err error, key string) error {
	var p *problem
	said := cl.explain(err)
	if errors.As(err, &p) && p.status < http.StatusInternalServerError || unreached(err) {
		return said
	}
	return fmt.Errorf("%w\nRepeat it with --key %s: the same key never acts twice.", said, key)
}
