package serve

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/trail"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	"github.com/orderkeep/orderkeep/inventory/internal/store"
	"github.com/orderkeep/orderkeep/inventory/v1/rest"
)

var (
	errTooSlow   = fault.New(fault.Invalid, "request_timeout", "The file did not arrive in time. Send it again, faster or in parts.")
	errBrokenOff = fault.New(fault.Invalid, "invalid_request", "The file broke off before its announced length.")
)

// upload is a file that arrives. A generated server leaves a streamed body's errors to the handler, so they become
// faults here.
type upload struct{ io.Reader }

func (u upload) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	var limit *http.MaxBytesError
	var slow net.Error
	switch {
	case errors.As(err, &limit):
		err = store.ErrTooLarge.Because(err)
	case errors.As(err, &slow) && slow.Timeout():
		err = errTooSlow.Because(err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errBrokenOff.Because(err)
	}
	return n, err
}

// ImportStock implements rest.Handler.
func (h *REST) ImportStock(ctx context.Context, req rest.ImportStockReq, params rest.ImportStockParams) (rest.ImportStockRes, error) {
	ctx = trail.By(ctx, trail.ImportStock, params.Actor.Value, params.Reason.Value)
	take := h.store.Import
	if params.DryRun.Value {
		take = h.store.Preview
	}
	did, err := take(ctx, upload{req})
	if err != nil {
		return nil, err
	}
	return &rest.ImportResult{Rows: did.Rows, Created: did.Created, Changed: did.Changed, Unchanged: did.Unchanged}, nil
}

// ExportStock implements rest.Handler. The file is made while it is sent.
func (h *REST) ExportStock(ctx context.Context) (rest.ExportStockRes, error) {
	if err := h.store.Ready(ctx); err != nil { // once bytes are out, an error can only break the file off
		return nil, err
	}
	from, to := io.Pipe()
	go func() { to.CloseWithError(h.export(ctx, to)) }()
	return &rest.ExportStockOK{Data: file{from}}, nil
}

// file is the export under way. If it breaks off, the connection does: the status has been sent, and a file that ends
// well would be taken for whole.
type file struct{ *io.PipeReader }

func (f file) Read(p []byte) (int, error) {
	n, err := f.PipeReader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		panic(http.ErrAbortHandler) // what net/http asks for to break off an answer
	}
	return n, err
}

func (h *REST) export(ctx context.Context, to io.Writer) error {
	b := bufio.NewWriterSize(to, 32<<10) // one pass through the pipe for some hundred rows
	w := csv.NewWriter(b)
	if err := w.Write([]string{"sku", "title", "on_hand", "reserved", "available", "tracked"}); err != nil {
		return err
	}
	row := make([]string, 6)
	err := h.store.Export(ctx, func(i stock.Item) error {
		row[0], row[1] = i.SKU, i.Title
		row[2], row[3], row[4] = strconv.FormatInt(i.OnHand(), 10), strconv.FormatInt(i.Reserved(), 10), strconv.FormatInt(i.Available(), 10)
		row[5] = strconv.FormatBool(i.Tracked)
		return w.Write(row)
	})
	if err != nil {
		return err
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return b.Flush()
}
