package test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/test/stage"
	"google.golang.org/grpc"
)

// stranger starts a peer of another major version, which has the service and no other, and returns its address.
func stranger(t *testing.T, service string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil)}, struct{}{})
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// A peer of another major contract version is refused by name, and nothing is lost: orders wait for one that shares a version.
func TestPeerOfAnotherMajorVersionIsRefused(t *testing.T) {
	t.Parallel()
	s := threeProcesses("grpc", ownBroker)(t, 5)
	orders := s.process("orders")
	says := func(what string) {
		t.Helper()
		stage.Eventually(t, "the log of Orders names "+what, func() bool {
			for line := range strings.Lines(orders.Log.String()) {
				if strings.Contains(line, "the peer speaks another contract") && strings.Contains(line, what) {
					return true
				}
			}
			return false
		})
	}

	s.inventoryWire[0].Relead(stranger(t, "orderkeep.inventory.v2.InventoryService"))
	var a answer
	stage.Eventually(t, "the order is refused because of the contract", func() bool { // at first the peer that was there is missed
		a = s.place(t, "k", paid(visa, one))
		return a.Error == "contract_mismatch"
	})
	want(t, a, http.StatusServiceUnavailable, "contract_mismatch")
	says("orderkeep.inventory.v1.InventoryService/Reserve")
	s.inventoryWire[0].Relead(s.process("inventory").GRPC)
	stage.Eventually(t, "the key is free for one that shares a version", func() bool {
		a = s.place(t, "k", paid(visa, one))
		return a.status != http.StatusServiceUnavailable
	})
	want(t, a, http.StatusCreated, "")

	s.paymentsWire[0].Relead(stranger(t, "orderkeep.payments.v2.PaymentsService"))
	waits := s.place(t, "p", paid(visa, one))
	want(t, waits, http.StatusAccepted, "")
	says("orderkeep.payments.v1.PaymentsService/Authorize")
	if o := s.get(t, "/v1/orders/"+waits.OrderID); o.Status != "pending" {
		t.Errorf("without a Payments that it can speak to it is %v", o)
	}
	s.paymentsWire[0].Relead(s.process("payments").GRPC)
	if o := s.ends(t, waits.OrderID); o.Status != "confirmed" {
		t.Errorf("with one it ends as %v", o)
	}
	if p := s.get(t, "/v1/payments/"+waits.OrderID); p.AuthorizedMinor != 1250 {
		t.Errorf("paid: %v", p)
	}
	s.hasAvailable(t, book, 3)
	s.settles(t)
	if err := orders.Stop(); err != nil { // it did have errors to complain about
		t.Errorf("it does not end well: %v", err)
	}
}
