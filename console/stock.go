package console

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
)

// fewLeft is where stock counts as about to run out.
const fewLeft = 5

type stockPage struct {
	Items   []stockapi.Stock
	Low     bool
	FewLeft int
	Next    string
	Trouble *trouble
}

type itemPage struct {
	SKU          string
	Item         *stockapi.Stock
	Movements    []stockapi.Movement
	NextMovement string
	Held         *stockapi.ReservationPage
	Who          string
	Trouble      *trouble
	HeldTrouble  *trouble
}

func (c *console) stock(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if sku := q.Get("sku"); sku != "" {
		c.item(w, r, sku)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p := stockPage{Low: q.Get("low") != "", FewLeft: fewLeft}
	params := stockapi.ListStockParams{Limit: stockapi.NewOptInt32(pageSize)}
	if cursor := q.Get("cursor"); cursor != "" {
		params.Cursor = stockapi.NewOptString(cursor)
	}
	if p.Low {
		params.AvailableAtMost = stockapi.NewOptInt64(fewLeft)
	}
	res, err := c.peers.stock.ListStock(ctx, params)
	page, bad := told[*stockapi.StockPage]("inventory", res, err)
	if p.Trouble = bad; bad == nil {
		p.Items = page.Items
		if page.NextCursor.Set {
			p.Next = "cursor=" + escape(page.NextCursor.Value)
			if p.Low {
				p.Next += "&low=1"
			}
		}
	}
	c.show(w, r, http.StatusOK, "stock", "Stock", p)
}

// item answers with one SKU: its stock, why it changed, and who holds it.
func (c *console) item(w http.ResponseWriter, r *http.Request, sku string) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	q := r.URL.Query()
	p := itemPage{SKU: sku, Who: c.guard.who(r)}
	var asking sync.WaitGroup
	asking.Go(func() {
		res, err := c.peers.stock.GetStock(ctx, stockapi.GetStockParams{Sku: sku})
		p.Item, p.Trouble = told[*stockapi.Stock]("inventory", res, err)
	})
	asking.Go(func() {
		params := stockapi.ListMovementsParams{Sku: sku, Limit: stockapi.NewOptInt32(pageSize)}
		if at := q.Get("movements"); at != "" {
			params.Cursor = stockapi.NewOptString(at)
		}
		res, err := c.peers.stock.ListMovements(ctx, params)
		if page, bad := told[*stockapi.MovementPage]("inventory", res, err); bad == nil {
			p.Movements, p.NextMovement = page.Movements, page.NextCursor.Value
		}
	})
	asking.Go(func() {
		params := stockapi.ListReservationsParams{Sku: sku, Limit: stockapi.NewOptInt32(pageSize)}
		if at := q.Get("held"); at != "" {
			params.Cursor = stockapi.NewOptString(at)
		}
		res, err := c.peers.stock.ListReservations(ctx, params)
		p.Held, p.HeldTrouble = told[*stockapi.ReservationPage]("inventory", res, err)
	})
	asking.Wait()
	if p.Trouble.NotFound() {
		c.refuse(w, r, http.StatusNotFound, "There is no such item", p.Trouble.Detail+" A SKU is compared exactly, with its capitals.")
		return
	}
	status := http.StatusOK
	if p.Trouble != nil {
		status = http.StatusBadGateway
	}
	c.show(w, r, status, "item", sku, p)
}

// adjust sets what is on hand of a SKU, if it is still what the page showed.
func (c *console) adjust(w http.ResponseWriter, r *http.Request) {
	who := c.actor(w, r)
	if who == "" {
		return
	}
	sku, location, reason := r.PostFormValue("sku"), r.PostFormValue("location"), r.PostFormValue("reason")
	now, err := strconv.ParseInt(strings.TrimSpace(r.PostFormValue("onHand")), 10, 64)
	seen, err2 := strconv.ParseInt(r.PostFormValue("expected"), 10, 64)
	if err != nil || err2 != nil || now < 0 {
		c.refuse(w, r, http.StatusUnprocessableEntity, "How many are there?", "On hand is a whole number from 0 on. Nothing was changed.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patienceActs)
	defer cancel()
	res, err := c.peers.stock.AdjustStock(ctx, &stockapi.Adjustment{
		Location: stockapi.NewOptString(location), OnHand: stockapi.NewOptInt64(now), ExpectedOnHand: stockapi.NewOptInt64(seen), Reason: reason, Actor: stockapi.NewOptString(who),
	}, stockapi.AdjustStockParams{Sku: sku, Actor: stockapi.NewOptString(who)})
	if _, bad := told[*stockapi.StockHeaders]("inventory", res, err); bad != nil {
		c.troubled(w, r, bad)
		return
	}
	back(w, r, "/console/stock?sku="+escape(sku), "adjust")
}

type importPage struct {
	Who    string
	CSV    string
	Result *stockapi.ImportResult // of the preview
	Wrong  *trouble
}

func (c *console) importForm(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, http.StatusOK, "import", "Import stock", importPage{Who: c.guard.who(r)})
}

// importStock shows what a file would do, with every bad row, and does it when that has been seen.
func (c *console) importStock(w http.ResponseWriter, r *http.Request) {
	p := importPage{Who: c.guard.who(r)}
	var bad *trouble
	if p.CSV, bad = sheetOf(r); bad != nil {
		c.troubled(w, r, bad)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patienceActs)
	defer cancel()
	params := stockapi.ImportStockParams{DryRun: stockapi.NewOptBool(true)}
	really := r.PostFormValue("really") != ""
	if really {
		who := c.actor(w, r)
		if who == "" {
			return
		}
		params = stockapi.ImportStockParams{Actor: stockapi.NewOptString(who), Reason: stockapi.NewOptString("import in the console")}
	}
	res, err := c.peers.stock.ImportStock(ctx, stockapi.ImportStockReq{Data: bytes.NewReader([]byte(p.CSV))}, params)
	p.Result, p.Wrong = told[*stockapi.ImportResult]("inventory", res, err)
	if really && p.Wrong == nil {
		back(w, r, "/console/stock", "import")
		return
	}
	status := http.StatusOK
	if p.Wrong != nil {
		status = http.StatusUnprocessableEntity
	}
	c.show(w, r, status, "import", "Import stock", p)
}

// sheetOf is the file or the text of the form.
func sheetOf(r *http.Request) (string, *trouble) {
	const memory = 1 << 20 // bodies are no longer than this unless the server is started with more
	tooLarge := &trouble{Service: "The console", Code: "body_too_large", Status: http.StatusRequestEntityTooLarge,
		Detail: "The file is larger than the server takes here. Import it with: orderkeep stock import FILE"}
	if err := r.ParseMultipartForm(memory); err != nil {
		return "", tooLarge
	}
	if f, _, err := r.FormFile("file"); err == nil {
		defer f.Close()
		text, err := io.ReadAll(f)
		if err != nil {
			return "", tooLarge
		}
		if len(text) > 0 {
			return string(text), nil
		}
	}
	return r.PostFormValue("csv"), nil
}
